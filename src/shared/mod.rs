//! `Shared`: data that many tasks read. Its memory is written once and read by many processes.
//!
//! ```text
//!  the program                                           a worker
//!
//!  Region: memfd, written, sealed, mapped ◄────┐
//!     │ encoded: its RegionRef                 │ /proc/PROGRAM/fd/N, or asked for; checked, mapped once
//!     ▼                                        │
//!  Attachments: regions of a message  ═══►  Registry: regions mapped here
//!     │ kept until the outcome is decoded      ▲
//!     ▼                                        │ looks after a broadcast
//!  the last owner is dropped ───► listeners ═══╛
//! ```
//!
//! A [`RegionRef`](region::RegionRef) says which process has the memory open, as which descriptor. The process
//! that encodes one (`serde.rs`) keeps the memory until the message was answered, so that the reference stays
//! valid. A worker keeps what it has mapped, for the next task that refers to it, until the program broadcasts
//! that memory is gone (`invalidation.rs`): then it drops what the program has closed. A worker that returns
//! memory which the task was not given sends the descriptor along. Only a worker opens what a reference says,
//! and only one from its task's argument; the program looks references up in its registry (`registry.rs`), and
//! opens nothing.

mod serde;
pub(crate) mod attachments;
pub(crate) mod invalidation;
pub(crate) mod region;
pub(crate) mod registry;

use std::any::type_name;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec, try_cast_slice};

use crate::error::Error;
use crate::shared::region::LEAST;
use crate::shared::registry::MappedRegion;

/// A slice that many tasks read, in threads and in processes, without a copy for each task.
/// (`multiprocessing.shared_memory`)
///
/// It derefs to `[T]`, and is a [`Payload`](crate::Payload) of a few bytes: it can be an argument or a
/// result, or any part of one. Making it copies the data once, into memory that no process can write any
/// more. A worker process maps that memory when it gets the first task that uses it, and keeps it mapped for
/// the tasks that follow. A clone is another owner of the same memory. The memory is freed when the last
/// owner in any process is gone: a handle in the program, a handle that a task has stored in its worker, or a
/// submitted task, as long as its result was not inspected. So a handle may be dropped right after `submit`.
/// For threads it works like an [`Arc`].
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
/// Numbers and arrays of numbers can be elements as they are. Your own type can be one if it implements
/// [`Pod`] of the crate `bytemuck`, which can derive it: any bytes are a value of the type, and it has
/// neither padding nor pointers. A type of no size, and a type that is aligned to more than 4096 bytes, which
/// shared memory is not, do not compile.
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
/// A task may return one. If it was part of the argument, nothing travels; if it was made in the worker, it
/// becomes memory of the program like any other. One result brings at most 16 that were not part of the
/// argument; more are [`Error::Encode`].
///
/// # Serialisation
/// It can be serialised only as an argument or a result of a process pool, of [`Process`](crate::Process), or
/// of an initializer. Anywhere else it is an error: what would be written refers to memory that may be gone
/// when it is read.
///
/// # Where memory is not shared
/// Less than 4096 bytes travel with each task: they are not worth a descriptor. So does all data in a program
///
/// - to which the system gives no such memory,
/// - that has used half of its descriptors (each `Shared` takes one, in the program and in each worker that
///   has mapped it),
/// - that other processes may not look into, because it has more rights than its user,
/// - that `/proc` does not list,
/// - that runs with `CONCURRENT_FUTURES_SHARED_MEMORY=never`.
///
/// Nothing else differs.
///
/// Workers find the memory below `/proc/PROGRAM/fd`. Workers that an initializer or a
/// [`launcher`](crate::ProcessPoolBuilder::launcher) has made another user's, or that have another `/proc`,
/// cannot: they ask the program for it, once for each `Shared`. [`memory_limit`](crate::ProcessPoolBuilder::memory_limit) does not count what is mapped.
///
/// An idle worker unmaps at once what the program has dropped; a worker of a pool that sends its workers all
/// tasks over sockets (README, "Tuning") does so a second after its last task.
pub struct Shared<T> {
    /// The elements, which `storage` keeps in place.
    elements: NonNull<[T]>,
    /// Keeps the memory of the elements.
    storage: Storage<T>,
}

/// The owner of the memory of the elements.
enum Storage<T> {
    /// Sealed memory, which other processes can map.
    Sealed(Arc<MappedRegion>),
    /// Memory of this process alone, which travels as a copy.
    Own(Arc<Vec<T>>),
}

// SAFETY: a handle only lends out `&[T]`, which may go to other threads for such `T`; and the last handle
// drops the elements, which have no `Drop` that would run.
unsafe impl<T: Send + Sync> Send for Shared<T> {}

