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

mod args;
mod kernel;
mod lanes;
mod runner;
mod table;

use std::error::Error;

use args::Args;
use kernel::{Darts, Gil, Kernel};
use table::Table;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let Some(args) = Args::parse()? else {
        return Ok(());
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    let gil = if args.gil { Gil::Held } else { Gil::None };
    println!(
        "{} samples in {TASKS} tasks, {} workers, seed {seed}, best of {} rounds{}",
        args.samples,
        args.workers,
        args.rounds,
        gil.note()
    );
    for &kernel in args.kernels {
        let tasks = tasks(args.samples.get(), kernel, gil, seed);
        let mut table = Table::new(args.executors);
        // Every row once a round: what slows the machine down for a moment hits them alike.
        for _ in 0..args.rounds.get() {
            table.measure(args.workers.get(), &tasks)?;
        }
        println!("\nkernel {}: {}", kernel.name(), kernel.note());
        table.print(args.samples.get());
    }
    Ok(())
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
