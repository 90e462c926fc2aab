//! The same holds of `map`.

use concurrent_futures::{Executor, ProcessPoolExecutor};

fn main() {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let factor = 3;
    for _ in pool.map(|x: u32| factor * x, 0..10) {}
}
