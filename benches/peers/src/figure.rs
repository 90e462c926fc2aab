//! One comparison: what each round measured of ours and of a peer, and the bar that it is held to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was measured of two contenders, in rounds in which they alternated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// The title of the scene.
    pub scene: String,
    /// What was measured in it.
    pub measure: String,
    /// What the values are.
    pub unit: Unit,
    /// The executor of ours.
    pub ours: String,
    /// The peer with which it is compared.
    pub peer: String,
    /// What the ratio is held against.
    pub bar: Option<Bar>,
    /// Of each round: the value of ours, and the peer's.
    pub rounds: Vec<(f64, f64)>,
}

/// What a value is, and so whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unit {
    /// A time: less is better.
    Seconds,
    /// A rate: more is better.
    PerSecond,
    /// Memory: less is better.
    Bytes,
}

/// What a ratio, ours to the peer's, must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Pass,
    Miss,
}

impl Figure {
    /// The median of our values.
    pub fn our_value(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.0))
    }

    /// The median of the peer's values.
    pub fn peer_value(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.1))
    }

    /// The median of the rounds' ratios, ours to the peer's: what drifts from round to round
    /// drifts for both.
    pub fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    /// The lowest and the highest of the rounds' ratios.
    pub fn spread(&self) -> (f64, f64) {
        let lowest = self.ratios().fold(f64::INFINITY, f64::min);
        let highest = self.ratios().fold(f64::NEG_INFINITY, f64::max);
        (lowest, highest)
    }

    /// How many times better than the peer, whichever direction is better.
    pub fn gain(&self) -> f64 {
        self.unit.gain(self.ratio())
    }

    /// The gains of the worst round and of the best.
    pub fn gain_spread(&self) -> (f64, f64) {
        let (lowest, highest) = self.spread();
        let (one, other) = (self.unit.gain(lowest), self.unit.gain(highest));
        (one.min(other), one.max(other))
    }

    /// The gain that the bar asks for.
    pub fn gain_asked(&self) -> Option<f64> {
        let (Bar::AtMost(ratio) | Bar::AtLeast(ratio)) = self.bar?;
        Some(self.unit.gain(ratio))
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.bar.map(|bar| bar.verdict(self.ratio()))
    }

    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.rounds.iter().map(|(ours, peer)| ours / peer)
    }
}

impl Unit {
    /// A value for people to read.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => scaled(value, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us")]),
            Self::PerSecond => scaled(value, &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
            Self::Bytes => scaled(value, &[(1048576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
        }
    }

    fn gain(self, ratio: f64) -> f64 {
        match self {
            Self::Seconds | Self::Bytes => 1.0 / ratio,
            Self::PerSecond => ratio,
        }
    }
}

/// The value in the first unit that it has one of, or in the last.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let fits = units.iter().find(|(size, _)| value >= *size);
    let (size, name) = fits.or(units.last()).expect("a unit");
    format!("{} {name}", three_digits(value / size))
}

/// A ratio for people to read: small ones as a fraction.
pub fn show_ratio(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.2 {
        format!("1/{}", three_digits(1.0 / ratio))
    } else {
        three_digits(ratio)
    }
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

impl Bar {
    fn verdict(self, ratio: f64) -> Verdict {
        let holds = match self {
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
        };
        if holds { Verdict::Pass } else { Verdict::Miss }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {}", show_bound(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", show_bound(*least)),
        }
    }
}

/// Bounds are round numbers, or one in a round number.
fn show_bound(bound: f64) -> String {
    if bound < 0.4 {
        format!("1/{}", (1.0 / bound).round())
    } else {
        bound.to_string()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Miss => "MISS",
        })
    }
}

/// The middle one; of two in the middle the mean. Not a number where there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Figure, Unit, Verdict, median, show_ratio};

    fn figure(unit: Unit, bar: Bar, rounds: &[(f64, f64)]) -> Figure {
        Figure {
            scene: "scene".into(),
            measure: "measure".into(),
            unit,
            ours: "ours".into(),
            peer: "peer".into(),
            bar: Some(bar),
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_own() {
        // The medians, 2 and 4, would say one half.
        let rounds = [(1.0, 4.0), (2.0, 1.0), (4.0, 16.0)];
        let figure = figure(Unit::Seconds, Bar::AtMost(0.25), &rounds);
        assert_eq!((figure.our_value(), figure.peer_value()), (2.0, 4.0));
        assert_eq!(figure.ratio(), 0.25);
        assert_eq!(figure.spread(), (0.25, 2.0));
        assert_eq!(figure.gain(), 4.0);
        assert_eq!(figure.gain_spread(), (0.5, 4.0));
        assert_eq!(figure.verdict(), Some(Verdict::Pass));
    }

    #[test]
    fn a_bar_is_passed_on_its_own_side_only() {
        let slow = figure(Unit::Seconds, Bar::AtMost(0.25), &[(0.26, 1.0)]);
        assert_eq!(slow.verdict(), Some(Verdict::Miss));
        let fast = figure(Unit::PerSecond, Bar::AtLeast(300.0), &[(301.0, 1.0)]);
        assert_eq!(fast.verdict(), Some(Verdict::Pass));
        assert_eq!(fast.gain_asked(), Some(300.0));
        let unknown = figure(Unit::PerSecond, Bar::AtLeast(0.0), &[]);
        assert_eq!(unknown.verdict(), Some(Verdict::Miss));
    }

    #[test]
    fn medians_of_even_and_odd_numbers() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn values_read_well() {
        assert_eq!(Unit::Seconds.show(0.000_052_3), "52.3 us");
        assert_eq!(Unit::PerSecond.show(2_500_000.0), "2.50 M/s");
        assert_eq!(Unit::Bytes.show(1_572_864.0), "1.50 MiB");
        assert_eq!(Unit::Bytes.show(200.0), "200 B");
        assert_eq!(show_ratio(1.0 / 123.4), "1/123");
        assert_eq!(show_ratio(0.9971), "1.00");
        assert_eq!(Bar::AtMost(0.01).to_string(), "≤ 1/100");
        assert_eq!(Bar::AtLeast(0.97).to_string(), "≥ 0.97");
    }
}
