//! The depot: memory through which big arguments and results travel, at one copy a side.
//!
//! ```text
//!  the program                      the depot                        a worker
//!
//!  submit ── one copy ──► │ block of the program's │ ── one copy ──► the argument
//!                         │                        │                     │ runs
//!  result ◄── one copy ── │ the same, if it fits,  │ ◄── one copy ── the result
//!                         │ or one of the worker's │
//! ```
//!
//! The memory is cut into *stores*: one for each worker, which takes blocks for results from it, and
//! some that only the program takes from, for arguments. A slot of the board only says where the
//! bytes are ([`lease::Location`]). Memory is there for what was written and no more (the file is
//! sparse), and stays warm until the depot was idle for a while.
//!
//! Who has a block to himself has a [`Lease`]. The program's books are its own; what it shares with
//! workers are hints to them. A location that a worker names is one of its own blocks, or that of its
//! task's argument, and not on loan, or it is refused.

pub(crate) mod blocks;
pub(crate) mod lease;
pub(crate) mod stock;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::process::depot::blocks::{Block, Blocks, Plan};
use crate::process::depot::lease::{FEW, Keeper, Lease, Location, Room};

/// The program's side.
pub(crate) struct Depot {
    /// The memory.
    blocks: Blocks,
    /// Who has which block.
    books: Mutex<Books>,
    /// Bytes that a result may have.
    payload_limit: u64,
    /// Called off our lock when memory has become warm that is to be given back some day.
    warmed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What the lock guards.
struct Books {
    /// The workers', then our own.
    stores: Box<[Store]>,
    /// When a block was last taken or given back.
    used: Instant,
    /// Whether somebody will look whether memory can be given back.
    is_tended: bool,
    /// Whether the pool has ended.
    is_over: bool,
}

/// What is known of a store.
#[derive(Debug, Clone, Copy, Default)]
struct Store {
    /// A bit a block: it is on loan.
    leased: u64,
    /// A bit a block: it has memory.
    warm: u64,
}

/// Memory that was not used for so long is given back.
const IDLE: Duration = Duration::from_secs(1);

impl Depot {
    /// For so many workers, whose results may have so many bytes.
    ///
    /// # Errors
    /// Of the system, which refuses shared memory.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> io::Result<Arc<Self>> {
        let plan = Plan::of(workers);
        let books = Books {
            stores: vec![Store::default(); plan.stores()].into(),
            used: Instant::now(),
            is_tended: false,
            is_over: false,
        };
        Ok(Arc::new(Self {
            blocks: Blocks::create(plan)?,
            books: Mutex::new(books),
            payload_limit,
            warmed: OnceLock::new(),
        }))
    }

    /// Who is to call [`reclaim`](Self::reclaim) when there is something to reclaim.
    pub(crate) fn when_warmed(&self, call: impl Fn() + Send + Sync + 'static) {
        // Set once, by the ledger that made both.
        let _ = self.warmed.set(Box::new(call));
    }

