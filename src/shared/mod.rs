//! `Shared`: data that many tasks read. Its memory is written once and read by many processes.
//!
//! ```text
//!  the program                                           a worker
//!
//!  Region: memfd, written, sealed, mapped ◄────┐
//!     │ encoded: its Name                      │ /proc/PROGRAM/fd/N, checked, mapped once
//!     ▼                                        │
//!  Manifest: what a message names    ═══►   Registry: what is mapped here
//!     │ kept until the outcome is opened       ▲
//!     ▼                                        │ looks when it is rung
//!  the last owner is gone ───► Bells ══════════╛
//! ```
//!
//! A [`RegionRef`] says which process has the memory open, as which descriptor. Whoever
//! encodes one keeps the memory until the message was answered, so that the name stays good. A worker
//! keeps what it has mapped, for the next task that names it, until the program rings: then it lets go
//! of what the program has closed. A worker that returns memory that the task was not given sends the
//! descriptor along. Only a worker opens what a name says, and only from its task's argument; the
//! program finds names in its registry, or not at all.

pub(crate) mod attachments;
pub(crate) mod invalidation;
pub(crate) mod region;
pub(crate) mod registry;

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec, try_cast_slice};
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::{self, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::shared::region::{LEAST, RegionId, RegionRef};
use crate::shared::registry::MappedRegion;

/// A slice that many tasks read, in threads and in processes, without a copy for each.
/// (`multiprocessing.shared_memory`)
///
/// It derefs to `[T]`, and is a [`Payload`](crate::Payload) of a few bytes: it can be an argument or
/// a result, or stand anywhere inside one. Making it copies the data once, into memory that nobody
/// can write any more. A worker process maps that memory when a task names it for the first time, and
/// keeps it for the tasks that follow. A clone is another owner of the same memory. The memory goes
/// when the last owner anywhere is gone: a handle in the program, one that a task has put by in its
/// worker, or a task that was submitted and whose result was not looked at. So a handle may be
/// dropped right after `submit`. For threads it is an [`Arc`].
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shared};
///
/// fn sum((numbers, from, to): (Shared<f64>, usize, usize)) -> f64 {
///     numbers[from..to].iter().sum()
/// }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(2)?;
/// let numbers = Shared::from_vec(vec![0.5; 1_000_000]);
/// let parts = (0..10).map(|n| (numbers.clone(), n * 100_000, (n + 1) * 100_000));
/// let total: f64 = pool.map(sum, parts).sum::<Result<_, _>>()?;
/// assert_eq!(total, 500_000.0);
/// # Ok(())
/// # }
/// ```
///
/// # Element types
/// Numbers, and arrays of numbers, as they are. A type of one's own implements
/// [`Pod`], of the crate `bytemuck`, which can derive it: any bytes are a value of it, and
/// it has neither padding nor pointers. One of no size, and one that is aligned to more than 4096 bytes,
/// which shared memory is not, is refused when the program is compiled.
///
/// ```compile_fail
/// concurrent_futures::Shared::from_vec(vec![(); 3]);
/// ```
///
/// ```compile_fail,E0080
/// #[derive(Clone, Copy)]
/// #[repr(C, align(8192))]
/// struct Wide([u8; 8192]);
/// // SAFETY: zeros are a value of it.
/// unsafe impl bytemuck::Zeroable for Wide {}
/// // SAFETY: any bytes are a value of it, and it has no padding.
/// unsafe impl bytemuck::Pod for Wide {}
/// concurrent_futures::Shared::from_vec(vec![Wide([0; 8192]); 3]);
/// ```
///
/// # Results
/// A task may return one. If its argument had named it, nothing travels; if it was made in the worker,
/// it becomes memory of the program's like any other. One result brings at most 16 that the program
/// has not named: more is [`Error::Encode`].
///
/// # Serialisation
/// Only as an argument or a result of a process pool, of [`Process`](crate::Process), or of an
/// initializer. Anywhere else, serialising one is an error: what would be written names memory that
/// may be gone when it is read.
///
/// # Where memory is not shared
/// Less than 4096 bytes travel with each task: they are not worth a descriptor. So does
/// everything where the system gives no such memory, where the program has used half of its
/// descriptors (each takes one, in the program and in each worker that has mapped it), where it is one
/// that others may not look into (it has more rights than its user) or that `/proc` does not list, and with
/// `CONCURRENT_FUTURES_SHARED_MEMORY=never`. Nothing else differs.
///
/// Workers find it below `/proc/PROGRAM/fd`. Those that an initializer or a
/// [`launcher`](crate::ProcessPoolBuilder::launcher) has made another user's, or that have another
/// `/proc`, cannot: what names it ends as [`Error::Decode`], which says why. So do
/// the items of a map with a context. What a [`memory_limit`](crate::ProcessPoolBuilder::memory_limit)
/// counts does not include what is mapped.
///
/// An idle worker lets go at once of what the program has dropped; one of a pool that tells its
/// workers everything over sockets (README, "Tuning") a second after its last task.
pub struct Shared<T> {
    /// The elements, which `owner` keeps where they are.
    elements: NonNull<[T]>,
    /// Keeps them.
    owner: Storage<T>,
}

