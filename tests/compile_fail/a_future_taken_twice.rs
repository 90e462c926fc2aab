//! A result is taken once.

use concurrent_futures::{Executor, SerialExecutor};

fn main() {
    let future = SerialExecutor::new().submit(|x: u32| x, 1);
    let _ = future.result();
    let _ = future.result();
}
