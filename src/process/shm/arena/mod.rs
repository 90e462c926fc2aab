//! The depot: memory through which big arguments and results travel, at one copy a side.
//!
//! ```text
//!  the program                      the depot                        a worker
//!
//!  submit ── one copy ──► │ block of the program's │ ── one copy ──► the argument
//!                         │                        │                     │ runs
//!  result ◄── one copy ── │ block of the worker's  │ ◄── one copy ── the result
//! ```
//!
//! The memory is cut into *stores*: one for each worker, which takes blocks for results from it, and
//! some that only the program takes from, for arguments. A slot of the board only says where the
//! bytes are ([`BlockRef`]). Memory is there for what was written and no more (the file is
//! sparse), and stays warm until its writer was idle for a while: the program for its own stores, a
//! worker for its own.
//!
//! A [`Lease`] is a block that one side has to itself. The books of both sides are private: the program's say which
//! blocks it has, a worker's which ones it has handed over; in shared memory there is only what the program
//! gives back ([`blocks::ShardWords`]), which workers cannot write. Arguments can be written by the program
//! alone; a block of a worker by that worker, while it copies a result there. A location that a worker
//! names is one of its own blocks, and not on loan, or it is refused.

pub(crate) mod blocks;
pub(crate) mod worker;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::process::shm::arena::blocks::{ArenaGeometry, Block, Blocks, ShardWords};
use crate::remote::lease::{BlockOwner, BlockRef, EAGER_LIMIT, Lease, PayloadStore};

/// The program's side.
pub(crate) struct Arena {
    /// The memory.
    blocks: Blocks,
    /// Who has which block.
    state: Mutex<ArenaState>,
    /// Bytes that a result may have.
    payload_limit: u64,
    /// Called off our lock when memory has become warm that is to be given back some day.
    warmed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What the lock guards.
struct ArenaState {
    /// The workers', then our own.
    shards: Box<[Shard]>,
    /// When a block was last taken or given back.
    used: Instant,
    /// Whether somebody will look whether memory can be given back.
    is_tended: bool,
    /// Whether the pool has ended.
    is_over: bool,
}

/// What is known of a store.
#[derive(Debug, Clone, Copy, Default)]
struct Shard {
    /// A bit a block: it is on loan.
    leased: u64,
    /// A bit a block: it has memory. Of a worker's store, only that of blocks on loan is the program's
    /// affair.
    warm: u64,
    /// A bit a block: it was its worker's, which is dead, and the program has it on loan.
    orphaned: u64,
}

impl Shard {
    /// Notes that a worker's block is on loan; `false`: it is already.
    fn lend(&mut self, block: u64) -> bool {
        let is_free = self.leased & block == 0;
        self.leased |= block;
        is_free
    }

    /// A block is not on loan any more; the worker whose it is sees its words.
    fn give_back(&mut self, block: u64, words: Option<&ShardWords>) {
        self.leased &= !block;
        self.orphaned &= !block;
        if let Some(words) = words {
            words.give_back(block);
        }
    }

