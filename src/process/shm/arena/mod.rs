//! The arena: shared memory through which large arguments and results travel, with one copy on each side.
//! `process/host/in_flight/` calls the program's side, which is here; `process/worker/` calls a worker's side
//! ([`worker`]).
//!
//! ```text
//!  the program                      the arena                        a worker
//!
//!  submit ── one copy ──► │ block of the program's │ ── one copy ──► the argument
//!                         │                        │                     │ runs
//!  result ◄── one copy ── │ block of the worker's  │ ◄── one copy ── the result
//! ```
//!
//! The memory is divided into *shards*: one for each worker, from which that worker takes blocks for results,
//! and some for the program alone, from which it takes blocks for arguments. A slot of the queue only holds a
//! reference to the bytes ([`BlockRef`]). Only what was written has memory (the file is sparse), and it stays
//! resident until its writer was idle for a while: the program for its own shards, a worker for its own.
//!
//! A [`Lease`] is a block that one side has to itself. The state of each side is private: the program's says
//! which blocks the program has leased, a worker's which blocks it has handed over. Shared memory only says
//! what the program has given back ([`blocks::ShardWords`]), and workers cannot write that. Only the program
//! can write arguments. Only a block's worker can write it, and only while it copies a result there. A block
//! reference that a worker sends must be one of its own blocks, and not leased already, or it is refused.

pub(crate) mod blocks;
pub(crate) mod worker;

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::process::shm::arena::blocks::{ArenaGeometry, Blocks, ShardWords};
use crate::remote::lease::{Block, BlockOwner, BlockRef, EAGER_LIMIT, Lease, PayloadStore};
use crate::sync::deadline::Deadline;
use crate::sync::lock;
use crate::sys::handle::OwnedHandle;

/// The program's side of the arena.
pub(crate) struct Arena {
    /// The shared memory.
    blocks: Blocks,
    /// Which blocks are leased, and which have memory.
    state: Mutex<ArenaState>,
    /// The largest number of bytes that a result may have.
    payload_limit: u64,
    /// Called, without a lock of the arena, when memory has become resident that must be given back later.
    warmed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What the arena's lock guards.
struct ArenaState {
    /// The workers' shards, then the program's own.
    shards: Box<[Shard]>,
    /// When a block was last taken or given back.
    used: Instant,
    /// Whether a call of [`Arena::reclaim`] is due that will give idle memory back.
    is_purge_scheduled: bool,
    /// Whether the pool has ended.
    is_over: bool,
}

/// The program's knowledge of a shard.
#[derive(Debug, Clone, Copy, Default)]
struct Shard {
    /// One bit per block: it is leased.
    leased: u64,
    /// One bit per block: it is resident. In a worker's shard, the program takes care only of the memory of
    /// leased blocks.
    warm: u64,
    /// One bit per block: it belonged to a worker that has died, and the program has it leased.
    orphaned: u64,
}

impl Shard {
    /// Marks a worker's block as leased. `false`: it was leased already.
    fn lend(&mut self, block: u64) -> bool {
        let is_free = self.leased & block == 0;
        self.leased |= block;
        is_free
    }

    /// Marks a block as not leased any more. `words` are those of its worker, if it is a worker's block: by
    /// them the worker learns of it.
    fn give_back(&mut self, block: u64, words: Option<&ShardWords>) {
        self.leased &= !block;
        self.orphaned &= !block;
        if let Some(words) = words {
            words.give_back(block);
        }
    }

    /// Notes that the shard's worker has died. Returns the blocks that are still leased.
    fn worker_died(&mut self, words: &ShardWords) -> u64 {
        self.orphaned = self.leased;
        words.bury(self.leased);
        self.leased
    }
}

/// Memory that was not used for this time is given back.
const IDLE: Duration = Duration::from_secs(1);

impl Arena {
    /// Creates the arena for the given number of workers; a result may have up to `payload_limit` bytes.
    ///
    /// # Errors
    /// The system refuses shared memory.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> io::Result<Arc<Self>> {
        let geometry = ArenaGeometry::of(workers);
        let state = ArenaState {
            shards: vec![Shard::default(); geometry.shards()].into(),
            used: Instant::now(),
            is_purge_scheduled: false,
            is_over: false,
        };
        Ok(Arc::new(Self {
            blocks: Blocks::create(geometry)?,
            state: Mutex::new(state),
            payload_limit,
            warmed: OnceLock::new(),
        }))
    }

    /// Sets the function that is called when there will be memory to [`reclaim`](Self::reclaim).
    pub(crate) fn when_warmed(&self, call: impl Fn() + Send + Sync + 'static) {
        // Set once, by the `InFlight` that made both.
        let _ = self.warmed.set(Box::new(call));
    }

