//! Two contenders that take turns: what slows the machine down for a moment hits them alike.

use std::time::Duration;

use crate::Outcome;

/// How long each of something took.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn p50(&self) -> f64 {
        self.quantile(50)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(99)
    }

    fn quantile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(place).copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        times.into_iter().map(|time| time.as_secs_f64()).collect()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl From<Duration> for Samples {
    fn from(time: Duration) -> Self {
        Self(vec![time.as_secs_f64()])
    }
}

/// How often two contenders take turns.
#[derive(Clone, Copy)]
pub struct Turns {
    /// Each round gives one ratio.
    pub rounds: usize,
    /// Turns of each in a round, whose samples are put together.
    pub turns: usize,
}

/// What two contenders did, round by round.
pub struct Duel {
    /// Ours, and the peer's.
    rounds: Vec<(Samples, Samples)>,
}

impl Duel {
    /// Measures both in turns. Each turn changes which one is first.
    pub fn fight(
        turns: Turns,
        mut ours: impl FnMut() -> Outcome<Samples>,
        mut peers: impl FnMut() -> Outcome<Samples>,
    ) -> Outcome<Self> {
        let mut rounds = Vec::new();
        let mut ours_is_first = true;
        for _ in 0..turns.rounds {
            let mut samples = (Samples::default(), Samples::default());
            for _ in 0..turns.turns {
                if ours_is_first {
                    samples.0.0.extend(ours()?.0);
                    samples.1.0.extend(peers()?.0);
                } else {
                    samples.1.0.extend(peers()?.0);
                    samples.0.0.extend(ours()?.0);
                }
                ours_is_first = !ours_is_first;
            }
            rounds.push(samples);
        }
        Ok(Self { rounds })
    }

    /// What `value` makes of each round's samples: ours, and the peer's.
    pub fn rounds(&self, value: impl Fn(&Samples) -> f64) -> Vec<(f64, f64)> {
        let rounds = self.rounds.iter();
        rounds.map(|(o, p)| (value(o), value(p))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::{Duel, Samples, Turns};

    #[test]
    fn contenders_alternate_and_swap_places() {
        let order = RefCell::new(String::new());
        let turn = |name: char, value: f64| {
            order.borrow_mut().push(name);
            Ok(Samples::from_iter([value]))
        };
        let turns = Turns {
            rounds: 2,
            turns: 2,
        };
        let duel = Duel::fight(turns, || turn('o', 1.0), || turn('p', 2.0));
        let duel = duel.expect("nothing failed");
        assert_eq!(*order.borrow(), "oppooppo");
        assert_eq!(duel.rounds(Samples::p50), [(1.0, 2.0), (1.0, 2.0)]);
    }

    #[test]
    fn quantiles() {
        let samples: Samples = (0..1000).map(f64::from).collect();
        assert_eq!(samples.p50(), 500.0);
        assert_eq!(samples.p99(), 990.0);
        assert!(Samples::default().p50().is_nan());
    }
}
