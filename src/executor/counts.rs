//! [`Counts`]: how many tasks have ended in which way. Kept by the worker pool and its workers (`pool/`), by the
//! in-flight table (`process/host/in_flight/`), and by `SerialExecutor`.

use crate::executor::stats::Stats;
use crate::future::promise::Verdict;

/// How tasks ended: the number of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tasks that ended with a value.
    pub(crate) completed: u64,
    /// Tasks that ended with an error.
    pub(crate) failed: u64,
    /// Tasks that were cancelled or killed.
    pub(crate) cancelled: u64,
}

impl Counts {
    pub(crate) fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Completed => &mut self.completed,
            Verdict::Failed => &mut self.failed,
            Verdict::Cancelled => &mut self.cancelled,
            Verdict::Late | Verdict::Retried => return,
        };
        *counter += 1;
    }

    /// Counts one value as an error, because it could not be decoded; `false`: no value was counted.
    #[must_use]
    pub(crate) fn count_value_as_failed(&mut self) -> bool {
        let Some(completed) = self.completed.checked_sub(1) else {
            return false;
        };
        self.completed = completed;
        self.failed += 1;
        true
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.completed += others.completed;
        self.failed += others.failed;
        self.cancelled += others.cancelled;
    }

    /// The statistics with these counts added.
    pub(crate) fn added_to(self, stats: Stats) -> Stats {
        Stats {
            completed: stats.completed + self.completed,
            failed: stats.failed + self.failed,
            cancelled: stats.cancelled + self.cancelled,
            ..stats
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_once_and_a_late_one_not_at_all() {
        let mut counts = Counts::default();
        counts.count(Verdict::Completed);
        counts.count(Verdict::Late);
        counts.count(Verdict::Failed);
        counts.count(Verdict::Cancelled);
        counts.count(Verdict::Cancelled);
        counts.add(counts);
        let stats = Stats {
            running: 3,
            failed: 5,
            ..Stats::default()
        };
        let sum = Stats {
            completed: 2,
            failed: 7,
            cancelled: 4,
            ..stats
        };
        assert_eq!(counts.added_to(stats), sum);
    }

    #[test]
    fn a_value_that_cannot_be_decoded_becomes_a_failure_if_one_was_counted() {
        let mut counts = Counts::default();
        assert!(!counts.count_value_as_failed());
        assert_eq!(counts, Counts::default());
        counts.count(Verdict::Completed);
        assert!(counts.count_value_as_failed());
        let failed = Counts {
            failed: 1,
            ..Counts::default()
        };
        assert_eq!(counts, failed);
    }
}