/// What keeps the elements.
enum Storage<T> {
    /// Sealed memory.
    Sealed(Arc<MappedRegion>),
    /// Memory of this process alone.
    Own(Arc<Vec<T>>),
}

// SAFETY: a handle only lends out `&[T]`, which may go to other threads for such `T`, and the last of
// them drops the elements, which have no `Drop` that would run.
unsafe impl<T: Send + Sync> Send for Shared<T> {}

// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Pod> Shared<T> {
    /// Shares what the vector holds.
    ///
    /// ```
    /// # use concurrent_futures::Shared;
    /// let primes = Shared::from_vec(vec![2_u32, 3, 5, 7]);
    /// assert_eq!(primes.iter().sum::<u32>(), 17);
    /// assert_eq!(primes[1..], [3, 5, 7]);
    /// ```
    #[must_use]
    pub fn from_vec(elements: Vec<T>) -> Self {
        const { check_element::<T>() };
        Self::sealed_copy(&elements).unwrap_or_else(|| Self::own(elements))
    }

    /// Shares a copy of the slice.
    ///
    /// ```
    /// # use concurrent_futures::Shared;
    /// static TABLE: [f32; 3] = [0.0, 0.5, 1.0];
    /// assert_eq!(*Shared::from_slice(&TABLE), TABLE);
    /// ```
    #[must_use]
    pub fn from_slice(elements: &[T]) -> Self {
        const { check_element::<T>() };
        Self::sealed_copy(elements).unwrap_or_else(|| Self::own(elements.to_vec()))
    }

    /// In memory that others can map; `None` where there is none.
    fn sealed_copy(elements: &[T]) -> Option<Self> {
        let bytes: &[u8] = cast_slice(elements);
        if bytes.len() < LEAST {
            return None;
        }
        Self::sealed(MappedRegion::copy_of(bytes)?).ok()
    }

    fn sealed(resident: Arc<MappedRegion>) -> Result<Self, String> {
        let elements = try_cast_slice(resident.region().bytes()).map_err(|error| {
            let (size, name) = (resident.region().bytes().len(), type_name::<T>());
            format!("{size} bytes of shared memory are no elements of type {name}: {error}")
        })?;
        Ok(Self {
            elements: NonNull::from(elements),
            owner: Storage::Sealed(resident),
        })
    }

    fn own(elements: Vec<T>) -> Self {
        let owner = Arc::new(elements);
        Self {
            elements: NonNull::from(owner.as_slice()),
            owner: Storage::Own(owner),
        }
    }

    /// What has travelled: a name, or the bytes themselves.
    fn received(travelled: Travelled<'_>) -> Result<Self, String> {
        match travelled {
            Travelled::Name(name) => Self::sealed(attachments::resident(&name)?),
            Travelled::Whole(bytes) if bytes.len() % size_of::<T>() == 0 => {
                Ok(Self::own(pod_collect_to_vec(bytes)))
            }
            Travelled::Whole(bytes) => {
                let (size, name) = (bytes.len(), type_name::<T>());
                Err(format!(
                    "{size} bytes are no whole number of elements of type {name}"
                ))
            }
        }
    }
}

impl Shared<u8> {
    /// Shares a copy of these bytes: of a `Vec<u8>`, a `String`, a slice.
    ///
    /// ```
    /// # use concurrent_futures::Shared;
    /// let text = Shared::bytes("what all tasks read");
    /// assert!(text.ends_with(b"read"));
    /// ```
    #[must_use]
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::from_slice(bytes.as_ref())
    }

    /// What all items of a map are given, encoded: shared however few bytes there are.
    pub(crate) fn of_context(bytes: &[u8]) -> Self {
        let sealed = MappedRegion::copy_of(bytes).and_then(|resident| Self::sealed(resident).ok());
        sealed.unwrap_or_else(|| Self::own(bytes.to_vec()))
    }

    /// What it holds, decoded: once, where it is shared.
    ///
    /// # Errors
    /// Those of `decode`.
    pub(crate) fn look_at<C: Send + Sync + 'static, R>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<C, Error>,
        look: impl FnOnce(&C) -> R,
    ) -> Result<R, Error> {
        match &self.owner {
            Storage::Own(bytes) => decode(bytes).map(|it| look(&it)),
            Storage::Sealed(resident) => match resident.view(decode)? {
                Some(it) => Ok(look(it)),
                None => Err(Error::Decode("the context is of another type".into())),
            },
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the elements stay where they are, and what they are, as long as the owner, which is
        // ours, is there.
        unsafe { self.elements.as_ref() }
    }
}

