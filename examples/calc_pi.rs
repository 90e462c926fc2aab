//! How much faster do two workers compute π? Darts are thrown at a square; the share that hits
//! the circle in it is π/4.
//!
//! ```sh
//! cargo run --release --example calc_pi                            # everything, in one table
//! cargo run --release --example calc_pi -- --executor processes
//! cargo run --release --example calc_pi -- --samples 1000000 --seed 42
//! ```
//!
//! `serial` is the yardstick for the speed-up. `std::thread` is the ceiling, the best that this
//! machine can do: threads started by hand, which take the next task by counting up. What a pool
//! itself costs is what it lacks of 100 %, give or take the noise of the machine.
//!
//! The samples are cut into the same tasks, each with random numbers of its own, whoever runs
//! them. So a seed gives the same π to the last digit, on any executor and any number of workers.

use std::error::Error;
use std::f64::consts::PI;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use concurrent_futures::{Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    let tasks = tasks(args.samples.get(), seed);
    println!(
        "{} samples in {TASKS} tasks, {} workers, seed {seed}, best of {} rounds\n",
        args.samples, args.workers, args.rounds
    );

    let mut rows: Vec<Row> = args.executor.rows().iter().copied().map(Row::new).collect();
    // Every row once a round: what slows the machine down for a moment hits them alike.
    for _ in 0..args.rounds.get() {
        for row in &mut rows {
            row.measure(args.workers.get(), &tasks)?;
        }
    }
    print_table(&rows, args.samples.get());
    Ok(())
}

/// Computes π by throwing darts, serially and in parallel.
#[derive(Parser)]
struct Args {
    /// What to measure, beside the yardsticks
    #[arg(long, value_enum, default_value_t = Choice::All)]
    executor: Choice,
    /// Threads or processes that work at a time
    #[arg(long, value_name = "N", default_value_t = cores())]
    workers: NonZeroUsize,
    /// Darts to throw
    #[arg(long, value_name = "N", default_value = "100000000")]
    samples: NonZeroU64,
    /// Where the random numbers start [default: somewhere else each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How often everything is measured; the best time counts
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroU32,
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Serial,
    Threads,
    Processes,
    All,
}

impl Choice {
    fn rows(self) -> &'static [Runner] {
        use Runner::{BareThreads, Processes, Serial, Threads};
        match self {
            Self::Serial => &[Serial],
            Self::Threads => &[Serial, BareThreads, Threads],
            Self::Processes => &[Serial, BareThreads, Processes],
            Self::All => &[Serial, BareThreads, Threads, Processes],
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Runner {
    Serial,
    BareThreads,
    Threads,
    Processes,
}

impl Runner {
    fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::BareThreads => "std::thread",
            Self::Threads => "threads",
            Self::Processes => "processes",
        }
    }

    /// Starts the workers, runs the tasks, stops the workers.
    fn run(self, workers: usize, tasks: &[Darts]) -> Result<Vec<u64>, Box<dyn Error>> {
        match self {
            Self::Serial => map(&SerialExecutor::new(), tasks),
            Self::BareThreads => Ok(bare_threads(workers, tasks)),
            Self::Threads => map(&ThreadPoolExecutor::new(workers)?, tasks),
            Self::Processes => map(&ProcessPoolExecutor::new(workers)?, tasks),
        }
    }
}

/// The lesson's program: one function, many arguments, whatever executor.
fn map(executor: &impl Executor, tasks: &[Darts]) -> Result<Vec<u64>, Box<dyn Error>> {
    let results = executor.map(calc_pi, tasks.iter().copied());
    Ok(results.collect::<Result<_, _>>()?)
}

/// What `map` does, by hand: each thread takes the next task until there are none.
fn bare_threads(workers: usize, tasks: &[Darts]) -> Vec<u64> {
    let next = AtomicUsize::new(0);
    let work = || -> Vec<u64> {
        // Relaxed: the counter hands out numbers and orders nothing else.
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = numbers.map_while(|number| tasks.get(number));
        mine.map(|&darts| calc_pi(darts)).collect()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results
            .flat_map(|result| result.expect("calc_pi does not panic"))
            .collect()
    })
}

/// The task: throws the darts, and returns four times the number of hits.
fn calc_pi(darts: Darts) -> u64 {
    let mut random = darts.random();
    let mut hits = 0;
    for _ in 0..darts.samples {
        let x: f64 = random.random_range(-1.0..1.0);
        let y: f64 = random.random_range(-1.0..1.0);
        if x * x + y * y < 1.0 {
            hits += 1;
        }
    }
    4 * hits
}

/// A task's argument. It travels to another process, so serde must know it.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Darts {
    seed: u64,
    number: u64,
    samples: u64,
}

impl Darts {
    /// The generator is a cipher, and its seed the key: other keys give unrelated numbers.
    fn random(self) -> StdRng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.number.to_le_bytes());
        StdRng::from_seed(key)
    }
}

/// Many more tasks than workers, so that none is idle for long while the last ones run.
const TASKS: u64 = 128;

/// Cuts the samples into tasks, the same whoever runs them. Few samples leave some tasks empty.
fn tasks(samples: u64, seed: u64) -> Vec<Darts> {
    let task = |number| Darts {
        seed,
        number,
        samples: samples / TASKS + u64::from(number < samples % TASKS),
    };
    (0..TASKS).map(task).collect()
}

/// A line of the table.
struct Row {
    runner: Runner,
    sum: u64,
    best: Duration,
}

impl Row {
    fn new(runner: Runner) -> Self {
        Self {
            runner,
            sum: 0,
            best: Duration::MAX,
        }
    }

    /// Runs all tasks once, and keeps the time if it is the best so far.
    fn measure(&mut self, workers: usize, tasks: &[Darts]) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let results = self.runner.run(workers, tasks)?;
        self.best = self.best.min(start.elapsed());
        self.sum = results.into_iter().sum();
        Ok(())
    }

    fn speed_up(&self, over: &Self) -> f64 {
        over.best.as_secs_f64() / self.best.as_secs_f64()
    }
}

/// `rows` starts with the serial one.
fn print_table(rows: &[Row], samples: u64) {
    println!("executor              pi       error      time  speed-up  of ceiling");
    let ceiling = rows.iter().find(|row| row.runner == Runner::BareThreads);
    for row in rows {
        let name = row.runner.name();
        let pi = row.sum as f64 / samples as f64;
        let error = format!("{:+.7}", pi - PI);
        let time = format!("{:.3} s", row.best.as_secs_f64());
        let speed_up = row.speed_up(&rows[0]);
        let share = ceiling.map_or(String::new(), |c| {
            format!("{:.1} %", 100.0 * row.speed_up(c))
        });
        println!("{name:<11}  {pi:.9}  {error:>10}  {time:>8}  {speed_up:>8.2}  {share:>10}");
    }
}
