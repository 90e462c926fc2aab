//! One of our executors in a scene, which meets one peer after the other.

use crate::Outcome;
use crate::duel::{Duel, Samples, Turns};
use crate::figure::{Bar, Figure, Unit};
use crate::pools::python::{Python, PythonPool};
use crate::scenes::{Run, Scene};

/// What is done with each peer in turn.
pub struct Contest<F> {
    /// Where the figures belong.
    pub scene: Scene,
    /// What is done in a turn.
    pub what: String,
    /// What figures come of it.
    pub measure: Measure,
    /// How often.
    pub turns: Turns,
    /// The name of ours.
    pub name: &'static str,
    /// A turn of ours.
    pub turn: F,
}

/// What is made of a turn's samples.
#[derive(Clone, Copy)]
pub enum Measure {
    /// How long it took: two figures, of p50 and of p99.
    Times,
    /// A rate: how many of these a second, by p50.
    Rate { of: f64 },
}

/// What the ratios, ours to the peer's, are held against.
#[derive(Clone, Copy, Default)]
pub struct Bars {
    /// Of the medians, or of the rates that come of them.
    p50: Option<Bar>,
    /// Of the slow ones.
    p99: Option<Bar>,
}

impl Bars {
    pub const NONE: Self = Self {
        p50: None,
        p99: None,
    };

    pub const fn at_most(ratio: f64) -> Self {
        Self {
            p50: Some(Bar::AtMost(ratio)),
            p99: None,
        }
    }

    pub const fn at_least(ratio: f64) -> Self {
        Self {
            p50: Some(Bar::AtLeast(ratio)),
            p99: None,
        }
    }

    pub const fn p99_at_most(self, ratio: f64) -> Self {
        Self {
            p99: Some(Bar::AtMost(ratio)),
            ..self
        }
    }
}

impl<F: FnMut() -> Outcome<Samples>> Contest<F> {
    /// Alternates with that peer, and records what came of it.
    pub fn meet(
        &mut self,
        run: &mut Run,
        peer: &str,
        bars: Bars,
        peers_turn: impl FnMut() -> Outcome<Samples>,
    ) -> Outcome<()> {
        let duel = Duel::fight(self.turns, &mut self.turn, peers_turn)?;
        let figure = |measure, unit, bar, rounds| Figure {
            scene: self.scene.name(),
            measure,
            unit,
            ours: self.name.to_owned(),
            peer: peer.to_owned(),
            bar,
            rounds,
        };
        match self.measure {
            Measure::Rate { of } => {
                let rounds = duel.rounds(|samples| of / samples.p50());
                let what = self.what.clone();
                run.record(figure(what, Unit::PerSecond, bars.p50, rounds));
            }
            Measure::Times => {
                let p50 = (format!("{}, p50", self.what), duel.rounds(Samples::p50));
                let p99 = (format!("{}, p99", self.what), duel.rounds(Samples::p99));
                run.record(figure(p50.0, Unit::Seconds, bars.p50, p50.1));
                run.record(figure(p99.0, Unit::Seconds, bars.p99, p99.1));
            }
        }
        Ok(())
    }

    /// The same with a pool of Python's, if there is one.
    pub fn meet_python(
        &mut self,
        run: &mut Run,
        pool: PythonPool,
        bars: Bars,
        mut peers_turn: impl FnMut(&mut Python) -> Outcome<Samples>,
    ) -> Outcome<()> {
        match run.python(pool)? {
            Some(mut python) => self.meet(run, &pool.name(), bars, || peers_turn(&mut python)),
            None => Ok(()),
        }
    }
}
