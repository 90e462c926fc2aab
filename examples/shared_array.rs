//! A large array that all tasks read: it is copied once, however many tasks and workers there are.
//!
//! ```sh
//! cargo run --release --example shared_array
//! ```

use std::error::Error;
use std::time::Instant;

use concurrent_futures::{Executor, ProcessPoolExecutor, Shared};

const VALUES: usize = 8 << 20; // 64 MiB
const PARTS: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(2)?;
    pool.warm_up()?;

    let values: Vec<f64> = (0..VALUES).map(measured).collect();
    let begun = Instant::now();
    let shared = Shared::from_vec(values);
    println!("{shared:?}: shared in {:.0?}", begun.elapsed());

    let begun = Instant::now();
    let parts = (0..PARTS).map(|n| (shared.clone(), n));
    let mut largest = f64::MIN;
    for part in pool.map(maximum, parts) {
        largest = largest.max(part?);
    }
    let took = begun.elapsed();
    println!("the largest of {PARTS} parts is {largest:.3}, found in {took:.0?}");

    // A result can be one, too, and an argument of the next task.
    let sorted = pool.submit(sort, shared).result()?;
    let median = pool.submit(middle, sorted.clone()).result()?;
    println!("the median is {median:.3}, the smallest {:.3}", sorted[0]);
    Ok(())
}

fn measured(n: usize) -> f64 {
    (n as f64).sin() * 100.0
}

fn maximum((values, part): (Shared<f64>, usize)) -> f64 {
    let (from, to) = (part * VALUES / PARTS, (part + 1) * VALUES / PARTS);
    values[from..to].iter().copied().fold(f64::MIN, f64::max)
}

fn sort(values: Shared<f64>) -> Shared<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    Shared::from_vec(values)
}

fn middle(sorted: Shared<f64>) -> f64 {
    sorted[sorted.len() / 2]
}