// SAFETY: as for `Send`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Pod> Shared<T> {
    /// Shares the elements of the vector.
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

    /// Shares what a file has, as elements in the machine's own byte order. (`numpy.fromfile`)
    ///
    /// The file is read once, straight into the memory that is shared. What happens to the file afterwards changes
    /// nothing: so nobody can make a slice that tasks hold differ, or end, as a mapping of the file itself could
    /// (`numpy.memmap`).
    ///
    /// # Errors
    /// Those of opening and reading. `InvalidData` if the file's length is no multiple of an element's size.
    ///
    /// ```
    /// # use concurrent_futures::Shared;
    /// let path = std::env::temp_dir().join(format!("shared-{}", std::process::id()));
    /// std::fs::write(&path, [1_u32, 2, 3].map(u32::to_ne_bytes).concat())?;
    /// let numbers = Shared::<u32>::read_file(&path)?;
    /// assert_eq!(*numbers, [1, 2, 3]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_file(path: impl AsRef<Path>) -> io::Result<Self> {
        const { check_element::<T>() };
        let mut file = File::open(path)?;
        let facts = file.metadata()?;
        // Files of other kinds, and those of /proc, do not say how long they are.
        if facts.is_file() && facts.len() >= LEAST as u64 {
            check_length::<T>(facts.len())?;
            if let Some(mapped_region) = MappedRegion::copy_of_file(&file, facts.len()) {
                return Self::sealed(mapped_region)
                    .map_err(|words| io::Error::new(io::ErrorKind::InvalidData, words));
            }
            // There is no such memory, or the file cannot be read; the latter is told below.
            file.rewind()?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        check_length::<T>(bytes.len() as u64)?;
        Ok(Self::from_vec(pod_collect_to_vec(&bytes)))
    }

    /// Copies the elements to memory that other processes can map; `None` if they are few or there is no such
    /// memory.
    fn sealed_copy(elements: &[T]) -> Option<Self> {
        let bytes: &[u8] = cast_slice(elements);
        if bytes.len() < LEAST {
            return None;
        }
        Self::sealed(MappedRegion::copy_of(bytes)?).ok()
    }

    fn sealed(mapped_region: Arc<MappedRegion>) -> Result<Self, String> {
        let elements = try_cast_slice(mapped_region.region().bytes()).map_err(|error| {
            let (size, name) = (mapped_region.region().bytes().len(), type_name::<T>());
            format!("{size} bytes of shared memory are no elements of type {name}: {error}")
        })?;
        Ok(Self {
            elements: NonNull::from(elements),
            storage: Storage::Sealed(mapped_region),
        })
    }

    fn own(elements: Vec<T>) -> Self {
        let storage = Arc::new(elements);
        Self {
            elements: NonNull::from(storage.as_slice()),
            storage: Storage::Own(storage),
        }
    }
}

impl Shared<u8> {
    /// Shares a copy of these bytes, of a `Vec<u8>`, a `String` or a slice.
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

    /// Shares the encoded context that all items of a map are given, also if it has less than [`LEAST`]
    /// bytes.
    pub(crate) fn of_context(bytes: &[u8]) -> Self {
        let sealed =
            MappedRegion::copy_of(bytes).and_then(|mapped_region| Self::sealed(mapped_region).ok());
        sealed.unwrap_or_else(|| Self::own(bytes.to_vec()))
    }

    /// Calls `look` with the decoded content. Sealed memory is decoded once in a process, other memory at
    /// each call.
    ///
    /// # Errors
    /// Those of `decode`, and `Decode` if the memory was decoded as another type before.
    pub(crate) fn look_at<C: Send + Sync + 'static, R>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<C, Error>,
        look: impl FnOnce(&C) -> R,
    ) -> Result<R, Error> {
        match &self.storage {
            Storage::Own(bytes) => decode(bytes).map(|it| look(&it)),
            Storage::Sealed(mapped_region) => match mapped_region.view(decode)? {
                Some(it) => Ok(look(it)),
                None => Err(Error::Decode("the context is of another type".into())),
            },
        }
    }
}

/// Copies the elements once, as [`Shared::from_vec`] does.
impl<T: Pod> From<Vec<T>> for Shared<T> {
    fn from(elements: Vec<T>) -> Self {
        Self::from_vec(elements)
    }
}

/// Copies the elements once, as [`Shared::from_vec`] does.
impl<T: Pod> From<Box<[T]>> for Shared<T> {
    fn from(elements: Box<[T]>) -> Self {
        Self::from_vec(elements.into_vec())
    }
}

/// Copies the elements once, as [`Shared::from_slice`] does.
impl<T: Pod> From<&[T]> for Shared<T> {
    fn from(elements: &[T]) -> Self {
        Self::from_slice(elements)
    }
}

/// Collects the elements, and copies them once.
///
/// ```
/// use concurrent_futures::Shared;
///
/// let squares: Shared<u64> = (0..10).map(|n| n * n).collect();
/// assert_eq!(squares[9], 81);
/// ```
impl<T: Pod> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        Self::from_vec(elements.into_iter().collect())
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the elements stay in place and unchanged as long as their owner exists, which `self` holds.
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
            storage: match &self.storage {
                Storage::Sealed(mapped_region) => Storage::Sealed(Arc::clone(mapped_region)),
                Storage::Own(elements) => Storage::Own(Arc::clone(elements)),
            },
        }
    }
}

impl<T> fmt::Debug for Shared<T> {
    /// Shows the type and the number of the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared<{}>({})", type_name::<T>(), self.len())
    }
}

/// Checks that a file of so many bytes consists of elements.
///
/// # Errors
/// `InvalidData` if it does not.
fn check_length<T>(bytes: u64) -> io::Result<()> {
    let size = size_of::<T>();
    match bytes % size as u64 {
        0 => Ok(()),
        _ => {
            let name = type_name::<T>();
            let words = format!("{bytes} bytes are no elements of type {name}, of {size} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidData, words))
        }
    }
}

/// Rejects, at compile time, types that cannot be elements.
const fn check_element<T>() {
    /// What mappings are aligned to on every system; pages may be larger.
    const LEAST_PAGE: usize = 4096;
    assert!(size_of::<T>() > 0, "elements of no size cannot be shared");
    assert!(
        align_of::<T>() <= LEAST_PAGE,
        "elements that are aligned to more than a page cannot be shared"
    );
}
