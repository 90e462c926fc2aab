//! Meeting points of a trial and its tasks, whether these are threads or processes: named pipes.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use concurrent_futures::{Executor, Future};
use serde::{Deserialize, Serialize};

use super::os;

/// Holds tasks back until it is opened. Dropping it opens it, too.
pub struct Gate(Fifo);

/// What a task shows at a [`Gate`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Ticket(PathBuf);

/// Where a trial sees how far its tasks are.
pub struct Beacon(Fifo);

/// What a task lights to be seen at a [`Beacon`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Lamp(PathBuf);

/// A task that says when it has begun, and then stays until it is let go: see [`hold`].
pub struct Hold {
    /// Lit when the task has begun.
    begun: Beacon,
    /// Opened to let it go.
    gate: Gate,
}

/// The argument of [`hold`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Held {
    /// Lit when the task has begun.
    begun: Lamp,
    /// Where it waits.
    gate: Ticket,
}

impl Held {
    /// Says that the task has begun, and does not wait.
    pub fn begin(&self) {
        self.begun.light();
    }

    /// For an environment variable.
    pub fn to_text(&self) -> String {
        format!("{}\n{}", self.begun.0.display(), self.gate.0.display())
    }

    /// What [`to_text`](Self::to_text) wrote.
    pub fn from_text(text: &str) -> Self {
        let (begun, gate) = text.split_once('\n').unwrap();
        Self {
            begun: Lamp(begun.into()),
            gate: Ticket(gate.into()),
        }
    }
}

/// A named pipe.
struct Fifo {
    /// Removed at the end.
    path: PathBuf,
    /// Both ends, so that no other open or read sees the other end missing.
    file: File,
}

impl Gate {
    pub fn new() -> Self {
        Self(Fifo::new())
    }

    /// Lets in a task.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.0.path.clone())
    }

    /// Lets through all tasks that wait, and all that come later.
    pub fn open(&self) {
        (&self.0.file).write_all(b"!").unwrap();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Ticket {
    /// Blocks until the gate is open.
    pub fn wait(&self) {
        // A gate that is gone is open.
        if let Ok(file) = open(&self.0, OpenOptions::new().read(true)) {
            // What says that it is open stays in the pipe, for the others.
            os::readable(&file, None);
        }
    }
}

impl Beacon {
    pub fn new() -> Self {
        Self(Fifo::new())
    }

    /// For a task to light.
    pub fn lamp(&self) -> Lamp {
        Lamp(self.0.path.clone())
    }

    /// Blocks until the next lamp is lit; the process that did it.
    pub fn await_lit(&self) -> u32 {
        let mut pid = [0; 4];
        (&self.0.file).read_exact(&mut pid).unwrap();
        u32::from_ne_bytes(pid)
    }

    /// Whether a lamp was lit and not seen so far.
    pub fn is_lit(&self) -> bool {
        os::readable(&self.0.file, Some(super::NO_TIME))
    }
}

impl Lamp {
    /// Shows that the calling process has come so far.
    pub fn light(&self) {
        // If no process reads any more, there is nothing to report.
        if let Ok(mut file) = open(&self.0, OpenOptions::new().write(true)) {
            file.write_all(&std::process::id().to_ne_bytes()).unwrap();
        }
    }
}

impl Hold {
    pub fn new() -> Self {
        Self {
            begun: Beacon::new(),
            gate: Gate::new(),
        }
    }

    /// For [`hold`].
    pub fn argument(&self) -> Held {
        Held {
            begun: self.begun.lamp(),
            gate: self.gate.ticket(),
        }
    }

    /// Has a worker of this pool held; blocks until it is. Declare the pool before the hold, so
    /// that a trial that fails lets go of the task before it drops the pool.
    pub fn occupy(&self, pool: &impl Executor) -> Future<u32> {
        let running = pool.submit(hold, self.argument());
        self.await_begun();
        running
    }

    /// Blocks until the task, or the next one of several, has begun; its process.
    pub fn await_begun(&self) -> u32 {
        self.begun.await_lit()
    }

    /// Whether a task has begun that was not asked for so far.
    pub fn has_begun(&self) -> bool {
        self.begun.is_lit()
    }

    /// Lets the task go, and all others that come.
    pub fn release(&self) {
        self.gate.open();
    }
}

/// The task of a [`Hold`]; its process.
pub fn hold(held: Held) -> u32 {
    held.begin();
    held.gate.wait();
    std::process::id()
}

impl Fifo {
    fn new() -> Self {
        let path = loop {
            let path = Self::next_path();
            match os::mkfifo(&path) {
                Ok(()) => break path,
                // A trial of this number was killed, in an earlier run.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("mkfifo: {error}"),
            }
        };
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.unwrap();
        Self { path, file }
    }

    fn next_path() -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("concurrent-futures-{}-{number}", std::process::id());
        std::env::temp_dir().join(name)
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        remove_file(&self.path).unwrap();
    }
}

/// Opens a pipe without waiting for its other end.
fn open(path: &PathBuf, options: &mut OpenOptions) -> std::io::Result<File> {
    options.custom_flags(libc::O_NONBLOCK).open(path)
}
