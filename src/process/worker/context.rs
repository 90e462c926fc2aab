//! The state of a worker process: what the connection loop and the queue loop both need to run a task and to
//! say what became of it.
//!
//! Made by `set_up`; used by the loops and by `batch`.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::current_worker::Progress;
use crate::process::shm::arena::worker::{ResultPlacement, WorkerArena};
use crate::process::shm::queue::{Finish, ShmQueue, SlotRef};
use crate::process::shm::signals::SharedSignals;
use crate::process::worker::UNFIT;
use crate::process::worker::outcome::run;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::{BlockRef, Lease};
use crate::remote::stub::Argument;
use crate::shared::registry;
use crate::sync::deadline::Deadline;
use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::transport::fault::Fault;
use crate::transport::framed::FramedStream;
use crate::transport::messages::Welcome;
use crate::transport::wire::{self, Header, Kind};

/// The state of this worker process.
pub(super) struct Worker {
    /// Frames to and from the program. Shared with the `program_source` of this thread, which uses it while an
    /// argument is decoded; no borrow lasts that long.
    pub(super) stream: Rc<RefCell<FramedStream>>,
    /// The program's welcome: the settings of this worker.
    pub(super) welcome: Welcome,
    /// Two words that the program writes: whether the rest of the current chunk is cancelled, and how many
    /// regions of shared memory were released. `None` if the program sent none.
    pub(super) signals: Option<SharedSignals>,
    /// The shared-memory queue from which it claims tasks; `None` if the pool has none.
    pub(super) queue: Option<ShmQueue>,
    /// The memory of large arguments and results; `None` if the pool has none.
    pub(super) worker_arena: Option<Arc<WorkerArena>>,
    /// The program's count of released regions of shared memory, as this worker read it last.
    pub(super) release_epoch: Cell<u32>,
    /// What tasks can ask about their worker (`current_worker`).
    pub(super) progress: Arc<Progress>,
    /// Tells this process from a copy that a task has forked.
    pub(super) fork_epoch: ForkEpoch,
    /// The standard output of user code; kept because a new handle for each flush takes time.
    pub(super) stdout: io::Stdout,
}

impl Worker {
    /// Runs a task, and flushes what it has printed before its outcome is sent.
    pub(super) fn run(&self, call: FunctionRef, argument: Argument<'_>) -> Result<Encoded, Fault> {
        self.release_stale();
        self.shield();
        self.progress.begin_task();
        let worker_arena = self.worker_arena.as_ref();
        let outcome = run(
            call,
            argument,
            self.welcome.payload_limit,
            &ResultPlacement { worker_arena },
        );
        self.finish_task();
        outcome
    }

    /// Runs a task whose argument lies in a block of the arena. `location` is the encoded block reference;
    /// `lease` makes a lease of that block.
    pub(super) fn run_stored(
        &self,
        call: FunctionRef,
        location: &[u8],
        lease: impl FnOnce(&Arc<WorkerArena>, BlockRef) -> Option<Lease>,
    ) -> Result<Encoded, Fault> {
        let place = self
            .worker_arena
            .as_ref()
            .zip(BlockRef::from_bytes(location));
        match place.and_then(|(worker_arena, location)| lease(worker_arena, location)) {
            Some(lease) => self.run(call, Argument::Leased(lease)),
            None => Err(Fault::Decode("there is no such argument".to_owned())),
        }
    }

    /// Called when a task has ended, before its outcome is sent.
    pub(super) fn finish_task(&self) {
        if self.fork_epoch.is_forked_copy() {
            sys::worker::exit_forked_copy(); // a copy that the task forked: only the original sends the outcome
        }
        self.flush();
    }

    /// Flushes what user code has printed.
    pub(super) fn flush(&self) {
        // If user code has closed stdout, the error is its own affair.
        let _ = (&self.stdout).flush();
        sys::stdio::flush_c_output();
    }

    /// Write-protects results of this worker that the program has not read yet.
    #[inline]
    pub(super) fn shield(&self) {
        if let Some(worker_arena) = &self.worker_arena {
            worker_arena.shield();
        }
    }

    /// Unmaps the shared memory that the program has released.
    pub(super) fn release_stale(&self) {
        if self.has_stale() {
            // The count is read before the unmapping, not after it: a region released meanwhile is seen next
            // time.
            self.release_epoch.set(
                self.signals
                    .as_ref()
                    .map_or(0, SharedSignals::release_epoch),
            );
            registry::forget_closed();
        }
    }

    /// Whether the program has released shared memory that may still be mapped here.
    pub(super) fn has_stale(&self) -> bool {
        let release_epoch = self
            .signals
            .as_ref()
            .map_or(0, SharedSignals::release_epoch);
        release_epoch != self.release_epoch.get()
    }

    /// When to give back the memory of results; never if there is nothing to give back.
    pub(super) fn purge_at(&self) -> Deadline {
        let worker_arena = self.worker_arena.as_ref();
        let is_warm = worker_arena.is_some_and(|worker_arena| worker_arena.is_warm());
        Deadline::after_limit(is_warm.then_some(KEPT_IDLE))
    }

    /// Gives the memory of free result blocks back to the system.
    pub(super) fn purge(&self) {
        if let Some(worker_arena) = &self.worker_arena {
            worker_arena.purge();
        }
    }

    /// Sends a frame about the task in this slot of the queue.
    pub(super) fn send_about(&self, kind: Kind, place: SlotRef, body: &Encoded) -> io::Result<()> {
        let (task, length) = (place.to_number(), body.len() as u64);
        let header = Header { kind, task, length };
        self.stream.borrow().send_bringing(header, body)
    }

    /// Asks the program to audit the shared memory.
    pub(super) fn raise_alarm(&self) -> io::Result<()> {
        self.stream.borrow().send(&[&wire::frame(Kind::Alarm, &[])])
    }

    /// Continues after a task, or ends the process if the task was taken away from this worker.
    pub(super) fn go_on(&self, finish: Finish) -> io::Result<()> {
        match finish {
            Finish::Published => Ok(()),
            Finish::Killed => {
                sys::worker::park_until_killed(KILLED);
                exit(UNFIT)
            }
            Finish::Displaced => {
                // The outcome is in this worker's own part of the queue: the program finds it there.
                self.raise_alarm()?;
                self.flush();
                exit(UNFIT)
            }
        }
    }
}

/// Why a worker stops taking tasks from one source.
pub(super) enum Directive {
    /// There are no more tasks: exit with this code.
    Close(i32),
    /// Take tasks from the queue again.
    Resume,
}

/// A worker that waits for a frame from the program for this long unmaps shared memory that it keeps for
/// later tasks, and gives back the memory of its result blocks.
pub(super) const KEPT_IDLE: Duration = Duration::from_secs(1);

/// How long a worker waits for its own death when its task was killed. The program kills it within
/// microseconds; if no signal comes, the mark was made by a stray write, and the worker exits by itself.
const KILLED: Duration = Duration::from_secs(1);
