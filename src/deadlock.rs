//! Finding workers of thread pools that wait for each other, and ending the wait.
//!
//! A worker that blocks without limit on a future is an edge of a wait-for graph (Coffman, Elphick
//! & Shoshani, *System Deadlocks*, 1971). Each new edge is the only thing that can close a cycle,
//! so the graph is looked at when a worker is about to block, and never again.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::future::{FutureId, Owner, Place};
use crate::sync::{ThreadId, this_thread};

thread_local! {
    /// Whether this thread is a worker of a thread pool.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Who waits for what, among the workers of all thread pools.
static WAITS: Mutex<Option<HashMap<ThreadId, Wait>>> = Mutex::new(None);

/// A future that a worker waits for, and the pool that accepted its task, if one did.
pub(crate) type Awaited = (Option<Arc<dyn Owner>>, FutureId);

/// What a worker waits for: any of these.
type Wait = Vec<Awaited>;

/// While it lives, the calling worker waits.
pub(crate) struct Waiting;

/// The calling thread is a worker of a thread pool from now on.
pub(crate) fn join_workers() {
    IS_WORKER.set(true);
}

/// Whether the calling thread's waits are looked at.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.try_with(Cell::get).unwrap_or(false)
}

/// Notes that the calling worker is about to wait for any of these. If nobody is left to run them,
/// or what they wait for in turn, one such task is refused, which ends a wait.
pub(crate) fn wait_for(any: Vec<Awaited>) -> Waiting {
    let me = this_thread();
    let victim = {
        let mut waits = lock();
        let waits = waits.get_or_insert_with(HashMap::new);
        waits.insert(me, any);
        find_victim(waits, me)
    };
    if let Some((owner, id)) = victim {
        owner.refuse(id);
    }
    Waiting
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let wait = lock().as_mut().and_then(|w| w.remove(&this_thread()));
        drop(wait); // off the lock: it may be the last to know of the pool
    }
}

/// A queued task that a worker waits for in vain: the caller's own, if that is one.
fn find_victim(
    waits: &HashMap<ThreadId, Wait>,
    me: ThreadId,
) -> Option<(Arc<dyn Owner>, FutureId)> {
    let place = |(owner, id): &Awaited| match owner {
        Some(owner) => owner.place(*id),
        None => Place::Elsewhere,
    };
    let places: HashMap<ThreadId, Vec<Place>> = waits
        .iter()
        .map(|(&thread, any)| (thread, any.iter().map(place).collect()))
        .collect();
    let stuck = stuck(&places);
    if !stuck.contains(&me) {
        return None;
    }
    let in_vain = std::iter::once(me).chain(stuck);
    let mut awaited = in_vain.flat_map(|thread| waits[&thread].iter().zip(&places[&thread]));
    awaited.find_map(|((owner, id), place)| match (owner, place) {
        (Some(owner), Place::Queued { .. }) => Some((Arc::clone(owner), *id)),
        _ => None,
    })
}

/// Those whose wait can never end, by what each waits for.
fn stuck(places: &HashMap<ThreadId, Vec<Place>>) -> HashSet<ThreadId> {
    let mut stuck: HashSet<ThreadId> = places.keys().copied().collect();
    loop {
        let freed: Vec<ThreadId> = stuck
            .iter()
            .filter(|thread| places[*thread].iter().any(|place| may_end(place, &stuck)))
            .copied()
            .collect();
        if freed.is_empty() {
            return stuck;
        }
        for thread in freed {
            stuck.remove(&thread);
        }
    }
}

/// Whether what is at that place will come to its end, if all but those stuck go on.
fn may_end(place: &Place, stuck: &HashSet<ThreadId>) -> bool {
    match place {
        Place::Elsewhere => true,
        Place::Running(worker) => !stuck.contains(worker),
        Place::Queued { workers, may_grow } => {
            *may_grow || workers.iter().any(|worker| !stuck.contains(worker))
        }
    }
}

fn lock() -> MutexGuard<'static, Option<HashMap<ThreadId, Wait>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::thread;

    use super::*;

    /// Names of threads that once were.
    fn threads<const N: usize>() -> [ThreadId; N] {
        std::array::from_fn(|_| {
            let thread = thread::spawn(|| thread::current().id());
            thread.join().unwrap()
        })
    }

    fn queued(workers: &[ThreadId]) -> Vec<Place> {
        vec![Place::Queued {
            workers: workers.to_vec(),
            may_grow: false,
        }]
    }

    fn running(worker: ThreadId) -> Vec<Place> {
        vec![Place::Running(worker)]
    }

    #[test]
    fn a_worker_that_waits_for_its_own_queue_is_stuck() {
        let [a] = threads();
        assert_eq!(stuck(&HashMap::from([(a, queued(&[a]))])).len(), 1);
    }

    #[test]
    fn one_free_worker_frees_all() {
        let [a, b, c] = threads();
        let places = HashMap::from([(a, queued(&[a, b, c])), (b, queued(&[a, b, c]))]);
        assert!(stuck(&places).is_empty());
    }

    #[test]
    fn pools_that_wait_for_each_other_are_stuck() {
        let [a, b] = threads();
        let places = HashMap::from([(a, queued(&[b])), (b, queued(&[a]))]);
        assert_eq!(stuck(&places).len(), 2);
    }

    #[test]
    fn one_of_many_is_enough() {
        let [a] = threads();
        let mut any = queued(&[a]);
        any.push(Place::Elsewhere);
        assert!(stuck(&HashMap::from([(a, any)])).is_empty());
    }

    #[test]
    fn a_wait_for_what_runs_ends_with_it() {
        let [a, b, c] = threads();
        let places = HashMap::from([(a, running(b)), (b, running(c))]);
        assert!(stuck(&places).is_empty());
        let places = HashMap::from([(a, running(b)), (b, queued(&[a, b]))]);
        assert_eq!(stuck(&places).len(), 2);
        let places = HashMap::from([(a, running(b)), (b, vec![Place::Elsewhere])]);
        assert!(stuck(&places).is_empty());
    }
}
