//! One child process: it is started, waited for, killed, and reaped. `spawn` starts it; the `connection`
//! and the process table signal it and wait for it.
//!
//! Each child has a wait thread of its own. The kernel tells a worker of its parent's end when the very
//! thread that started the worker ends (`PR_SET_PDEATHSIG`). So a child is started by a thread that lives
//! longer than the child, or else by its wait thread.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::process::{ChildStderr, Command};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::options::{Grace, Notice};
use crate::process::shm::signals::SharedSignals;
use crate::shared::invalidation::{self, InvalidationListener};
use crate::sync::deadline::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, sleep, sleep_until};
use crate::sys;
use crate::sys::child::{Handle, ProcessEnd};
use crate::sys::fork::ForkEpoch;
use crate::sys::stream::Stream;

/// A child process.
pub(crate) struct ChildProcess {
    /// Its process id, which belongs to it until it is reaped.
    pid: u32,
    /// The handle by which it is waited for, signalled and reaped. All but the wait happens under `life`'s
    /// lock.
    handle: Handle,
    /// Whether it lives.
    life: Mutex<Life>,
    /// Notified when it has been reaped.
    ended: Condvar,
    /// The program that it is a child of: a forked copy of that program does not touch it.
    fork_epoch: ForkEpoch,
    /// The program's end of the connection to it, as long as any owner needs that.
    connection: Weak<Stream>,
    /// The signals that the program shares with it; set by the welcome.
    signals: OnceLock<SharedSignals>,
    /// How the task that it runs is stopped, or is being stopped. Under this lock that of `life` is taken.
    stopping: Mutex<Stopping>,
}

/// How the task of a worker is stopped.
enum Stopping {
    /// By killing the worker at once: the task has no grace, or there is none.
    AtOnce,
    /// By asking, then by killing the worker at the end of this grace.
    After(Grace),
    /// It was asked, and has time until then. The worker leaves after the task.
    Asked {
        /// The end of the grace.
        deadline: Deadline,
        /// Kills the worker at the deadline; `None`: its supervisor does, which has asked.
        enforcer: Option<JoinHandle<()>>,
    },
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It was sent, or the process has ended.
    Sent,
    /// The system has refused it. The connection was shut instead: a worker that is ready ends by that.
    Refused,
}

/// Whether a process lives.
#[derive(Clone, Copy)]
enum Life {
    /// It was not reaped.
    Unreaped,
    /// It ended that way, with that peak of memory, and was reaped.
    Ended(ProcessEnd, Peak),
}

/// The most memory that a process has used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peak {
    /// Exactly this.
    Exactly(u64),
    /// No more than this: the kernel counts the memory that the program had when it started the process as
    /// the process's own, and the process did not use more than that.
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

/// What starting a process returns.
pub(crate) struct Started {
    /// The process.
    pub(crate) process: Arc<ChildProcess>,
    /// The read end of its standard error.
    pub(crate) stderr: ChildStderr,
    /// The thread that waits for it.
    pub(crate) wait_thread: WaitThread,
}

/// Which thread starts a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpawnOn {
    /// The calling thread, which lives longer than the child. This is faster.
    Caller,
    /// The thread that waits for the child.
    WaitThread,
}

impl ChildProcess {
    /// Starts a child. When it has ended, it is reaped, `connection` (the program's end) is shut down, and
    /// `then` is called with its process id, all on the wait thread.
    pub(crate) fn start(
        command: Command,
        connection: Arc<Stream>,
        spawn_on: SpawnOn,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        match spawn_on {
            SpawnOn::Caller => Self::start_here(command, connection, then),
            SpawnOn::WaitThread => Self::start_there(command, connection, then),
        }
    }

    /// Starts a child on the calling thread.
    fn start_here(
        command: Command,
        connection: Arc<Stream>,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        let (process, stderr, inherited) = Self::spawn(command, &connection)?;
        let wait = {
            let (process, connection) = (Arc::clone(&process), Arc::clone(&connection));
            move || {
                process.reap_at_end(&connection, inherited);
                then(process.pid);
            }
        };
        match WaitThread::start(wait) {
            Ok(wait_thread) => Ok(Started {
                process,
                stderr,
                wait_thread,
            }),
            Err(error) => {
                process.kill();
                process.reap_at_end(&connection, inherited);
                Err(error)
            }
        }
    }

