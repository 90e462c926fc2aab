//! What workers print, told line by line to functions of the user, with the worker and the task; and their events,
//! which come as lines of a pipe of their own, and go to the program's subscriber.
//!
//! The thread that talks to a worker reads its pipes and calls the functions: `handshake` until the worker is
//! ready, then [`Connection`](super::connection::Connection), where it waits for the worker. `pipeline` says which
//! task runs. So all that a task has printed is told before its future is done, and a slow function holds up
//! that one worker.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use crate::future::id::FutureId;
use crate::sys;
use crate::sys::handle::{AsHandle, BorrowedHandle, OwnedHandle};
use crate::task_info::TaskInfo;
use crate::trace::Forwarding;
use crate::unwind;

/// A line that a worker process has printed, as the function is told of it that
/// [`ProcessPoolBuilder::stdout_lines`](crate::ProcessPoolBuilder::stdout_lines) or
/// [`stderr_lines`](crate::ProcessPoolBuilder::stderr_lines) was given. The former has an example.
#[derive(Clone)]
pub struct WorkerLine {
    /// The index of the worker.
    worker: usize,
    /// Where it was printed.
    stream: OutputStream,
    /// The id and the info of the task that ran; `None`: none did.
    task: Option<(FutureId, TaskInfo)>,
    /// The line, without its end.
    bytes: Vec<u8>,
}

/// A stream that a worker prints to. [`WorkerLine::stream`] tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl WorkerLine {
    /// The index of the worker in its pool.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The stream that the line was printed to.
    #[must_use]
    pub fn stream(&self) -> OutputStream {
        self.stream
    }

    /// The task that the worker ran when it printed the line: its name, its function, and where it was submitted.
    /// `None` for what is printed by the initializer, at the worker's exit, or by another thread of the worker
    /// while no task runs.
    #[must_use]
    pub fn task(&self) -> Option<&TaskInfo> {
        self.task.as_ref().map(|(_, info)| info)
    }

    /// The id of the future of that task.
    #[must_use]
    pub fn id(&self) -> Option<FutureId> {
        self.task.as_ref().map(|(id, _)| *id)
    }

    /// The line, without the line feed at its end. What is not UTF-8 is replaced by `U+FFFD`;
    /// [`bytes`](Self::bytes) has it as it was printed.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The bytes of the line, without the line feed at its end.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for WorkerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerLine")
            .field("worker", &self.worker)
            .field("stream", &self.stream)
            .field("task", &self.task())
            .field("text", &self.text())
            .finish_non_exhaustive()
    }
}

/// The function of the user that is told of lines.
#[derive(Clone)]
pub(crate) struct LineFunction(Arc<dyn Fn(&WorkerLine) + Send + Sync>);

impl LineFunction {
    pub(crate) fn new(f: impl Fn(&WorkerLine) + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }
}

impl fmt::Debug for LineFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LineFunction")
    }
}

/// The output of one worker that is told line by line, and its events.
pub(crate) struct WorkerLines {
    /// The index of the worker.
    worker: usize,
    /// Its streams that are told, and the pipe for its events; at most [`MOST_PIPES`].
    pipes: Vec<LinePipe>,
    /// The task that it runs; `None`: it runs none.
    task: RefCell<Option<(FutureId, TaskInfo)>>,
}

/// A pipe that one worker writes lines to.
struct LinePipe {
    /// Where its lines go.
    to: Destination,
    /// The end that is read; reading does not block.
    reader: File,
    /// What was read of the line that has no end so far.
    begun: RefCell<Vec<u8>>,
    /// Whether no process has the other end any more.
    is_closed: Cell<bool>,
}

/// Where lines go.
enum Destination {
    /// Those of a stream, to a function of the user.
    Function(OutputStream, LineFunction),
    /// Events, to the program's subscriber.
    Subscriber(Forwarding),
}

/// The number of pipes of one worker: two streams, and one for events.
const MOST_PIPES: usize = 3;

/// The longest line: a longer one is told in pieces.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

impl WorkerLines {
    pub(crate) fn new(worker: usize) -> Self {
        Self {
            worker,
            pipes: Vec::new(),
            task: RefCell::default(),
        }
    }

    /// Adds a stream. Returns the descriptor that the worker writes to.
    pub(crate) fn add(
        &mut self,
        stream: OutputStream,
        function: &LineFunction,
    ) -> io::Result<OwnedHandle> {
        self.add_pipe(Destination::Function(stream, function.clone()))
    }

