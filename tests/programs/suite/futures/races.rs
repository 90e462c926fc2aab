//! Moves that meet: whichever wins, both sides agree on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use concurrent_futures::{Error, Executor, Shutdown};
use libtest_mimic::Trial;

use crate::support::tasks::double;
use crate::support::{Kind, assert_error, assert_works, trials};

/// How often each pair meets.
const ROUNDS: u64 = 500;

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        cancel_meets_start::<K>,
        kill_meets_finish::<K>,
        callback_meets_finish::<K>,
        two_cancels_meet::<K>,
        submit_meets_shutdown::<K>,
        drop_of_the_future_meets_finish::<K>,
    ]
}

fn cancel_meets_start<K: Kind>() {
    let pool = K::pool(2);
    let mut won = 0;
    for n in 0..ROUNDS {
        let future = pool.submit(double, n);
        if future.cancel() {
            won += 1;
            assert!(future.done() && future.cancelled());
            assert_error!(future.result(), Error::Cancelled);
        } else {
            assert_eq!(future.result().unwrap(), 2 * n);
        }
    }
    let stats = pool.stats();
    assert_eq!(
        (stats.cancelled, stats.completed),
        (won, ROUNDS - won),
        "{stats:?}"
    );
    assert_works(&pool);
}

/// Fewer rounds: where it wins, a process is killed and replaced.
fn kill_meets_finish<K: Kind>() {
    let pool = K::pool(2);
    for n in 0..ROUNDS / 5 {
        let future = pool.submit(double, n);
        if future.kill() {
            future.wait();
            assert!(future.cancelled() && future.kill());
            assert_error!(future.result(), Error::Cancelled);
        } else {
            assert_eq!(future.result().unwrap(), 2 * n);
        }
        assert_eq!(
            pool.submit(double, n).result().unwrap(),
            2 * n,
            "no other is hit"
        );
    }
    assert_works(&pool);
}

fn callback_meets_finish<K: Kind>() {
    let pool = K::pool(1);
    let calls = Arc::new(AtomicUsize::new(0));
    for n in 0..ROUNDS {
        let future = pool.submit(double, n);
        for _ in 0..3 {
            let calls = Arc::clone(&calls);
            future.add_done_callback(move |value| {
                assert_eq!(*value.unwrap(), 2 * n);
                calls.fetch_add(1, Ordering::Relaxed);
            });
        }
        future.wait();
    }
    assert_eq!(calls.load(Ordering::Relaxed) as u64, 3 * ROUNDS);
}

fn two_cancels_meet<K: Kind>() {
    let pool = K::pool(1);
    for n in 0..ROUNDS / 5 {
        let future = pool.submit(double, n);
        let answers = thread::scope(|scope| {
            let other = scope.spawn(|| future.cancel());
            [future.cancel(), other.join().unwrap()]
        });
        future.wait();
        // Whichever came first, a future that was ever said to be cancelled is.
        let any = answers.contains(&true);
        assert_eq!(any, future.cancelled(), "{answers:?}");
    }
    assert_works(&pool);
}

fn submit_meets_shutdown<K: Kind>() {
    for _ in 0..20 {
        let pool = K::pool(2);
        let (sender, futures) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..100 {
                    sender.send((n, pool.submit(double, n))).unwrap();
                }
                drop(sender);
            });
            pool.shutdown(Shutdown::wait().cancel_futures());
        });
        for (n, future) in futures {
            assert!(future.done(), "all accepted work is over");
            match future.result() {
                Ok(value) => assert_eq!(value, 2 * n),
                other => assert_error!(other, Error::Cancelled | Error::ShutDown),
            }
        }
        assert_eq!(pool.stats().workers, 0);
    }
}

fn drop_of_the_future_meets_finish<K: Kind>() {
    let pool = K::pool(2);
    for n in 0..ROUNDS {
        drop(pool.submit(double, n));
        drop(pool.submit(double, n).cancel_on_drop());
    }
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!(stats.completed + stats.cancelled, 2 * ROUNDS, "{stats:?}");
    assert!(stats.completed >= ROUNDS, "{stats:?}");
}
