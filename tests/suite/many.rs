//! Many futures at a time: `as_completed`, `wait`, of one executor and of several.

use concurrent_futures::{
    AsCompleted, Error, Executor, Future, ReturnWhen, SerialExecutor, as_completed, wait,
};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::{Kind, LONG, NO_TIME, Processes, Threads, assert_error, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        as_completed_of_none_ends::<K>,
        as_completed_yields_done_ones_in_the_given_order::<K>,
        as_completed_yields_errors_too::<K>,
        as_completed_knows_how_many_remain::<K>,
        wait_for_none_returns::<K>,
        wait_for_done_ones_returns::<K>,
        wait_for_the_first_exception_ends_at_it::<K>,
    ]
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        as_completed_yields_in_the_order_of_completion::<K>,
        as_completed_yields_a_cancelled_one_at_once::<K>,
        next_timeout_can_be_asked_again::<K>,
        into_pending_gives_the_rest_back::<K>,
        a_dropped_as_completed_detaches::<K>,
        as_completed_of_a_thousand::<K>,
        wait_for_the_first_returns_while_others_run::<K>,
        wait_for_all_waits_for_all::<K>,
        wait_for_the_first_exception_goes_past_values::<K>,
        wait_for_the_first_exception_goes_past_cancelled_ones::<K>,
        wait_for_the_first_exception_without_one_waits_for_all::<K>,
        wait_returns_at_its_timeout::<K>,
        wait_keeps_the_given_order::<K>,
    ]
}

/// Executors side by side.
pub fn mixed() -> Vec<Trial> {
    trials!["mixed"; as_completed_mixes_executors, wait_mixes_executors]
}

fn double(x: u64) -> u64 {
    2 * x
}

fn fail(text: String) -> u64 {
    panic!("on purpose: {text}")
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

// ---- as_completed --------------------------------------------------------------------------

fn as_completed_of_none_ends<K: Kind>() {
    let mut none = as_completed(Vec::<Future<u64>>::new());
    assert!(none.next().is_none());
    assert!(matches!(none.next_timeout(LONG), Ok(None)));
    assert_eq!(none.remaining(), 0);
    assert!(none.into_pending().is_empty());
}

fn as_completed_yields_done_ones_in_the_given_order<K: Kind>() {
    let pool = K::pool(1);
    let mut futures: Vec<_> = (0..20).map(|n| done::<K>(&pool, n)).collect();
    futures.reverse();
    futures.swap(3, 11);
    let given: Vec<_> = futures.iter().map(Future::id).collect();
    let yielded: Vec<_> = as_completed(futures).map(|future| future.id()).collect();
    assert_eq!(yielded, given);
}

fn as_completed_yields_errors_too<K: Kind>() {
    let pool = K::pool(1);
    let futures = [
        pool.submit(double, 1),
        pool.submit(fail, "e".into()),
        pool.submit(double, 2),
    ];
    let outcomes: Vec<_> = as_completed(futures).map(Future::result).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert_eq!(outcomes.len(), 3);
}

fn as_completed_knows_how_many_remain<K: Kind>() {
    let pool = K::pool(1);
    let mut rest = as_completed((0..3).map(|n| pool.submit(double, n)));
    for remaining in [2, 1, 0] {
        assert_eq!(rest.len(), remaining + 1);
        assert!(rest.next().unwrap().done());
        assert_eq!(rest.remaining(), remaining);
    }
    assert!(rest.next().is_none());
}

fn as_completed_yields_in_the_order_of_completion<K: Kind>() {
    let (solos, futures) = solos::<K, 4>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    let mut rest = as_completed(futures);
    for at in [2, 0, 3, 1] {
        solos[at].held.release();
        assert_eq!(rest.next().unwrap().id(), ids[at]);
    }
    assert!(rest.next().is_none());
}

fn as_completed_yields_a_cancelled_one_at_once<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let queued = pool.submit(double, 1);
    assert!(queued.cancel());
    let (running_id, queued_id) = (running.id(), queued.id());
    let mut rest = as_completed([running, queued]);
    let first = rest.next().unwrap();
    assert_eq!(first.id(), queued_id);
    assert_error!(first.result(), Error::Cancelled);
    held.release();
    assert_eq!(rest.next().unwrap().id(), running_id);
}

fn next_timeout_can_be_asked_again<K: Kind>() {
    let (solos, futures) = solos::<K, 2>();
    let mut rest = as_completed(futures);
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    assert_eq!(rest.remaining(), 2);
    for solo in &solos {
        solo.held.release();
        assert!(rest.next_timeout(LONG).unwrap().unwrap().done());
    }
    assert!(rest.next_timeout(NO_TIME).unwrap().is_none());
}

