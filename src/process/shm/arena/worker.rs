//! A worker's side of the arena: arguments that the program put there, and the worker's own blocks for
//! results. The main loop in `process/worker/` calls it.

use std::alloc::Layout;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::process::shm::arena::blocks::{self, ArenaGeometry, Blocks, ShardWords};
use crate::process::shm::queue::{ShmQueue, SlotRef};
use crate::remote::lease::{Block, BlockOwner, BlockRef, EAGER_LIMIT, Lease, PayloadStore};
use crate::sync::lock;
use crate::sys::handle::OwnedHandle;

/// A worker's side of the arena.
pub(crate) struct WorkerArena {
    /// The shared memory.
    blocks: Blocks,
    /// The worker's index, which is also that of its shard.
    worker: usize,
    /// The worker's knowledge of its shard.
    state: Mutex<WorkerArenaState>,
    /// One bit per block: it was handed over, and is still writable.
    exposed: AtomicU64,
}

impl WorkerArena {
    /// Maps the arena of a pool with `workers` workers, in the worker of index `worker`.
    pub(crate) fn map(memory: OwnedHandle, workers: usize, worker: usize) -> io::Result<Arc<Self>> {
        let blocks = Blocks::map(memory, ArenaGeometry::of(workers), worker)?;
        let state = WorkerArenaState::of(blocks.words(worker));
        Ok(Arc::new(Self {
            blocks,
            worker,
            state: Mutex::new(state),
            exposed: AtomicU64::new(0),
        }))
    }

    /// The argument at `location`, which the program keeps there until the worker has answered. `None`: no
    /// argument can be there.
    pub(crate) fn argument(self: &Arc<Self>, location: BlockRef) -> Option<Lease> {
        lease_of(Arc::clone(self) as _, location)
    }

    /// The argument of a task that the worker has claimed. The program reuses the block once the claim does
    /// not hold any more, which happens after a stray write. `None`: no argument can be there.
    pub(crate) fn claimed_argument(
        self: &Arc<Self>,
        location: BlockRef,
        claim: &Arc<StoredClaim>,
    ) -> Option<Lease> {
        let (worker_arena, claim) = (Arc::clone(self), Arc::clone(claim));
        let argument = ClaimedArgument {
            worker_arena,
            claim,
        };
        lease_of(Arc::new(argument), location)
    }

    /// Write-protects the results that the program has not read yet, as a task is about to run that must not
    /// overwrite them. Most results are read by then, and cost nothing.
    #[inline]
    pub(crate) fn shield(&self) {
        // ORDERING: Relaxed; the worker has handed them over on this thread.
        if self.exposed.load(Ordering::Relaxed) != 0 {
            self.shield_exposed();
        }
    }

    fn shield_exposed(&self) {
        // ORDERING: Relaxed; as in `shield`.
        let exposed = self.exposed.swap(0, Ordering::Relaxed);
        let mut state = self.lock();
        state.take_back(self.words());
        let mut left = exposed & state.taken;
        drop(state);
        while left != 0 {
            self.blocks
                .shield(Block::of_bit(self.worker, left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// Gives the memory of free blocks back to the system.
    pub(crate) fn purge(&self) {
        let mut state = self.lock();
        state.take_back(self.words());
        let idle = state.warm & !state.taken;
        state.warm &= !idle;
        drop(state);
        let mut left = idle;
        while left != 0 {
            self.blocks
                .purge(Block::of_bit(self.worker, left.trailing_zeros()));
            left &= left - 1;
        }
    }

    /// Whether there is memory that can be given back, now or once the program has read it.
    pub(crate) fn is_warm(&self) -> bool {
        self.lock().warm != 0
    }

    /// Takes a block of the worker's own that has room for that number of bytes. Returns also whether the
    /// block is resident. `None`: there is no free block.
    fn take(&self, bytes: usize) -> Option<(Block, Warmth)> {
        let mut state = self.lock();
        state.take_back(self.words());
        let (bit, warmth) = state.take(bytes)?;
        Some((Block::of_bit(self.worker, bit), warmth))
    }

    /// The program's words about the worker's shard.
    fn words(&self) -> &ShardWords {
        self.blocks.words(self.worker)
    }

    fn lock(&self) -> MutexGuard<'_, WorkerArenaState> {
        lock(&self.state)
    }
}

/// A lease of the bytes at `location`; `None`: the reference does not fit into its block.
fn lease_of(block_owner: Arc<dyn BlockOwner>, location: BlockRef) -> Option<Lease> {
    let length = usize::try_from(location.length).ok()?;
    let is_sound = length <= location.block.size();
    is_sound.then(|| Lease::new(block_owner, location.block, length, 0))
}

/// A worker's claim of a task whose argument lies in the arena: whether it held each time that the argument
/// was read.
pub(crate) struct StoredClaim {
    /// The queue that holds the task.
    queue: Arc<ShmQueue>,
    /// The task's slot.
    place: SlotRef,
    /// The worker's index.
    me: usize,
    /// Whether the claim did not hold at a check.
    is_lost: AtomicBool,
}

impl StoredClaim {
    pub(crate) fn new(queue: &Arc<ShmQueue>, place: SlotRef, me: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Arc::clone(queue),
            place,
            me,
            is_lost: AtomicBool::new(false),
        })
    }

    /// Whether the claim holds; to be called after the argument was read.
    fn holds(&self) -> bool {
        let holds = self.queue.holds(self.place, self.me);
        // ORDERING: Relaxed; only the worker's own thread uses it.
        self.is_lost.fetch_or(!holds, Ordering::Relaxed);
        holds
    }

    /// Whether the claim did not hold at a check: then the worker has called nothing.
    pub(crate) fn is_lost(&self) -> bool {
        // ORDERING: Relaxed; as in `holds`.
        self.is_lost.load(Ordering::Relaxed)
    }
}

/// Owner of the block that holds the argument of a claimed task.
struct ClaimedArgument {
    /// The worker's side of the arena.
    worker_arena: Arc<WorkerArena>,
    /// The claim.
    claim: Arc<StoredClaim>,
}

/// The worker's knowledge of its shard. Each field has one bit per block.
pub(super) struct WorkerArenaState {
    /// The block is in use, by the worker or, once it was handed over, by the program.
    taken: u64,
    /// [`ShardWords::returns`] as last seen: a block that was handed over is free again when its
    /// bit has changed since.
    returns: u64,
    /// The block was handed over.
    handed_over: u64,
    /// The block is resident.
    warm: u64,
}

impl WorkerArenaState {
    /// The initial state of a worker that has just arrived: blocks that its predecessor handed over and that
    /// the program still has are not its own.
    pub(super) fn of(words: &ShardWords) -> Self {
        let (orphaned, returns) = words.orphans();
        Self {
            taken: orphaned,
            returns,
            handed_over: orphaned,
            warm: 0,
        }
    }

