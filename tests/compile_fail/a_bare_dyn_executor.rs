//! On a bare `&dyn Executor` borrow once more: `(&executor).submit(…)`.

use concurrent_futures::{Executor, SerialExecutor};

fn main() {
    let executor: &dyn Executor = &SerialExecutor::new();
    let _ = executor.submit(|x: u32| x, 1).result();
}
