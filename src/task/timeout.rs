//! The timer of a thread pool: one thread that expires tasks at their deadlines (time limits of tasks on
//! threads), and so ends the waits for them. Each worker pool has one; `task` calls it through the worker's
//! hooks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::promise::Expire;
use crate::sync::deadline::Deadline;
use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, lock, sleep_until, spawn, this_thread};
use crate::sys::fork::ForkEpoch;
use crate::sys::stack;
use crate::unwind::discard;

thread_local! {
    /// Whether this thread is the thread of a timer.
    static IS_TIMER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller runs on a timer's thread, in a callback of a task that has expired.
pub(crate) fn is_caller() -> bool {
    IS_TIMER.try_with(Cell::get).unwrap_or(false)
}

/// Expires tasks at their deadlines. Its thread starts with the first one.
pub(crate) struct Timer {
    /// The tasks to expire, shared with the thread.
    timer_queue: Arc<TimerQueue>,
    /// The timer's thread; `None` before the first deadline, and once joined.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that the thread belongs to.
    fork_epoch: ForkEpoch,
}

/// A timer queue: the tasks to expire, and when.
#[derive(Default)]
struct TimerQueue {
    /// The entries, by deadline.
    entries: Mutex<TimerEntries>,
    /// Notified when there is an earlier entry, or the thread is to end.
    change: Condvar,
    /// Notified when the thread is about to end.
    left: Condvar,
}

/// What the lock of [`TimerQueue`] guards.
#[derive(Default)]
struct TimerEntries {
    /// The tasks that have not expired, by deadline.
    due: BTreeMap<TimerKey, TimerEntry>,
    /// How many entries there were so far; numbers them.
    count: u64,
    /// How far the timer has come.
    stage: Stage,
}

/// How far a timer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Its thread expires tasks.
    #[default]
    Open,
    /// Its thread is to end.
    Closed,
    /// Its thread is about to end.
    Left,
}

/// A deadline, and a number that tells entries of one instant apart.
type TimerKey = (Instant, u64);

/// The guard of a task with a time limit. Dropping it takes the task off the timer queue.
pub(crate) struct TimeoutGuard {
    /// The timer queue that the task is in.
    timer_queue: Arc<TimerQueue>,
    /// The task's key in the queue.
    key: Cell<TimerKey>,
}

impl TimeoutGuard {
    /// Moves the task's deadline, unless the task has expired.
    pub(crate) fn expire_at(&self, deadline: Instant) {
        let mut entries = self.timer_queue.lock();
        let (_, number) = self.key.get();
        if let Some(entry) = entries.due.remove(&self.key.get()) {
            self.key.set((deadline, number));
            entries.due.insert(self.key.get(), entry);
            self.timer_queue.change.notify_one(); // it may be the earliest
        }
    }
}

impl Drop for TimeoutGuard {
    fn drop(&mut self) {
        let entry = self.timer_queue.lock().due.remove(&self.key.get());
        discard(entry); // off the lock: it may hold the last reference to the task
    }
}

/// One task with a time limit.
struct TimerEntry {
    /// The task to expire.
    task: Arc<dyn Expire>,
    /// The time limit, which its error names.
    limit: Duration,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            timer_queue: Arc::default(),
            thread: Mutex::new(None),
            fork_epoch: ForkEpoch::here(),
        }
    }

    /// Expires `task` after `limit` from now, unless the returned guard is dropped before. `None` if the
    /// deadline is beyond the clock's end.
    ///
    /// # Errors
    /// The system's, if the thread cannot be started.
    pub(crate) fn expire_after(
        &self,
        task: Arc<dyn Expire>,
        limit: Duration,
    ) -> io::Result<Option<TimeoutGuard>> {
        let Some(deadline) = Deadline::after(limit).moment() else {
            return Ok(None);
        };
        self.start()?;
        let mut entries = self.timer_queue.lock();
        entries.count += 1;
        let key = (deadline, entries.count);
        entries.due.insert(key, TimerEntry { task, limit });
        if entries
            .due
            .first_key_value()
            .is_some_and(|(first, _)| *first == key)
        {
            self.timer_queue.change.notify_one();
        }
        let timer_queue = Arc::clone(&self.timer_queue);
        let key = Cell::new(key);
        Ok(Some(TimeoutGuard { timer_queue, key }))
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = self.lock();
        if thread.is_none() {
            self.timer_queue.lock().stage = Stage::Open;
            let timer_queue = Arc::clone(&self.timer_queue);
            let name = "task timer".to_owned();
            *thread = Some(spawn(name, Some(stack::size()), move || {
                timer_queue.keep()
            })?);
        }
        Ok(())
    }

    /// Ends the thread, and joins it, unless the caller is that thread. `false`: the thread still ran a
    /// callback at the deadline.
    pub(crate) fn stop(&self, deadline: Deadline) -> bool {
        if self.fork_epoch.is_forked_copy() {
            return true; // a forked copy has no such thread
        }
        self.timer_queue.close();
        match self.lock().as_ref() {
            None => return true,
            Some(thread) if thread.thread().id() == this_thread() => return true,
            Some(_) => {}
        }
        if !self.timer_queue.is_left_by(deadline) {
            return false;
        }
        let mut thread = self.lock();
        if let Some(thread) = thread.take() {
            // Panics of user code that the thread runs are caught.
            let _ = thread.join();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        lock(&self.thread)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop(Deadline::never());
    }
}

impl TimerQueue {
    /// The thread's main loop: sleeps until the next deadline, and expires what is due.
    fn keep(&self) {
        IS_TIMER.set(true);
        let mut entries = self.lock();
        while entries.stage == Stage::Open {
            let next = entries.due.first_key_value();
            entries = match next.map(|(&(deadline, _), _)| deadline) {
                Some(deadline) if deadline <= Instant::now() => self.expire_first(entries),
                next => {
                    let next = next.map_or(Deadline::never(), Deadline::at);
                    sleep_until(&self.change, entries, next)
                }
            };
        }
        entries.stage = Stage::Left;
        self.left.notify_all();
    }

    /// Tells the thread to end.
    fn close(&self) {
        let mut entries = self.lock();
        if entries.stage == Stage::Open {
            entries.stage = Stage::Closed;
            self.change.notify_one();
        }
    }

    /// Waits until the thread has nothing more to do but to end. `false`: at the deadline it still had.
    fn is_left_by(&self, deadline: Deadline) -> bool {
        let mut entries = self.lock();
        while entries.stage != Stage::Left {
            if deadline.has_passed() {
                return false;
            }
            entries = sleep_until(&self.left, entries, deadline);
        }
        true
    }

    /// Expires the first entry. It does not hold the lock meanwhile, since callbacks run here.
    fn expire_first<'a>(
        &'a self,
        mut entries: MutexGuard<'a, TimerEntries>,
    ) -> MutexGuard<'a, TimerEntries> {
        let first = entries.due.pop_first();
        drop(entries);
        if let Some((_, entry)) = first {
            entry.task.expire(entry.limit);
            discard(entry); // it may hold the last reference to the task
        }
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, TimerEntries> {
        lock(&self.entries)
    }
}