    /// By which a worker maps it.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.blocks.descriptor()
    }

    /// What a worker that has ended a task says of its result: ours from here on. `argument` is where
    /// the task's own argument was.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn arrived(
        self: &Arc<Self>,
        location: &[u8],
        worker: usize,
        argument: &mut Option<Lease>,
    ) -> Result<Lease, &'static str> {
        let location = Location::from_bytes(location).ok_or("it is garbled")?;
        let block = location.block;
        let length = usize::try_from(location.length).map_err(|_| "it is too long")?;
        if location.length > self.payload_limit {
            return Err("it is longer than it may be");
        }
        if let Some(lease) = argument.take_if(|lease| lease.block() == block) {
            return match length <= lease.room() {
                true => Ok(lease.with_length(length)),
                false => Err("it is longer than its place"),
            };
        }
        let is_its = worker < self.blocks.plan().workers && block.store() == worker;
        if !is_its || length > block.size() {
            return Err("it is not where it may be");
        }
        match self.lend(block) {
            true => Ok(Lease::new(Arc::clone(self) as _, block, length, 0)),
            false => Err("its place is in use"),
        }
    }

    /// Notes that a worker's block is on loan; `false`: it is already.
    fn lend(&self, block: Block) -> bool {
        let mut books = self.lock();
        let store = &mut books.stores[block.store()];
        let is_free = store.leased & block.bit() == 0;
        store.leased |= block.bit();
        store.warm |= block.bit();
        is_free
    }

    /// A worker is dead, and has told all that it ever will: what nobody has on loan is free for its
    /// successor.
    pub(crate) fn bury(&self, worker: usize) {
        let mut books = self.lock();
        let Some(store) = books.stores.get_mut(worker) else {
            return;
        };
        let words = self.blocks.words(worker);
        // ORDERING: AcqRel; what the dead one had, the next one gets, by way of us.
        let taken = words.taken.swap(store.leased, Ordering::AcqRel);
        store.warm |= taken;
        let is_warm = store.warm != 0;
        if is_warm {
            self.note_use(books);
        }
    }

    /// Takes a block of our own that has room for so many bytes.
    fn take(&self, bytes: usize) -> Option<Block> {
        let first = self.blocks.plan().workers;
        let mut books = self.lock();
        for bits in blocks::suitable(bytes) {
            for (number, store) in (first..).zip(&mut books.stores[first..]) {
                // Warm ones before others.
                let free = bits & !store.leased;
                let best = match free & store.warm {
                    0 => free,
                    warm => warm,
                };
                if best != 0 {
                    let block = Block::of_bit(number, best.trailing_zeros());
                    store.leased |= block.bit();
                    store.warm |= block.bit();
                    return Some(block);
                }
            }
        }
        None
    }

    // ---- memory ------------------------------------------------------------------------------

    /// Gives memory back that nobody has used for a while; when to look again.
    pub(crate) fn reclaim(&self) -> Option<Instant> {
        let mut books = self.lock();
        let due = books.used.checked_add(IDLE).filter(|_| books.is_tended)?;
        if due > Instant::now() {
            return Some(due);
        }
        books.is_tended = false;
        let idle = self.take_warm(&mut books);
        drop(books);
        self.cool(&idle);
        None
    }

    /// The pool has ended, and so have its workers: gives all memory back that nobody reads, and the
    /// descriptor once nobody reads any more.
    pub(crate) fn close(&self) {
        let idle = self.take_warm(&mut self.lock());
        self.cool(&idle);
        let mut books = self.lock();
        books.is_over = true;
        self.close_unless_leased(books);
    }

    fn close_unless_leased(&self, books: MutexGuard<'_, Books>) {
        let is_read = books.stores.iter().any(|store| store.leased != 0);
        drop(books);
        if !is_read {
            self.blocks.close();
        }
    }

    /// Takes all blocks that have memory and are nobody's.
    fn take_warm(&self, books: &mut Books) -> Vec<(usize, u64)> {
        let workers = self.blocks.plan().workers;
        let mut taken = Vec::new();
        for (number, store) in books.stores.iter_mut().enumerate() {
            let mut free = store.warm & !store.leased;
            if free != 0 && number < workers {
                // What its worker has just taken itself is not free.
                // ORDERING: Acquire, from the worker's giving back.
                free &= !self
                    .blocks
                    .words(number)
                    .taken
                    .fetch_or(free, Ordering::Acquire);
            }
            if free != 0 {
                store.leased |= free;
                taken.push((number, free));
            }
        }
        taken
    }

    /// Gives the memory of blocks back, and then them.
    fn cool(&self, idle: &[(usize, u64)]) {
        for &(number, bits) in idle {
            let mut left = bits;
            while left != 0 {
                self.blocks
                    .cool(Block::of_bit(number, left.trailing_zeros()));
                left &= left - 1;
            }
            let mut books = self.lock();
            books.stores[number].warm &= !bits;
            books.stores[number].leased &= !bits;
            if number < self.blocks.plan().workers {
                let words = self.blocks.words(number);
                // ORDERING: Relaxed; released by the next.
                words.cold.fetch_or(bits, Ordering::Relaxed);
                // ORDERING: Release, to the worker's taking.
                words.taken.fetch_and(!bits, Ordering::Release);
            }
        }
    }

    /// Notes that memory is in use, and has somebody look after it.
    fn note_use(&self, mut books: MutexGuard<'_, Books>) {
        books.used = Instant::now();
        let was_tended = std::mem::replace(&mut books.is_tended, true);
        drop(books);
        if let (false, Some(call)) = (was_tended, self.warmed.get()) {
            call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for Depot {
    fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// What a worker says that it has written may not be there: memory for it would be made up as it
    /// is read.
    fn has(&self, block: Block, bytes: usize) -> bool {
        block.store() >= self.blocks.plan().workers || self.blocks.has(block, bytes)
    }

    fn lacks(&self, bytes: usize) -> String {
        format!("there is no memory for its {bytes} bytes")
    }

    fn give_back(&self, block: Block) {
        if self.blocks.is_elsewhere() {
            return; // somebody may have held the lock when this copy was forked
        }
        let mut books = self.lock();
        books.stores[block.store()].leased &= !block.bit();
        if block.store() < self.blocks.plan().workers {
            let words = self.blocks.words(block.store());
            // ORDERING: Release, to the worker's taking: what it writes there comes after our reads.
            words.taken.fetch_and(!block.bit(), Ordering::Release);
        }
        match books.is_over {
            false => self.note_use(books),
            true => self.close_unless_leased(books),
        }
    }
}

impl fmt::Debug for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot").finish_non_exhaustive()
    }
}

impl Room for Arc<Depot> {
    fn store(&self, bytes: &[u8]) -> Option<Lease> {
        if bytes.len() <= FEW || self.blocks.is_elsewhere() {
            return None;
        }
        let block = self.take(bytes.len())?;
        // Gives the block back if there is no memory for it.
        let lease = |room| Lease::new(Arc::clone(self) as _, block, bytes.len(), room);
        match self.blocks.write(block, bytes) {
            Ok(room) => Some(lease(room)),
            Err(_) => {
                drop(lease(0));
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "../depot_tests.rs"]
mod tests;
