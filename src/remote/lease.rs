//! Leases: exclusive use of blocks of the arena, and how the other process learns of a block.
//!
//! `codec` stores large values by way of [`PayloadStore`], and `encoded` holds the leases. The arena
//! (`process::shm::arena`) implements [`BlockOwner`] and [`PayloadStore`] for both sides: the program and the
//! worker.

use std::io;
use std::mem::MaybeUninit;
use std::slice;
use std::sync::Arc;

use bytemuck::Pod;

use crate::remote::fields::{FieldReader, FieldWriter};

/// A block of the arena: how it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block(
    /// The block's number, counted through all shards.
    pub(crate) u32,
);

/// Bytes in a block that this lease has for itself. Dropping the lease gives the block back, unless it was
/// handed over.
pub(crate) struct Lease {
    /// The owner of the block: this process's side of the arena.
    block_owner: Arc<dyn BlockOwner>,
    /// The leased block.
    block: Block,
    /// How many bytes of the block are used.
    length: usize,
    /// How many bytes of the block had memory when they were written.
    resident: usize,
    /// Which process gives the block back.
    released_by: ReleasedBy,
}

/// Which process gives a block back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReleasedBy {
    /// This process, when the lease is dropped.
    Ours,
    /// The other process, which was told of the block.
    Theirs,
}

/// The owner of blocks: one process's side of the arena, as a lease sees it.
///
/// # Safety
/// `read` returns `Ok` only if it has written all of `to`.
pub(crate) unsafe trait BlockOwner: Send + Sync {
    /// Whether this process is a forked copy of the owner's, where the memory is not mapped.
    fn is_forked_copy(&self) -> bool;
    /// Copies as many bytes out of the block as `to` holds, all of which are written.
    ///
    /// # Errors
    /// The system cannot map the block, or it is another worker's.
    fn read(&self, block: Block, to: &mut [MaybeUninit<u8>]) -> io::Result<()>;
    /// Whether this number of bytes of the block can be read without the system allocating memory for them.
    fn has(&self, block: Block, bytes: usize) -> bool;
    /// Whether the block, which was read just now, held the lease's bytes all the time.
    fn has_kept(&self, block: Block) -> bool;
    /// Called if there is no memory for a copy of this number of bytes. Returns the text of the error, if it
    /// returns: in a worker it ends the process.
    fn lacks(&self, bytes: usize) -> String;
    /// Gives the block back: no thread reads it any more.
    fn give_back(&self, block: Block);
    /// Notes that the other process was told of the block; from now on that process has to give it back.
    fn hand_over(&self, block: Block);
}

/// The store for large values on their way to another process.
pub(crate) trait PayloadStore {
    /// Copies the bytes to where the other process can access them. `None` if there is no space for them, or
    /// if they are at most [`EAGER_LIMIT`] bytes.
    fn store(&self, bytes: &[u8]) -> Option<Lease>;
}

/// A store without space: every value travels inside its message.
pub(crate) struct NoStore;

impl PayloadStore for NoStore {
    fn store(&self, _: &[u8]) -> Option<Lease> {
        None
    }
}

/// The eager limit, in bytes: a value of at most this size travels inside its message (Open MPI's term). It
/// is also what a slot of the shared-memory queue, and an item batch, have room for.
pub(crate) const EAGER_LIMIT: usize = 2048;

impl Lease {
    /// A lease of a block that is the caller's, and holds `length` bytes, of which `resident` had memory when
    /// they were written.
    pub(crate) fn new(
        block_owner: Arc<dyn BlockOwner>,
        block: Block,
        length: usize,
        resident: usize,
    ) -> Self {
        Self {
            block_owner,
            block,
            length,
            resident,
            released_by: ReleasedBy::Ours,
        }
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    #[cfg(test)]
    pub(crate) fn block(&self) -> Block {
        self.block
    }

    /// Copies the bytes out, as numbers.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
    pub(crate) fn read<N: Pod>(&self) -> Result<Vec<N>, String> {
        const { assert!(size_of::<N>() > 0) };
        if self.length % size_of::<N>() != 0 {
            let words = "bytes are no whole number of elements";
            return Err(format!("{} {words}", self.length));
        }
        if self.block_owner.is_forked_copy() {
            return Err("they are with the program that this one was forked from".to_owned());
        }
        if !self.block_owner.has(self.block, self.length) {
            return Err("they were never written".to_owned());
        }
        let count = self.length / size_of::<N>();
        let mut numbers = Vec::new();
        if numbers.try_reserve_exact(count).is_err() {
            return Err(self.block_owner.lacks(self.length));
        }
        let room = numbers.spare_capacity_mut().as_mut_ptr();
        // SAFETY: the vector has room for `count` numbers, which are that many bytes.
        let room = unsafe { slice::from_raw_parts_mut(room.cast(), self.length) };
        let read = self.block_owner.read(self.block, room);
        if read.is_ok() {
            // SAFETY: all bytes of `count` numbers were written, as `BlockOwner` promises, and any bytes are
            // valid as such numbers.
            unsafe { numbers.set_len(count) };
        }
        match read {
            Ok(()) if !self.block_owner.has_kept(self.block) => {
                Err("they were taken back meanwhile".to_owned())
            }
            Ok(()) => Ok(numbers),
            Err(error) => Err(format!("they cannot be reached: {error}")),
        }
    }

    /// A reference to the bytes, for a message.
    pub(crate) fn location(&self) -> BlockRef {
        BlockRef {
            block: self.block,
            length: self.length as u64,
            resident: self.resident as u64,
        }
    }

    /// A reference to the bytes, for a message. The process that receives it gives the block back.
    pub(crate) fn hand_over(mut self) -> BlockRef {
        self.released_by = ReleasedBy::Theirs;
        self.block_owner.hand_over(self.block);
        self.location()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.released_by == ReleasedBy::Ours {
            self.block_owner.give_back(self.block);
        }
    }
}

/// A reference to bytes in a block, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRef {
    /// The block that holds the bytes.
    pub(crate) block: Block,
    /// The number of bytes.
    pub(crate) length: u64,
    /// How many of the block's bytes had memory before they were written: those are quick to read.
    pub(crate) resident: u64,
}

impl BlockRef {
    /// Size of the encoded reference, in bytes.
    pub(crate) const SIZE: usize = 20;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut fields = &mut bytes[..];
        fields.put_u32(self.block.0);
        fields.put_u64(self.length);
        fields.put_u64(self.resident);
        bytes
    }

    /// Decodes a reference; `None` if the number of bytes is not [`SIZE`](Self::SIZE).
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = FieldReader::new(bytes);
        let block_ref = Self {
            block: Block(reader.u32()?),
            length: reader.u64()?,
            resident: reader.u64()?,
        };
        reader.end(block_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_come_back() {
        let location = BlockRef {
            block: Block(7),
            length: 1 << 40,
            resident: 12,
        };
        assert_eq!(BlockRef::from_bytes(&location.to_bytes()), Some(location));
        assert_eq!(BlockRef::from_bytes(&[0; BlockRef::SIZE + 1]), None);
        assert_eq!(BlockRef::from_bytes(&[]), None);
    }
}
