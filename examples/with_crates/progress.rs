//! A progress bar over a `map`, with the time that is left, and a line for each worker.
//!
//! ```sh
//! cargo run --release --example progress
//! ```

use std::error::Error;

use concurrent_futures::{Executor, Observer, ProcessPoolExecutor, TaskEvent, TaskOutcome};
use indicatif::ProgressFinish::Abandon;
use indicatif::{MultiProgress, ProgressBar, ProgressIterator, ProgressStyle};

const TASKS: u64 = 100;
const WORKERS: usize = 2;
const SPAN: u64 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let bars = MultiProgress::new();
    let all = ProgressStyle::with_template("all       {bar:30} {pos:>3}/{len}  {eta} left")?;
    let one = ProgressStyle::with_template("worker {prefix}  {bar:30} {pos:>3} {msg}")?;
    let bar = |style| {
        let bar = ProgressBar::new(TASKS).with_finish(Abandon);
        bars.add(bar.with_style(style))
    };
    let total = bar(all);
    let of_worker = |number: usize| bar(one.clone()).with_prefix(number.to_string());
    let workers = Workers((0..WORKERS).map(of_worker).collect());
    let pool = ProcessPoolExecutor::builder()
        .max_workers(WORKERS)
        .observer(workers)
        .build()?;
    let found = pool.map(primes, 0..TASKS).progress_with(total);
    let sum = found.sum::<Result<u64, _>>()?;
    drop(pool);
    println!("{sum} primes below {}", TASKS * SPAN);
    Ok(())
}

/// A bar for each worker. The pool tells what they do, on its own threads.
struct Workers(Vec<ProgressBar>);

impl Observer for Workers {
    fn task_started(&self, task: &TaskEvent) {
        self.0[task.worker()].set_message("working");
    }

    fn task_finished(&self, task: &TaskEvent, _: TaskOutcome) {
        self.0[task.worker()].set_message(format!("{:.0?}", task.elapsed()));
        self.0[task.worker()].inc(1);
    }
}

/// How many primes there are in the span of that number.
fn primes(number: u64) -> u64 {
    let prime = |&n: &u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    let span = number * SPAN..(number + 1) * SPAN;
    span.filter(prime).count() as u64
}
