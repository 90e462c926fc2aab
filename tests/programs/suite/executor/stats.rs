//! What `stats` tells of an executor.

use concurrent_futures::Executor;
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        stats_count_what_came_of_tasks::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        stats_tell_running_from_pending::<K>,
        a_worker_is_idle_once_its_task_is_settled::<K>,
    ]
}

fn stats_count_what_came_of_tasks<K: Kind>() {
    let pool = K::pool(1);
    pool.submit(double, 1).result().unwrap();
    pool.submit(double, 2).result().unwrap();
    assert!(pool.submit(fail, "c".into()).result().is_err());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (2, 1), "{stats:?}");
    assert_eq!(
        (stats.cancelled, stats.worker_restarts),
        (0, 0),
        "{stats:?}"
    );
    assert_eq!((stats.running, stats.pending), (0, 0), "{stats:?}");
}

fn stats_tell_running_from_pending<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let queued = [1, 2, 3].map(|n| pool.submit(double, n));
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.idle), (1, 0), "{stats:?}");
    assert_eq!((stats.running, stats.pending), (1, 3), "{stats:?}");
    assert!(queued[1].cancel());
    let stats = pool.stats();
    assert_eq!((stats.pending, stats.cancelled), (2, 1), "{stats:?}");
    held.release();
    running.result().unwrap();
    for future in queued {
        future.wait();
    }
    let stats = pool.stats();
    assert_eq!((stats.running, stats.pending), (0, 0), "{stats:?}");
    assert_eq!((stats.completed, stats.cancelled), (3, 1), "{stats:?}");
}

fn a_worker_is_idle_once_its_task_is_settled<K: Kind>() {
    let pool = K::pool(2);
    for n in 0..200 {
        pool.submit(double, n).result().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.workers, stats.idle), (1, 1), "{stats:?}");
        assert_eq!(stats.completed, n + 1, "{stats:?}");
    }
}
