//! One thread that ends waits on deadlines: the time limits of tasks on threads.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fork::Origin;
use crate::future::Expire;

thread_local! {
    /// Whether this thread is a timer's.
    static IS_TIMER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller runs on a timer's thread, in a callback of a task that has expired.
pub(crate) fn is_caller() -> bool {
    IS_TIMER.try_with(Cell::get).unwrap_or(false)
}

/// Expires tasks at their deadlines. Its thread starts with the first one.
pub(crate) struct Timer {
    /// What is to expire, and when.
    agenda: Arc<Agenda>,
    /// `None` before the first deadline, and after `stop`.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process whose thread it is.
    origin: Origin,
}

/// What is to expire, and when.
#[derive(Default)]
struct Agenda {
    /// The entries.
    entries: Mutex<Entries>,
    /// Notified when there is an earlier entry, or the end has come.
    change: Condvar,
}

/// What the lock guards.
#[derive(Default)]
struct Entries {
    /// By deadline.
    due: BTreeMap<Key, Entry>,
    /// How many there were.
    count: u64,
    /// Set once: the thread is to end.
    ended: bool,
}

/// A deadline, and a number that tells entries of one instant apart.
type Key = (Instant, u64);

/// A task that is watched over. Dropping it takes it off the agenda.
pub(crate) struct Watched {
    /// Where it stands.
    agenda: Arc<Agenda>,
    /// Under what.
    key: Key,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let entry = self.agenda.lock().due.remove(&self.key);
        drop(entry); // off the lock: it may be the last to know of the task
    }
}

/// One task with a limit.
struct Entry {
    /// Gone once its future and its promise are.
    task: Weak<dyn Expire>,
    /// What its error says.
    limit: Duration,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            agenda: Arc::default(),
            thread: Mutex::new(None),
            origin: Origin::here(),
        }
    }

    /// Expires `task` after `limit` from now, unless the answer is dropped before; `None` where
    /// the limit is beyond the clock's end.
    pub(crate) fn watch(
        &self,
        task: Weak<dyn Expire>,
        limit: Duration,
    ) -> io::Result<Option<Watched>> {
        let Some(deadline) = Instant::now().checked_add(limit) else {
            return Ok(None);
        };
        self.start()?;
        let mut entries = self.agenda.lock();
        entries.count += 1;
        let key = (deadline, entries.count);
        entries.due.insert(key, Entry { task, limit });
        if entries
            .due
            .first_key_value()
            .is_some_and(|(first, _)| *first == key)
        {
            self.agenda.change.notify_one();
        }
        let agenda = Arc::clone(&self.agenda);
        Ok(Some(Watched { agenda, key }))
    }

    fn start(&self) -> io::Result<()> {
        let mut thread = self.lock();
        if thread.is_none() {
            self.agenda.lock().ended = false;
            let agenda = Arc::clone(&self.agenda);
            let name = "task timer".to_owned();
            *thread = Some(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || agenda.keep())?,
            );
        }
        Ok(())
    }

    /// Ends the thread, and joins it, unless it is the caller.
    pub(crate) fn stop(&self) {
        if self.origin.is_elsewhere() {
            return; // a forked copy has no such thread
        }
        let thread = self.lock().take();
        self.agenda.lock().ended = true;
        self.agenda.change.notify_one();
        if let Some(thread) = thread {
            if thread.thread().id() != thread::current().id() {
                // User code that it runs is caught.
                let _ = thread.join();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Agenda {
    /// The thread's life: sleeps until the next deadline, and expires what is due.
    fn keep(&self) {
        IS_TIMER.set(true);
        let mut entries = self.lock();
        while !entries.ended {
            entries = match entries.due.first_key_value() {
                None => self
                    .change
                    .wait(entries)
                    .unwrap_or_else(PoisonError::into_inner),
                Some((&(deadline, _), _)) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        self.expire_first(entries)
                    } else {
                        let waited = self.change.wait_timeout(entries, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                }
            };
        }
    }

    /// Expires the first entry, off the lock: callbacks run here.
    fn expire_first<'a>(&'a self, mut entries: MutexGuard<'a, Entries>) -> MutexGuard<'a, Entries> {
        let first = entries.due.pop_first();
        drop(entries);
        if let Some((_, entry)) = first {
            if let Some(task) = entry.task.upgrade() {
                task.expire(entry.limit);
            }
        }
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
