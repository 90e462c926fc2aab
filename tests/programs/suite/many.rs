//! Many futures at a time: `as_completed`, `wait`, of one executor and of several.

mod completion;
mod waiting;

use concurrent_futures::{Executor, Future, ReturnWhen, SerialExecutor, as_completed, wait};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, Processes, Threads, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    let groups = [completion::everywhere::<K>(), waiting::everywhere::<K>()];
    groups.into_iter().flatten().collect()
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let groups = [completion::pools::<K>(), waiting::pools::<K>()];
    groups.into_iter().flatten().collect()
}

/// Executors side by side.
pub fn mixed() -> Vec<Trial> {
    trials!["mixed"; as_completed_mixes_executors, wait_mixes_executors]
}

/// A task of a pool with a worker of its own, to be ended when the trial wants.
struct Solo<K: Kind> {
    held: Hold,
    _pool: K::Pool,
}

/// Tasks to be ended one by one.
fn solos<K: Kind, const N: usize>() -> ([Solo<K>; N], [Future<u64>; N]) {
    let pairs = [(); N].map(|()| {
        let (held, pool) = (Hold::new(), K::pool(1));
        let future = pool.submit(|held| u64::from(hold(held)), held.argument());
        held.await_begun();
        (Solo { held, _pool: pool }, future)
    });
    let mut futures = Vec::new();
    let solos = pairs.map(|(solo, future)| {
        futures.push(future);
        solo
    });
    (solos, futures.try_into().unwrap())
}

fn done<K: Kind>(pool: &K::Pool, n: u64) -> Future<u64> {
    let future = pool.submit(double, n);
    future.wait();
    future
}

fn failed<K: Kind>(pool: &K::Pool) -> Future<u64> {
    let future = pool.submit(fail, "one of many".into());
    future.wait();
    future
}

fn values(futures: impl IntoIterator<Item = Future<u64>>) -> Vec<u64> {
    futures.into_iter().map(|f| f.result().unwrap()).collect()
}

fn of_every_executor() -> (impl Sized, Vec<Future<u64>>) {
    let (threads, processes) = (Threads::pool(2), Processes::pool(2));
    let serial = SerialExecutor::new();
    let mut futures = Vec::new();
    for n in 0..30 {
        futures.push(match n % 3 {
            0 => Executor::submit(&threads, double, n),
            1 => processes.submit(double, n),
            _ => serial.submit(double, n),
        });
    }
    ((threads, processes), futures)
}

fn as_completed_mixes_executors() {
    let (_pools, futures) = of_every_executor();
    let mut results = values(as_completed(futures));
    results.sort_unstable();
    assert!(results.into_iter().eq((0..30).map(double)));
}

fn wait_mixes_executors() {
    let (_pools, futures) = of_every_executor();
    let waited = wait(futures, None, ReturnWhen::AllCompleted);
    assert!(waited.not_done.is_empty());
    assert!(
        values(waited.done).into_iter().eq((0..30).map(double)),
        "in the given order"
    );
}
