//! Where a worker's standard output and error go.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use crate::sys;

/// Where the standard output or error of workers goes.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, WorkerStdio};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::builder()
///     .stdout(WorkerStdio::Null)
///     .stderr(WorkerStdio::Capture)
///     .build()?;
/// let future = pool.submit(|()| -> u8 { eprintln!("oh dear"); std::process::exit(3) }, ());
/// let Err(Error::WorkerDied(death)) = future.result() else { unreachable!() };
/// assert_eq!(death.output(), Some("oh dear\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WorkerStdio {
    /// Where the program's own goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// Into memory, a task at a time: the error of a task that panicked or died tells the end of
    /// what it printed. What other tasks print is dropped. Tasks of a chunk are then sent one by
    /// one.
    Capture,
}

/// Where the outputs of one worker go.
pub(crate) struct WorkerStreams {
    /// Its standard output.
    stdout: OwnedFd,
    /// Its standard error.
    stderr: OwnedFd,
    /// What it prints, where one of them is captured.
    captured: Option<Captured>,
}

/// What a worker has printed since its last task.
pub(crate) enum Captured {
    /// Memory that the worker appends to.
    Memory(File),
    /// A pipe: where files may not be long, memory that is reached like one may not be either, and a task that
    /// prints more than the limit would be ended by SIGXFSZ.
    Pipe(Pipe),
}

/// A pipe that a worker writes to. It must be read while the worker prints, which else waits for room.
pub(crate) struct Pipe {
    /// The end that is read, without waiting.
    reader: File,
    /// The end of what was read since the last task.
    tail: RefCell<Vec<u8>>,
    /// Whether nobody has the other end any more.
    is_closed: Cell<bool>,
}

/// No more of what a task printed is told than this many bytes, the last ones.
const TOLD: u64 = 64 << 10;

impl WorkerStreams {
    pub(crate) fn new(stdout: WorkerStdio, stderr: WorkerStdio) -> io::Result<Self> {
        let captures = [stdout, stderr].contains(&WorkerStdio::Capture);
        let (captured, writer) = captures.then(Captured::new).transpose()?.unzip();
        let place = |policy, number: RawFd| match (policy, &writer) {
            (WorkerStdio::Inherit, _) => sys::standard(number),
            (WorkerStdio::Capture, Some(writer)) => writer.try_clone(),
            _ => sys::open_null(),
        };
        Ok(Self {
            stdout: place(stdout, libc::STDOUT_FILENO)?,
            stderr: place(stderr, libc::STDERR_FILENO)?,
            captured,
        })
    }

    /// Standard output and error, to be handed over.
    pub(crate) fn descriptors(&self) -> [&OwnedFd; 2] {
        [&self.stdout, &self.stderr]
    }

    /// What is kept when they were.
    pub(crate) fn into_captured(self) -> Option<Captured> {
        self.captured
    }
}

impl Captured {
    /// Where a worker's output is captured, and what the worker writes to.
    fn new() -> io::Result<(Self, OwnedFd)> {
        if !sys::has_long_files() {
            let (reader, writer) = sys::pipe()?;
            return Ok((Self::Pipe(Pipe::new(reader)?), writer));
        }
        let memory = sys::anonymous_file(c"concurrent-futures output")?;
        sys::append_only(memory.as_fd())?;
        let ours = memory.try_clone()?;
        Ok((Self::Memory(ours.into()), memory))
    }

    /// The end of what was printed since the last call, if anything was.
    pub(crate) fn take(&self) -> Option<String> {
        let bytes = match self {
            Self::Memory(file) => take_end(file),
            Self::Pipe(pipe) => pipe.take(),
        };
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Drops what was printed since the last call.
    pub(crate) fn clear(&self) {
        match self {
            Self::Memory(file) if file.metadata().is_ok_and(|data| data.len() > 0) => {
                // It appends: what it prints next stands at the start.
                let _ = file.set_len(0);
            }
            Self::Memory(_) => {}
            Self::Pipe(pipe) => drop(pipe.take()),
        }
    }

    /// The pipe that must be read while the worker prints, if there is one.
    pub(crate) fn pipe(&self) -> Option<&Pipe> {
        match self {
            Self::Memory(_) => None,
            Self::Pipe(pipe) => Some(pipe),
        }
    }
}

impl Pipe {
    fn new(reader: OwnedFd) -> io::Result<Self> {
        sys::never_wait(reader.as_fd())?;
        Ok(Self {
            reader: reader.into(),
            tail: RefCell::default(),
            is_closed: Cell::new(false),
        })
    }

    /// What is readable when something was printed; `None`: nothing will be any more.
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_closed.get()).then(|| self.reader.as_fd())
    }

    /// Reads some of what was printed; whether there may be more.
    pub(crate) fn read(&self) -> bool {
        let mut bytes = [0; 16 << 10];
        match (&self.reader).read(&mut bytes) {
            Ok(0) => self.is_closed.set(true),
            Ok(count) => {
                let mut tail = self.tail.borrow_mut();
                tail.extend(&bytes[..count]);
                let excess = tail.len().saturating_sub(TOLD as usize);
                tail.drain(..excess);
                return true;
            }
            // `WouldBlock`: that was all.
            Err(_) => {}
        }
        false
    }

    /// The end of what was printed since the last call, if anything was.
    fn take(&self) -> Option<Vec<u8>> {
        /// As many reads as the largest pipe takes: a thread of the worker may print without end.
        const MOST: usize = 64;
        let _ = (0..MOST).all(|_| self.read());
        let tail = self.tail.take();
        (!tail.is_empty()).then_some(tail)
    }
}

/// Takes the end of a file, and empties it; `None`: it is empty.
fn take_end(file: &File) -> Option<Vec<u8>> {
    // Memory that cannot be read has nothing to tell.
    let size = file.metadata().ok()?.len();
    if size == 0 {
        return None;
    }
    let start = size.saturating_sub(TOLD);
    let mut bytes = vec![0; (size - start) as usize];
    let read = file.read_at(&mut bytes, start).unwrap_or(0);
    bytes.truncate(read);
    let _ = file.set_len(0);
    Some(bytes)
}
