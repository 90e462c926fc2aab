//! The pools of this program, by number: what a task keeps of its pool, for nothing but a word.
//!
//! A pointer that counts would be changed once when a task is submitted and once when its future goes, by
//! all threads that do so. A number is looked up by who needs the pool, to wait or to cancel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::owner::Owner;

/// A pool, or one that is gone: no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolNumber {
    /// Its place.
    place: u32,
    /// How often that was given away when it was given to this pool, from 1 on.
    uses: u32,
}

/// A pool's entry; it is gone once this is dropped.
#[derive(Debug)]
pub(crate) struct Entry(
    /// The pool.
    PoolNumber,
);

/// Which pool something belongs to, once it belongs to one.
#[derive(Debug, Default)]
pub(crate) struct Belonging(
    /// 0: to none; or else the place, and the uses above it.
    AtomicU64,
);

/// A place for a pool.
struct Place {
    /// How often it was given away.
    uses: u32,
    /// The pool that has it.
    owner: Option<Weak<dyn Owner>>,
}

/// All of them.
static PLACES: RwLock<Vec<Place>> = RwLock::new(Vec::new());

/// Enters a pool.
pub(crate) fn enter(owner: &Arc<dyn Owner>) -> Entry {
    let owner = Some(Arc::downgrade(owner));
    let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
    let free = places.iter().position(|place| place.owner.is_none());
    let place = free.unwrap_or_else(|| {
        places.push(Place {
            uses: 0,
            owner: None,
        });
        places.len() - 1
    });
    let uses = places[place].uses.wrapping_add(1).max(1);
    places[place] = Place { uses, owner };
    let Ok(place) = u32::try_from(place) else {
        unreachable!("there is no memory for so many pools")
    };
    Entry(PoolNumber { place, uses })
}

/// The pool of that number, if it is still there.
fn find(number: PoolNumber) -> Option<Arc<dyn Owner>> {
    let places = PLACES.read().unwrap_or_else(PoisonError::into_inner);
    let place = places.get(number.place as usize)?;
    let owner = place.owner.as_ref().filter(|_| place.uses == number.uses);
    owner?.upgrade()
}

impl Entry {
    pub(crate) fn number(&self) -> PoolNumber {
        self.0
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut places = PLACES.write().unwrap_or_else(PoisonError::into_inner);
        let gone = places[self.0.place as usize].owner.take();
        drop(places);
        drop(gone);
    }
}

impl Belonging {
    /// From now on it belongs to that pool, unless it does to another. By one thread at a time, whose task
    /// it is.
    pub(crate) fn set(&self, pool: PoolNumber) {
        // ORDERING: Relaxed, both; nobody else writes, and the number is looked up under a lock.
        if self.0.load(Ordering::Relaxed) == 0 {
            let word = u64::from(pool.uses) << 32 | u64::from(pool.place);
            self.0.store(word, Ordering::Relaxed);
        }
    }

    /// The pool, if it belongs to one that is still there.
    pub(crate) fn pool(&self) -> Option<Arc<dyn Owner>> {
        // ORDERING: Relaxed; as in `set`.
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            word => find(PoolNumber {
                place: word as u32,
                uses: (word >> 32) as u32,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::FullPool;

    fn pool() -> Arc<dyn Owner> {
        Arc::new(FullPool(Vec::new()))
    }

    #[test]
    fn a_pool_is_found_until_it_leaves_and_no_other_in_its_place() {
        let (one, other) = (pool(), pool());
        let entry = enter(&one);
        let belonging = Belonging::default();
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
    fn an_entry_keeps_no_pool_alive() {
        let pool = pool();
        let entry = enter(&pool);
        let belonging = Belonging::default();
        belonging.set(entry.number());
        drop(pool);
        assert!(belonging.pool().is_none());
    }
}
