//! When to leave a core that somebody else needs: not at once, and less readily where it did not help.

/// How often in a row one finds oneself on a core that somebody else needs, before one leaves it.
#[derive(Debug)]
pub(crate) struct Hysteresis {
    /// How often in a row one was there.
    rounds: u32,
    /// How often that has to be: more if little was gained by leaving the last time, which costs as much as
    /// some rounds.
    on_full: u32,
    /// How many rounds there were elsewhere since one has left last.
    gained: u32,
}

/// That many rounds are no accident.
const SOME_ROUNDS: u32 = 32;

impl Hysteresis {
    pub(crate) const fn new() -> Self {
        Self {
            rounds: 0,
            on_full: SOME_ROUNDS,
            gained: SOME_ROUNDS,
        }
    }

    /// There was a round that does not count: it begins anew.
    pub(crate) fn forget(&mut self) {
        self.rounds = 0;
    }

    /// There was a round elsewhere.
    pub(crate) fn gain(&mut self) {
        self.rounds = 0;
        self.gained = self.gained.saturating_add(1);
    }

    /// There was a round on that core: whether to leave it.
    pub(crate) fn is_over(&mut self) -> bool {
        self.rounds += 1;
        if self.rounds < self.on_full {
            return false;
        }
        self.rounds = 0;
        self.on_full = match std::mem::take(&mut self.gained) {
            SOME_ROUNDS.. => SOME_ROUNDS,
            _ => self.on_full.saturating_mul(2),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many rounds it takes until it is over.
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
