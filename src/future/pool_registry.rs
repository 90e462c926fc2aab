//! The registry of this program's pools: a task stores the [`PoolId`] of its pool, one word, not a pointer.
//!
//! An `Arc` would have its count changed once when a task is submitted and once when its future is dropped,
//! by all threads that do so. An id costs nothing until a thread needs the pool, to wait or to cancel, and
//! looks it up. Pools enter themselves; futures (`promise.rs`) and the results of maps (`task/results.rs`) look
//! them up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, Weak};

use crate::future::pool_handle::PoolHandle;
use crate::sync::unpoisoned;

/// The id of a pool: a slot of the registry and its generation, so that the id of a pool that is gone finds
/// no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolId {
    /// The index of the slot.
    place: u32,
    /// The generation: how often the slot was taken, with this pool; from 1 to [`MOST_USES`].
    uses: u32,
    /// Whether the pool is told of each task that was settled.
    is_observed: bool,
}

/// A pool's entry in the registry; dropping it removes the entry.
#[derive(Debug)]
pub(crate) struct Registration(
    /// The id of the pool.
    PoolId,
);

/// The pool of a task or chunk, once one has accepted it, and whether the task was cancelled on its way
/// there.
#[derive(Debug, Default)]
pub(crate) struct AtomicPoolId(
    /// The generation in the upper half, the slot in the lower; 0: no pool. Beside them the bits
    /// [`CANCELLED`] and [`OBSERVED`].
    AtomicU64,
);

/// The bit that says that the task was cancelled. No generation has it.
const CANCELLED: u64 = 1 << 63;
/// The bit that says that the pool is told of each task that was settled. No generation has it.
const OBSERVED: u64 = 1 << 62;
/// The greatest generation of a slot; the next one is 1 again.
const MOST_USES: u32 = u32::MAX >> 2;

/// A slot of the registry.
struct RegistrySlot {
    /// How often the slot was taken: its generation; 0: never.
    uses: u32,
    /// The pool in the slot; `None`: the slot is free.
    pool_handle: Option<Weak<dyn PoolHandle>>,
}

/// The slots. They are reused, and never removed.
static PLACES: RwLock<Vec<RegistrySlot>> = RwLock::new(Vec::new());

/// Enters a pool, in a free slot if there is one.
pub(crate) fn enter(pool_handle: &Arc<dyn PoolHandle>) -> Registration {
    let pool_handle = Some(Arc::downgrade(pool_handle));
    let mut places = unpoisoned(PLACES.write());
    let free = places.iter().position(|place| place.pool_handle.is_none());
    let place = free.unwrap_or_else(|| {
        places.push(RegistrySlot {
            uses: 0,
            pool_handle: None,
        });
        places.len() - 1
    });
    let uses = places[place].uses % MOST_USES + 1;
    places[place] = RegistrySlot { uses, pool_handle };
    let Ok(place) = u32::try_from(place) else {
        unreachable!("there is no memory for so many pools")
    };
    Registration(PoolId {
        place,
        uses,
        is_observed: false,
    })
}

/// The pool of this id, if it still exists.
fn find(number: PoolId) -> Option<Arc<dyn PoolHandle>> {
    let places = unpoisoned(PLACES.read());
    let place = places.get(number.place as usize)?;
    let pool_handle = place
        .pool_handle
        .as_ref()
        .filter(|_| place.uses == number.uses);
    pool_handle?.upgrade()
}

impl Registration {
    /// The entry of a pool that is told of each task that was settled.
    pub(crate) fn observed(mut self) -> Self {
        self.0.is_observed = true;
        self
    }

    pub(crate) fn number(&self) -> PoolId {
        self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut places = unpoisoned(PLACES.write());
        let gone = places[self.0.place as usize].pool_handle.take();
        drop(places);
        drop(gone);
    }
}

