//! The arena's memory: its layout, and its mapping, one block at a time.
//!
//! Each side can write only what it must: the program its own shards, a worker its own shard. While a worker
//! runs a task, it cannot write a block that holds a result which the program has not read ([`shield`]). So a
//! stray write of a task reaches no argument, and no finished result, not even one of its own worker.
//!
//! [`shield`]: Blocks::shield

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::remote::lease::Block;
use crate::sync::{AtomicU64, Ordering, fence, lock};
use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::OwnedHandle;
use crate::sys::shared_memory::{Access, Mapping, SharedFile};

/// Size in bytes of the smallest blocks, if that is at least a page; blocks of each further class are four
/// times as large.
const SMALLEST: usize = 16 << 10;

/// Number of size classes; the largest blocks have 1 GiB.
const CLASSES: usize = 9;

/// Number of blocks of each class in a shard.
const EACH: usize = 7;

/// Number of blocks in a shard; a word has one bit for each of them.
const BLOCKS: usize = CLASSES * EACH;

/// Alignment in bytes of shards, and of blocks of at least this size.
const ALIGNMENT: u64 = 2 << 20;

/// Number of shards: first one for each worker, then those of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArenaGeometry {
    /// Number of workers' shards.
    pub(crate) workers: usize,
    /// Number of the program's own shards.
    pub(crate) own: usize,
}

impl ArenaGeometry {
    pub(crate) fn of(workers: usize) -> Self {
        let own = 1 + workers / 4;
        Self { workers, own }
    }

    pub(crate) fn shards(self) -> usize {
        self.workers + self.own
    }

    fn words_size(self) -> usize {
        self.workers * size_of::<ShardWords>()
    }

    fn start_of_stores(self) -> u64 {
        (self.words_size() as u64).next_multiple_of(ALIGNMENT)
    }

    fn size(self) -> u64 {
        self.start_of_stores() + self.shards() as u64 * store_size()
    }
}

fn store_size() -> u64 {
    let last = Block(0); // the smallest come last
    (last.offset_in_store() + last.size() as u64).next_multiple_of(ALIGNMENT)
}

impl Block {
    /// The block of that bit in a shard's words.
    pub(crate) fn of_bit(store: usize, bit: u32) -> Self {
        // Cannot overflow: the queue limits the number of workers.
        Self((store * BLOCKS) as u32 + bit)
    }

    pub(crate) fn store(self) -> usize {
        self.0 as usize / BLOCKS
    }

    fn at(self) -> usize {
        self.0 as usize % BLOCKS
    }

    fn class(self) -> usize {
        self.at() / EACH
    }

    /// The block's bit in the words of its shard.
    pub(crate) fn bit(self) -> u64 {
        1 << self.at()
    }

    /// The block's capacity in bytes.
    pub(crate) fn size(self) -> usize {
        size_of_class(self.class())
    }

    /// Offset in the shard. The largest blocks come first, so that each is aligned to its size.
    fn offset_in_store(self) -> u64 {
        let larger =
            (self.class() + 1..CLASSES).map(|class| EACH as u64 * size_of_class(class) as u64);
        let before = EACH - 1 - self.at() % EACH;
        larger.sum::<u64>() + before as u64 * self.size() as u64
    }
}

/// The bits of all blocks of a shard.
pub(crate) fn all() -> u64 {
    (1 << BLOCKS) - 1
}

fn size_of_class(class: usize) -> usize {
    size_with_pages(class, sys::memory::page_size())
}

/// Size in bytes of the blocks of a class: whole pages, since each block is mapped by itself. Where a page
/// has 64 KiB, the blocks of two classes have the size of a page.
fn size_with_pages(class: usize, page: usize) -> usize {
    (SMALLEST << (2 * class)).max(page)
}

/// The bits of the blocks that have room for that number of bytes and are not much too large, those of the
/// best size first.
pub(crate) fn suitable(bytes: usize) -> impl Iterator<Item = u64> {
    let best = (0..CLASSES).find(|class| size_of_class(*class) >= bytes);
    let classes = best.map_or(CLASSES..CLASSES, |best| best..CLASSES.min(best + 2));
    classes.map(|class| ((1 << EACH) - 1) << (class * EACH))
}

