//! Detects workers of thread pools that wait for each other, and ends such a wait.
//!
//! A worker that blocks without limit on a future, or in `shutdown`, is an edge of a wait-for graph (Coffman,
//! Elphick & Shoshani, *System Deadlocks*, 1971). Only a new edge can close a cycle, so the graph is searched
//! when a worker is about to block, and at no other time.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::future::id::FutureId;
use crate::future::pool_handle::{PoolHandle, TaskLocation};
use crate::sync::{self, ThreadId, this_thread};

thread_local! {
    /// Whether this thread is a worker of a thread pool.
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// The wait-for graph: what each blocked worker waits for, among the workers of all thread pools.
static WAITS: Mutex<Option<HashMap<ThreadId, Wait>>> = Mutex::new(None);

/// One thing that a worker waits for.
pub(crate) enum Awaited {
    /// The end of this task; the pool that accepted it, if one did.
    Task(Option<Arc<dyn PoolHandle>>, FutureId),
    /// The end of all of the tasks from the first to the last id that this pool has accepted.
    Tasks(Arc<dyn PoolHandle>, FutureId, FutureId),
    /// The end of a pool that was shut down.
    Pool(Arc<dyn PoolHandle>),
}

/// What a worker waits for: the wait ends with any one of these.
type Wait = Vec<Awaited>;

/// The calling worker's edge in the graph; dropping it removes the edge.
pub(crate) struct WaitGuard;

/// Registers the calling thread as a worker of a thread pool: its waits are checked.
pub(crate) fn join_workers() {
    IS_WORKER.set(true);
}

/// Whether the calling thread is a worker of a thread pool, so that its waits are checked.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.try_with(Cell::get).unwrap_or(false)
}

/// Enters that the calling worker is about to wait for any one of these. If no worker is left to run them, or
/// what they wait for in turn, one such task ends as [`Error::Deadlock`](crate::Error::Deadlock), which ends
/// a wait.
pub(crate) fn wait_for(any: Vec<Awaited>) -> WaitGuard {
    let me = this_thread();
    let victim = {
        let mut waits = lock();
        let waits = waits.get_or_insert_with(HashMap::new);
        waits.insert(me, any);
        find_victim(waits, me)
    };
    if let Some((pool_handle, first, last)) = victim {
        pool_handle.fail_deadlocked(first, last);
    }
    WaitGuard
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let wait = lock().as_mut().and_then(|w| w.remove(&this_thread()));
        drop(wait); // without the lock: it may be the last owner of the pool
    }
}

/// The first and the last id of tasks that a stuck worker waits for, of which one is queued, the caller's own
/// first; `None`: the caller is not stuck.
fn find_victim(
    waits: &HashMap<ThreadId, Wait>,
    me: ThreadId,
) -> Option<(Arc<dyn PoolHandle>, FutureId, FutureId)> {
    let place = |thread, awaited: &Awaited| match awaited {
        Awaited::Task(Some(pool_handle), id) => pool_handle.place(*id, *id),
        Awaited::Tasks(pool_handle, first, last) => pool_handle.place(*first, *last),
        Awaited::Task(None, _) => TaskLocation::Elsewhere,
        Awaited::Pool(pool_handle) => TaskLocation::All(others(waits, pool_handle, thread)),
    };
    let places: HashMap<ThreadId, Vec<TaskLocation>> = waits
        .iter()
        .map(|(&thread, any)| (thread, any.iter().map(|one| place(thread, one)).collect()))
        .collect();
    let stuck = stuck(&places);
    if !stuck.contains(&me) {
        return None;
    }
    let in_vain = std::iter::once(me).chain(stuck);
    let mut awaited = in_vain.flat_map(|thread| waits[&thread].iter().zip(&places[&thread]));
    awaited.find_map(|(awaited, place)| match (awaited, place) {
        (Awaited::Task(Some(pool_handle), id), TaskLocation::Queued { .. }) => {
            Some((Arc::clone(pool_handle), *id, *id))
        }
        (Awaited::Tasks(pool_handle, first, last), TaskLocation::Queued { .. }) => {
            Some((Arc::clone(pool_handle), *first, *last))
        }
        _ => None,
    })
}

/// The workers that must end before a shutdown of their pool, called by `thread`, returns. A worker of the
/// pool does not wait for those that wait for the end of the same pool, itself among them.
fn others(
    waits: &HashMap<ThreadId, Wait>,
    pool: &Arc<dyn PoolHandle>,
    thread: ThreadId,
) -> Vec<ThreadId> {
    let mut workers = pool.workers();
    if workers.contains(&thread) {
        let is_same = |one: &Awaited| matches!(one, Awaited::Pool(p) if Arc::ptr_eq(p, pool));
        workers.retain(|worker| !waits.get(worker).is_some_and(|any| any.iter().any(is_same)));
    }
    workers
}

