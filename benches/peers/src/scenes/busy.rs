//! Tasks that compute for a while, on two workers, against two threads without a pool.

use std::hint::black_box;
use std::time::Instant;

use concurrent_futures::{Error, Executor, Future};

use crate::Outcome;
use crate::duel::Samples;
use crate::pools::ours::{self, PROCESSES, THREADS};
use crate::pools::{WORKERS, bare_threads};
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

/// How long a task is, how many there are, and what share of the ceiling is asked for.
const LOADS: [(&str, f64, usize, f64); 3] = [
    ("10 us", 1e-5, 20_000, 0.75),
    ("100 us", 1e-4, 2_000, 0.97),
    ("1 ms", 1e-3, 300, 0.97),
];

pub fn play(run: &mut Run) -> Outcome<()> {
    let turns_a_second = calibrate();
    let threads = ours::threads()?.0;
    let processes = ours::processes()?.0;
    for (name, seconds, count, share) in LOADS {
        let work = (turns_a_second * seconds) as u64;
        let tasks = vec![work; run.pick(count, count / 5)];
        contest(run, name, THREADS, &threads, share, &tasks)?;
        contest(run, name, PROCESSES, &processes, share, &tasks)?;
    }
    Ok(())
}

fn contest(
    run: &mut Run,
    load: &str,
    name: &'static str,
    pool: &impl Executor,
    share: f64,
    tasks: &[u64],
) -> Outcome<()> {
    let rate = Measure::Rate {
        of: tasks.len() as f64,
    };
    let mut contest = Contest {
        scene: Scene::Busy,
        what: format!("tasks of {load}"),
        measure: rate,
        turns: run.rounds(9),
        name,
        turn: || all(pool, tasks),
    };
    contest.meet(run, bare_threads::NAME, Bars::at_least(share), || {
        Ok(bare_threads::run(WORKERS, compute, tasks).time.into())
    })
}

/// How long the pool takes for the tasks: all submitted, then all awaited.
fn all(pool: &impl Executor, tasks: &[u64]) -> Outcome<Samples> {
    let begun = Instant::now();
    let submit = |work: &u64| pool.submit(compute, *work);
    let futures: Vec<_> = tasks.iter().map(submit).collect();
    let mut results = futures.into_iter().map(Future::result);
    let sum = results.try_fold(0_u64, |sum, result| {
        Ok::<_, Error>(sum.wrapping_add(result?))
    })?;
    black_box(sum);
    Ok(begun.elapsed().into())
}

/// Work that is the same for every pool, whatever the clock says: that many turns of a generator
/// of random numbers.
fn compute(turns: u64) -> u64 {
    (0..turns).fold(black_box(88_172_645_463_325_252), |mut state, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Turns a second, at the best of some tries: what disturbs a try makes it slower, never faster.
fn calibrate() -> f64 {
    const TURNS: u64 = 1_000_000;
    let try_once = |_| {
        let begun = Instant::now();
        black_box(compute(TURNS));
        begun.elapsed().as_secs_f64()
    };
    let best = (0..20).map(try_once).fold(f64::INFINITY, f64::min);
    TURNS as f64 / best
}
