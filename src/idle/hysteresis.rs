//! Hysteresis for leaving a core that another thread needs: not at once, and less readily if leaving did not
//! help the last time. [`placement`](super::placement) uses it.

/// Counts rounds, and decides when the worker leaves a core that another thread needs. A round is one check
/// of the core that the worker runs on.
#[derive(Debug)]
pub(crate) struct Hysteresis {
    /// Number of consecutive rounds on that core.
    rounds: u32,
    /// The threshold for `rounds`. It grows if leaving gained little the last time, since leaving costs as
    /// much as some rounds.
    threshold: u32,
    /// Number of rounds on other cores since the worker last left.
    gained: u32,
}

/// The smallest threshold: this number of consecutive rounds is no accident.
const SOME_ROUNDS: u32 = 32;

impl Hysteresis {
    pub(crate) const fn new() -> Self {
        Self {
            rounds: 0,
            threshold: SOME_ROUNDS,
            gained: SOME_ROUNDS,
        }
    }

    /// Records a round that does not count; the count of consecutive rounds starts anew.
    pub(crate) fn forget(&mut self) {
        self.rounds = 0;
    }

    /// Records a round on another core.
    pub(crate) fn gain(&mut self) {
        self.rounds = 0;
        self.gained = self.gained.saturating_add(1);
    }

    /// Records a round on that core; returns whether to leave it now.
    pub(crate) fn is_over(&mut self) -> bool {
        self.rounds += 1;
        if self.rounds < self.threshold {
            return false;
        }
        self.rounds = 0;
        self.threshold = match std::mem::take(&mut self.gained) {
            SOME_ROUNDS.. => SOME_ROUNDS,
            _ => self.threshold.saturating_mul(2),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of rounds until `is_over` returns true.
    fn rounds_until_it_is_over(hysteresis: &mut Hysteresis) -> u32 {
        (1..).find(|_| hysteresis.is_over()).unwrap()
    }

    #[test]
    fn who_gains_nothing_by_leaving_is_more_patient_the_next_time() {
        let mut hysteresis = Hysteresis::new();
        assert_eq!(rounds_until_it_is_over(&mut hysteresis), SOME_ROUNDS);
        assert_eq!(rounds_until_it_is_over(&mut hysteresis), SOME_ROUNDS);
        assert_eq!(rounds_until_it_is_over(&mut hysteresis), 2 * SOME_ROUNDS);
        for _ in 0..SOME_ROUNDS {
            hysteresis.gain();
        }
        let _ = rounds_until_it_is_over(&mut hysteresis);
        let after = rounds_until_it_is_over(&mut hysteresis);
        assert_eq!(after, SOME_ROUNDS, "it was worth it");
    }

    #[test]
    fn rounds_count_in_a_row() {
        let mut hysteresis = Hysteresis::new();
        for _ in 0..10 {
            for _ in 1..SOME_ROUNDS {
                assert!(!hysteresis.is_over());
            }
            hysteresis.forget();
        }
    }
}
