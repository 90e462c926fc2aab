//! A task that uses a pool of its own: processes outside, threads inside.
//!
//! ```sh
//! cargo run --release --example nested
//! ```

use std::error::Error;

use concurrent_futures::{
    Error as PoolError, ErrorReport, Executor, ProcessPoolExecutor, ThreadPoolExecutor,
};

/// How many numbers a block has; it is cut into [`PARTS`] parts.
const BLOCK: u64 = 1_000_000;
const PARTS: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let processes = ProcessPoolExecutor::new(2)?;
    for (number, found) in (0..4).zip(processes.map(block, 0..4)) {
        // The outer error is that of the outer pool, the inner one is that of the inner.
        println!("block {number}: {} primes", found??);
    }
    Ok(())
}

/// Runs in a worker process, which is a program like any other: it may have threads, and pools. The error of a
/// pool does not travel; `?` makes a report of it, which does.
fn block(number: u64) -> Result<u64, ErrorReport> {
    let threads = ThreadPoolExecutor::new(2)?;
    let part = BLOCK / PARTS;
    let parts = (0..PARTS).map(|i| number * BLOCK + i * part);
    let found = threads.map(move |first| primes(first, part), parts);
    Ok(found.sum::<Result<u64, PoolError>>()?)
}

/// How many primes there are among `numbers` numbers from `first` on.
fn primes(first: u64, numbers: u64) -> u64 {
    let prime = |&n: &u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    (first..first + numbers).filter(prime).count() as u64
}
