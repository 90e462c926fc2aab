//! π in Python, from Rust: an interpreter has one lock, so threads take turns. Each process of a
//! pool has an interpreter of its own, and they do not.
//!
//! ```sh
//! cargo run --release -p calc-pi-python
//! cargo run --release -p calc-pi-python -- --workers 4 --samples 1000000
//! ```
//!
//! `calc_pi` is a loop in Python and holds the lock all the time. `calc_pi_numpy` spends its time
//! in numpy, which lets go of the lock while it computes: it scales with threads, too.

mod python;

use std::error::Error;
use std::f64::consts::PI;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use concurrent_futures::{Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};

use python::{Darts, Function};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let args = Args::parse();
    let workers = args.workers.get();
    println!(
        "CPython {}, {workers} workers, best of {ROUNDS} rounds",
        python::version()
    );

    let serial = SerialExecutor::new();
    let threads = ThreadPoolExecutor::new(workers)?;
    // An interpreter takes its time to start. Each worker does it before its first task.
    let processes = ProcessPoolExecutor::builder()
        .max_workers(workers)
        .initializer(python::start, ())
        .build()?;
    processes.warm_up()?;

    for function in Function::ALL {
        if let Err(missing) = function.prepare() {
            println!("\n{}: left out. {missing}", function.name());
            continue;
        }
        let samples = args.samples * function.pace();
        let darts = Darts {
            function,
            samples: samples / TASKS,
        };
        println!("\n{}: {samples} samples in {TASKS} tasks", function.name());
        println!("executor        pi     error      time  speed-up");
        let serial = Measured::best(&serial, darts)?;
        serial.print("serial", &serial);
        Measured::best(&threads, darts)?.print("threads", &serial);
        Measured::best(&processes, darts)?.print("processes", &serial);
    }
    Ok(())
}

/// Computes π in Python, on threads and on processes.
#[derive(Parser)]
struct Args {
    /// Threads or processes that work at a time
    #[arg(long, value_name = "N", default_value_t = cores())]
    workers: NonZeroUsize,
    /// Darts that Python throws; numpy throws twenty times as many
    #[arg(long, value_name = "N", default_value = "2000000", value_parser = clap::value_parser!(u64).range(TASKS..))]
    samples: u64,
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

const TASKS: u64 = 32;

/// The best time counts: what slows the machine down for a moment does not.
const ROUNDS: u32 = 3;

/// What all tasks gave, and how long it took.
struct Measured {
    pi: f64,
    time: Duration,
}

impl Measured {
    fn best(executor: &impl Executor, darts: Darts) -> Result<Self, Box<dyn Error>> {
        let mut best = Self::once(executor, darts)?;
        for _ in 1..ROUNDS {
            let next = Self::once(executor, darts)?;
            if next.time < best.time {
                best = next;
            }
        }
        Ok(best)
    }

    /// This function cannot tell threads from processes. Python can.
    fn once(executor: &impl Executor, darts: Darts) -> Result<Self, Box<dyn Error>> {
        let start = Instant::now();
        let mut sum = 0;
        for result in executor.map(python::calc_pi, (0..TASKS).map(|_| darts)) {
            // The outer error is the pool's, the inner one an exception of Python.
            sum += result??;
        }
        let time = start.elapsed();
        let pi = sum as f64 / (TASKS * darts.samples) as f64;
        Ok(Self { pi, time })
    }

    fn print(&self, executor: &str, yardstick: &Self) {
        let error = self.pi - PI;
        let time = self.time.as_secs_f64();
        let speed_up = yardstick.time.as_secs_f64() / time;
        println!(
            "{executor:<9}  {:.5}  {error:>+8.5}  {time:>6.3} s  {speed_up:>8.2}",
            self.pi
        );
    }
}
