//! What is measured. Each scene compares executors of ours with their peers, one pair at a time.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::Outcome;
use crate::duel::Turns;
use crate::figure::{Bar, Figure, Unit};
use crate::pools::python::{Python, PythonPool};
use crate::results::Results;
use crate::table;

mod busy;
mod contest;
mod echo;
mod idle;
mod map;
pub mod queue;
mod round_trip;
mod start_up;
mod throughput;
mod workers;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Scene {
    /// One task that returns its argument, awaited; pinned: the program on a core, its workers on another
    RoundTrip,
    /// The same after 1 ms in which nothing happens
    AfterIdle,
    /// Many tasks that return their argument, all submitted, then all awaited
    Throughput,
    /// A map over many numbers, with default options
    Map,
    /// Bytes there and back
    Echo,
    /// Tasks that compute, against bare threads
    Busy,
    /// What a pool costs while nothing happens
    Idle,
    /// What a task takes of the program's private memory while it waits behind others
    Queue,
    /// Tasks that sleep, on 1 to 256 workers
    Workers,
    /// The first result of a new pool
    StartUp,
}

impl Scene {
    /// In the order in which they are played.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no scene is hidden");
        value.get_name().to_owned()
    }

    /// What is measured, in a sentence.
    pub fn about(self) -> String {
        let value = self.to_possible_value().expect("no scene is hidden");
        value
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn play(self, run: &mut Run) -> Outcome<()> {
        match self {
            Self::RoundTrip => round_trip::warm(run),
            Self::AfterIdle => round_trip::after_idle(run),
            Self::Throughput => throughput::play(run),
            Self::Map => map::play(run),
            Self::Echo => echo::play(run),
            Self::Busy => busy::play(run),
            Self::Idle => idle::play(run),
            Self::Queue => queue::play(run),
            Self::Workers => workers::play(run),
            Self::StartUp => start_up::play(run),
        }
    }
}

/// How much is done of everything.
#[derive(Clone, Copy, PartialEq)]
pub enum Size {
    /// As much as it takes to tell.
    Full,
    /// Little, to see that it works.
    Quick,
}

/// One run of some scenes.
pub struct Run {
    pub size: Size,
    /// Asked for, instead of what each scene does.
    pub rounds: Option<usize>,
    /// The interpreter.
    pub python: PathBuf,
    pub results: Results,
}

impl Run {
    pub fn play(&mut self, scenes: &[Scene]) -> Outcome<()> {
        for scene in scenes {
            println!("\n{}: {}", scene.name(), scene.about());
            table::print_header();
            scene.play(self)?;
        }
        Ok(())
    }

    fn pick<T>(&self, full: T, quick: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Quick => quick,
        }
    }

    /// Rounds of one turn each.
    fn rounds(&self, full: usize) -> Turns {
        self.turns(full, 1)
    }

    /// Rounds of several turns each; quick runs have few of both.
    fn turns(&self, rounds: usize, turns: usize) -> Turns {
        Turns {
            rounds: self.rounds.unwrap_or(self.pick(rounds, rounds.min(2))),
            turns: self.pick(turns, turns.min(2)),
        }
    }

    /// Notes what cannot be measured.
    fn skip(&mut self, name: &str, why: &str) {
        println!("skipped: {name}: {why}");
        self.results.skipped.insert(name.to_owned(), why.to_owned());
    }

    fn record(&mut self, figure: Figure) {
        table::print_row(&figure);
        self.results.figures.push(figure);
    }

    /// Records values of ours that are held against a limit.
    fn record_limited(
        &mut self,
        scene: Scene,
        what: &str,
        unit: Unit,
        ours: &str,
        limit: f64,
        values: &[f64],
    ) {
        self.record(Figure {
            scene: scene.name(),
            measure: what.to_owned(),
            unit,
            ours: ours.to_owned(),
            peer: "the limit".to_owned(),
            bar: Some(Bar::AtMost(1.0)),
            rounds: values.iter().map(|value| (*value, limit)).collect(),
        });
    }

    /// A pool of Python's; `None` where it cannot be had, which is noted.
    fn python(&mut self, pool: PythonPool) -> Outcome<Option<Python>> {
        match Python::start(&self.python, pool)? {
            Ok(python) => Ok(Some(python)),
            Err(why) => {
                self.skip(&pool.name(), &why);
                Ok(None)
            }
        }
    }
}
