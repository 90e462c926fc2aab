//! What only the caller's own stack does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use concurrent_futures::{Executor, Retry, SerialExecutor, Shutdown, current_worker};
use libtest_mimic::Trial;

use crate::support::asynchronous::{Wakes, poll_once};
use crate::support::gate::Beacon;
use crate::support::tasks::{double, light};
use crate::support::{Kind, Serial, trials};

pub fn trials() -> Vec<Trial> {
    trials![Serial::NAME;
        a_serial_task_runs_inside_submit,
        serial_tasks_nest,
        serial_tasks_capture,
        the_end_is_not_told_before_a_further_attempt,
    ]
}

fn a_serial_task_runs_inside_submit() {
    let pool = SerialExecutor::new();
    let here = thread::current().id();
    let beacon = Beacon::new();
    let future = pool.submit(light, beacon.lamp());
    assert!(beacon.is_lit() && future.done());
    let thread = pool.submit(|()| format!("{:?}", thread::current().id()), ());
    assert_eq!(thread.result().unwrap(), format!("{here:?}"));
}

fn serial_tasks_nest() {
    let pool = SerialExecutor::new();
    let nested = pool.submit(
        |n| {
            let inner = SerialExecutor::new().submit(double, n).result().unwrap();
            (inner, current_worker().unwrap().tasks_run())
        },
        4,
    );
    assert_eq!(nested.result().unwrap(), (8, 1));
    assert!(current_worker().is_none());
}

fn the_end_is_not_told_before_a_further_attempt() {
    thread_local! {
        static SCENE: (SerialExecutor, Wakes) = (SerialExecutor::new(), Wakes::new());
    }
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    /// Shuts down in the first attempt; returns the number of the attempt, and whether the end was told.
    fn attempt((): ()) -> (u32, bool) {
        SCENE.with(|(pool, wakes)| {
            pool.shutdown(Shutdown::no_wait());
            let number = 1 + ATTEMPTS.fetch_add(1, Ordering::Relaxed);
            (number, wakes.is_woken())
        })
    }
    SCENE.with(|(pool, wakes)| {
        let mut closed = pool.closed();
        assert!(poll_once(&mut closed, wakes).is_pending());
        let retry = Retry::new(1).when(|(number, _): &(u32, bool)| *number == 1);
        let future = pool.submit_retrying(retry, attempt, ());
        assert_eq!(future.result().unwrap(), (2, false));
        assert!(wakes.is_woken() && poll_once(&mut closed, wakes).is_ready());
    });
}

fn serial_tasks_capture() {
    let pool = SerialExecutor::new();
    let words = std::sync::Arc::new(vec!["threads", "share", "memory"]);
    let (mine, his) = (words.clone(), words.clone());
    let length = pool.submit(move |at: usize| mine[at].len(), 1);
    assert_eq!(length.result().unwrap(), 5);
    let lengths = pool.map(move |at: usize| his[at].len(), 0..3);
    assert_eq!(lengths.collect::<Result<Vec<_>, _>>().unwrap(), [7, 5, 6]);
    let count = pool.spawn(move || words.len());
    assert_eq!(count.result().unwrap(), 3);
    let offset = 10;
    let keyed = pool.map_keyed(move |n: u64| n + offset, [('a', 1), ('b', 2)]);
    assert!(keyed.eq([('a', Ok(11)), ('b', Ok(12))]));
    let offset = 10;
    for (index, sum) in pool.map_unordered(move |n| n + offset, 0..3_usize) {
        assert_eq!(sum.unwrap(), index + 10);
    }
}