    /// Starts a child on the thread that waits for it.
    fn start_there(
        command: Command,
        connection: Arc<Stream>,
        then: impl FnOnce(u32) + Send + 'static,
    ) -> io::Result<Started> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let wait = move || {
            let (process, stderr, inherited) = match Self::spawn(command, &connection) {
                Ok(spawned) => spawned,
                Err(error) => return drop(sender.send(Err(error))),
            };
            // The receiver waits for this one message.
            drop(sender.send(Ok((Arc::clone(&process), stderr))));
            process.reap_at_end(&connection, inherited);
            then(process.pid);
        };
        let wait_thread = WaitThread::start(wait)?;
        match receiver.recv() {
            Ok(Ok((process, stderr))) => Ok(Started {
                process,
                stderr,
                wait_thread,
            }),
            Ok(Err(error)) => {
                wait_thread.join();
                Err(error)
            }
            Err(_) => unreachable!("the wait thread tells what became of the start"),
        }
    }

    /// Spawns a child. Returns it, its standard error, and the memory in bytes that it seems to use at first,
    /// which is the program's.
    fn spawn(
        mut command: Command,
        connection: &Arc<Stream>,
    ) -> io::Result<(Arc<Self>, ChildStderr, u64)> {
        // Not std's pipe, which may take the number of a standard descriptor that the program has closed.
        let (stderr, writer) = sys::stdio::pipe()?;
        let spawned = command.stderr(writer).spawn();
        let inherited = sys::worker::own_peak_memory();
        // The program's copies of the child's ends are closed together with the command.
        drop(command);
        let child = spawned?;
        let process = Arc::new(Self {
            pid: child.id(),
            handle: Handle::of(child.id()),
            life: Mutex::new(Life::Unreaped),
            ended: Condvar::new(),
            fork_epoch: ForkEpoch::here(),
            connection: Arc::downgrade(connection),
            signals: OnceLock::new(),
            stopping: Mutex::new(Stopping::AtOnce),
        });
        Ok((process, stderr.into(), inherited))
    }

    /// A process that has ended, and never was: it stands behind a test's connection.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn ended() -> Arc<Self> {
        Arc::new(Self {
            pid: 0,
            handle: Handle::Gone,
            life: Mutex::new(Life::Ended(ProcessEnd::Unknown, Peak::AtMost(0))),
            ended: Condvar::new(),
            fork_epoch: ForkEpoch::here(),
            connection: Weak::new(),
            signals: OnceLock::new(),
            stopping: Mutex::new(Stopping::AtOnce),
        })
    }

    /// Waits for the end of the process, and reaps it. What is left of its process group is ended, too.
    fn reap_at_end(&self, connection: &Stream, inherited: u64) {
        let waited = self.handle.wait_for_end();
        let mut life = self.lock();
        // Fails if another part of the program has reaped it: then nothing is known of its end.
        let reaped = self.handle.reap(waited);
        let (end, peak) = reaped.unwrap_or((ProcessEnd::Unknown, 0));
        let peak = if peak > inherited {
            Peak::Exactly(peak)
        } else {
            Peak::AtMost(peak)
        };
        *life = Life::Ended(end, peak);
        drop(life);
        // A copy of the connection in a process that the task forked must not keep the supervisor waiting.
        let _ = connection.shutdown(Shutdown::Both);
        self.ended.notify_all();
    }

    /// Keeps the program's side of the signals that the process shares.
    pub(crate) fn keep_signals(self: &Arc<Self>, signals: SharedSignals) {
        // Set once, by the welcome.
        let _ = self.signals.set(signals);
        let listener: Weak<Self> = Arc::downgrade(self);
        invalidation::subscribe(listener);
    }

    /// The shared signals, with the flag "begin nothing more of this chunk"; `None` before the welcome, and
    /// where the system refused the memory.
    pub(crate) fn signals(&self) -> Option<&SharedSignals> {
        self.signals.get()
    }

    /// Whether the caller runs in a forked copy of the program.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.fork_epoch.is_forked_copy()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; `None`: it was not reaped yet. In a forked copy of the program always
    /// `ProcessEnd::Unknown`.
    pub(crate) fn end(&self) -> Option<ProcessEnd> {
        if self.fork_epoch.is_forked_copy() {
            return Some(ProcessEnd::Unknown);
        }
        match *self.lock() {
            Life::Unreaped => None,
            Life::Ended(end, _) => Some(end),
        }
    }

    /// The most memory that it used; `None`: it was not reaped yet.
    pub(crate) fn peak_memory(&self) -> Option<Peak> {
        match *self.lock() {
            Life::Unreaped => None,
            Life::Ended(_, peak) => Some(peak),
        }
    }

    /// Notes what grace the tasks have that it is about to be sent.
    pub(crate) fn grant(&self, grace: Option<Grace>) {
        *lock(&self.stopping) = grace.map_or(Stopping::AtOnce, Stopping::After);
    }

    /// Stops the task that it runs, which is marked as killed: kills it at once, or has it killed at the end
    /// of the task's grace. Returns at once.
    pub(crate) fn stop_task(self: &Arc<Self>) {
        let mut stopping = lock(&self.stopping);
        match *stopping {
            Stopping::AtOnce => {
                self.kill();
            }
            Stopping::Asked { .. } => {}
            Stopping::After(grace) => match self.enforce(grace.limit) {
                Ok(enforcer) => *stopping = self.ask(grace, Some(enforcer)),
                Err(_) => {
                    self.kill(); // no thread would do it later
                }
            },
        }
    }

    /// Starts the thread that kills it after `limit`, unless it has ended by then.
    fn enforce(self: &Arc<Self>, limit: Duration) -> io::Result<JoinHandle<()>> {
        let me = Arc::clone(self);
        let enforce = move || {
            me.wait_or_kill(limit);
        };
        thread::Builder::new()
            .name("cf-grace".to_owned())
            .spawn(enforce)
    }

    /// Asks the task that it runs to stop, unless it was asked. Returns the end of the task's grace, at which
    /// the caller kills it; `None`: the task has no grace.
    pub(crate) fn ask_to_stop(&self) -> Option<Deadline> {
        let mut stopping = lock(&self.stopping);
        if let Stopping::After(grace) = *stopping {
            *stopping = self.ask(grace, None);
        }
        stopping.deadline()
    }

    /// Asks the task that it runs to stop: shuts the connection for sending, which the task can see. So
    /// nothing else is asked to stop: the worker can be sent nothing more, and leaves.
    fn ask(&self, grace: Grace, enforcer: Option<JoinHandle<()>>) -> Stopping {
        if let Some(connection) = self.connection.upgrade() {
            // Fails only if it was shut before.
            let _ = connection.shutdown(Shutdown::Write);
        }
        if grace.notice == Notice::Signal {
            // Where the system refuses the signal, the task can still see the request.
            let _ = self.if_unreaped(Handle::terminate);
        }
        Stopping::Asked {
            deadline: Deadline::after(grace.limit),
            enforcer,
        }
    }

    /// Until when it may leave by itself, as its task was asked to stop; `None`: it was not, and from now on
    /// is not any more.
    pub(crate) fn may_leave_until(&self) -> Option<Deadline> {
        let mut stopping = lock(&self.stopping);
        if let Stopping::After(_) = *stopping {
            *stopping = Stopping::AtOnce;
        }
        stopping.deadline()
    }

    /// Joins the thread that would have killed it at the end of a grace. It has ended.
    pub(crate) fn join_enforcer(&self) {
        let enforcer = match &mut *lock(&self.stopping) {
            Stopping::Asked { enforcer, .. } => enforcer.take(),
            Stopping::AtOnce | Stopping::After(_) => None,
        };
        if let Some(enforcer) = enforcer {
            // The thread runs no user code, and does not panic.
            let _ = enforcer.join();
        }
    }

    /// Kills it and its process group, unless it has ended. Returns at once.
    pub(crate) fn kill(&self) -> Signal {
        self.signal_or_hang_up(Handle::kill_tree)
    }

    /// Asks it to end (SIGTERM). Returns at once.
    pub(crate) fn terminate(&self) -> Signal {
        self.signal_or_hang_up(Handle::terminate)
    }

    /// Sends a signal. If the system refuses it, shuts the connection instead: a thread of the worker waits
    /// for that, and ends the worker and its process group.
    fn signal_or_hang_up(&self, signal: impl FnOnce(&Handle) -> io::Result<()>) -> Signal {
        match self.if_unreaped(signal) {
            Some(Err(_)) => {
                self.hang_up();
                Signal::Refused
            }
            Some(Ok(())) | None => Signal::Sent,
        }
    }

    /// Shuts the connection: nothing is sent or received any more.
    fn hang_up(&self) {
        if let Some(connection) = self.connection.upgrade() {
            // Fails only if it was shut before.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Runs `act` if the process was not reaped, under the lock that reaping takes, so that its process id is
    /// still its own. `None`: it was reaped, or this is a forked copy of the program, and the process is not
    /// the copy's child.
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
            life = sleep(&self.ended, life);
        }
    }

    /// Blocks until it was reaped; kills it if it takes longer than `grace`.
    pub(crate) fn wait_or_kill(&self, grace: Duration) -> ProcessEnd {
        self.wait_at_most(grace).unwrap_or_else(|| {
            self.kill();
            self.wait()
        })
    }

    /// Blocks until it was reaped, for at most `limit`. `None`: it was not.
    pub(crate) fn wait_at_most(&self, limit: Duration) -> Option<ProcessEnd> {
        if self.fork_epoch.is_forked_copy() {
            return Some(ProcessEnd::Unknown);
        }
        self.wait_until(Deadline::after(limit))
    }

    /// Blocks until it was reaped, at most until the deadline. `None`: it was not.
    pub(crate) fn wait_until(&self, deadline: Deadline) -> Option<ProcessEnd> {
        let mut life = self.lock();
        loop {
            if let Life::Ended(end, _) = *life {
                return Some(end);
            }
            if deadline.has_passed() {
                return None;
            }
            life = sleep_until(&self.ended, life, deadline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        lock(&self.life)
    }
}

impl Stopping {
    /// The end of the grace of a task that was asked to stop.
    fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Asked { deadline, .. } => Some(*deadline),
            Self::AtOnce | Self::After(_) => None,
        }
    }
}

impl InvalidationListener for ChildProcess {
    fn note(&self) {
        if let Some(signals) = self.signals() {
            signals.count_drop();
        }
    }
}

impl WaitThread {
    fn start(wait: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let name = "cf-wait".to_owned();
        Ok(Self(thread::Builder::new().name(name).spawn(wait)?))
    }

    /// Blocks until the thread has ended; the process is reaped by then.
    pub(crate) fn join(self) {
        // The thread runs no user code, and does not panic.
        let _ = self.0.join();
    }
}

#[cfg(test)]
mod tests;
