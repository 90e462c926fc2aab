//! A progress bar inside each of two long tasks in processes, and the lines that they log above the bars.
//!
//! ```sh
//! cargo run --release --example progress_within
//! ```

use std::error::Error;

use concurrent_futures::{Executor, ProcessPoolExecutor, Sender, channel};
use indicatif::ProgressFinish::Abandon;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

const TASKS: usize = 2;
/// Numbers that a task tests for being primes, and how many of them it tests between two messages.
const NUMBERS: u64 = 2_000_000;
const STEP: u64 = 10_000;

/// What a task sends while it runs.
#[derive(Serialize, Deserialize)]
enum Message {
    /// So many more numbers were tested by this task.
    Tested(usize, u64),
    /// A line for the log.
    Line(String),
}

/// What a task is to do, and whom it tells how far it is.
#[derive(Serialize, Deserialize)]
struct Job {
    number: usize,
    first: u64,
    progress: Sender<Message>,
}

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let bars = MultiProgress::new();
    let style = ProgressStyle::with_template("task {prefix}  {bar:30} {percent:>3} %  {eta} left")?;
    let of_task = |number: usize| {
        let bar = ProgressBar::new(NUMBERS).with_finish(Abandon);
        let bar = bars.add(bar.with_style(style.clone()));
        bar.with_prefix(number.to_string())
    };
    let of_tasks: Vec<_> = (0..TASKS).map(of_task).collect();

    let pool = ProcessPoolExecutor::new(TASKS)?;
    let (progress, messages) = channel(100);
    let job = |number: usize| Job {
        number,
        first: number as u64 * NUMBERS,
        progress: progress.clone(),
    };
    let counts: Vec<_> = (0..TASKS).map(|n| pool.submit(count, job(n))).collect();
    drop(progress); // the messages end with the tasks

    for message in messages {
        match message? {
            Message::Tested(task, numbers) => of_tasks[task].inc(numbers),
            Message::Line(line) => bars.println(line)?,
        }
    }
    for count in counts {
        println!("{}", count.result()?);
    }
    Ok(())
}

/// Counts the primes in the job's numbers.
fn count(job: Job) -> String {
    let is_prime = |&n: &u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    // A program that listens no more is no reason to stop.
    let tell = |message| drop(job.progress.send(message));
    let numbers = job.first..job.first + NUMBERS;
    let mut primes = 0;
    for first in numbers.clone().step_by(STEP as usize) {
        primes += (first..first + STEP).filter(is_prime).count();
        tell(Message::Tested(job.number, STEP));
        if first % (NUMBERS / 2) == 0 {
            tell(Message::Line(format!("task {} is at {first}", job.number)));
        }
    }
    format!("{primes} primes in {numbers:?}")
}
