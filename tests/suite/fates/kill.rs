//! `Future::kill` on a running task.

use concurrent_futures::{Error, Executor};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_running_task_is_killed_and_the_queue_runs,
        a_killed_task_leaves_its_neighbours_alone,
        nothing_of_a_killed_task_runs_after_its_result,
    ]
}

fn a_running_task_is_killed_and_the_queue_runs() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let pid = pool.worker_pids()[0];
    let queued = pool.submit(double, 4);
    assert!(running.kill());
    running.wait();
    assert!(running.cancelled());
    assert!(!os::exists(pid), "it is reaped when the future settles");
    assert_error!(running.result(), Error::Cancelled);
    assert_eq!(queued.result().unwrap(), 8);
    assert_ne!(pool.submit(own_pid, ()).result().unwrap(), pid);
    let stats = pool.stats();
    assert_eq!(
        (stats.cancelled, stats.worker_restarts),
        (1, 1),
        "{stats:?}"
    );
}

fn a_killed_task_leaves_its_neighbours_alone() {
    let pool = Processes::pool(2);
    let (first, second) = (Hold::new(), Hold::new());
    let victim = pool.submit(hold, first.argument());
    first.await_begun();
    let neighbour = pool.submit(hold, second.argument());
    let pid = second.await_begun();
    assert!(victim.kill());
    assert_error!(victim.result(), Error::Cancelled);
    assert!(neighbour.running());
    second.release();
    assert_eq!(neighbour.result().unwrap(), pid);
}

fn nothing_of_a_killed_task_runs_after_its_result() {
    /// Lights the second lamp as soon as the gate opens.
    fn go_on((held, lamp): (crate::support::gate::Held, Lamp)) {
        hold(held);
        lamp.light();
    }
    let pool = Processes::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let future = pool.submit(go_on, (held.argument(), ran.lamp()));
    held.await_begun();
    assert!(future.kill());
    assert_error!(future.result(), Error::Cancelled);
    held.release();
    assert_works(&pool);
    assert!(!ran.is_lit());
}
