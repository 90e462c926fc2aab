//! Time that counts against the limit of a task: all but what a panic hook takes. To print a stack, symbols are
//! looked up, for hundreds of milliseconds; the task is over by then, and not late.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The most time of one task that does not count: a hook may hang.
pub(crate) const MOST: Duration = Duration::from_secs(10);

/// Measures how long user code runs.
pub(crate) trait Clock {
    /// From now on, time does not count.
    fn stop(&self);
    /// From now on, it counts again.
    fn go_on(&self);
}

thread_local! {
    /// The clocks of what this thread runs, the innermost last.
    static CLOCKS: RefCell<Vec<Rc<dyn Clock>>> = const { RefCell::new(Vec::new()) };
}

/// Calls user code, measured by a clock.
pub(crate) fn measured<R>(clock: Rc<dyn Clock>, f: impl FnOnce() -> R) -> R {
    /// Takes the clock away, however the call ends.
    struct Running;

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = CLOCKS.try_with(|clocks| clocks.borrow_mut().pop());
        }
    }

    // Without its locals a thread is about to end: then its clocks do not stop.
    if CLOCKS
        .try_with(|clocks| clocks.borrow_mut().push(clock))
        .is_err()
    {
        return f();
    }
    let _running = Running;
    f()
}

/// Calls something that no clock of this thread measures.
pub(crate) fn off_the_clock<R>(f: impl FnOnce() -> R) -> R {
    let clocks = CLOCKS.try_with(|clocks| clocks.borrow().clone());
    let clocks = clocks.unwrap_or_default();
    clocks.iter().for_each(|clock| clock.stop());
    let answer = f();
    clocks.iter().for_each(|clock| clock.go_on());
    answer
}

/// The time of one task that does not count.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    /// When the clock was stopped; `None`: it goes.
    since: Option<Instant>,
    /// How long it stood before that; [`MOST`] at most.
    stood: Duration,
}

impl Pauses {
    /// The clock stops at this moment, if it goes.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// The clock goes on at this moment, if it stands.
    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            let stood = now.saturating_duration_since(since);
            self.stood = self.stood.saturating_add(stood).min(MOST);
        }
    }

    /// By how much a limit is put off; as long as the clock stands, by as much as it may be.
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
        pauses.begin(start + second); // it stands already
        pauses.end(start + 2 * second);
        pauses.end(start + 5 * second); // it goes already
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
