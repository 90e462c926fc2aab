//! Deadlines: until when a thread waits. All waits of the crate that have a limit have a [`Deadline`]; the
//! system's calls, in `sys/`, are given the moment itself.

use std::time::{Duration, Instant};

/// The moment at which a wait ends, whatever it waits for; or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(
    /// The moment; `None`: never.
    Option<Instant>,
);

impl Deadline {
    /// A wait without a limit.
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    pub(crate) const fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// The time `limit` from now; never, if that is beyond the clock's end.
    pub(crate) fn after(limit: Duration) -> Self {
        Self::at(Instant::now()).later_by(limit)
    }

    /// As [`after`](Self::after); `None`: never.
    pub(crate) fn after_limit(limit: Option<Duration>) -> Self {
        limit.map_or(Self::never(), Self::after)
    }

    /// The deadline put off by `delay`; never, if that is beyond the clock's end.
    pub(crate) fn later_by(self, delay: Duration) -> Self {
        Self(self.0.and_then(|moment| moment.checked_add(delay)))
    }

    /// The earlier of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        Self(self.0.into_iter().chain(other.0).min())
    }

    pub(crate) fn is_never(self) -> bool {
        self.0.is_none()
    }

    /// Whether the moment has come. Does not ask for the time if it never comes.
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|moment| moment <= Instant::now())
    }

    /// The time that is left, zero once the deadline has passed; `None`: without end.
    pub(crate) fn left(self) -> Option<Duration> {
        let left = |moment: Instant| moment.saturating_duration_since(Instant::now());
        self.0.map(left)
    }

    /// The moment; `None`: never. For calls that are not the crate's own.
    pub(crate) fn moment(self) -> Option<Instant> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_deadline_passes_at_its_moment_and_never_does_not() {
        let now = Instant::now();
        assert!(Deadline::at(now).has_passed());
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert!(!Deadline::after(HOUR).has_passed());
        assert!(!Deadline::never().has_passed());
    }

    #[test]
    fn what_is_left_is_never_negative_nor_more_than_the_limit() {
        assert_eq!(Deadline::at(Instant::now()).left(), Some(Duration::ZERO));
        let left = Deadline::after(HOUR).left().unwrap();
        assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
        assert_eq!(Deadline::never().left(), None);
    }

    #[test]
    fn beyond_the_end_of_the_clock_is_never() {
        assert!(Deadline::after(Duration::MAX).is_never());
        assert!(Deadline::after_limit(None).is_never());
        assert!(!Deadline::after_limit(Some(HOUR)).is_never());
        let soon = Deadline::after(HOUR);
        assert!(soon.later_by(Duration::MAX).is_never());
        assert!(Deadline::never().later_by(HOUR).is_never());
    }

    #[test]
    fn the_earlier_one_is_not_never() {
        let (soon, now) = (Deadline::after(HOUR), Instant::now());
        assert_eq!(soon.min(Deadline::at(now)).moment(), Some(now));
        assert_eq!(Deadline::at(now).min(soon).moment(), Some(now));
        assert_eq!(soon.min(Deadline::never()), soon);
        assert_eq!(Deadline::never().min(soon), soon);
        assert!(Deadline::never().min(Deadline::never()).is_never());
    }

    #[test]
    fn a_deadline_put_off_is_later_by_just_that() {
        let now = Instant::now();
        let later = Deadline::at(now).later_by(HOUR);
        assert_eq!(later.moment(), Some(now + HOUR));
    }
}