/// What the program tells a worker about the worker's shard. The worker cannot write it.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct ShardWords {
    /// One bit per block: it flips each time that the program gives the block back.
    returns: AtomicU64,
    /// One bit per block: the program had it when the last worker of the shard had died.
    orphaned: AtomicU64,
    /// The value of `returns` at that moment.
    returns_then: AtomicU64,
}

impl ShardWords {
    /// Tells the worker that the program gives these blocks back.
    pub(crate) fn give_back(&self, blocks: u64) {
        // ORDERING: Release; pairs with the worker's `returns`: what the worker writes into the blocks comes
        // after the program's reads.
        self.returns.fetch_xor(blocks, Ordering::Release);
    }

    /// Records that the shard's worker is dead, and which blocks the program still has. To be called while no
    /// other thread gives blocks back, and before there is a successor.
    pub(crate) fn bury(&self, orphaned: u64) {
        // ORDERING: the load is Relaxed, as no other thread writes the word; both stores are Release and pair
        // with a successor's `orphans`.
        let returns = self.returns.load(Ordering::Relaxed);
        self.returns_then.store(returns, Ordering::Release);
        self.orphaned.store(orphaned, Ordering::Release);
    }

    pub(crate) fn returns(&self) -> u64 {
        read(&self.returns)
    }

    /// The blocks that the program had when the shard's last worker had died, and the value of `returns` at
    /// that moment. The blocks that the program has given back since are those whose bit in `returns` has
    /// changed. That is one word, so no give-back can come between the loads of two.
    pub(crate) fn orphans(&self) -> (u64, u64) {
        (read(&self.orphaned), read(&self.returns_then))
    }
}

/// Loads a word with acquire semantics; its memory may be mapped read-only.
fn read(word: &AtomicU64) -> u64 {
    // ORDERING: Relaxed, as no other ordering is promised to work on read-only memory.
    let value = word.load(Ordering::Relaxed);
    // ORDERING: Acquire; pairs with the program's release.
    fence(Ordering::Acquire);
    value
}

/// The side of the arena that this process is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The program: it writes all shards but those of workers.
    Program,
    /// The worker of this index: it writes its own shard.
    Worker(usize),
}

/// The arena's memory; unmapped when dropped.
pub(crate) struct Blocks {
    /// The file; `None` once closed.
    memory: Mutex<Option<Arc<SharedFile>>>,
    /// The number of shards.
    geometry: ArenaGeometry,
    /// The side of this process: which shards it writes.
    side: Side,
    /// Holds the [`ShardWords`] of the workers' shards.
    words: Mapping,
    /// The mappings of each shard's blocks; empty for a shard that was never used.
    shards: Box<[OnceLock<Box<[BlockMapping; BLOCKS]>>]>,
    /// The process in which the memory is mapped; forked copies do not have it.
    fork_epoch: ForkEpoch,
}

/// The mapping of a block.
#[derive(Default)]
struct BlockMapping {
    /// The block's memory, once mapped.
    memory: OnceLock<Mapping>,
    /// The number of bytes, from the block's start, that are known to have memory and to be mapped.
    extent: AtomicUsize,
    /// Whether the block is write-protected; used only by the side that writes it.
    is_shielded: AtomicBool,
}

impl Blocks {
    /// Creates the memory. Only its words are allocated, and no worker can change its size.
    pub(crate) fn create(geometry: ArenaGeometry) -> io::Result<Self> {
        let name = c"concurrent-futures depot";
        let memory = SharedFile::create(name, geometry.size(), geometry.words_size())?;
        Self::of_file(memory, geometry, Side::Program)
    }

    /// Maps the same memory in the worker of that index.
    pub(crate) fn map(
        memory: OwnedHandle,
        geometry: ArenaGeometry,
        worker: usize,
    ) -> io::Result<Self> {
        if worker >= geometry.workers {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::of_file(SharedFile::received(memory), geometry, Side::Worker(worker))
    }

    fn of_file(memory: SharedFile, geometry: ArenaGeometry, side: Side) -> io::Result<Self> {
        let access = match side {
            Side::Program => Access::ReadWrite,
            Side::Worker(_) => Access::ReadOnly,
        };
        Ok(Self {
            words: memory.map(0, geometry.words_size(), access)?,
            memory: Mutex::new(Some(Arc::new(memory))),
            geometry,
            side,
            shards: (0..geometry.shards()).map(|_| OnceLock::new()).collect(),
            fork_epoch: ForkEpoch::here(),
        })
    }

    /// A copy of the descriptor, for a worker that is being started.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedHandle> {
        self.memory()?.descriptor()
    }

