//! What goes to a process passes through a thread of the pool.

use std::marker::PhantomData;

use concurrent_futures::{Executor, ProcessPoolExecutor};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Local(PhantomData<*const u8>);

fn main() {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let _ = pool.submit(|_: Local| 1, Local(PhantomData)).result();
}