/// The workers that can never stop waiting, given where each awaited task is.
fn stuck(places: &HashMap<ThreadId, Vec<TaskLocation>>) -> HashSet<ThreadId> {
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

/// Whether what is at this place will end, provided that all threads but the `stuck` ones go on.
fn may_end(place: &TaskLocation, stuck: &HashSet<ThreadId>) -> bool {
    match place {
        TaskLocation::Elsewhere => true,
        TaskLocation::Running(worker) => !stuck.contains(worker),
        TaskLocation::All(workers) => workers.iter().all(|worker| !stuck.contains(worker)),
        TaskLocation::Queued { workers, may_grow } => {
            *may_grow || workers.iter().any(|worker| !stuck.contains(worker))
        }
    }
}

fn lock() -> MutexGuard<'static, Option<HashMap<ThreadId, Wait>>> {
    sync::lock(&WAITS)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::thread;

    use super::*;
    use crate::future::pool_handle::FullPool;

    /// Ids of threads that have ended.
    fn threads<const N: usize>() -> [ThreadId; N] {
        std::array::from_fn(|_| {
            let thread = thread::spawn(|| thread::current().id());
            thread.join().unwrap()
        })
    }

    fn queued(workers: &[ThreadId]) -> Vec<TaskLocation> {
        vec![TaskLocation::Queued {
            workers: workers.to_vec(),
            may_grow: false,
        }]
    }

    fn running(worker: ThreadId) -> Vec<TaskLocation> {
        vec![TaskLocation::Running(worker)]
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
        any.push(TaskLocation::Elsewhere);
        assert!(stuck(&HashMap::from([(a, any)])).is_empty());
    }

    #[test]
    fn a_wait_for_what_runs_ends_with_it() {
        let [a, b, c] = threads();
        let places = HashMap::from([(a, running(b)), (b, running(c))]);
        assert!(stuck(&places).is_empty());
        let places = HashMap::from([(a, running(b)), (b, queued(&[a, b]))]);
        assert_eq!(stuck(&places).len(), 2);
        let places = HashMap::from([(a, running(b)), (b, vec![TaskLocation::Elsewhere])]);
        assert!(stuck(&places).is_empty());
    }

    #[test]
    fn workers_that_wait_for_the_end_of_their_pool_do_not_wait_for_each_other() {
        let [a, b, c, d] = threads();
        let task = FutureId::from_number(1);
        let victim = |workers: &[ThreadId], who: &[ThreadId], me| {
            let pool: Arc<dyn PoolHandle> = Arc::new(FullPool(workers.to_vec()));
            let wait = |&thread: &ThreadId| match thread {
                waiter if waiter == d => (d, vec![Awaited::Task(Some(Arc::clone(&pool)), task)]),
                _ => (thread, vec![Awaited::Pool(Arc::clone(&pool))]),
            };
            find_victim(&who.iter().map(wait).collect(), me).map(|(_, id, _)| id)
        };
        // The pool's workers end, and a worker that does not wait, or the last of them, runs what `d` waits
        // for.
        assert_eq!(victim(&[a, b], &[a, b, d], d), None);
        assert_eq!(victim(&[a, b, c], &[a, b, d], d), None);
        // A worker of the pool cannot end.
        assert_eq!(victim(&[a, b, d], &[a, b, d], d), Some(task));
        assert_eq!(victim(&[a, b, d], &[a, b, d], a), Some(task));
        // A thread that is not a worker of the pool waits for all of its workers.
        assert_eq!(victim(&[b, d], &[a, b, d], a), Some(task));
        assert_eq!(victim(&[b], &[a, b, d], a), None);
    }

    #[test]
    fn a_pool_ends_when_all_its_workers_can() {
        let [a, b, c] = threads();
        let pool = || vec![TaskLocation::All(vec![b, c])];
        let places = HashMap::from([(a, pool()), (b, queued(&[a]))]);
        assert_eq!(stuck(&places).len(), 2);
        let places = HashMap::from([(a, pool()), (b, queued(&[c]))]);
        assert!(stuck(&places).is_empty());
        let places = HashMap::from([(a, vec![TaskLocation::All(Vec::new())])]);
        assert!(stuck(&places).is_empty());
    }
}
