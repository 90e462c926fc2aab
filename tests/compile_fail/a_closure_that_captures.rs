//! What a closure would capture travels in the argument.

use concurrent_futures::{Executor, ProcessPoolExecutor};

fn main() {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let factor = 3;
    let _ = pool.submit(|x: u32| factor * x, 1).result();
}
