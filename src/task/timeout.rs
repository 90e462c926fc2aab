//! The timer of a thread pool: one thread that expires tasks at their deadlines (time limits of tasks on
//! threads), and so ends the waits for them. The worker pool owns it; its thread exists in thread pools
//! only. `task` calls it through the worker's hooks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::promise::Expire;
use crate::service_thread::{Service, ServiceThread};
use crate::sync::MutexGuard;
use crate::sync::deadline::Deadline;
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
pub(crate) struct Timer(
    /// The thread.
    TimerThread,
);

/// The timer's thread. Its orders are the timer queue.
type TimerThread = ServiceThread<TimerQueue>;

/// A timer queue: the tasks to expire, and when.
#[derive(Default)]
struct TimerQueue {
    /// The tasks that have not expired, by deadline.
    due: BTreeMap<TimerKey, TimerEntry>,
    /// How many entries there were so far; numbers them.
    count: u64,
}

/// A deadline, and a number that tells entries of one instant apart.
type TimerKey = (Instant, u64);

/// The guard of a task with a time limit. Dropping it takes the task off the timer queue.
pub(crate) struct TimeoutGuard {
    /// The thread in whose queue the task is.
    timer: TimerThread,
    /// The task's key in the queue.
    key: Cell<TimerKey>,
}

impl TimeoutGuard {
    /// Moves the task's deadline, unless the task has expired.
    pub(crate) fn expire_at(&self, deadline: Instant) {
        let queue = &mut self.timer.lock().orders;
        let (_, number) = self.key.get();
        if let Some(entry) = queue.due.remove(&self.key.get()) {
            self.key.set((deadline, number));
            queue.due.insert(self.key.get(), entry);
            self.timer.notify(); // it may be the earliest
        }
    }
}

impl Drop for TimeoutGuard {
    fn drop(&mut self) {
        let entry = self.timer.lock().orders.due.remove(&self.key.get());
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
        Self(ServiceThread::new(TimerQueue::default()))
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
        let mut service = self.0.lock();
        if service.may_start() {
            self.0.start(&mut service, "cf-timer", keep)?;
        }
        let queue = &mut service.orders;
        queue.count += 1;
        let key = (deadline, queue.count);
        queue.due.insert(key, TimerEntry { task, limit });
        let first = queue.due.first_key_value();
        if first.is_some_and(|(first, _)| *first == key) {
            self.0.notify();
        }
        Ok(Some(TimeoutGuard {
            timer: self.0.clone(),
            key: Cell::new(key),
        }))
    }

    /// Ends the thread, and joins it. `false`: at the deadline the thread still ran a callback.
    pub(crate) fn stop(&self, deadline: Deadline) -> bool {
        self.0.end();
        self.0.join(deadline)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop(Deadline::never());
    }
}

/// The thread's main loop: sleeps until the next deadline, and expires what is due.
fn keep(timer: &TimerThread) {
    IS_TIMER.set(true);
    let mut service = timer.lock();
    while !service.is_over() {
        let first = service.orders.due.first_key_value();
        let next = first.map_or(Deadline::never(), |(&(moment, _), _)| Deadline::at(moment));
        service = match next.has_passed() {
            true => expire_first(timer, service),
            false => timer.sleep(service, next),
        };
    }
}

/// Expires the first entry. It does not hold the lock meanwhile, since callbacks run here.
fn expire_first<'a>(
    timer: &'a TimerThread,
    mut service: MutexGuard<'a, Service<TimerQueue>>,
) -> MutexGuard<'a, Service<TimerQueue>> {
    let first = service.orders.due.pop_first();
    drop(service);
    if let Some((_, entry)) = first {
        entry.task.expire(entry.limit);
        discard(entry); // it may hold the last reference to the task
    }
    timer.lock()
}
