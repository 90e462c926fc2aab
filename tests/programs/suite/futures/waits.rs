//! A table: every way of waiting for a future, ended in every way.

use std::sync::mpsc;
use std::thread;

use concurrent_futures::{Error, Executor, Future, ReturnWhen, Shutdown, as_completed, wait};
use libtest_mimic::Trial;

use super::scene::{End, Scene, Stand, end_of};
use crate::support::asynchronous::block_on;
use crate::support::{Kind, LONG, trial};

type Waiter = fn(Future<u32>) -> Result<u32, Error>;

/// Ways of waiting for an outcome.
const WAITERS: [(&str, Waiter); 10] = [
    ("result", Future::result),
    ("result_timeout", |mut future| future.result_timeout(LONG)),
    ("exception", |future| match future.exception() {
        Some(error) => Err(error),
        None => future.result(),
    }),
    ("wait", |future| {
        future.wait();
        future.result()
    }),
    ("wait_timeout", |future| {
        assert!(future.wait_timeout(LONG));
        future.result()
    }),
    ("callback", |future| {
        let (sender, called) = mpsc::channel();
        future.add_done_callback(move |outcome| {
            let outcome = outcome.copied().map_err(Error::clone);
            sender.send(outcome).unwrap();
        });
        called.recv().unwrap()
    }),
    ("await", block_on),
    ("guarded", |future| future.cancel_on_drop().result()),
    ("as_completed", |future| {
        as_completed([future]).next().unwrap().result()
    }),
    ("wait_for_many", |future| {
        let mut waited = wait([future], None, ReturnWhen::AllCompleted);
        waited.done.pop().unwrap().result()
    }),
];

/// A way to end a wait: its name, where the task stands at first, whether it fails, what
/// happens, what the waiter gets.
type Ending<K> = (&'static str, Stand, bool, fn(&Scene<K>), End);

fn endings<K: Kind>() -> [Ending<K>; 5] {
    let release = |scene: &Scene<K>| scene.held.release();
    let shut_down = |scene: &Scene<K>| {
        scene.pool.shutdown(Shutdown::no_wait().cancel_futures());
    };
    [
        ("value", Stand::Pending, false, release, End::Value),
        (
            "value_of_a_running_task",
            Stand::Running,
            false,
            release,
            End::Value,
        ),
        ("panic", Stand::Pending, true, release, End::Panic),
        (
            "panic_of_a_running_task",
            Stand::Running,
            true,
            release,
            End::Panic,
        ),
        ("shutdown", Stand::Pending, false, shut_down, End::Cancelled),
    ]
}

/// Every way of waiting, ended in every way.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (waiter_name, waiter) in WAITERS {
        for (name, stand, fails, happens, end) in endings::<K>() {
            let name = format!("{}::{waiter_name}_ends_with_a_{name}", K::NAME);
            trials.push(trial(name, move || {
                let (scene, future) = Scene::<K>::set_with(stand, fails);
                let outcome = thread::scope(|scope| {
                    let waiting = scope.spawn(|| waiter(future));
                    happens(&scene);
                    waiting.join().unwrap()
                });
                assert_eq!(end_of(&outcome), end);
            }));
        }
    }
    trials
}
