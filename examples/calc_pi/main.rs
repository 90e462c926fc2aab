//! How much faster do two workers compute π? Darts are thrown at a square; the share that hits
//! the circle in it is π/4.
//!
//! ```sh
//! cargo run --release --example calc_pi                            # every executor, in one table
//! cargo run --release --example calc_pi -- --executor processes
//! cargo run --release --example calc_pi -- --samples 1000000 --seed 42
//! cargo run --release --example calc_pi -- --kernel all            # thrown in three ways
//! cargo run --release --example calc_pi -- --kernel simd --samples 10000000000
//! cargo run --release --example calc_pi -- --gil                   # as if Rust had Python's lock
//! ```
//!
//! `serial` is the yardstick for the speed-up. `std::thread` is the ceiling, the best that this
//! machine can do: threads started by hand, which take the next task by counting up. What a pool
//! itself costs is what it lacks of 100 %, give or take the noise of the machine.
//!
//! The samples are cut into the same tasks, each with random numbers of its own, whatever runs
//! them. So a seed gives the same π to the last digit, on any executor and any number of workers.
//!
//! With `--gil`, a thread that throws darts holds a lock that the whole process shares, as Python's
//! interpreter does. Threads take turns then; processes have a lock each. The ceiling goes without.

mod kernel;
mod lanes;
mod runner;
mod table;

use std::error::Error;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::thread;

use clap::{Parser, ValueEnum};

use kernel::{Darts, Gil, Kernel};
use runner::Runner;
use table::Table;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    let gil = if args.gil { Gil::Held } else { Gil::None };
    println!(
        "{} samples in {TASKS} tasks, {} workers, seed {seed}, best of {} rounds{}",
        args.samples,
        args.workers,
        args.rounds,
        gil.note()
    );
    for &kernel in args.kernel.kernels() {
        let tasks = tasks(args.samples.get(), kernel, gil, seed);
        let mut table = Table::new(args.executor.rows());
        // Every row once a round: what slows the machine down for a moment hits them alike.
        for _ in 0..args.rounds.get() {
            table.measure(args.workers.get(), &tasks)?;
        }
        println!("\nkernel {}: {}", kernel.name(), kernel.note());
        table.print(args.samples.get());
    }
    Ok(())
}

/// Computes π by throwing darts, serially and in parallel.
#[derive(Parser)]
struct Args {
    /// What to measure, beside the yardsticks
    #[arg(long, value_enum, default_value_t = Executors::All)]
    executor: Executors,
    /// How darts are thrown
    #[arg(long, value_enum, default_value_t = Kernels::Scalar)]
    kernel: Kernels,
    /// Throw them under one lock for the whole process
    #[arg(long)]
    gil: bool,
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
enum Executors {
    Serial,
    Threads,
    Processes,
    All,
}

impl Executors {
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

#[derive(Clone, Copy, ValueEnum)]
enum Kernels {
    /// One dart at a time
    Scalar,
    /// Arrays of coordinates, then a count over them
    Array,
    /// 32 darts at a time, in vector registers
    Simd,
    /// The three, one after the other
    All,
}

impl Kernels {
    fn kernels(self) -> &'static [Kernel] {
        match self {
            Self::Scalar => &[Kernel::Scalar],
            Self::Array => &[Kernel::Array],
            Self::Simd => &[Kernel::Simd],
            Self::All => &[Kernel::Scalar, Kernel::Array, Kernel::Simd],
        }
    }
}

/// Many more tasks than workers, so that none is idle for long while the last ones run.
const TASKS: u64 = 128;

/// Cuts the samples into tasks, the same for every runner. Few samples leave some tasks empty.
fn tasks(samples: u64, kernel: Kernel, gil: Gil, seed: u64) -> Vec<Darts> {
    let task = |number| Darts {
        kernel,
        gil,
        seed,
        number,
        samples: samples / TASKS + u64::from(number < samples % TASKS),
    };
    (0..TASKS).map(task).collect()
}
