//! Encoded values: short ones without memory of their own.

use std::ops::Deref;

use crate::process::memory::manifest::Manifest;

/// An encoded value.
pub(crate) struct Bytes {
    /// The bytes.
    kept: Kept,
    /// The shared memory that they name, or bring.
    manifest: Manifest,
}

/// Where the bytes are.
enum Kept {
    /// Here, the first so many.
    Short(u8, [u8; SHORT]),
    /// Elsewhere.
    Long(Vec<u8>),
}

/// As many as fit into the place that a vector takes, and a little more.
const SHORT: usize = 30;

impl Bytes {
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

    fn short(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self {
            kept: Kept::Short(from.len() as u8, bytes),
            manifest: Manifest::default(),
        })
    }

    /// Keeps the shared memory that the bytes name.
    pub(crate) fn naming(self, manifest: Manifest) -> Self {
        Self { manifest, ..self }
    }

    /// The shared memory that the bytes name.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives up the shared memory that the bytes name: somebody else keeps it from now on.
    pub(crate) fn take_manifest(&mut self) -> Manifest {
        std::mem::take(&mut self.manifest)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            kept: Kept::Long(bytes),
            manifest: Manifest::default(),
        }
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        match bytes.kept {
            Kept::Short(..) => bytes.to_vec(),
            Kept::Long(bytes) => bytes,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.kept {
            Kept::Short(length, bytes) => &bytes[..usize::from(*length)],
            Kept::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_their_number() {
        for length in [0, 1, SHORT, SHORT + 1, 1000] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert_eq!(*Bytes::copy(&bytes), bytes);
            assert_eq!(*Bytes::take(&mut bytes.clone()), bytes);
            assert_eq!(*Bytes::from(bytes.clone()), bytes);
            assert_eq!(Vec::from(Bytes::copy(&bytes)), bytes);
        }
    }
}
