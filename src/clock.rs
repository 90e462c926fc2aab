//! The clock of a task: measures the time that counts against its time limit. The time of a panic hook does
//! not count: to print a stack, the hook looks symbols up, which takes hundreds of milliseconds, and the task
//! has ended by then. `unwind` stops the clocks around hooks; `task/` and `process/worker/` implement them,
//! and `process/host/connection.rs` applies pauses that a worker reports.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The maximum of the time that does not count, per task: a hook may hang.
pub(crate) const MOST: Duration = Duration::from_secs(10);

/// Measures how long user code runs; can be stopped.
pub(crate) trait Clock {
    /// Stops the clock: from now on, time does not count.
    fn stop(&self);
    /// Restarts the clock: from now on, time counts again.
    fn go_on(&self);
}

thread_local! {
    /// The clocks of the tasks that this thread runs, nested calls included, the innermost last.
    static CLOCKS: RefCell<Vec<Rc<dyn Clock>>> = const { RefCell::new(Vec::new()) };
}

/// Calls user code; while it runs, `off_the_clock` stops `clock`.
pub(crate) fn measured<R>(clock: Rc<dyn Clock>, f: impl FnOnce() -> R) -> R {
    /// Removes the clock from `CLOCKS` when the call ends, also by a panic.
    struct Running;

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = CLOCKS.try_with(|clocks| clocks.borrow_mut().pop());
        }
    }

    // A thread without its thread-locals is about to end: then its clocks do not stop.
    if CLOCKS
        .try_with(|clocks| clocks.borrow_mut().push(clock))
        .is_err()
    {
        return f();
    }
    let _running = Running;
    f()
}

/// Calls `f` with all clocks of this thread stopped.
pub(crate) fn off_the_clock<R>(f: impl FnOnce() -> R) -> R {
    let clocks = CLOCKS.try_with(|clocks| clocks.borrow().clone());
    let clocks = clocks.unwrap_or_default();
    clocks.iter().for_each(|clock| clock.stop());
    let answer = f();
    clocks.iter().for_each(|clock| clock.go_on());
    answer
}

/// Sums up the time of one task that does not count.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// When the clock was stopped; `None`: it runs.
    since: Option<Instant>,
    /// The total of earlier pauses; at most [`MOST`].
    stood: Duration,
}

impl Pauses {
    /// Stops the clock at `now`, if it runs.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Restarts the clock at `now`, if it is stopped.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            let stood = now.saturating_duration_since(since);
            self.stood = self.stood.saturating_add(stood).min(MOST);
        }
    }

    /// By how much a time limit is extended; while the clock is stopped, by the maximum, [`MOST`].
    pub(crate) fn delay(&self) -> Duration {
        match self.since {
            Some(_) => MOST,
            None => self.stood,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_put_off_by_the_time_that_the_clock_stood() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pauses = Pauses::default();
        assert_eq!(pauses.delay(), Duration::ZERO);
        pauses.begin(start);
        assert_eq!(pauses.delay(), MOST);
        pauses.begin(start + second); // it is stopped already
        pauses.end(start + 2 * second);
        pauses.end(start + 5 * second); // it runs already
        assert_eq!(pauses.delay(), 2 * second);
    }

    #[test]
    fn a_clock_does_not_stand_for_ever() {
        let mut pauses = Pauses::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            pauses.begin(now);
            now += MOST / 2;
            pauses.end(now);
        }
        assert_eq!(pauses.delay(), MOST);
    }

    #[test]
    fn all_clocks_of_a_thread_stop() {
        #[derive(Default)]
        struct Noted(RefCell<Vec<&'static str>>);
        impl Clock for Noted {
            fn stop(&self) {
                self.0.borrow_mut().push("stop");
            }
            fn go_on(&self) {
                self.0.borrow_mut().push("go on");
            }
        }
        let [outer, inner] = [(); 2].map(|()| Rc::new(Noted::default()));
        measured(Rc::<Noted>::clone(&outer), || {
            measured(Rc::<Noted>::clone(&inner), || off_the_clock(|| {}));
            off_the_clock(|| {});
        });
        off_the_clock(|| {});
        assert_eq!(*inner.0.borrow(), ["stop", "go on"]);
        assert_eq!(*outer.0.borrow(), ["stop", "go on", "stop", "go on"]);
    }
}
