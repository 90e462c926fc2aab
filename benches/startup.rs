//! What it takes to start a process pool and have its first result, against the least that could
//! do the same: one re-execution of this program that answers. The two alternate in one run, since
//! the machine's own speed drifts.

#[path = "common/quantiles.rs"]
mod quantiles;

use std::error::Error;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor};

use quantiles::Quantiles;

const ROUNDS: usize = 200;
const ANSWER: &str = "--answer";

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    if std::env::args().any(|argument| argument == ANSWER) {
        print!("42");
        return Ok(());
    }
    let mut bare = Vec::new();
    let mut pool = Vec::new();
    for _ in 0..ROUNDS {
        bare.push(timed(bare_answer)?);
        pool.push(timed(pool_answer)?);
    }
    let (bare, pool) = (Quantiles::of(bare), Quantiles::of(pool));
    println!("first answer, {ROUNDS} rounds     p50          p99");
    println!(
        "one bare re-exec       {:>10.1?}   {:>10.1?}",
        bare.p50, bare.p99
    );
    println!(
        "pool with 2 workers    {:>10.1?}   {:>10.1?}",
        pool.p50, pool.p99
    );
    println!(
        "ratio                  {:>10.2}   {:>10.2}",
        pool.p50.as_secs_f64() / bare.p50.as_secs_f64(),
        pool.p99.as_secs_f64() / bare.p99.as_secs_f64(),
    );
    Ok(())
}

/// Executes this program again, and reads its answer.
fn bare_answer() -> Result<(), Box<dyn Error>> {
    let mut child = Command::new("/proc/self/exe")
        .arg(ANSWER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answer = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut answer)?;
    }
    child.wait()?;
    assert_eq!(answer, "42");
    Ok(())
}

/// Starts a pool of two, has an answer of each, and waits for its end, as `bare_answer` does.
fn pool_answer() -> Result<(), Box<dyn Error>> {
    let pool = ProcessPoolExecutor::new(2)?;
    let answers = [pool.submit(|x: u64| x + 1, 41), pool.submit(|x: u64| x, 42)];
    for answer in answers {
        assert_eq!(answer.result()?, 42);
    }
    drop(pool);
    Ok(())
}

fn timed(f: fn() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    f()?;
    Ok(begun.elapsed())
}