    /// Its worker is dead; the blocks that are on loan all the same.
    fn worker_died(&mut self, words: &ShardWords) -> u64 {
        self.orphaned = self.leased;
        words.bury(self.leased);
        self.leased
    }
}

/// Memory that was not used for so long is given back.
const IDLE: Duration = Duration::from_secs(1);

impl Arena {
    /// For so many workers, whose results may have so many bytes.
    ///
    /// # Errors
    /// Of the system, which refuses shared memory.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> io::Result<Arc<Self>> {
        let plan = ArenaGeometry::of(workers);
        let books = ArenaState {
            shards: vec![Shard::default(); plan.stores()].into(),
            used: Instant::now(),
            is_tended: false,
            is_over: false,
        };
        Ok(Arc::new(Self {
            blocks: Blocks::create(plan)?,
            state: Mutex::new(books),
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

    /// What a worker that has ended a task says of its result: ours from here on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn arrived(
        self: &Arc<Self>,
        location: &[u8],
        worker: usize,
    ) -> Result<Lease, &'static str> {
        let location = BlockRef::from_bytes(location).ok_or("it is garbled")?;
        let block = location.block;
        let length = usize::try_from(location.length).map_err(|_| "it is too long")?;
        if location.length > self.payload_limit {
            return Err("it is longer than it may be");
        }
        let is_its = worker < self.blocks.plan().workers && block.store() == worker;
        if !is_its || length > block.size() {
            return Err("it is not where it may be");
        }
        if !self.lend(block) {
            return Err("its place is in use");
        }
        if location.resident < location.length {
            self.blocks.forget(block); // its pages are new
        }
        Ok(Lease::new(Arc::clone(self) as _, block, length, 0))
    }

    /// Notes that a worker's block is on loan; `false`: it is already.
    fn lend(&self, block: Block) -> bool {
        self.lock().shards[block.store()].lend(block.bit())
    }

    /// A worker is dead, and has told all that it ever will: what nobody has on loan is free for its
    /// successor, and its memory is given back.
    pub(crate) fn worker_died(&self, worker: usize) {
        if worker >= self.blocks.plan().workers {
            return;
        }
        let words = self.blocks.words(worker);
        let mut books = self.lock();
        let leased = books.shards[worker].worker_died(words);
        // The successor is not started before this is done.
        drop(books);
        match leased {
            0 => self.blocks.purge_shard(worker),
            leased => self.purge_blocks(worker, blocks::all() & !leased),
        }
    }

    /// Takes a block of our own that has room for so many bytes.
    fn take(&self, bytes: usize) -> Option<Block> {
        let first = self.blocks.plan().workers;
        let mut books = self.lock();
        for bits in blocks::suitable(bytes) {
            for (number, store) in (first..).zip(&mut books.shards[first..]) {
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
        self.purge(&idle);
        None
    }

    /// The pool has ended, and so have its workers: gives all memory back that nobody reads, and the
    /// descriptor once nobody reads any more.
    pub(crate) fn close(&self) {
        let idle = self.take_warm(&mut self.lock());
        self.purge(&idle);
        let mut books = self.lock();
        books.is_over = true;
        self.close_unless_leased(books);
    }

    fn close_unless_leased(&self, books: MutexGuard<'_, ArenaState>) {
        let is_read = books.shards.iter().any(|store| store.leased != 0);
        drop(books);
        if !is_read {
            self.blocks.close();
        }
    }

    /// Takes all blocks of our own that have memory and are nobody's.
    fn take_warm(&self, books: &mut ArenaState) -> Vec<(usize, u64)> {
        let first = self.blocks.plan().workers;
        let own = (first..).zip(&mut books.shards[first..]);
        own.filter_map(|(number, store)| {
            let free = store.warm & !store.leased;
            store.leased |= free;
            (free != 0).then_some((number, free))
        })
        .collect()
    }

    /// Gives the memory of blocks of our own back, and then them.
    fn purge(&self, idle: &[(usize, u64)]) {
        for &(number, bits) in idle {
            self.purge_blocks(number, bits);
            let mut books = self.lock();
            books.shards[number].warm &= !bits;
            books.shards[number].leased &= !bits;
        }
    }

    /// Gives the memory of blocks back that nobody uses.
    fn purge_blocks(&self, store: usize, blocks: u64) {
        let mut left = blocks;
        while left != 0 {
            self.blocks
                .cool(Block::of_bit(store, left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// Notes that memory is in use, and has somebody look after it.
    fn note_use(&self, mut books: MutexGuard<'_, ArenaState>) {
        books.used = Instant::now();
        let was_tended = std::mem::replace(&mut books.is_tended, true);
        drop(books);
        if let (false, Some(call)) = (was_tended, self.warmed.get()) {
            call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ArenaState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockOwner for Arena {
    fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// What a worker says that it has written may not be there: memory for it would be made up as it
    /// is read.
    fn has(&self, block: Block, bytes: usize) -> bool {
        block.store() >= self.blocks.plan().workers || self.blocks.has(block, bytes)
    }

    /// A lease has it to itself.
    fn has_kept(&self, _: Block) -> bool {
        true
    }

    fn lacks(&self, bytes: usize) -> String {
        format!("there is no memory for its {bytes} bytes")
    }

    fn give_back(&self, block: Block) {
        if self.blocks.is_elsewhere() {
            return; // somebody may have held the lock when this copy was forked
        }
        let number = block.store();
        let mut books = self.lock();
        if books.shards[number].orphaned & block.bit() != 0 {
            // Its worker, which would give the memory back, is dead. Still on loan, it is nobody else's.
            drop(books);
            self.blocks.cool(block);
            books = self.lock();
        }
        let is_a_worker_s = number < self.blocks.plan().workers;
        let words = is_a_worker_s.then(|| self.blocks.words(number));
        books.shards[number].give_back(block.bit(), words);
        if books.is_over {
            self.close_unless_leased(books);
        } else if number >= self.blocks.plan().workers {
            self.note_use(books);
        }
    }

    /// Workers are told of arguments, whose blocks stay ours.
    fn hand_over(&self, _: Block) {}
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Depot").finish_non_exhaustive()
    }
}

impl PayloadStore for Arc<Arena> {
    fn store(&self, bytes: &[u8]) -> Option<Lease> {
        if bytes.len() <= EAGER_LIMIT || self.blocks.is_elsewhere() {
            return None;
        }
        let block = self.take(bytes.len())?;
        // Gives the block back if there is no memory for it.
        let lease = Lease::new(Arc::clone(self) as _, block, bytes.len(), 0);
        self.blocks.write(block, bytes).ok()?;
        Some(lease)
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod models;
