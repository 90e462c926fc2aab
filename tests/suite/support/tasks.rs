//! The smallest tasks.

use concurrent_futures::current_worker;

use super::gate::Lamp;

pub fn double(x: u64) -> u64 {
    2 * x
}

pub fn fail(text: String) -> u64 {
    panic!("on purpose: {text}")
}

/// Shows that it runs.
pub fn light(lamp: Lamp) {
    lamp.light();
}

/// Its process.
pub fn own_pid(_: ()) -> u32 {
    std::process::id()
}

/// How many tasks its worker has begun.
pub fn tasks_run(_: ()) -> u64 {
    current_worker().unwrap().tasks_run()
}