fn into_pending_gives_the_rest_back<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    let mut rest = as_completed(futures);
    solos[1].held.release();
    assert_eq!(rest.next().unwrap().id(), ids[1]);
    let pending = rest.into_pending();
    assert_eq!(
        pending.iter().map(Future::id).collect::<Vec<_>>(),
        [ids[0], ids[2]]
    );
    solos[0].held.release();
    solos[2].held.release();
    values(pending);
}

fn a_dropped_as_completed_detaches<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let mut rest: AsCompleted<u64> = as_completed([running, pool.submit(double, 1)]);
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    drop(rest);
    held.release();
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    assert_eq!(pool.stats().completed, 3);
}

fn as_completed_of_a_thousand<K: Kind>() {
    let pool = K::pool(2);
    let futures: Vec<_> = (0..1000).map(|n| pool.submit(double, n)).collect();
    assert_eq!(values(as_completed(futures)).iter().sum::<u64>(), 999_000);
}

// ---- wait ----------------------------------------------------------------------------------

const EVERY_END: [ReturnWhen; 3] = [
    ReturnWhen::FirstCompleted,
    ReturnWhen::FirstException,
    ReturnWhen::AllCompleted,
];

fn wait_for_none_returns<K: Kind>() {
    for until in EVERY_END {
        let waited = wait(Vec::<Future<u64>>::new(), None, until);
        assert!(waited.done.is_empty() && waited.not_done.is_empty());
    }
}

fn wait_for_done_ones_returns<K: Kind>() {
    let pool = K::pool(1);
    for (until, timeout) in EVERY_END
        .into_iter()
        .flat_map(|u| [(u, None), (u, Some(NO_TIME))])
    {
        let waited = wait([done::<K>(&pool, 1), done::<K>(&pool, 2)], timeout, until);
        assert_eq!(waited.not_done.len(), 0, "{until:?}");
        assert_eq!(values(waited.done), [2, 4], "{until:?}");
    }
}

fn wait_for_the_first_exception_ends_at_it<K: Kind>() {
    let pool = K::pool(1);
    let futures = [done::<K>(&pool, 1), failed::<K>(&pool), done::<K>(&pool, 2)];
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
}

fn wait_for_the_first_returns_while_others_run<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    solos[1].held.release();
    let waited = wait(futures, None, ReturnWhen::FirstCompleted);
    assert_eq!(waited.done[0].id(), ids[1]);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 2));
    assert!(waited.not_done.iter().all(Future::running));
    drop(solos);
    values(waited.not_done);
}

fn wait_for_all_waits_for_all<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(futures, None, ReturnWhen::AllCompleted));
        solos[2].held.release();
        solos[0].held.release();
        assert!(!waiting.is_finished());
        solos[1].held.release();
        waiting.join().unwrap()
    });
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
}

fn wait_for_the_first_exception_goes_past_values<K: Kind>() {
    let (solos, [running, _]) = solos::<K, 2>();
    let pool = K::pool(1);
    let futures = [done::<K>(&pool, 1), running, pool.submit(fail, "x".into())];
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 1));
    assert!(waited.not_done[0].running());
    drop(solos);
}

fn wait_for_the_first_exception_goes_past_cancelled_ones<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let cancelled = pool.submit(double, 1);
    assert!(cancelled.cancel());
    let futures = [cancelled, running];
    let waited = wait(futures, Some(NO_TIME), ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    held.release();
    let waited = wait(waited.not_done, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 0));
}

fn wait_for_the_first_exception_without_one_waits_for_all<K: Kind>() {
    let pool = K::pool(2);
    let futures = (0..50).map(|n| pool.submit(double, n));
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (50, 0));
}

fn wait_returns_at_its_timeout<K: Kind>() {
    let (solos, futures) = solos::<K, 2>();
    let [first, second] = futures;
    solos[0].held.release();
    first.wait();
    let waited = wait([first, second], Some(NO_TIME), ReturnWhen::AllCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    let waited = wait(waited.not_done, Some(NO_TIME), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (0, 1));
    solos[1].held.release();
    let waited = wait(waited.not_done, Some(LONG), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 0));
}

fn wait_keeps_the_given_order<K: Kind>() {
    let (solos, futures) = solos::<K, 4>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    solos[3].held.release();
    futures[3].wait();
    solos[1].held.release();
    futures[1].wait();
    let waited = wait(futures, Some(NO_TIME), ReturnWhen::AllCompleted);
    let ids_of = |futures: &[Future<u64>]| futures.iter().map(Future::id).collect::<Vec<_>>();
    assert_eq!(ids_of(&waited.done), [ids[1], ids[3]]);
    assert_eq!(ids_of(&waited.not_done), [ids[0], ids[2]]);
    drop(solos);
    values(waited.not_done);
}

// ---- mixed executors -----------------------------------------------------------------------

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
