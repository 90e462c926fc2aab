//! One child process: started, watched until its end, killed, reaped.
//!
//! A thread of its own waits for the child. The kernel tells a worker of its parent's end by the end of the
//! very thread that started it: that is a thread which lives longer than the child, or else the one that
//! waits.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::ProcessEnd;
use crate::process::shm::signals::SharedSignals;
use crate::shared::invalidation::{self, InvalidationListener};
use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::Handle;

/// A child process.
pub(crate) struct ChildProcess {
    /// Its number; its own until it is reaped.
    pid: u32,
    /// What it is waited for, signalled and reaped by, under `life`'s lock but for the wait.
    handle: Handle,
    /// Whether it lives.
    life: Mutex<Life>,
    /// Notified when it has been reaped.
    ended: Condvar,
    /// Whose child it is.
    fork_epoch: ForkEpoch,
    /// Our end of the link to it, as long as anybody needs that.
    link: Weak<UnixStream>,
    /// Shared with it, from the welcome on.
    flag: OnceLock<SharedSignals>,
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It was sent, or the process has ended.
    Sent,
    /// The system has refused it. The link was shut instead: a worker that is ready ends by that.
    Refused,
}

/// Whether a process lives.
#[derive(Clone, Copy)]
enum Life {
    /// It was not reaped.
    Unreaped,
    /// It ended so, having used so much memory, and was reaped.
    Ended(ProcessEnd, Peak),
}

/// The most memory that a process has used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peak {
    /// So much.
    Exactly(u64),
    /// No more than this: the kernel counts what the program had when it started the process as
    /// the process's own, and it did not use more.
    AtMost(u64),
}

impl fmt::Display for Peak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{} MiB", bytes >> 20),
            Self::AtMost(bytes) => write!(f, "at most {} MiB", bytes >> 20),
        }
    }
}

/// The thread that waits for a process.
pub(crate) struct WaitThread(
    /// Ends soon after the process.
    JoinHandle<()>,
);

/// What starting a process gives.
pub(crate) struct Started {
    /// The process.
    pub(crate) process: Arc<ChildProcess>,
    /// Its standard error.
    pub(crate) stderr: ChildStderr,
    /// The thread that waits for it.
    pub(crate) watcher: WaitThread,
}

/// Which thread starts a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnOn {
    /// The calling one, which lives longer than the child: that is quicker.
    Caller,
    /// The one that waits for the child.
    Watcher,
}

impl ChildProcess {
    /// Starts a child. When it has ended, `link` (our end) is shut down, it is reaped, and `then`
    /// is called with its number, all on the watching thread.
    pub(crate) fn start(
        command: Command,
        link: Arc<UnixStream>,
        spawn_on: SpawnOn,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        match spawn_on {
            SpawnOn::Caller => Self::start_here(command, link, then),
            SpawnOn::Watcher => Self::start_there(command, link, then),
        }
    }

    /// Starts a child on this thread.
    fn start_here(
        command: Command,
        link: Arc<UnixStream>,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        let (process, stderr, inherited) = Self::spawn(command, &link)?;
        let watch = {
            let (process, link) = (Arc::clone(&process), Arc::clone(&link));
            move || {
                process.watch(&link, inherited);
                then(process.pid);
            }
        };
        match WaitThread::start(watch) {
            Ok(watcher) => Ok(Started {
                process,
                stderr,
                watcher,
            }),
            Err(error) => {
                process.kill();
                process.watch(&link, inherited);
                Err(error)
            }
        }
    }

    /// Starts a child on the thread that waits for it.
    fn start_there(
        command: Command,
        link: Arc<UnixStream>,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        let (tell, hear) = crossbeam_channel::bounded(1);
        let watch = move || {
            let (process, stderr, inherited) = match Self::spawn(command, &link) {
                Ok(spawned) => spawned,
                Err(error) => return drop(tell.send(Err(error))),
            };
            // The receiver waits for this one message.
            drop(tell.send(Ok((Arc::clone(&process), stderr))));
            process.watch(&link, inherited);
            then(process.pid);
        };
        let watcher = WaitThread::start(watch)?;
        match hear.recv() {
            Ok(Ok((process, stderr))) => Ok(Started {
                process,
                stderr,
                watcher,
            }),
            Ok(Err(error)) => {
                watcher.join();
                Err(error)
            }
            Err(_) => unreachable!("the watcher tells what became of the start"),
        }
    }

    /// A child, its standard error, and the memory that it seems to use at first.
    fn spawn(
        mut command: Command,
        link: &Arc<UnixStream>,
    ) -> io::Result<(Arc<Self>, ChildStderr, u64)> {
        // Not std's pipe, which may take the number of a standard descriptor that the program has closed.
        let (stderr, writer) = sys::pipe()?;
        let spawned = command.stderr(writer).spawn();
        let inherited = sys::own_peak_memory();
        // Our copies of the child's ends go with the command.
        drop(command);
        let child = spawned?;
        let process = Arc::new(Self {
            pid: child.id(),
            handle: Handle::of(child.id()),
            life: Mutex::new(Life::Unreaped),
            ended: Condvar::new(),
            fork_epoch: ForkEpoch::here(),
            link: Arc::downgrade(link),
            flag: OnceLock::new(),
        });
        Ok((process, stderr.into(), inherited))
    }

