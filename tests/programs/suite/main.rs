//! One suite, written once and run over every executor: `threads::…`, `processes::…`, `serial::…`.
//!
//! Trials run one after the other, each under a watchdog, and each is followed by a check that no
//! process, thread or descriptor is left of it.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails the trial"
)]

#[path = "../common/mod.rs"]
mod common;
mod support;
mod asynchronous;
mod big;
mod channels;
mod corners;
mod executor;
mod fates;
mod futures;
mod limits;
mod many;
mod maps;
mod observers;
mod process;
mod program;
mod shared;

use libtest_mimic::Arguments;

use support::{Processes, Serial, Threads, leaks, watchdog};

fn main() {
    concurrent_futures::init();
    program::play_scene();
    leaks::mark_descendants();
    watchdog::start();
    let mut arguments = Arguments::from_args();
    // Leaks are counted for the whole process: one trial at a time.
    arguments.test_threads = Some(1);
    let trials = [
        executor::everywhere::<Serial>(),
        executor::everywhere::<Threads>(),
        executor::everywhere::<Processes>(),
        executor::pools::<Threads>(),
        executor::pools::<Processes>(),
        executor::retry::pools::<Threads>(),
        executor::retry::pools::<Processes>(),
        executor::retry::threads(),
        executor::retry::processes(),
        executor::threads::trials(),
        executor::scopes::threads(),
        executor::scopes::serial(),
        executor::shapes::processes(),
        executor::naming::threads(),
        executor::naming::processes(),
        executor::reports::processes(),
        executor::serial::trials(),
        executor::states::everywhere::<Serial>(),
        executor::states::everywhere::<Threads>(),
        executor::states::everywhere::<Processes>(),
        executor::states::pools::<Threads>(),
        executor::states::pools::<Processes>(),
        executor::states::threads(),
        executor::states::processes(),
        executor::states::serial(),
        futures::everywhere::<Serial>(),
        futures::everywhere::<Threads>(),
        futures::everywhere::<Processes>(),
        futures::pools::<Threads>(),
        futures::pools::<Processes>(),
        many::everywhere::<Serial>(),
        many::everywhere::<Threads>(),
        many::everywhere::<Processes>(),
        many::pools::<Threads>(),
        many::pools::<Processes>(),
        many::mixed(),
        maps::everywhere::<Serial>(),
        maps::everywhere::<Threads>(),
        maps::everywhere::<Processes>(),
        maps::pools::<Threads>(),
        maps::pools::<Processes>(),
        maps::threads(),
        maps::processes(),
        fates::matrix(),
        fates::pools::<Threads>(),
        fates::pools::<Processes>(),
        fates::threads(),
        fates::processes(),
        fates::attributes(),
        corners::everywhere::<Serial>(),
        corners::everywhere::<Threads>(),
        corners::everywhere::<Processes>(),
        corners::pools::<Threads>(),
        corners::pools::<Processes>(),
        corners::threads(),
        corners::processes(),
        asynchronous::everywhere::<Serial>(),
        asynchronous::everywhere::<Threads>(),
        asynchronous::everywhere::<Processes>(),
        asynchronous::pools::<Threads>(),
        asynchronous::pools::<Processes>(),
        asynchronous::threads(),
        limits::pools::<Threads>(),
        limits::pools::<Processes>(),
        limits::threads(),
        limits::processes(),
        observers::pools::<Threads>(),
        observers::pools::<Processes>(),
        observers::threads(),
        observers::processes(),
        process::trials(),
        program::trials(),
        big::trials(),
        shared::everywhere::<Serial>(),
        shared::everywhere::<Threads>(),
        shared::everywhere::<Processes>(),
        shared::processes(),
        channels::everywhere::<Serial>(),
        channels::everywhere::<Threads>(),
        channels::everywhere::<Processes>(),
        channels::pools::<Threads>(),
        channels::pools::<Processes>(),
        channels::processes(),
        channels::serial(),
    ];
    let mut trials: Vec<_> = trials.into_iter().flatten().collect();
    let names = trials.iter().map(|trial| trial.name().to_owned()).collect();
    trials.extend(fates::table(names));
    libtest_mimic::run(&arguments, trials).exit();
}