impl<T> AsRef<[T]> for Shared<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            elements: self.elements,
            owner: match &self.owner {
                Storage::Sealed(resident) => Storage::Sealed(Arc::clone(resident)),
                Storage::Own(elements) => Storage::Own(Arc::clone(elements)),
            },
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    /// The type and the length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared<{}>({})", type_name::<T>(), self.len())
    }
}

// ---- how it travels --------------------------------------------------------------------------

/// A name and, where there is none, the bytes: numbers, since formats make few bytes of small ones.
const PARTS: usize = 6;

/// What travels.
enum Travelled<'a> {
    /// The name of the memory.
    Name(RegionRef),
    /// All of it.
    Whole(&'a [u8]),
}

/// Bytes, in one piece.
struct Raw<'a>(&'a [u8]);

impl<T: Pod> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !attachments::is_writing() {
            return Err(ser::Error::custom(
                "a Shared is serialised only as an argument or a result of a process pool's task",
            ));
        }
        let name = match &self.owner {
            Storage::Sealed(resident) => attachments::name(resident),
            Storage::Own(_) => None,
        };
        let bytes: &[u8] = if name.is_some() {
            &[]
        } else {
            cast_slice(self)
        };
        // No process has the number 0.
        let (holder, descriptor) = name.map_or((0, 0), |it| (it.holder, it.descriptor));
        let (inode, id) = name.map_or((0, 0), |it| (it.region_id.inode, it.region_id.id));
        let mut parts = serializer.serialize_tuple(PARTS)?;
        parts.serialize_element(&holder)?;
        parts.serialize_element(&descriptor)?;
        parts.serialize_element(&inode)?;
        parts.serialize_element(&id)?;
        parts.serialize_element(&name.map_or(0, |it| it.size))?;
        parts.serialize_element(&Raw(bytes))?;
        parts.end()
    }
}

impl<'de, T: Pod> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const { check_element::<T>() };
        deserializer.deserialize_tuple(PARTS, SharedParts(PhantomData))
    }
}

/// Refuses, when the program is compiled, what cannot be an element.
const fn check_element<T>() {
    /// What the place of a mapping is aligned to on every system; pages may be larger.
    const LEAST_PAGE: usize = 4096;
    assert!(size_of::<T>() > 0, "elements of no size cannot be shared");
    assert!(
        align_of::<T>() <= LEAST_PAGE,
        "elements that are aligned to more than a page cannot be shared"
    );
}

/// Puts the parts together.
struct SharedParts<T>(PhantomData<T>);

impl<'de, T: Pod> Visitor<'de> for SharedParts<T> {
    type Value = Shared<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of shared memory, or its bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Shared<T>, A::Error> {
        let name = RegionRef {
            holder: next(&mut parts)?,
            descriptor: next(&mut parts)?,
            region_id: RegionId {
                inode: next(&mut parts)?,
                id: next(&mut parts)?,
            },
            size: next(&mut parts)?,
        };
        let bytes: ReceivedBytes<'de> = next(&mut parts)?;
        let travelled = match name.holder {
            0 => Travelled::Whole(bytes.as_ref()),
            _ => Travelled::Name(name),
        };
        Shared::received(travelled).map_err(|words| {
            attachments::blame(&words);
            de::Error::custom(words)
        })
    }
}

fn next<'de, A: SeqAccess<'de>, P: Deserialize<'de>>(parts: &mut A) -> Result<P, A::Error> {
    let missing = || de::Error::custom("a part of the name of shared memory is missing");
    parts.next_element()?.ok_or_else(missing)
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes, lent where the format has them.
enum ReceivedBytes<'de> {
    /// In what is decoded.
    Lent(&'de [u8]),
    /// By themselves.
    Given(Vec<u8>),
}

impl AsRef<[u8]> for ReceivedBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

impl<'de> Deserialize<'de> for ReceivedBytes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = ReceivedBytes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(
                self,
                bytes: &'de [u8],
            ) -> Result<Self::Value, E> {
                Ok(ReceivedBytes::Lent(bytes))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(ReceivedBytes::Given(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Whole)
    }
}

#[cfg(test)]
mod tests;