    /// A process that has ended, and never was: what a test's link has behind it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn ended() -> Arc<Self> {
        Arc::new(Self {
            pid: 0,
            handle: Handle::Gone,
            life: Mutex::new(Life::Ended(ProcessEnd::Unknown, Peak::AtMost(0))),
            ended: Condvar::new(),
            fork_epoch: ForkEpoch::here(),
            link: Weak::new(),
            flag: OnceLock::new(),
        })
    }

    /// Waits for the end, and reaps. What is left of its process group goes with it.
    fn watch(&self, link: &UnixStream, inherited: u64) {
        let waited = self.handle.wait_for_end();
        let mut life = self.lock();
        // Fails if somebody else has reaped it: then nothing is known.
        let reaped = self.handle.reap(waited);
        let (end, peak) = reaped.unwrap_or((ProcessEnd::Unknown, 0));
        let peak = if peak > inherited {
            Peak::Exactly(peak)
        } else {
            Peak::AtMost(peak)
        };
        *life = Life::Ended(end, peak);
        drop(life);
        // A copy of the link in a process that the task forked must not keep us waiting.
        let _ = link.shutdown(Shutdown::Both);
        self.ended.notify_all();
    }

    /// Keeps our side of the flag that the process shares.
    pub(crate) fn keep_flag(self: &Arc<Self>, flag: SharedSignals) {
        // Set once, by the welcome.
        let _ = self.flag.set(flag);
        let listener: Weak<Self> = Arc::downgrade(self);
        invalidation::subscribe(listener);
    }

    /// "Begin nothing more of this chunk", where the process has heard so much.
    pub(crate) fn flag(&self) -> Option<&SharedSignals> {
        self.flag.get()
    }

    /// Whether the caller runs in a forked copy of the program.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.fork_epoch.is_forked_copy()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn end(&self) -> Option<ProcessEnd> {
        if self.fork_epoch.is_forked_copy() {
            return Some(ProcessEnd::Unknown);
        }
        match *self.lock() {
            Life::Unreaped => None,
            Life::Ended(end, _) => Some(end),
        }
    }

    /// The most memory that it used; `None` while it lives.
    pub(crate) fn peak_memory(&self) -> Option<Peak> {
        match *self.lock() {
            Life::Unreaped => None,
            Life::Ended(_, peak) => Some(peak),
        }
    }

    /// Ends it and its process group, unless it has ended. Returns at once.
    pub(crate) fn kill(&self) -> Signal {
        self.signal_or_hang_up(Handle::kill_tree)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> Signal {
        self.signal_or_hang_up(|handle| handle.signal(libc::SIGTERM))
    }

    /// Signals it. Where that is refused, its link is shut: a thread of the worker waits for that, and ends
    /// it and its process group.
    fn signal_or_hang_up(&self, signal: impl FnOnce(&Handle) -> io::Result<()>) -> Signal {
        match self.if_unreaped(signal) {
            Some(Err(_)) => {
                self.hang_up();
                Signal::Refused
            }
            Some(Ok(())) | None => Signal::Sent,
        }
    }

    /// Shuts the link: nothing is said or heard any more.
    fn hang_up(&self) {
        if let Some(link) = self.link.upgrade() {
            // Fails only if it was shut before.
            let _ = link.shutdown(Shutdown::Both);
        }
    }

    /// Acts on it before we have reaped it: under the lock that its reaping takes, so that its number is its
    /// own. A forked copy of the program does not: the process is not its child.
    fn if_unreaped<R>(&self, act: impl FnOnce(&Handle) -> R) -> Option<R> {
        if self.fork_epoch.is_forked_copy() {
            return None;
        }
        let life = self.lock();
        matches!(*life, Life::Unreaped).then(|| act(&self.handle))
    }

    /// Blocks until it was reaped.
    pub(crate) fn wait(&self) -> ProcessEnd {
        if self.fork_epoch.is_forked_copy() {
            return ProcessEnd::Unknown;
        }
        let mut life = self.lock();
        loop {
            if let Life::Ended(end, _) = *life {
                return end;
            }
            life = self
                .ended
                .wait(life)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks until it was reaped; kills it if it takes longer than this.
    pub(crate) fn wait_or_kill(&self, grace: Duration) -> ProcessEnd {
        self.wait_at_most(grace).unwrap_or_else(|| {
            self.kill();
            self.wait()
        })
    }

    /// Blocks until it was reaped, for at most so long.
    pub(crate) fn wait_at_most(&self, limit: Duration) -> Option<ProcessEnd> {
        if self.fork_epoch.is_forked_copy() {
            return Some(ProcessEnd::Unknown);
        }
        let Some(deadline) = Instant::now().checked_add(limit) else {
            return Some(self.wait());
        };
        let mut life = self.lock();
        loop {
            if let Life::Ended(end, _) = *life {
                return Some(end);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.ended.wait_timeout(life, left);
            life = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InvalidationListener for ChildProcess {
    fn note(&self) {
        if let Some(flag) = self.flag() {
            flag.count_drop();
        }
    }
}

impl WaitThread {
    fn start(watch: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let name = "process watcher".to_owned();
        Ok(Self(thread::Builder::new().name(name).spawn(watch)?))
    }

    /// Blocks until the thread is gone; the process is reaped by then.
    pub(crate) fn join(self) {
        // It runs no user code, and does not panic.
        let _ = self.0.join();
    }
}

#[cfg(test)]
mod tests;
