//! A map over many numbers. Ours has default options; Python's has the best chunk size.

use std::time::Instant;

use concurrent_futures::Executor;

use crate::Outcome;
use crate::duel::Samples;
use crate::pools::identity;
use crate::pools::ours::{self, PROCESSES, THREADS};
use crate::pools::python::{Python, PythonPool};
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

/// The chunk sizes that Python's pool is given a try with.
const CHUNKSIZES: [u64; 4] = [100, 1_000, 10_000, 100_000];

pub fn play(run: &mut Run) -> Outcome<()> {
    let items = run.pick(1_000_000, 50_000);
    let pool = ours::processes()?.0;
    let mut contest = Contest {
        scene: Scene::Map,
        what: format!("{items} items"),
        measure: Measure::Rate { of: items as f64 },
        turns: run.rounds(5),
        name: PROCESSES,
        turn: || map(&pool, items),
    };
    if let Some(mut python) = run.python(PythonPool::Processes)? {
        let chunksize = best_chunksize(&mut python, items)?;
        let name = format!("{}, chunksize {chunksize}", PythonPool::Processes.name());
        let turn = || python.map(items, Some(chunksize));
        contest.meet(run, &name, Bars::at_least(10.0), turn)?;
    }
    let turn = |python: &mut Python| python.map(items, None);
    contest.meet_python(run, PythonPool::Multiprocessing, Bars::NONE, turn)?;
    let peer = ours::threads()?.0;
    contest.meet(run, THREADS, Bars::NONE, || map(&peer, items))
}

fn map(pool: &impl Executor, items: u64) -> Outcome<Samples> {
    let begun = Instant::now();
    let sum: u64 = pool.map(identity, 0..items).sum::<Result<_, _>>()?;
    let time = begun.elapsed();
    assert_eq!(sum, (0..items).sum::<u64>(), "each item returns itself");
    Ok(time.into())
}

/// The fastest of some powers of ten; each has one try.
fn best_chunksize(python: &mut Python, items: u64) -> Outcome<u64> {
    let mut best = (f64::INFINITY, 1);
    for chunksize in CHUNKSIZES {
        let time = python.map(items, Some(chunksize))?.p50();
        if time < best.0 {
            best = (time, chunksize);
        }
    }
    Ok(best.1)
}
