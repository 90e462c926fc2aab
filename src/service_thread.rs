//! Service threads: the crate's own threads that serve a pool beside its workers. The completion driver, the
//! callback thread, the closer and the timer of time limits are one each.
//!
//! A service thread starts when it is first needed, and never after it was told to end. It is told to end, and
//! leaves by itself: nothing stops it. It is joined with a deadline, by the shutdown of its pool; not by itself, since a callback that it
//! runs may shut the pool down; and not in a forked copy of the program, which does not have it.

use std::io;
use std::sync::Arc;

use crate::sync::deadline::Deadline;
use crate::sync::{
    Condvar, JoinHandle, Mutex, MutexGuard, ThreadId, lock, sleep_until, spawn, this_thread,
};
use crate::sys::fork::ForkEpoch;
use crate::sys::stack;

/// A thread that may not have started yet, and its orders: what other threads say to it. One lock guards both.
/// A clone is the same thread.
pub(crate) struct ServiceThread<O>(
    /// Shared with the thread itself.
    Arc<ThreadState<O>>,
);

/// What all clones share.
struct ThreadState<O> {
    /// The orders, and how far the thread has come.
    service: Mutex<Service<O>>,
    /// Notified when either changes.
    change: Condvar,
    /// The process that the thread belongs to.
    fork_epoch: ForkEpoch,
}

/// What the lock guards.
pub(crate) struct Service<O> {
    /// What other threads say to the thread.
    pub(crate) orders: O,
    /// Whether the thread was told to end.
    is_over: bool,
    /// How far the thread has come.
    stage: Stage,
}

/// How far a service thread has come.
enum Stage {
    /// It was not needed yet, or the system had no thread.
    Unstarted,
    /// It serves.
    Running(JoinHandle<()>),
    /// It serves no more, and is about to end.
    Left(JoinHandle<()>),
    /// A caller of `join` waits for its last step; it has this id.
    Joining(ThreadId),
    /// It has ended.
    Joined,
}

impl<O: Send + 'static> ServiceThread<O> {
    pub(crate) fn new(orders: O) -> Self {
        Self(Arc::new(ThreadState {
            service: Mutex::new(Service {
                orders,
                is_over: false,
                stage: Stage::Unstarted,
            }),
            change: Condvar::new(),
            fork_epoch: ForkEpoch::here(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Service<O>> {
        lock(&self.0.service)
    }

    /// Wakes the thread if it sleeps: there is an order.
    pub(crate) fn notify(&self) {
        self.0.change.notify_all();
    }

    /// Sleeps until a call of [`notify`](Self::notify), or the deadline. Spurious wake-ups are possible.
    pub(crate) fn sleep<'a>(
        &'a self,
        service: MutexGuard<'a, Service<O>>,
        deadline: Deadline,
    ) -> MutexGuard<'a, Service<O>> {
        sleep_until(&self.0.change, service, deadline)
    }

    /// Starts the thread, which serves by `serve`. The caller has found that it [`may
    /// start`](Service::may_start), under the lock that it still holds.
    ///
    /// # Errors
    /// The system's, if it has no thread; it may start later.
    pub(crate) fn start(
        &self,
        service: &mut Service<O>,
        name: &str,
        serve: impl FnOnce(&Self) + Send + 'static,
    ) -> io::Result<()> {
        debug_assert!(service.may_start());
        let me = self.clone();
        let serve = move || RunningThread(me).run(serve);
        let thread = spawn(name.to_owned(), Some(stack::size()), serve)?;
        service.stage = Stage::Running(thread);
        Ok(())
    }

    /// Whether the caller runs on the thread.
    pub(crate) fn is_caller(&self) -> bool {
        !self.0.fork_epoch.is_forked_copy() && self.lock().stage.thread() == Some(this_thread())
    }

    /// Tells the thread to end.
    pub(crate) fn end(&self) {
        if self.0.fork_epoch.is_forked_copy() {
            return; // the lock may be held for ever
        }
        self.lock().is_over = true;
        self.notify();
    }

    /// Waits until the thread has ended; `false`: the deadline has passed before. Returns at once on the thread
    /// itself.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        if self.0.fork_epoch.is_forked_copy() {
            return true;
        }
        let me = this_thread();
        let mut service = self.lock();
        loop {
            if service.stage.thread().is_none_or(|thread| thread == me) {
                return true;
            }
            if let Some(thread) = service.stage.take_left() {
                drop(service);
                // What users' code it runs may panic is caught; a panic of a thread-local's `Drop` is the
                // user's own.
                let _ = thread.join();
                self.lock().stage = Stage::Joined;
                self.notify();
                return true;
            }
            if deadline.has_passed() {
                return false;
            }
            service = self.sleep(service, deadline);
        }
    }
}

impl<O> Clone for ServiceThread<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O> Service<O> {
    /// Whether the thread is still to be started.
    pub(crate) fn may_start(&self) -> bool {
        !self.is_over && matches!(self.stage, Stage::Unstarted)
    }

    /// Whether the thread was told to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Stage {
    /// The id of the thread; `None`: there is none to be joined.
    fn thread(&self) -> Option<ThreadId> {
        match self {
            Self::Running(thread) | Self::Left(thread) => Some(thread.thread().id()),
            Self::Joining(id) => Some(*id),
            Self::Unstarted | Self::Joined => None,
        }
    }

    /// Notes that the thread has left.
    fn leave(&mut self) {
        *self = match std::mem::replace(self, Self::Joined) {
            Self::Running(thread) => Self::Left(thread),
            other => other,
        };
    }

