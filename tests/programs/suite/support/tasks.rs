//! The smallest tasks.

use std::hint::black_box;

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

/// Takes 4 MiB of stack: more than std gives a thread, and half of what Linux gives a program.
pub fn take_stack() {
    let top = 0_u8;
    take_stack_below(black_box(&raw const top).addr());
}

#[inline(never)]
fn take_stack_below(top: usize) {
    let block = [0_u8; 1024];
    if top - black_box(&block).as_ptr().addr() < 4 << 20 {
        take_stack_below(top);
    }
    black_box(&block);
}