impl AtomicPoolId {
    /// Sets the pool, unless one is set already. Called by one thread at a time: the one that has the task.
    pub(crate) fn set(&self, pool: PoolId) {
        // ORDERING: Relaxed, both; the id is looked up under a lock. No other thread writes, except in
        // `cancel`: a cancel by another thread between the two is missed, as it would be a moment later.
        let word = self.0.load(Ordering::Relaxed);
        if word & !CANCELLED == 0 {
            let number = u64::from(pool.uses) << 32 | u64::from(pool.place);
            let observed = if pool.is_observed { OBSERVED } else { 0 };
            self.0.store(word | number | observed, Ordering::Relaxed);
        }
    }

    /// The task is about to be settled as cancelled, and was not found in its pool's pull queue: if it has
    /// not reached the queue, it need not go there.
    pub(crate) fn cancel(&self) {
        // ORDERING: Relaxed; whatever hands the task to the pool's thread afterwards orders the two.
        self.0.fetch_or(CANCELLED, Ordering::Relaxed);
    }

    /// Whether `cancel` was called, unless `set` has missed it.
    pub(crate) fn is_cancelled(&self) -> bool {
        // ORDERING: Relaxed; as in `cancel`.
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The pool; `None` if none is set, or if it does not exist any more.
    pub(crate) fn pool(&self) -> Option<Arc<dyn PoolHandle>> {
        // ORDERING: Relaxed; as in `set`: the id is looked up under a lock.
        match self.0.load(Ordering::Relaxed) & !(CANCELLED | OBSERVED) {
            0 => None,
            word => find(PoolId {
                place: word as u32,
                uses: (word >> 32) as u32,
                is_observed: false,
            }),
        }
    }

    /// The pool, if it is told of each task that was settled; `None` for other pools.
    #[inline]
    pub(crate) fn observed_pool(&self) -> Option<Arc<dyn PoolHandle>> {
        // ORDERING: Relaxed; as in `set`: whatever hands the task on orders the two.
        match self.0.load(Ordering::Relaxed) & OBSERVED {
            0 => None,
            _ => self.pool(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future::pool_handle::FullPool;

    fn pool() -> Arc<dyn PoolHandle> {
        Arc::new(FullPool(Vec::new()))
    }

    #[test]
    fn a_pool_is_found_until_it_leaves_and_no_other_in_its_place() {
        let (one, other) = (pool(), pool());
        let entry = enter(&one);
        let belonging = AtomicPoolId::default();
        assert!(belonging.pool().is_none(), "it belongs to none");
        belonging.set(entry.number());
        let found = belonging.pool();
        assert!(found.is_some_and(|pool| Arc::ptr_eq(&pool, &one)));
        drop(entry);
        let later = enter(&other);
        assert!(belonging.pool().is_none(), "that one is another");
        belonging.set(later.number());
        assert!(belonging.pool().is_none(), "it keeps its first");
    }

    #[test]
    fn what_is_cancelled_belongs_to_its_pool_all_the_same() {
        let pool = pool();
        let entry = enter(&pool);
        let (early, late) = (AtomicPoolId::default(), AtomicPoolId::default());
        early.cancel();
        assert!(early.pool().is_none(), "it belongs to none");
        for belonging in [&early, &late] {
            belonging.set(entry.number());
        }
        late.cancel();
        for belonging in [early, late] {
            assert!(belonging.is_cancelled() && belonging.pool().is_some());
        }
    }

    #[test]
    fn a_pool_that_is_told_of_tasks_is_known_by_its_id() {
        let (told, deaf) = (pool(), pool());
        let entries = [enter(&told).observed(), enter(&deaf)];
        let observed = entries.each_ref().map(|entry| {
            let belonging = AtomicPoolId::default();
            belonging.set(entry.number());
            belonging.cancel();
            assert!(belonging.pool().is_some() && belonging.is_cancelled());
            belonging.observed_pool().is_some()
        });
        assert_eq!(observed, [true, false]);
    }

    #[test]
    fn an_entry_keeps_no_pool_alive() {
        let pool = pool();
        let entry = enter(&pool);
        let belonging = AtomicPoolId::default();
        belonging.set(entry.number());
        drop(pool);
        assert!(belonging.pool().is_none());
    }
}
