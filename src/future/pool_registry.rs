//! The pools of this program, by number: what a task keeps of its pool, for nothing but a word.
//!
//! A pointer that counts would be changed once when a task is submitted and once when its future goes, by
//! all threads that do so. A number is looked up by who needs the pool, to wait or to cancel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::future::pool_handle::PoolHandle;

/// A pool, or one that is gone: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolId {
    /// Its place.
    place: u32,
    /// How often that was given away when it was given to this pool, from 1 on.
    uses: u32,
}

/// A pool's entry; it is gone once this is dropped.
#[derive(Debug)]
pub(crate) struct Registration(
    /// The pool.
    PoolId,
);

/// Which pool something belongs to, once it belongs to one, and whether it is still to begin there.
#[derive(Debug, Default)]
pub(crate) struct AtomicPoolId(
    /// 0: to none; or else the place, and the uses above it. Beside them the bit [`CANCELLED`].
    AtomicU64,
);

/// The bit that says that a task was cancelled. No number of a pool has it.
const CANCELLED: u64 = 1 << 63;
/// The most uses of a place.
const MOST_USES: u32 = u32::MAX >> 1;

/// A place for a pool.
struct RegistrySlot {
    /// How often it was given away.
    uses: u32,
    /// The pool that has it.
    owner: Option<Weak<dyn PoolHandle>>,
}

/// All of them.
static PLACES: RwLock<Vec<RegistrySlot>> = RwLock::new(Vec::new());

/// Enters a pool.
pub(crate) fn enter(owner: &Arc<dyn PoolHandle>) -> Registration {
    let owner = Some(Arc::downgrade(owner));
    let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
    let free = places.iter().position(|place| place.owner.is_none());
    let place = free.unwrap_or_else(|| {
        places.push(RegistrySlot {
            uses: 0,
            owner: None,
        });
        places.len() - 1
    });
    let uses = places[place].uses % MOST_USES + 1;
    places[place] = RegistrySlot { uses, owner };
    let Ok(place) = u32::try_from(place) else {
        unreachable!("there is no memory for so many pools")
    };
    Registration(PoolId { place, uses })
}

/// The pool of that number, if it is still there.
fn find(number: PoolId) -> Option<Arc<dyn PoolHandle>> {
    let places = PLACES.read().unwrap_or_else(PoisonError::into_inner);
    let place = places.get(number.place as usize)?;
    let owner = place.owner.as_ref().filter(|_| place.uses == number.uses);
    owner?.upgrade()
}

impl Registration {
    pub(crate) fn number(&self) -> PoolId {
        self.0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
        let gone = places[self.0.place as usize].owner.take();
        drop(places);
        drop(gone);
    }
}

impl AtomicPoolId {
    /// From now on it belongs to that pool, unless it does to another. By one thread at a time, whose task
    /// it is.
    pub(crate) fn set(&self, pool: PoolId) {
        // ORDERING: Relaxed, both; the number is looked up under a lock. Nobody else writes, but for
        // `cancel`: one on another thread, between the two, is missed, as it would be a moment later.
        let word = self.0.load(Ordering::Relaxed);
        if word & !CANCELLED == 0 {
            let number = u64::from(pool.uses) << 32 | u64::from(pool.place);
            self.0.store(word | number, Ordering::Relaxed);
        }
    }

    /// The task is about to be settled as cancelled, and is not found on its pool's board: if it has not
    /// got there, it need not.
    pub(crate) fn cancel(&self) {
        // ORDERING: Relaxed; whatever hands the task to the pool's thread afterwards orders the two.
        self.0.fetch_or(CANCELLED, Ordering::Relaxed);
    }

    /// Whether `cancel` was called.
    pub(crate) fn is_cancelled(&self) -> bool {
        // ORDERING: Relaxed; as in `cancel`.
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The pool, if it belongs to one that is still there.
    pub(crate) fn pool(&self) -> Option<Arc<dyn PoolHandle>> {
        // ORDERING: Relaxed; as in `set`.
        match self.0.load(Ordering::Relaxed) & !CANCELLED {
            0 => None,
            word => find(PoolId {
                place: word as u32,
                uses: (word >> 32) as u32,
            }),
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
    fn an_entry_keeps_no_pool_alive() {
        let pool = pool();
        let entry = enter(&pool);
        let belonging = AtomicPoolId::default();
        belonging.set(entry.number());
        drop(pool);
        assert!(belonging.pool().is_none());
    }
}