    /// Closes the file: no further block is mapped, and no memory is given back.
    pub(crate) fn close(&self) {
        let closed = self.lock().take();
        drop(closed);
    }

    fn memory(&self) -> io::Result<Arc<SharedFile>> {
        let memory = self.lock().clone();
        memory.ok_or_else(|| io::Error::other("the pool has ended"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<SharedFile>>> {
        lock(&self.memory)
    }

    pub(crate) fn geometry(&self) -> ArenaGeometry {
        self.geometry
    }

    /// Whether this is a forked copy of the process, which does not have the memory.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.fork_epoch.is_forked_copy()
    }

    /// The words of a worker's shard.
    pub(crate) fn words(&self, worker: usize) -> &ShardWords {
        assert!(worker < self.geometry.workers && !self.is_elsewhere());
        // SAFETY: the mapping has words for each worker.
        let place = unsafe { self.words.place().cast::<ShardWords>().add(worker) };
        // SAFETY: the mapping begins at a page, and lives as long as `self`; any bytes are valid for atomics.
        unsafe { place.as_ref() }
    }

    /// Copies bytes into a block, which must belong to the caller.
    ///
    /// # Errors
    /// The system has no memory for it, or this side does not write the block's shard.
    pub(crate) fn write(&self, block: Block, bytes: &[u8]) -> io::Result<()> {
        assert!(bytes.len() <= block.size());
        if !self.is_writer(block) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mapping = self.mapping(block)?;
        let memory = self.memory_of(mapping, block)?;
        // ORDERING: Relaxed, for all of this; only one thread at a time uses a block.
        if mapping.is_shielded.load(Ordering::Relaxed) {
            memory.protect(Access::ReadWrite)?;
            mapping.is_shielded.store(false, Ordering::Relaxed);
        }
        let place = memory.place();
        self.make_room(mapping, memory, block, bytes.len())?;
        // SAFETY: the block is mapped, can be written, and has room for that number of bytes; no reference to
        // shared bytes ever exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Write-protects a block in this process until the next [`write`](Self::write).
    pub(crate) fn shield(&self, block: Block) {
        let mapping = self.mapping(block).ok();
        let memory = mapping.and_then(|mapping| Some((mapping, mapping.memory.get()?)));
        if let Some((mapping, memory)) = memory {
            // Fails only where the system has no memory for the protection: then a stray write could hit the
            // block.
            let shielded = memory.protect(Access::ReadOnly).is_ok();
            // ORDERING: Relaxed; as in `write`.
            mapping.is_shielded.store(shielded, Ordering::Relaxed);
        }
    }

    /// Whether this side writes the block's shard.
    fn is_writer(&self, block: Block) -> bool {
        match self.side {
            Side::Program => block.store() >= self.geometry.workers,
            Side::Worker(own) => block.store() == own,
        }
    }

    /// Allocates memory for the first `bytes` bytes of a block.
    fn make_room(
        &self,
        mapping: &BlockMapping,
        memory: &Mapping,
        block: Block,
        bytes: usize,
    ) -> io::Result<()> {
        // ORDERING: Relaxed, as for all accesses to extents: a side that uses a block got it by a lock or by
        // words that order the access.
        if mapping.extent.load(Ordering::Relaxed) >= bytes {
            return Ok(());
        }
        let wanted = bytes.next_multiple_of(size_of_class(0)).min(block.size());
        match memory.populate_to_write(0, wanted) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.memory()?.allocate(self.offset(block), wanted)?;
            }
            outcome => outcome?,
        }
        mapping.extent.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Copies as many bytes out of a block as `to` holds.
    ///
    /// # Errors
    /// The system cannot map the block, or it is another worker's.
    pub(crate) fn read(&self, block: Block, to: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        let bytes = to.len();
        assert!(bytes <= block.size());
        let mapping = self.mapping(block)?;
        let memory = self.memory_of(mapping, block)?;
        let place = memory.place();
        // ORDERING: Relaxed; as in `make_room`.
        if mapping.extent.load(Ordering::Relaxed) < bytes {
            memory.populate_to_read(bytes);
            mapping.extent.store(bytes, Ordering::Relaxed);
        }
        sys::memory::prefer_huge_pages(to);
        let to = to.as_mut_ptr().cast();
        // SAFETY: the block is mapped, and holds that number of bytes; so does the caller's memory. The
        // bytes may change meanwhile if a worker misbehaves: then the copy holds arbitrary bytes, as it may
        // in any case.
        unsafe { std::ptr::copy_nonoverlapping(place.as_ptr().cast_const(), to, bytes) };
        Ok(())
    }

    /// Whether the first `bytes` bytes of a block have memory. Bytes that this side has seen before are not
    /// checked again: it made up no more memory for them than they had then.
    pub(crate) fn has(&self, block: Block, bytes: usize) -> bool {
        // ORDERING: Relaxed; as in `make_room`.
        let extent = |mapping: &BlockMapping| mapping.extent.load(Ordering::Relaxed);
        if self
            .mapping(block)
            .is_ok_and(|mapping| extent(mapping) >= bytes)
        {
            return true;
        }
        bytes <= block.size()
            && self
                .memory()
                .is_ok_and(|memory| memory.is_without_holes(self.offset(block), bytes))
    }

    /// Purges a block, which must belong to the caller: gives its memory back.
    pub(crate) fn purge(&self, block: Block) {
        if let Ok(memory) = self.memory() {
            // Fails only where the memory stays allocated, which costs nothing but memory.
            let _ = memory.purge(self.offset(block), block.size());
        }
        self.forget(block);
    }

    /// Purges a worker's whole shard; no block of it may be in use.
    pub(crate) fn purge_shard(&self, store: usize) {
        if let Ok(memory) = self.memory() {
            let from = self.geometry.start_of_stores() + store as u64 * store_size();
            let bytes = usize::try_from(store_size());
            // Fails only where the memory stays allocated, which costs nothing but memory.
            let _ = bytes.map(|bytes| memory.purge(from, bytes));
        }
        if let Some(mappings) = self.shards.get(store).and_then(OnceLock::get) {
            for mapping in mappings.iter() {
                // ORDERING: Relaxed; as in `make_room`.
                mapping.extent.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Notes that the block's memory was given back.
    pub(crate) fn forget(&self, block: Block) {
        if let Ok(mapping) = self.mapping(block) {
            // ORDERING: Relaxed; as in `make_room`.
            mapping.extent.store(0, Ordering::Relaxed);
        }
    }

    fn offset(&self, block: Block) -> u64 {
        let store = block.store() as u64 * store_size();
        self.geometry.start_of_stores() + store + block.offset_in_store()
    }

    fn mapping(&self, block: Block) -> io::Result<&BlockMapping> {
        if self.is_elsewhere() {
            return Err(io::Error::other(
                "it belongs to the program that this one was forked from",
            ));
        }
        let is_another_s = match self.side {
            Side::Program => false,
            Side::Worker(own) => block.store() < self.geometry.workers && block.store() != own,
        };
        let store = self.shards.get(block.store()).filter(|_| !is_another_s);
        let store = store.ok_or_else(|| io::Error::other("there is no such block"))?;
        let new = || Box::new(std::array::from_fn(|_| BlockMapping::default()));
        Ok(&store.get_or_init(new)[block.at()])
    }

    /// The memory of a block, which is mapped now if it was not mapped yet.
    fn memory_of<'a>(&self, mapping: &'a BlockMapping, block: Block) -> io::Result<&'a Mapping> {
        if let Some(memory) = mapping.memory.get() {
            return Ok(memory);
        }
        let access = match self.is_writer(block) {
            true => Access::ReadWrite,
            false => Access::ReadOnly,
        };
        let memory = self.memory()?;
        let memory = memory.map(self.offset(block), block.size(), access)?;
        // If another thread was first, this thread's mapping is dropped.
        Ok(mapping.memory.get_or_init(|| memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let mut ends: Vec<(u64, u64)> = (0..BLOCKS as u32)
            .map(|bit| Block::of_bit(0, bit))
            .map(|block| {
                (
                    block.offset_in_store(),
                    block.offset_in_store() + block.size() as u64,
                )
            })
            .collect();
        ends.sort_unstable();
        for pair in ends.windows(2) {
            assert_eq!(pair[0].1, pair[1].0);
        }
        assert_eq!(ends[0].0, 0);
        assert!(ends[BLOCKS - 1].1 <= store_size());
    }

    #[test]
    fn blocks_are_aligned_to_their_size() {
        for bit in 0..BLOCKS as u32 {
            let block = Block::of_bit(0, bit);
            assert_eq!(block.offset_in_store() % block.size() as u64, 0);
        }
        assert_eq!(store_size() % ALIGNMENT, 0);
    }

    #[test]
    fn blocks_are_whole_pages_whatever_a_page_has() {
        for page in [4 << 10, 16 << 10, 64 << 10, 256 << 10] {
            for class in 0..CLASSES {
                let size = size_with_pages(class, page);
                assert!(size % page == 0 && size >= SMALLEST << (2 * class));
            }
            assert_eq!(size_with_pages(CLASSES - 1, page), 1 << 30);
        }
    }

    #[test]
    fn suitable_blocks_have_room() {
        let smallest = size_of_class(0);
        for bytes in [1, smallest, smallest + 1, 1 << 20, (1 << 20) + 1, 1 << 30] {
            let mut count = 0;
            for bits in suitable(bytes) {
                let block = Block::of_bit(3, bits.trailing_zeros());
                assert!(block.size() >= bytes);
                assert_eq!((block.store(), bits.count_ones()), (3, EACH as u32));
                count += 1;
            }
            assert!(count > 0, "{bytes}");
        }
        assert_eq!(suitable((1 << 30) + 1).count(), 0);
    }

    fn bytes(blocks: &Blocks, block: Block, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Box::new_uninit_slice(count);
        // SAFETY: `read` has written all of them.
        blocks
            .read(block, &mut bytes)
            .map(|()| unsafe { bytes.assume_init() }.into_vec())
    }

    #[test]
    fn what_was_written_is_read_until_the_block_cools() {
        let blocks = Blocks::create(ArenaGeometry::of(1)).unwrap();
        let block = Block::of_bit(1, 0);
        assert!(!blocks.has(block, 1));
        blocks.write(block, &[1, 2, 3, 4]).unwrap();
        assert!(blocks.has(block, size_of_class(0)) && !blocks.has(block, block.size() + 1));
        assert_eq!(bytes(&blocks, block, 4).unwrap(), [1, 2, 3, 4]);
        blocks.purge(block);
        assert!(!blocks.has(block, 1));
        assert_eq!(bytes(&blocks, block, 4).unwrap(), [0; 4]);
    }

    #[test]
    fn what_was_mapped_is_there_when_the_file_is_closed() {
        let blocks = Blocks::create(ArenaGeometry::of(1)).unwrap();
        let [used, unused] = [0, 1].map(|bit| Block::of_bit(1, bit));
        blocks.write(used, &[7; 100]).unwrap();
        blocks.close();
        assert_eq!(bytes(&blocks, used, 100).unwrap(), [7; 100]);
        assert!(bytes(&blocks, unused, 100).is_err() && blocks.descriptor().is_err());
    }

    #[test]
    fn there_is_room_for_as_many_workers_as_a_queue_has() {
        let geometry = ArenaGeometry::of(1024);
        let blocks = Blocks::create(geometry).unwrap();
        let last = Block::of_bit(geometry.shards() - 1, 0);
        blocks.write(last, &[7; 100]).unwrap();
        assert_eq!(bytes(&blocks, last, 100).unwrap(), [7; 100]);
    }

    #[test]
    fn each_side_writes_its_own_stores() {
        let geometry = ArenaGeometry::of(2);
        let program = Blocks::create(geometry).unwrap();
        let worker = Blocks::map(program.descriptor().unwrap(), geometry, 1).unwrap();
        let [others, own, program_s] = [0, 1, 2].map(|store| Block::of_bit(store, 0));
        program.write(program_s, &[1; 100]).unwrap();
        worker.write(own, &[2; 100]).unwrap();
        for (blocks, block) in [
            (&program, others),
            (&program, own),
            (&worker, others),
            (&worker, program_s),
        ] {
            let error = blocks.write(block, &[3]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        for side in [&program, &worker] {
            assert_eq!(bytes(side, own, 100).unwrap(), [2; 100]);
            assert_eq!(bytes(side, program_s, 100).unwrap(), [1; 100]);
        }
        assert!(bytes(&worker, others, 1).is_err());
    }

    #[test]
    fn blocks_that_do_not_exist_are_refused() {
        let blocks = Blocks::create(ArenaGeometry::of(1)).unwrap();
        let beyond = Block(u32::MAX);
        assert!(bytes(&blocks, beyond, 1).is_err());
        assert!(blocks.write(beyond, &[1]).is_err());
    }
}
