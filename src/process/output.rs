//! Where a worker's standard output and error go.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use crate::process::sys;

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
pub(crate) struct Output {
    /// Its standard output.
    stdout: OwnedFd,
    /// Its standard error.
    stderr: OwnedFd,
    /// What it prints, where one of them is captured.
    captured: Option<Captured>,
}

/// What a worker has printed since its last task.
pub(crate) struct Captured(
    /// Memory that the worker appends to.
    File,
);

/// No more of what a task printed is told than this many bytes, the last ones.
const TOLD: u64 = 64 << 10;

impl Output {
    pub(crate) fn new(stdout: WorkerStdio, stderr: WorkerStdio) -> io::Result<Self> {
        let captures = [stdout, stderr].contains(&WorkerStdio::Capture);
        let captured = captures.then(Captured::new).transpose()?;
        let place = |policy, number: RawFd| match (policy, &captured) {
            (WorkerStdio::Inherit, _) => sys::standard(number),
            (WorkerStdio::Capture, Some(Captured(file))) => file.as_fd().try_clone_to_owned(),
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
    fn new() -> io::Result<Self> {
        let memory = sys::anonymous_file(c"concurrent-futures output")?;
        sys::append_only(memory.as_fd())?;
        Ok(Self(memory.into()))
    }

    /// The end of what was printed since the last call, if anything was.
    pub(crate) fn take(&self) -> Option<String> {
        // Memory that cannot be read has nothing to tell.
        let size = self.0.metadata().ok()?.len();
        if size == 0 {
            return None;
        }
        let start = size.saturating_sub(TOLD);
        let mut bytes = vec![0; (size - start) as usize];
        let read = self.0.read_at(&mut bytes, start).unwrap_or(0);
        bytes.truncate(read);
        let _ = self.0.set_len(0);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Drops what was printed since the last call.
    pub(crate) fn clear(&self) {
        if self.0.metadata().is_ok_and(|data| data.len() > 0) {
            // It appends: what it prints next stands at the start.
            let _ = self.0.set_len(0);
        }
    }
}
