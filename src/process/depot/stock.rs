//! A worker's side of the depot: arguments that the program put there, and blocks of its own for
//! results.

use std::alloc::Layout;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::process::depot::blocks::{self, Block, Blocks, Plan};
use crate::process::depot::lease::{FEW, Keeper, Lease, Location, Room};

/// A worker's side of the depot.
pub(crate) struct Stock {
    /// The memory.
    blocks: Blocks,
    /// Whose it is.
    worker: usize,
}

impl Stock {
    /// The depot of a pool with so many workers, in the worker of that index.
    pub(crate) fn map(memory: OwnedFd, workers: usize, worker: usize) -> io::Result<Arc<Self>> {
        let blocks = Blocks::map(memory, Plan::of(workers))?;
        match worker < workers {
            true => Ok(Arc::new(Self { blocks, worker })),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What the program has put there.
    pub(crate) fn argument(self: &Arc<Self>, location: Location) -> Option<Lease> {
        let (length, room) = sizes(location)?;
        Some(Lease::new(
            Arc::clone(self) as _,
            location.block,
            length,
            room,
        ))
    }

    /// Takes a block of its own that has room for so many bytes.
    fn take(&self, bytes: usize) -> Option<Block> {
        let words = self.blocks.words(self.worker);
        for bits in blocks::suitable(bytes) {
            // ORDERING: Relaxed; the exchange below is the truth.
            let mut free = bits & !words.taken.load(Ordering::Relaxed);
            while free != 0 {
                let bit = free & free.wrapping_neg();
                free &= !bit;
                // ORDERING: Acquire, from the program's release of the block, which has read it.
                if words.taken.fetch_or(bit, Ordering::Acquire) & bit != 0 {
                    continue; // the program has it, to give its memory back
                }
                let block = Block::of_bit(self.worker, bit.trailing_zeros());
                // ORDERING: Relaxed; the exchange above acquired it.
                if words.cold.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
                    self.blocks.forget(block);
                }
                return Some(block);
            }
        }
        None
    }
}

impl Keeper for Stock {
    fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The program is trusted, and we know what we have written.
    fn has(&self, _: Block, _: usize) -> bool {
        true
    }

    /// What ends a worker that allocates too much itself, ends one that is given too much.
    fn lacks(&self, bytes: usize) -> String {
        let layout = Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>());
        std::alloc::handle_alloc_error(layout)
    }

    fn give_back(&self, block: Block) {
        let is_own = block.store() == self.worker;
        if is_own && !self.blocks.is_elsewhere() {
            self.blocks.cool(block); // the program never heard of it
            let words = self.blocks.words(self.worker);
            // ORDERING: Release, to the program's taking.
            words.taken.fetch_and(!block.bit(), Ordering::Release);
        }
    }
}

/// Where a worker puts the result of the task at hand.
pub(crate) struct Berth<'a> {
    /// Its side of the depot, if there is one.
    pub(crate) stock: Option<&'a Arc<Stock>>,
    /// Where the argument was, which nobody needs any more once there is a result.
    pub(crate) argument: Option<Location>,
}

impl Room for Berth<'_> {
    fn store(&self, bytes: &[u8]) -> Option<Lease> {
        let stock = self.stock?;
        // In a copy that the task has forked there is nothing to write to.
        if bytes.len() <= FEW || stock.blocks.is_elsewhere() {
            return None;
        }
        self.store_beside_argument(stock, bytes)
            .or_else(|| store_apart(stock, bytes))
    }
}

impl Berth<'_> {
    fn store_beside_argument(&self, stock: &Arc<Stock>, bytes: &[u8]) -> Option<Lease> {
        let location = self.argument?;
        let (_, room) = sizes(location)?;
        if bytes.len() > room {
            return None;
        }
        stock.blocks.write(location.block, bytes).ok()?;
        let keeper = Arc::clone(stock) as _;
        Some(Lease::new(keeper, location.block, bytes.len(), room))
    }
}

fn store_apart(stock: &Arc<Stock>, bytes: &[u8]) -> Option<Lease> {
    let block = stock.take(bytes.len())?;
    // Gives the block back, unless it is handed over.
    let lease = Lease::new(Arc::clone(stock) as _, block, bytes.len(), 0);
    stock.blocks.write(block, bytes).ok()?;
    Some(lease)
}

/// Length and room, if they make sense.
fn sizes(location: Location) -> Option<(usize, usize)> {
    let length = usize::try_from(location.length).ok()?;
    let room = usize::try_from(location.room).ok()?;
    (length <= room && room <= location.block.size()).then_some((length, room))
}
