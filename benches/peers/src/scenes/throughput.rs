//! Many tasks that return their argument: all submitted, then all awaited.

use crate::Outcome;
use crate::pools::Throughput;
use crate::pools::ours::{self, PROCESSES, THREADS};
use crate::pools::procspawn::Procspawn;
use crate::pools::python::{Python, PythonPool};
use crate::pools::rayon::Rayon;
use crate::pools::rusty_pool::RustyPool;
use crate::pools::threadpool::Threadpool;
use crate::pools::tokio::Tokio;
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

pub fn play(run: &mut Run) -> Outcome<()> {
    let tasks = run.pick(100_000, 2_000);
    processes(run, tasks)?;
    threads(run, tasks)
}

fn processes(run: &mut Run, tasks: u64) -> Outcome<()> {
    let mut pool = ours::processes()?;
    let mut contest = Contest {
        scene: Scene::Throughput,
        what: format!("{tasks} tasks"),
        measure: Measure::Rate { of: tasks as f64 },
        turns: run.rounds(5),
        name: PROCESSES,
        turn: || pool.throughput(tasks),
    };
    let turn = |python: &mut Python| python.throughput(tasks);
    contest.meet_python(run, PythonPool::Processes, Bars::at_least(300.0), turn)?;
    contest.meet_python(run, PythonPool::Multiprocessing, Bars::NONE, turn)?;
    contest.meet_python(run, PythonPool::Loky, Bars::NONE, turn)?;
    contest.meet_python(run, PythonPool::Pebble, Bars::NONE, turn)?;
    let mut peer = Procspawn::new()?;
    let turn = || peer.throughput(tasks);
    contest.meet(run, Procspawn::NAME, Bars::at_least(150.0), turn)?;
    // From here on no pool is slow: more turns even out more.
    contest.turns = run.turns(5, 3);
    let mut peer = Rayon::new()?;
    let turn = || peer.throughput(tasks);
    contest.meet(run, Rayon::NAME, Bars::at_least(1.0), turn)?;
    let mut peer = ours::threads()?;
    contest.meet(run, THREADS, Bars::at_least(0.5), || peer.throughput(tasks))
}

fn threads(run: &mut Run, tasks: u64) -> Outcome<()> {
    let mut pool = ours::threads()?;
    let mut contest = Contest {
        scene: Scene::Throughput,
        what: format!("{tasks} tasks"),
        measure: Measure::Rate { of: tasks as f64 },
        turns: run.turns(5, 3),
        name: THREADS,
        turn: || pool.throughput(tasks),
    };
    let bars = Bars::at_least(1.0);
    let mut peer = Rayon::new()?;
    contest.meet(run, Rayon::NAME, bars, || peer.throughput(tasks))?;
    let mut peer = Threadpool::new();
    contest.meet(run, Threadpool::NAME, bars, || peer.throughput(tasks))?;
    let mut peer = RustyPool::new();
    contest.meet(run, RustyPool::NAME, bars, || peer.throughput(tasks))?;
    let mut peer = Tokio::new()?;
    contest.meet(run, Tokio::NAME, bars, || peer.throughput(tasks))?;
    contest.meet_python(run, PythonPool::Threads, Bars::NONE, |python| {
        python.throughput(tasks)
    })
}
