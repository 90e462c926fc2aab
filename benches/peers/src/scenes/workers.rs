//! Tasks that sleep, on few workers and on many: what a task costs beside its sleep.
//!
//! The cost is processor time, of the program and its workers, in which a sleep has no part: time
//! on the wall is hidden behind the sleeps of the other workers. It is held against the cost in
//! the cheapest of the smaller pools: it may fall, as wake-ups are shared, but must not grow.

use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor};

use crate::Outcome;
use crate::figure::{Bar, Figure, Unit};
use crate::pools::bare_threads::{self, Spent};
use crate::pools::ours::{PROCESSES, THREADS};
use crate::scenes::{Run, Scene};
use crate::system;

const SIZES: [usize; 6] = [1, 2, 4, 16, 64, 256];

const SLEEP: Duration = Duration::from_millis(10);

/// More workers may make a task that many times as dear.
const GROWTH: f64 = 2.0;

/// What one number of workers took in one round.
struct Round {
    /// By threads without a pool.
    bare: Spent,
    /// By our threads.
    threads: Spent,
    /// By our processes.
    processes: Spent,
    /// How many there were.
    tasks: usize,
}

pub fn play(run: &mut Run) -> Outcome<()> {
    let mut rounds = Vec::new();
    for _ in 0..run.rounds(3).rounds {
        rounds.push(round(run)?);
    }
    record(run, PROCESSES, &rounds, |round| &round.processes);
    record(run, THREADS, &rounds, |round| &round.threads);
    Ok(())
}

/// All sizes, one after the other.
fn round(run: &Run) -> Outcome<Vec<Round>> {
    let sizes = SIZES.iter().map(|&workers| {
        // Enough to measure, and some for each worker.
        let tasks = (run.pick(100, 10) * workers).clamp(10 * workers, 2000.max(10 * workers));
        Ok(Round {
            bare: bare_threads::run(workers, sleep, &vec![(); tasks]),
            threads: threads(workers, tasks)?,
            processes: processes(workers, tasks)?,
            tasks,
        })
    });
    sizes.collect()
}

fn sleep((): ()) -> u64 {
    thread::sleep(SLEEP);
    0
}

fn threads(workers: usize, tasks: usize) -> Outcome<Spent> {
    let pool = ThreadPoolExecutor::new(workers)?;
    // Starts the threads.
    all(&pool, workers)?;
    let begun = (Instant::now(), system::own_cpu_seconds());
    all(&pool, tasks)?;
    Ok(Spent {
        time: begun.0.elapsed(),
        cpu: system::own_cpu_seconds() - begun.1,
    })
}

fn processes(workers: usize, tasks: usize) -> Outcome<Spent> {
    let pool = ProcessPoolExecutor::new(workers)?;
    pool.warm_up()?;
    all(&pool, workers)?;
    let pids = pool.worker_pids();
    let workers_cpu = || -> Outcome<f64> {
        let seconds = pids.iter().map(|pid| system::cpu_seconds(*pid));
        seconds.sum()
    };
    let workers_before = workers_cpu()?;
    let begun = (Instant::now(), system::own_cpu_seconds());
    all(&pool, tasks)?;
    let spent = Spent {
        time: begun.0.elapsed(),
        cpu: system::own_cpu_seconds() - begun.1,
    };
    Ok(Spent {
        cpu: spent.cpu + workers_cpu()? - workers_before,
        ..spent
    })
}

fn all(pool: &impl Executor, tasks: usize) -> Outcome<()> {
    let futures: Vec<_> = (0..tasks).map(|_| pool.submit(sleep, ())).collect();
    for result in futures.into_iter().map(Future::result) {
        result?;
    }
    Ok(())
}

/// Two figures for each number of workers: what a task costs, to that in smaller pools, and the
/// rate, to that of bare threads.
fn record(run: &mut Run, ours: &str, rounds: &[Vec<Round>], of: fn(&Round) -> &Spent) {
    let cost = |round: &Round| of(round).cpu / round.tasks as f64;
    let rate = |round: &Round, spent: &Spent| round.tasks as f64 / spent.time.as_secs_f64();
    let figure = |measure, unit, peer: &str, bar, rounds| Figure {
        scene: Scene::Workers.name(),
        measure,
        unit,
        ours: ours.to_owned(),
        peer: peer.to_owned(),
        bar,
        rounds,
    };
    for (place, workers) in SIZES.iter().enumerate() {
        let noun = if *workers == 1 { "worker" } else { "workers" };
        if place > 0 {
            let costs = rounds.iter().map(|round| {
                let smaller = round[..place].iter().map(cost);
                (cost(&round[place]), smaller.fold(f64::INFINITY, f64::min))
            });
            let name = format!("CPU a task, {workers} {noun}");
            let peer = "the cheapest smaller pool";
            let bar = Some(Bar::AtMost(GROWTH));
            run.record(figure(name, Unit::Seconds, peer, bar, costs.collect()));
        }
        let rates = rounds.iter().map(|round| &round[place]);
        let rates = rates.map(|round| (rate(round, of(round)), rate(round, &round.bare)));
        let name = format!("tasks, {workers} {noun}");
        let peer = bare_threads::NAME;
        run.record(figure(name, Unit::PerSecond, peer, None, rates.collect()));
    }
}
