//! Blocks of the depot while somebody has them to himself, and how the other side learns of them.

use std::sync::Arc;

use bytemuck::Pod;

use crate::process::shm::arena::blocks::{Block, Blocks};

/// Bytes in a block that is ours, to be given back when this is dropped.
pub(crate) struct Lease {
    /// Whose block it is.
    block_owner: Arc<dyn BlockOwner>,
    /// The block.
    block: Block,
    /// Bytes in it.
    length: usize,
    /// Bytes of it that had memory when they were written.
    resident: usize,
    /// Who gives it back.
    released_by: ReleasedBy,
}

/// Who gives a block back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReleasedBy {
    /// We do.
    Ours,
    /// Whoever was told of it.
    Theirs,
}

/// Whose blocks they are.
pub(crate) trait BlockOwner: Send + Sync {
    fn blocks(&self) -> &Blocks;
    /// Whether so many bytes of the block can be read without making up memory for them.
    fn has(&self, block: Block, bytes: usize) -> bool;
    /// Whether the block, which was read just now, held the lease's bytes all the time.
    fn has_kept(&self, block: Block) -> bool;
    /// There is no memory for so many bytes: what to say of it, if one lives on.
    fn lacks(&self, bytes: usize) -> String;
    /// Nobody reads the block any more.
    fn give_back(&self, block: Block);
    /// The other process was told of the block.
    fn hand_over(&self, block: Block);
}

/// Where large values are put on their way to another process.
pub(crate) trait PayloadStore {
    /// Copies the bytes to where the other process sees them; `None` if there is no place for them,
    /// or they are few.
    fn store(&self, bytes: &[u8]) -> Option<Lease>;
}

/// There is none.
pub(crate) struct NoStore;

impl PayloadStore for NoStore {
    fn store(&self, _: &[u8]) -> Option<Lease> {
        None
    }
}

/// Values of at most so many bytes travel by themselves.
pub(crate) const EAGER_LIMIT: usize = 2048;

impl Lease {
    /// Of a block that is the caller's, and holds so many bytes.
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

    /// How many bytes there are.
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
    /// What is wrong with them.
    pub(crate) fn read<N: Pod>(&self) -> Result<Vec<N>, String> {
        if self.length % size_of::<N>() != 0 {
            let words = "bytes are no whole number of elements";
            return Err(format!("{} {words}", self.length));
        }
        if self.block_owner.blocks().is_elsewhere() {
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
        let read = self
            .block_owner
            .blocks()
            .read(self.block, &mut numbers, count);
        match read {
            Ok(()) if !self.block_owner.has_kept(self.block) => {
                Err("they were taken back meanwhile".to_owned())
            }
            Ok(()) => Ok(numbers),
            Err(error) => Err(format!("they cannot be reached: {error}")),
        }
    }

    /// Where the bytes are.
    pub(crate) fn location(&self) -> BlockRef {
        BlockRef {
            block: self.block,
            length: self.length as u64,
            resident: self.resident as u64,
        }
    }

    /// Where the bytes are; whoever is told of it gives the block back.
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

/// Where bytes are, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRef {
    /// In which block.
    pub(crate) block: Block,
    /// How many.
    pub(crate) length: u64,
    /// How many of the block's bytes had memory before they were written: those are quick to read.
    pub(crate) resident: u64,
}

impl BlockRef {
    /// Bytes that it takes.
    pub(crate) const SIZE: usize = 20;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&self.block.to_number().to_le_bytes());
        bytes[4..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.resident.to_le_bytes());
        bytes
    }

    /// `None`: this is none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let (block, rest) = bytes.split_first_chunk()?;
        let (length, resident) = rest.split_first_chunk()?;
        Some(Self {
            block: Block::from_number(u32::from_le_bytes(*block)),
            length: u64::from_le_bytes(*length),
            resident: u64::from_le_bytes(resident.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_come_back() {
        let location = BlockRef {
            block: Block::from_number(7),
            length: 1 << 40,
            resident: 12,
        };
        assert_eq!(BlockRef::from_bytes(&location.to_bytes()), Some(location));
        assert_eq!(BlockRef::from_bytes(&[0; BlockRef::SIZE + 1]), None);
        assert_eq!(BlockRef::from_bytes(&[]), None);
    }
}
