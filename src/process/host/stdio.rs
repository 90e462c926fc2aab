//! Where a worker's standard output and error go. `handshake` makes the descriptors and passes them to the
//! worker; `pipeline` takes what was captured for the errors of tasks.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};

use crate::process::host::config::WorkerConfig;
use crate::process::host::lines::{LineFunction, OutputStream, WorkerLines};
use crate::sys;
use crate::sys::handle::{AsHandle, BorrowedHandle, OwnedHandle};

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
    /// Where the program's own output goes.
    #[default]
    Inherit,
    /// Nowhere: it is dropped.
    Null,
    /// Into memory, for one task at a time: the error of a task that panicked or died has the end of what it
    /// printed. What other tasks print is dropped. The tasks of a chunk are then sent one by one. To have the
    /// output of all tasks, see [`stdout_lines`](crate::ProcessPoolBuilder::stdout_lines).
    Capture,
}

/// Where the outputs of one worker go.
pub(crate) struct WorkerStreams {
    /// The descriptor for the worker's standard output.
    stdout: OwnedHandle,
    /// The descriptor for the worker's standard error.
    stderr: OwnedHandle,
    /// What the worker prints, where one of them is captured.
    captured: Option<Captured>,
    /// What the worker prints, where one of them is told line by line, and its events.
    lines: Option<WorkerLines>,
    /// The pipe for the worker's events, and the level up to which it writes them; `None`: the program wants none.
    events: Option<(OwnedHandle, u8)>,
}

/// What a worker has printed since its last task.
pub(crate) enum Captured {
    /// Memory that the worker appends to.
    Memory(File),
    /// A pipe, for where the length of files is limited: memory that is used like a file is limited, too, and
    /// a task that prints more than the limit would be ended by SIGXFSZ.
    Pipe(Pipe),
}

/// A pipe that a worker writes to. It must be read while the worker prints, which would otherwise wait for
/// room.
pub(crate) struct Pipe {
    /// The end that is read; reading does not block.
    reader: File,
    /// The end of what was read since the last task.
    tail: RefCell<Vec<u8>>,
    /// Whether no process has the other end any more.
    is_closed: Cell<bool>,
}

/// How many bytes of what a task printed are reported: the last ones.
const TOLD: u64 = 64 << 10;

impl WorkerStreams {
    /// Makes the streams of worker `index`.
    pub(crate) fn new(worker_config: &WorkerConfig, index: usize) -> io::Result<Self> {
        let (stdout, stderr) = (worker_config.stdout, worker_config.stderr);
        let [stdout_lines, stderr_lines] = &worker_config.lines;
        let captures = [(stdout, stdout_lines), (stderr, stderr_lines)]
            .iter()
            .any(|(policy, function)| *policy == WorkerStdio::Capture && function.is_none());
        let (captured, writer) = captures.then(Captured::new).transpose()?.unzip();
        let mut lines = WorkerLines::new(index);
        let mut place = |policy, function: &Option<LineFunction>, stream, number| match (
            function, policy, &writer,
        ) {
            (Some(function), ..) => lines.add(stream, function),
            (None, WorkerStdio::Inherit, _) => sys::stdio::standard(number),
            (None, WorkerStdio::Capture, Some(writer)) => writer.try_clone(),
            _ => sys::stdio::open_null(),
        };
        let stdout = place(
            stdout,
            stdout_lines,
            OutputStream::Stdout,
            sys::stdio::OUTPUT,
        )?;
        let stderr = place(
            stderr,
            stderr_lines,
            OutputStream::Stderr,
            sys::stdio::ERROR,
        )?;
        let forwarding = worker_config.forwarding.as_ref();
        let wanted = forwarding.map(|forwarding| (forwarding, forwarding.level()));
        let events = match wanted.filter(|(_, level)| *level > 0) {
            Some((forwarding, level)) => Some((lines.add_events(forwarding)?, level)),
            None => None,
        };
        Ok(Self {
            stdout,
            stderr,
            events,
            captured,
            lines: (!lines.is_empty()).then_some(lines),
        })
    }

    /// The descriptors for standard output and error, to be passed to the worker.
    pub(crate) fn descriptors(&self) -> [&OwnedHandle; 2] {
        [&self.stdout, &self.stderr]
    }

    /// The descriptor of the pipe for events, to be passed to the worker; `None`: there is none.
    pub(crate) fn events(&self) -> Option<&OwnedHandle> {
        self.events.as_ref().map(|(pipe, _)| pipe)
    }

    /// The level up to which the worker is to tell of events; 0: it tells of none.
    pub(crate) fn event_level(&self) -> u8 {
        self.events.as_ref().map_or(0, |(_, level)| *level)
    }

    /// The capture, and what is told line by line; both are kept when the descriptors were passed on.
    pub(crate) fn into_output(self) -> (Option<Captured>, Option<WorkerLines>) {
        (self.captured, self.lines)
    }
}

impl Captured {
    /// Makes a capture. Returns it, and the descriptor that the worker writes to.
    fn new() -> io::Result<(Self, OwnedHandle)> {
        if !sys::limits::has_long_files() {
            let (reader, writer) = sys::stdio::pipe()?;
            return Ok((Self::Pipe(Pipe::new(reader)?), writer));
        }
        let memory = sys::memory::anonymous_file(c"concurrent-futures output")?;
        sys::stdio::append_only(memory.as_handle())?;
        let ours = memory.try_clone()?;
        Ok((Self::Memory(ours.into()), memory))
    }

    /// Takes the end of what was printed since the last call; `None`: nothing was.
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
                // The worker appends: what it prints next stands at the start.
                let _ = file.set_len(0);
            }
            Self::Memory(_) => {}
            Self::Pipe(pipe) => drop(pipe.take()),
        }
    }

    /// The pipe that must be read while the worker prints; `None`: there is none.
    pub(crate) fn pipe(&self) -> Option<&Pipe> {
        match self {
            Self::Memory(_) => None,
            Self::Pipe(pipe) => Some(pipe),
        }
    }
}

impl Pipe {
    fn new(reader: OwnedHandle) -> io::Result<Self> {
        sys::stdio::never_wait(reader.as_handle())?;
        Ok(Self {
            reader: reader.into(),
            tail: RefCell::default(),
            is_closed: Cell::new(false),
        })
    }

    /// The descriptor that is readable when something was printed; `None`: nothing will be printed any more.
    pub(crate) fn readable(&self) -> Option<BorrowedHandle<'_>> {
        (!self.is_closed.get()).then(|| self.reader.as_handle())
    }

    /// Reads some of what was printed. Returns whether there may be more.
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

    /// Takes the end of what was printed since the last call; `None`: nothing was.
    fn take(&self) -> Option<Vec<u8>> {
        /// As many reads as empty the largest pipe. There is a limit because a thread of the worker may print
        /// without end.
        const MOST: usize = 64;
        let _ = (0..MOST).all(|_| self.read());
        let tail = self.tail.take();
        (!tail.is_empty()).then_some(tail)
    }
}

/// Takes the end of a file, and empties the file; `None`: it is empty.
fn take_end(file: &File) -> Option<Vec<u8>> {
    // Memory that cannot be read has nothing to report.
    let size = file.metadata().ok()?.len();
    if size == 0 {
        return None;
    }
    let start = size.saturating_sub(TOLD);
    let mut bytes = vec![0; (size - start) as usize];
    let read = sys::stdio::read_at(file, &mut bytes, start).unwrap_or(0);
    bytes.truncate(read);
    let _ = file.set_len(0);
    Some(bytes)
}