    /// Hands the thread out to be joined, once, if it has left.
    fn take_left(&mut self) -> Option<JoinHandle<()>> {
        match std::mem::replace(self, Self::Joined) {
            Self::Left(thread) => {
                *self = Self::Joining(thread.thread().id());
                Some(thread)
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Held by the thread while it serves. Dropping it, also after a panic, notes that the thread has left: `join`
/// waits for that.
struct RunningThread<O: Send + 'static>(
    /// The thread that serves.
    ServiceThread<O>,
);

impl<O: Send + 'static> RunningThread<O> {
    fn run(self, serve: impl FnOnce(&ServiceThread<O>)) {
        serve(&self.0);
    }
}

impl<O: Send + 'static> Drop for RunningThread<O> {
    fn drop(&mut self) {
        self.0.lock().stage.leave();
        self.0.notify();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    fn started<O: Send + 'static>(
        orders: O,
        serve: impl FnOnce(&ServiceThread<O>) + Send + 'static,
    ) -> ServiceThread<O> {
        let thread = ServiceThread::new(orders);
        let started = thread.start(&mut thread.lock(), "service", serve);
        assert!(started.is_ok());
        thread
    }

    /// Serves until the thread is told to end.
    fn wait_for_end<O: Send + 'static>(thread: &ServiceThread<O>) {
        let mut service = thread.lock();
        while !service.is_over() {
            service = thread.sleep(service, Deadline::never());
        }
    }

    #[test]
    fn a_thread_hears_orders_until_it_is_told_to_end() {
        let (tell, told) = mpsc::channel();
        let thread = started(0, move |thread| {
            let mut service = thread.lock();
            while !service.is_over() {
                let _ = tell.send(service.orders);
                service = thread.sleep(service, Deadline::never());
            }
        });
        assert_eq!(told.recv().unwrap(), 0);
        thread.lock().orders = 1;
        thread.notify();
        assert!(told.iter().any(|order| order == 1));
        thread.end();
        assert!(thread.join(soon()), "it has left");
        assert!(told.try_iter().all(|order| order == 1));
        assert_eq!(told.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn it_starts_once_and_not_after_its_end() {
        let thread = started((), wait_for_end);
        assert!(!thread.lock().may_start(), "it has started");
        thread.end();
        assert!(thread.join(soon()));
        assert!(!thread.lock().may_start(), "it has ended");

        let unneeded = ServiceThread::new(());
        assert!(unneeded.lock().may_start());
        unneeded.end();
        assert!(!unneeded.lock().may_start(), "it was told to end");
        assert!(unneeded.join(Deadline::never()), "there is none");
    }

    #[test]
    fn a_busy_thread_is_not_joined_by_the_deadline_but_later() {
        let thread = started((), wait_for_end);
        let begun = Instant::now();
        let limit = Duration::from_millis(10);
        assert!(!thread.join(Deadline::after(limit)), "nothing ends it");
        assert!(begun.elapsed() >= limit);
        thread.end();
        assert!(thread.join(soon()));
        assert!(thread.join(Deadline::at(begun)), "again");
    }

    #[test]
    fn it_does_not_wait_for_itself() {
        let (tell, told) = mpsc::channel();
        let thread = started((), move |thread| {
            thread.end();
            let _ = tell.send(thread.join(soon()));
        });
        let begun = Instant::now();
        assert!(told.recv().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(5), "it has waited");
        assert!(thread.join(soon()));
    }

    #[test]
    fn it_has_left_also_by_a_panic() {
        let thread = started((), |_| panic!("on purpose"));
        assert!(thread.join(soon()), "it has left");
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::atomic::Ordering;
    use loom::thread;

    use super::*;
    use crate::sync::{LIVING, ROOM};

    fn model(f: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(2));
        builder.check(f);
    }

    /// Starts the thread if it may start; it serves until it is told to end.
    fn start(thread: &ServiceThread<()>) {
        let mut service = thread.lock();
        if service.may_start() {
            let started = thread.start(&mut service, "service", |thread| {
                let mut service = thread.lock();
                while !service.is_over() {
                    service = thread.sleep(service, Deadline::never());
                }
            });
            assert!(started.is_ok());
        }
    }

    /// Ends and joins the thread: no thread lives afterwards.
    fn end(thread: &ServiceThread<()>) {
        thread.end();
        assert!(thread.join(Deadline::never()));
        assert_eq!(LIVING.load(Ordering::SeqCst), 0, "it lives");
    }

    #[test]
    fn all_that_join_it_have_waited_for_its_last_step() {
        model(|| {
            let service = ServiceThread::new(());
            start(&service);
            let other = service.clone();
            let other = thread::spawn(move || end(&other));
            end(&service);
            assert!(other.join().is_ok());
        });
    }

    #[test]
    fn a_thread_that_the_system_did_not_have_may_start_later() {
        model(|| {
            let service = ServiceThread::new(());
            ROOM.store(0, Ordering::SeqCst);
            let started = service.start(&mut service.lock(), "service", |_| ());
            assert!(started.is_err());
            ROOM.store(usize::MAX, Ordering::SeqCst);
            assert!(service.lock().may_start());
            start(&service);
            end(&service);
        });
    }

    #[test]
    fn a_thread_that_starts_as_it_is_told_to_end_ends() {
        model(|| {
            let service = ServiceThread::new(());
            let other = service.clone();
            let other = thread::spawn(move || start(&other));
            end(&service);
            assert!(other.join().is_ok());
            assert_eq!(LIVING.load(Ordering::SeqCst), 0, "it lives");
        });
    }
}
