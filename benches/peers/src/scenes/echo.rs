//! Bytes there and back.

use std::hint::black_box;
use std::time::Instant;

use crate::Outcome;
use crate::duel::Samples;
use crate::pools::Echoes;
use crate::pools::ipc::IpcPong;
use crate::pools::ours::{self, PROCESSES};
use crate::pools::procspawn::Procspawn;
use crate::pools::python::{Python, PythonPool};
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A payload, and how much is done with it.
struct Payload {
    /// In bytes; the second is of quick runs.
    size: (usize, usize),
    /// Echoes in a turn.
    calls: u64,
    /// Turns in a round.
    turns: usize,
    /// How many times as fast as Python's pool.
    python: f64,
}

const PAYLOADS: [Payload; 3] = [
    Payload {
        size: (KIB, KIB),
        calls: 200,
        turns: 10,
        python: 20.0,
    },
    Payload {
        size: (MIB, MIB),
        calls: 20,
        turns: 5,
        python: 15.0,
    },
    Payload {
        size: (64 * MIB, 8 * MIB),
        calls: 3,
        turns: 1,
        python: 10.0,
    },
];

/// From the program to the worker and back, each time into memory that both share and out of it.
const COPIES: usize = 4;

pub fn play(run: &mut Run) -> Outcome<()> {
    for payload in PAYLOADS {
        echo(run, &payload)?;
    }
    Ok(())
}

fn echo(run: &mut Run, payload: &Payload) -> Outcome<()> {
    let size = run.pick(payload.size.0, payload.size.1);
    let calls = run.pick(payload.calls, payload.calls.div_ceil(10));
    let mut pool = ours::processes()?;
    let mut contest = Contest {
        scene: Scene::Echo,
        what: format!("echo of {}", name(size)),
        measure: Measure::Rate { of: 1.0 },
        turns: run.turns(5, payload.turns),
        name: PROCESSES,
        turn: || pool.echoes(size, calls),
    };
    let turn = |python: &mut Python| python.echoes(size, calls);
    let bars = Bars::at_least(payload.python);
    contest.meet_python(run, PythonPool::Processes, bars, turn)?;
    contest.meet_python(run, PythonPool::Multiprocessing, Bars::NONE, turn)?;
    let mut peer = Procspawn::new()?;
    let turn = || peer.echoes(size, calls);
    contest.meet(run, Procspawn::NAME, Bars::at_least(5.0), turn)?;
    let mut peer = IpcPong::bytes()?;
    let turn = || peer.echoes(size, calls);
    contest.meet(run, IpcPong::NAME, Bars::NONE, turn)?;
    if size > MIB {
        let mut copies = WarmCopies::new(size);
        let bars = Bars::at_least(1.0 / 3.0);
        contest.meet(run, "4 copies to warm memory", bars, || copies.time(calls))?;
    }
    Ok(())
}

fn name(size: usize) -> String {
    if size < MIB {
        format!("{} KiB", size / KIB)
    } else {
        format!("{} MiB", size / MIB)
    }
}

/// What the memory itself allows.
struct WarmCopies {
    /// Where the copies come from.
    source: Vec<u8>,
    /// Where they go.
    target: Vec<u8>,
}

impl WarmCopies {
    /// Both buffers were written once: their pages are there.
    fn new(size: usize) -> Self {
        Self {
            source: vec![7; size],
            target: vec![8; size],
        }
    }

    fn time(&mut self, calls: u64) -> Outcome<Samples> {
        let copies = |_| {
            let begun = Instant::now();
            for _ in 0..COPIES {
                black_box(&mut self.target).copy_from_slice(black_box(&self.source));
            }
            begun.elapsed()
        };
        Ok((0..calls).map(copies).collect())
    }
}