    /// Adds the pipe for the worker's events. Returns the descriptor that the worker writes to.
    pub(crate) fn add_events(&mut self, forwarding: &Forwarding) -> io::Result<OwnedHandle> {
        self.add_pipe(Destination::Subscriber(forwarding.clone()))
    }

    fn add_pipe(&mut self, to: Destination) -> io::Result<OwnedHandle> {
        let (reader, writer) = sys::stdio::pipe()?;
        sys::stdio::never_wait(reader.as_handle())?;
        self.pipes.push(LinePipe {
            to,
            reader: reader.into(),
            begun: RefCell::default(),
            is_closed: Cell::new(false),
        });
        Ok(writer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pipes.is_empty()
    }

    /// The descriptors that are readable when something was printed; `None`: there is none, or nothing will be
    /// printed to it any more.
    pub(crate) fn readable(&self) -> [Option<BorrowedHandle<'_>>; MOST_PIPES] {
        let mut readable = self.pipes.iter().map(|pipe| {
            let is_open = !pipe.is_closed.get();
            is_open.then(|| pipe.reader.as_handle())
        });
        [(); MOST_PIPES].map(|()| readable.next().flatten())
    }

    /// Reads some of what was printed to each of these streams, and tells of the lines that have come to their
    /// ends.
    pub(crate) fn read(&self, readable: [bool; MOST_PIPES]) {
        let pipes = self.pipes.iter().zip(readable);
        for (pipe, _) in pipes.filter(|(_, is_readable)| *is_readable) {
            self.read_some(pipe);
        }
    }

    /// The worker begins a task. What it has printed before is told without a task.
    pub(crate) fn begin_task(&self, id: FutureId, info: TaskInfo) {
        self.finish();
        self.task.replace(Some((id, info)));
    }

    /// The worker's task has ended, or the worker has: tells of all that was printed. A line that has no end ends
    /// here.
    pub(crate) fn finish(&self) {
        /// As many reads as empty the largest pipe. There is a limit because a thread of the worker may print
        /// without end.
        const MOST: usize = 64;

        for pipe in &self.pipes {
            let _ = (0..MOST).all(|_| self.read_some(pipe));
            let rest = pipe.begun.take();
            if !rest.is_empty() {
                self.tell(pipe, rest);
            }
        }
        self.task.replace(None);
    }

    /// Reads some of what was printed to one stream, and tells of the lines that have come to their ends. Returns
    /// whether there may be more.
    fn read_some(&self, pipe: &LinePipe) -> bool {
        let mut bytes = [0; 16 << 10];
        match (&pipe.reader).read(&mut bytes) {
            Ok(0) => pipe.is_closed.set(true),
            Ok(count) => {
                for piece in bytes[..count].split_inclusive(|byte| *byte == b'\n') {
                    self.add_piece(pipe, piece);
                }
                return true;
            }
            // `WouldBlock`: that was all.
            Err(_) => {}
        }
        false
    }

    /// Adds bytes to the line that was begun: at most one line feed, at their end.
    fn add_piece(&self, pipe: &LinePipe, piece: &[u8]) {
        let (piece, is_whole) = match piece.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (piece, false),
        };
        // No borrow lasts while the user's code is called.
        let mut line = pipe.begun.take();
        let mut rest = piece;
        while let Some((head, tail)) = rest.split_at_checked(LONGEST_LINE - line.len()) {
            if tail.is_empty() {
                break;
            }
            line.extend(head);
            self.tell(pipe, std::mem::take(&mut line));
            rest = tail;
        }
        line.extend(rest);
        match is_whole {
            true => self.tell(pipe, line),
            false => drop(pipe.begun.replace(line)),
        }
    }

    fn tell(&self, pipe: &LinePipe, bytes: Vec<u8>) {
        // No borrow lasts while the user's code is called.
        let task = self.task.borrow().to_owned();
        let worker = self.worker;
        match &pipe.to {
            Destination::Function(stream, function) => {
                let line = WorkerLine {
                    worker,
                    stream: *stream,
                    task,
                    bytes,
                };
                unwind::call(|| (function.0)(&line));
            }
            Destination::Subscriber(forwarding) => {
                unwind::call(|| forwarding.emit(worker, task.as_ref(), &bytes));
            }
        }
    }
}
