//! Exercise 1: a thousand tasks count in a static. What does it hold afterwards?
//!
//! ```sh
//! cargo run --example solution_memory
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor};

static COUNT: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<(), Error> {
    concurrent_futures::init();
    count("threads", &ThreadPoolExecutor::new(2)?)?;
    count("processes", &ProcessPoolExecutor::new(2)?)
}

fn count(name: &str, pool: &impl Executor) -> Result<(), Error> {
    COUNT.store(0, Ordering::Relaxed);
    let ones = pool.map(count_one, 0..1000).sum::<Result<u64, _>>()?;
    let counted = COUNT.load(Ordering::Relaxed);
    // A process counts in a static of its own, which ends with it. Its results come back.
    println!("{name:<9}  the static holds {counted:>4}, the results sum up to {ones}");
    Ok(())
}

fn count_one(_: u64) -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed);
    1
}
