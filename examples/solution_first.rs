//! Exercise 2: ask three mirrors, take the first answer, and do not wait for the others.
//!
//! ```sh
//! cargo run --example solution_first
//! ```

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, as_completed};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(3)?;
    pool.warm_up()?;
    let start = Instant::now();

    let mirrors = [("slow", 60_000), ("quick", 100), ("dead", 3_600_000)];
    let ask_one = |(name, delay): (&str, u64)| pool.submit(ask, (name.to_owned(), delay));
    let mut answers = as_completed(mirrors.map(ask_one));
    let first = answers.next().ok_or("nobody was asked")?;
    println!("the first answer: {}", first.result()?);

    // They run already, so `cancel` comes too late. On threads the program would wait for them.
    let killed = answers.into_pending().iter().filter(|f| f.kill()).count();
    drop(pool);
    println!("killed: {killed}");
    println!(
        "in less than ten seconds: {}",
        start.elapsed().as_secs() < 10
    );
    Ok(())
}

fn ask((mirror, delay): (String, u64)) -> String {
    thread::sleep(Duration::from_millis(delay));
    format!("here is the file from {mirror}")
}
