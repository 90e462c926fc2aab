//! What only the caller's own stack does.

use std::thread;

use concurrent_futures::{SerialExecutor, current_worker};
use libtest_mimic::Trial;

use crate::support::gate::Beacon;
use crate::support::tasks::{double, light};
use crate::support::{Kind, Serial, trials};

pub fn trials() -> Vec<Trial> {
    trials![Serial::NAME;
        a_serial_task_runs_inside_submit,
        serial_tasks_nest,
        serial_tasks_capture,
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