    /// Takes a block that has room for that number of bytes. Returns its bit, and whether it is resident.
    pub(super) fn take(&mut self, bytes: usize) -> Option<(u32, Warmth)> {
        for bits in blocks::suitable(bytes) {
            let free = bits & !self.taken;
            let best = match free & self.warm {
                0 => free,
                warm => warm,
            };
            if best != 0 {
                let bit = best.trailing_zeros();
                let warmth = match self.warm & 1 << bit {
                    0 => Warmth::Cold,
                    _ => Warmth::Warm,
                };
                self.taken |= 1 << bit;
                self.warm |= 1 << bit;
                return Some((bit, warmth));
            }
        }
        None
    }

    /// Notes that these blocks are handed over; to be called before the program learns of them.
    pub(super) fn hand_over(&mut self, blocks: u64) {
        self.handed_over |= blocks;
    }

    /// Frees the blocks that the program has given back since the last call.
    pub(super) fn take_back(&mut self, words: &ShardWords) {
        let returns = words.returns();
        let back = (returns ^ self.returns) & self.handed_over;
        self.taken &= !back;
        self.handed_over &= !back;
        self.returns = returns;
    }
}

/// Whether a block is resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warmth {
    /// It has memory, from an earlier use.
    Warm,
    /// It has no memory.
    Cold,
}

// SAFETY: `Blocks::read` copies as many bytes as `to` holds, or fails.
unsafe impl BlockOwner for WorkerArena {
    fn is_forked_copy(&self) -> bool {
        self.blocks.is_elsewhere()
    }

    fn read(&self, block: Block, to: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        self.blocks.read(block, to)
    }

    /// Always: the program is trusted, and the worker knows what it has written.
    fn has(&self, _: Block, _: usize) -> bool {
        true
    }

    /// Always: the worker's own results stay, and the program keeps arguments until they are answered.
    fn has_kept(&self, _: Block) -> bool {
        true
    }

    /// Ends the process as any failed allocation does: a worker that is sent too much ends like one that
    /// allocates too much itself.
    fn lacks(&self, bytes: usize) -> String {
        let layout = Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>());
        std::alloc::handle_alloc_error(layout)
    }

    fn give_back(&self, block: Block) {
        let is_own = block.store() == self.worker;
        if is_own && !self.blocks.is_elsewhere() {
            self.blocks.purge(block); // the program never learned of it
            let mut state = self.lock();
            state.warm &= !block.bit();
            state.taken &= !block.bit();
        }
    }

    fn hand_over(&self, block: Block) {
        if block.store() == self.worker {
            self.lock().hand_over(block.bit());
            // ORDERING: Relaxed; read by this thread.
            self.exposed.fetch_or(block.bit(), Ordering::Relaxed);
        }
    }
}

// SAFETY: as `WorkerArena`, which it calls.
unsafe impl BlockOwner for ClaimedArgument {
    fn is_forked_copy(&self) -> bool {
        self.worker_arena.is_forked_copy()
    }

    fn read(&self, block: Block, to: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        self.worker_arena.read(block, to)
    }

    fn has(&self, block: Block, bytes: usize) -> bool {
        self.worker_arena.has(block, bytes)
    }

    /// As long as the claim holds, the program does not use the block for another argument.
    fn has_kept(&self, _: Block) -> bool {
        self.claim.holds()
    }

    fn lacks(&self, bytes: usize) -> String {
        self.worker_arena.lacks(bytes)
    }

    fn give_back(&self, block: Block) {
        self.worker_arena.give_back(block);
    }

    fn hand_over(&self, block: Block) {
        self.worker_arena.hand_over(block);
    }
}

/// Result placement: where a worker puts large results.
pub(crate) struct ResultPlacement<'a> {
    /// The worker's side of the arena; `None`: there is no arena.
    pub(crate) worker_arena: Option<&'a Arc<WorkerArena>>,
}

impl PayloadStore for ResultPlacement<'_> {
    fn store(&self, bytes: &[u8]) -> Option<Lease> {
        let worker_arena = self.worker_arena?;
        // A copy of the worker that the task has forked has no memory to write to.
        if bytes.len() <= EAGER_LIMIT || worker_arena.blocks.is_elsewhere() {
            return None;
        }
        let (block, warmth) = worker_arena.take(bytes.len())?;
        let resident = match warmth {
            Warmth::Warm => bytes.len(),
            Warmth::Cold => 0,
        };
        // Dropping the lease gives the block back, unless it is handed over.
        let lease = Lease::new(Arc::clone(worker_arena) as _, block, bytes.len(), resident);
        worker_arena.blocks.write(block, bytes).ok()?;
        Some(lease)
    }
}
