//! Panic hooks that a program sets after the first use of a pool: errors still report the place of a panic,
//! and the time that a hook takes is not the task's.

use std::backtrace::Backtrace;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, PanicInfo, ProcessPoolBuilder, ProcessPoolExecutor, SerialExecutor,
    TaskOptions,
};
use libtest_mimic::Trial;

use super::play;
use crate::support::gate::Hold;
use crate::support::{Kind, Processes, Serial, Threads, assert_error, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_hook_of_the_initializer_leaves_the_place_of_a_panic,
        a_hook_of_the_initializer_leaves_the_backtrace_of_a_panic,
        a_hook_of_the_initializer_that_keeps_ours_leaves_the_place_of_a_panic,
        a_hook_of_a_task_leaves_the_place_of_the_next_panic,
        a_program_sets_its_hook_after_the_first_task,
        a_program_sets_its_hook_again_and_again,
        panics_without_a_hook_do_not_pile_up_hooks,
        a_slow_hook_takes_no_time_of_a_task_of_a_process,
        a_slow_hook_takes_no_time_of_a_task_of_a_thread,
        a_task_that_catches_its_panic_is_late_all_the_same,
    ]
}

fn fail(_: ()) -> u8 {
    panic!("on purpose")
}

/// Sets a hook that calls no other.
fn replace_hook(_: ()) {
    panic::set_hook(Box::new(|_| {}));
}

/// Sets a hook that keeps the one before, and does not call it.
fn keep_hook(_: ()) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.location().is_none() {
            before(info);
        }
    }));
}

fn builder() -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(1)
}

/// How a task panics.
fn panic_in(pool: &impl Executor) -> PanicInfo {
    match pool.submit(fail, ()).result() {
        Err(Error::Panicked(info)) => info,
        other => panic!("no panic: {other:?}"),
    }
}

fn assert_tells_place(pool: &impl Executor) {
    let info = panic_in(pool);
    let place = info.location();
    assert!(place.is_some_and(|it| it.contains("hooks.rs")), "{info}");
}

// ---- hooks that are set late ---------------------------------------------------------------

fn a_hook_of_the_initializer_leaves_the_place_of_a_panic() {
    let pool = builder().initializer(replace_hook, ()).build().unwrap();
    assert_tells_place(&pool);
}

fn a_hook_of_the_initializer_leaves_the_backtrace_of_a_panic() {
    let builder = builder().env("RUST_BACKTRACE", "1");
    let pool = builder.initializer(replace_hook, ()).build().unwrap();
    assert!(panic_in(&pool).backtrace().is_some());
}

fn a_hook_of_the_initializer_that_keeps_ours_leaves_the_place_of_a_panic() {
    let pool = builder().initializer(keep_hook, ()).build().unwrap();
    assert_tells_place(&pool);
}

fn a_hook_of_a_task_leaves_the_place_of_the_next_panic() {
    let pool = Processes::pool(1);
    pool.submit(replace_hook, ()).result().unwrap();
    assert_tells_place(&pool);
    pool.submit(keep_hook, ()).result().unwrap();
    // The hook is noticed only by a panic that it hides.
    assert_eq!(panic_in(&pool).message(), "on purpose");
    assert_tells_place(&pool);
}

/// The scene: a program that sets up its logger late.
pub fn late_hook() {
    let (threads, serial) = (Threads::pool(1), SerialExecutor::new());
    assert_tells_place(&threads);
    replace_hook(());
    assert_tells_place(&threads);
    assert_tells_place(&serial);
    keep_hook(());
    assert_eq!(panic_in(&threads).message(), "on purpose");
    assert_tells_place(&threads);
    assert_tells_place(&serial);
}

fn a_program_sets_its_hook_after_the_first_task() {
    assert_eq!(play("late hook").code(), Some(0));
}

/// The scene: the hook that was set last is called for a panic, once.
pub fn many_hooks() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);

    let pool = Threads::pool(1);
    for round in 0..1000 {
        panic::set_hook(Box::new(move |_| {
            // ORDERING: Relaxed; the outcome of the task orders it.
            HEARD.fetch_add(1, Ordering::Relaxed);
        }));
        assert_tells_place(&pool);
        // ORDERING: Relaxed; as above.
        assert_eq!(HEARD.load(Ordering::Relaxed), round + 1);
    }
}

fn a_program_sets_its_hook_again_and_again() {
    assert_eq!(play("many hooks").code(), Some(0));
}

/// How many functions of ours were on the stack when the hook last ran.
static DEPTH: AtomicUsize = AtomicUsize::new(0);

/// Sets a hook that notes that.
fn measuring_hook(_: ()) {
    panic::set_hook(Box::new(|_| {
        let stack = Backtrace::force_capture().to_string();
        let depth = stack.matches("concurrent_futures::unwind").count();
        // ORDERING: Relaxed; the task that asks is one of the same thread.
        DEPTH.store(depth, Ordering::Relaxed);
    }));
}

/// What is unwound without a panic of its own, as rayon passes panics on, runs no hook: that ours did not run
/// does not mean that it is gone.
fn panics_without_a_hook_do_not_pile_up_hooks() {
    let pass_on = |()| -> u8 { panic::resume_unwind(Box::new("passed on")) };
    // ORDERING: Relaxed; as above.
    let depth = |()| DEPTH.load(Ordering::Relaxed);
    let pool = builder().initializer(measuring_hook, ()).build().unwrap();
    assert_tells_place(&pool);
    let before = pool.submit(depth, ()).result().unwrap();
    for _ in 0..100 {
        assert_error!(pool.submit(pass_on, ()).result(), Error::Panicked(_));
    }
    assert_tells_place(&pool);
    assert_eq!(pool.submit(depth, ()).result().unwrap(), before);
}

// ---- the clock -----------------------------------------------------------------------------

/// A limit that a task which only panics keeps.
const LIMIT: Duration = Duration::from_secs(1);

/// Sets a hook that takes longer than that, as one does that looks symbols up.
fn slow_hook(_: ()) {
    panic::set_hook(Box::new(|_| thread::sleep(LIMIT + LIMIT / 2)));
}

fn assert_is_no_timeout(pool: &impl Executor) {
    let limited = TaskOptions::new().timeout(LIMIT);
    let outcome = pool.submit_with(limited, fail, ()).result();
    assert_error!(outcome, Error::Panicked(_));
}

fn a_slow_hook_takes_no_time_of_a_task_of_a_process() {
    let slow = || builder().initializer(slow_hook, ());
    assert_is_no_timeout(&slow().build().unwrap());
    let pool = slow().task_timeout(LIMIT).build().unwrap();
    assert_eq!(panic_in(&pool).message(), "on purpose");
}

/// The scene: its hook is slow.
pub fn slow_program() {
    slow_hook(());
    assert_is_no_timeout(&Threads::pool(1));
    assert_is_no_timeout(&Serial::pool(1));
}

fn a_slow_hook_takes_no_time_of_a_task_of_a_thread() {
    assert_eq!(play("slow hook").code(), Some(0));
}

fn a_task_that_catches_its_panic_is_late_all_the_same() {
    let pool = builder().initializer(slow_hook, ()).build().unwrap();
    let held = Hold::new();
    let task = |held| {
        let (Ok(()) | Err(_)) = panic::catch_unwind(|| panic!("on purpose"));
        crate::support::gate::hold(held);
    };
    let limited = TaskOptions::new().timeout(LIMIT);
    let outcome = pool.submit_with(limited, task, held.argument()).result();
    assert_error!(outcome, Error::TaskTimeout { .. });
    held.await_begun();
}
