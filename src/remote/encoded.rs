//! Encoded values. Short ones are stored inline, long ones on the heap, large ones in a block of shared
//! memory that another process can access. Made by `codec`; passed on by `task`, `transport` and `process`.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::remote::lease::Lease;
use crate::shared::attachments::Attachments;

/// An encoded value, with the shared memory that it refers to.
pub(crate) struct Encoded {
    /// The bytes.
    kept: Kept,
    /// The shared memory that the bytes name, or that is sent along with them.
    attachments: Attachments,
}

/// Where the bytes are.
enum Kept {
    /// Inline: how many bytes there are, and the bytes, from the first on.
    Short(u8, [u8; SHORT]),
    /// On the heap.
    Long(Box<[u8]>),
    /// In a block of memory that another process can access.
    Leased(Box<Leased>),
}

/// Bytes that another process can change.
struct Leased {
    /// The block that holds the bytes.
    lease: Lease,
    /// A private copy, made when the bytes are first read.
    copy: OnceLock<Vec<u8>>,
}

/// The largest number of bytes that is stored inline: three words have room for them, beside their number.
const SHORT: usize = 22;

// Tasks that wait in queues hold values of this type, so its size matters.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Encoded>() == 32);

impl Encoded {
    /// Takes the bytes out of `from`. Short ones are copied; otherwise the vector is moved, and `from` is
    /// left empty.
    pub(crate) fn take(from: &mut Vec<u8>) -> Self {
        match Self::short(from) {
            Some(short) => short,
            None => std::mem::take(from).into(),
        }
    }

    /// An encoded value with a copy of these bytes.
    pub(crate) fn copy(from: &[u8]) -> Self {
        Self::short(from).unwrap_or_else(|| from.to_vec().into())
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.kept {
            Kept::Short(length, _) => usize::from(*length),
            Kept::Long(bytes) => bytes.len(),
            Kept::Leased(leased) => leased.lease.len(),
        }
    }

    /// The block that holds the bytes; `None` if they are in this process's own memory.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.kept {
            Kept::Leased(leased) => Some(&leased.lease),
            _ => None,
        }
    }

    /// Turns the value into the block that holds its bytes.
    ///
    /// # Errors
    /// The value itself, if its bytes are in this process's own memory.
    pub(crate) fn into_lease(self) -> Result<Lease, Self> {
        match self.kept {
            Kept::Leased(leased) => Ok(leased.lease),
            _ => Err(self),
        }
    }

    fn short(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self {
            kept: Kept::Short(from.len() as u8, bytes),
            attachments: Attachments::default(),
        })
    }

    /// Attaches the shared memory that the bytes name, which is kept as long as it is attached.
    pub(crate) fn naming(self, attachments: Attachments) -> Self {
        Self {
            attachments,
            ..self
        }
    }

    /// The shared memory that the bytes name.
    pub(crate) fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// Takes out the shared memory that the bytes name: the caller keeps it from now on.
    pub(crate) fn take_attachments(&mut self) -> Attachments {
        std::mem::take(&mut self.attachments)
    }
}

impl From<Vec<u8>> for Encoded {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            kept: Kept::Long(bytes.into_boxed_slice()),
            attachments: Attachments::default(),
        }
    }
}

impl From<Lease> for Encoded {
    fn from(lease: Lease) -> Self {
        let copy = OnceLock::new();
        Self {
            kept: Kept::Leased(Box::new(Leased { lease, copy })),
            attachments: Attachments::default(),
        }
    }
}

impl From<Encoded> for Vec<u8> {
    fn from(bytes: Encoded) -> Self {
        match bytes.kept {
            Kept::Short(..) | Kept::Leased(_) => bytes.to_vec(),
            Kept::Long(bytes) => bytes.into_vec(),
        }
    }
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.kept {
            Kept::Short(length, bytes) => &bytes[..usize::from(*length)],
            Kept::Long(bytes) => bytes,
            Kept::Leased(leased) => leased.copy.get_or_init(|| leased.copy_out()),
        }
    }
}

impl Leased {
    /// Copies the bytes out of the block. If they cannot be read, returns the same number of zeros.
    fn copy_out(&self) -> Vec<u8> {
        let zeros = |_| vec![0; self.lease.len()];
        self.lease.read().unwrap_or_else(zeros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_their_number() {
        for length in [0, 1, SHORT, SHORT + 1, 1000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(*Encoded::copy(&bytes), bytes);
            assert_eq!(*Encoded::take(&mut bytes.clone()), bytes);
            assert_eq!(*Encoded::from(bytes.clone()), bytes);
            assert_eq!(Vec::from(Encoded::copy(&bytes)), bytes);
        }
    }
}
