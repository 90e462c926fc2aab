//! Encoded values: short ones without memory of their own, big ones where another process sees them.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::remote::lease::Lease;
use crate::shared::attachments::Attachments;

/// An encoded value.
pub(crate) struct Encoded {
    /// The bytes.
    kept: Kept,
    /// The shared memory that they name, or bring.
    attachments: Attachments,
}

/// Where the bytes are.
enum Kept {
    /// Here, the first so many.
    Short(u8, [u8; SHORT]),
    /// Elsewhere.
    Long(Box<[u8]>),
    /// In memory that another process sees.
    Leased(Box<Leased>),
}

/// Bytes that another process can change.
struct Leased {
    /// Where they are.
    lease: Lease,
    /// A copy, made when somebody looks at them.
    copy: OnceLock<Vec<u8>>,
}

/// As many as three words have room for, beside what tells how many they are.
const SHORT: usize = 22;

// What waits in a queue has some.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Encoded>() == 32);

impl Encoded {
    /// What stands there, which is copied if it is short.
    pub(crate) fn take(from: &mut Vec<u8>) -> Self {
        match Self::short(from) {
            Some(short) => short,
            None => std::mem::take(from).into(),
        }
    }

    /// A copy.
    pub(crate) fn copy(from: &[u8]) -> Self {
        Self::short(from).unwrap_or_else(|| from.to_vec().into())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match &self.kept {
            Kept::Short(length, _) => usize::from(*length),
            Kept::Long(bytes) => bytes.len(),
            Kept::Leased(leased) => leased.lease.len(),
        }
    }

    /// Where they are, if another process sees them there.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.kept {
            Kept::Leased(leased) => Some(&leased.lease),
            _ => None,
        }
    }

    /// The bytes where they are: in memory that another process sees, or else our own.
    ///
    /// # Errors
    /// These, if they are our own.
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

    /// Keeps the shared memory that the bytes name.
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

    /// Gives up the shared memory that the bytes name: somebody else keeps it from now on.
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
    /// As many bytes as there should be, whatever has become of them.
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