    /// The descriptor by which a worker maps the memory.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedHandle> {
        self.blocks.descriptor()
    }

    /// Leases the block of a result to the program; `location` is the block reference that the worker sent
    /// when it ended the task.
    ///
    /// # Errors
    /// What is wrong with the reference.
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
        let is_its = worker < self.blocks.geometry().workers && block.store() == worker;
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

    /// Marks a worker's block as leased. `false`: it was leased already.
    fn lend(&self, block: Block) -> bool {
        self.lock().shards[block.store()].lend(block.bit())
    }

    /// Notes that a worker has died, after everything that it sent was received: the blocks that are not
    /// leased are free for its successor, and their memory is given back.
    pub(crate) fn worker_died(&self, worker: usize) {
        if worker >= self.blocks.geometry().workers {
            return;
        }
        let words = self.blocks.words(worker);
        let mut state = self.lock();
        let leased = state.shards[worker].worker_died(words);
        // Safe without the lock: the successor is not started before this is done.
        drop(state);
        match leased {
            0 => self.blocks.purge_shard(worker),
            leased => self.purge_blocks(worker, blocks::all() & !leased),
        }
    }

    /// Takes a block of the program's own that has room for that number of bytes; `None`: there is none.
    fn take(&self, bytes: usize) -> Option<Block> {
        let first = self.blocks.geometry().workers;
        let mut state = self.lock();
        for bits in blocks::suitable(bytes) {
            for (number, store) in (first..).zip(&mut state.shards[first..]) {
                // Resident blocks before others.
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

    /// Gives memory back that was idle for [`IDLE`]. Returns when to call this again; never: not before the
    /// next use.
    pub(crate) fn reclaim(&self) -> Deadline {
        let mut state = self.lock();
        if !state.is_purge_scheduled {
            return Deadline::never();
        }
        let due = Deadline::at(state.used).later_by(IDLE);
        if !due.has_passed() {
            return due;
        }
        state.is_purge_scheduled = false;
        let idle = self.take_warm(&mut state);
        drop(state);
        self.purge(&idle);
        Deadline::never()
    }

    /// Ends the arena once the pool and its workers have ended: gives all memory back that no lease reads,
    /// and closes the descriptor once the last lease is dropped.
    pub(crate) fn close(&self) {
        let idle = self.take_warm(&mut self.lock());
        self.purge(&idle);
        let mut state = self.lock();
        state.is_over = true;
        self.close_unless_leased(state);
    }

    fn close_unless_leased(&self, state: MutexGuard<'_, ArenaState>) {
        let is_read = state.shards.iter().any(|store| store.leased != 0);
        drop(state);
        if !is_read {
            self.blocks.close();
        }
    }

    /// Leases all resident, free blocks of the program's own to the caller: their shards, and the bits of
    /// their blocks.
    fn take_warm(&self, state: &mut ArenaState) -> Vec<(usize, u64)> {
        let first = self.blocks.geometry().workers;
        let own = (first..).zip(&mut state.shards[first..]);
        own.filter_map(|(number, store)| {
            let free = store.warm & !store.leased;
            store.leased |= free;
            (free != 0).then_some((number, free))
        })
        .collect()
    }

    /// Gives the memory of blocks of the program's own back, then frees the blocks.
    fn purge(&self, idle: &[(usize, u64)]) {
        for &(number, bits) in idle {
            self.purge_blocks(number, bits);
            let mut state = self.lock();
            state.shards[number].warm &= !bits;
            state.shards[number].leased &= !bits;
        }
    }

    /// Gives the memory of blocks back that are not in use.
    fn purge_blocks(&self, store: usize, blocks: u64) {
        let mut left = blocks;
        while left != 0 {
            self.blocks
                .purge(Block::of_bit(store, left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// Notes a use of memory, and makes sure that `reclaim` will be called.
    fn note_use(&self, mut state: MutexGuard<'_, ArenaState>) {
        state.used = Instant::now();
        let was_purge_scheduled = std::mem::replace(&mut state.is_purge_scheduled, true);
        drop(state);
        if let (false, Some(call)) = (was_purge_scheduled, self.warmed.get()) {
            call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ArenaState> {
        lock(&self.state)
    }
}

// SAFETY: `Blocks::read` copies as many bytes as `to` holds, or fails.
unsafe impl BlockOwner for Arena {
    fn is_forked_copy(&self) -> bool {
        self.blocks.is_elsewhere()
    }

    fn read(&self, block: Block, to: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        self.blocks.read(block, to)
    }

    /// A worker may report more bytes than it has written: reading them would allocate memory for them, so
    /// this is checked for blocks of workers.
    fn has(&self, block: Block, bytes: usize) -> bool {
        block.store() >= self.blocks.geometry().workers || self.blocks.has(block, bytes)
    }

    /// Always: the lease has the block to itself.
    fn has_kept(&self, _: Block) -> bool {
        true
    }

    fn lacks(&self, bytes: usize) -> String {
        format!("there is no memory for its {bytes} bytes")
    }

    fn give_back(&self, block: Block) {
        if self.blocks.is_elsewhere() {
            return; // another thread may have held the lock when this copy was forked
        }
        let number = block.store();
        let mut state = self.lock();
        if state.shards[number].orphaned & block.bit() != 0 {
            // Its worker, which would give the memory back, is dead. The block is still leased, so no other
            // thread uses it meanwhile.
            drop(state);
            self.blocks.purge(block);
            state = self.lock();
        }
        let is_a_worker_s = number < self.blocks.geometry().workers;
        let words = is_a_worker_s.then(|| self.blocks.words(number));
        state.shards[number].give_back(block.bit(), words);
        if state.is_over {
            self.close_unless_leased(state);
        } else if number >= self.blocks.geometry().workers {
            self.note_use(state);
        }
    }

    /// Does nothing: workers learn of the blocks of arguments, but these blocks stay the program's.
    fn hand_over(&self, _: Block) {}
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}

impl PayloadStore for Arc<Arena> {
    fn store(&self, bytes: &[u8]) -> Option<Lease> {
        if bytes.len() <= EAGER_LIMIT || self.blocks.is_elsewhere() {
            return None;
        }
        let block = self.take(bytes.len())?;
        // Dropping the lease gives the block back if there is no memory for it.
        let lease = Lease::new(Arc::clone(self) as _, block, bytes.len(), 0);
        self.blocks.write(block, bytes).ok()?;
        Some(lease)
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod models;
