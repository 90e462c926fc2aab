//! Executors behind `Box`, `Arc` and `&`, and those of one's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use concurrent_futures::{Error, Executor, Future, Shutdown, Stats, Task, TaskOptions};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::gate::{Beacon, Lamp};
use crate::support::tasks::{double, light};
use crate::support::{Kind, Processes, assert_error, assert_works, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        box_arc_and_reference_submit_alike::<K>,
        an_executor_of_ones_own_can_forward::<K>,
        what_is_cancelled_while_it_is_held_back_never_runs::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_task_that_is_dropped_is_cancelled::<K>,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        what_is_cancelled_while_it_is_encoded_never_runs,
    ]
}

fn sum_of_squares(executor: &impl Executor) -> u64 {
    let squares = executor.map(|n: u64| n * n, 1..=10);
    squares.map(Result::unwrap).sum()
}

fn box_arc_and_reference_submit_alike<K: Kind>() {
    let boxed: Box<dyn Executor> = Box::new(K::pool(2));
    assert_eq!(boxed.submit(double, 1).result().unwrap(), 2);
    assert_eq!(sum_of_squares(&boxed), 385);
    assert!(boxed.max_workers() >= 1);
    boxed.shutdown(Shutdown::wait());
    assert_error!(boxed.submit(double, 1).result(), Error::ShutDown);

    let shared: Arc<dyn Executor> = Arc::new(K::pool(2));
    assert_eq!(shared.submit(double, 2).result().unwrap(), 4);
    assert_eq!(sum_of_squares(&shared), 385);
    assert_eq!(shared.stats().completed, 11);

    let pool = K::pool(2);
    let plain: &dyn Executor = &pool;
    assert_eq!((&plain).submit(double, 3).result().unwrap(), 6);
    assert_eq!(sum_of_squares(&plain), 385);
    assert_eq!(sum_of_squares(&&pool), 385);
}

/// Hands every other task on, and fails the rest.
struct Picky<E>(E, std::sync::atomic::AtomicBool);

impl<E: Executor> Executor for Picky<E> {
    fn max_workers(&self) -> usize {
        self.0.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.0.shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn execute(&self, task: Task) {
        if self.1.fetch_not(Ordering::Relaxed) {
            self.0.execute(task);
        } else {
            task.fail(Error::Unsupported("every other task".into()));
        }
    }
}

fn an_executor_of_ones_own_can_forward<K: Kind>() {
    let picky = Picky(K::pool(1), true.into());
    assert_eq!(picky.submit(double, 1).result().unwrap(), 2);
    assert_error!(picky.submit(double, 1).result(), Error::Unsupported(_));
    assert_eq!(picky.submit(double, 3).result().unwrap(), 6);
    let stats = picky.stats();
    assert_eq!((stats.completed, stats.failed), (2, 0), "{stats:?}");
}

/// Keeps tasks until it is dropped.
#[derive(Default)]
struct Drawer(std::sync::Mutex<Vec<Task>>);

impl Executor for Drawer {
    fn max_workers(&self) -> usize {
        1
    }

    fn shutdown(&self, _: Shutdown) {}

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn execute(&self, task: Task) {
        self.0.lock().unwrap().push(task);
    }
}

/// Whether any of these tasks runs, by which a lamp was lit if so, ahead of one more.
fn run_behind<K: Kind>(tasks: Vec<Task>, beacon: &Beacon) -> bool {
    let pool = K::pool(1);
    for task in tasks {
        pool.execute(task);
    }
    assert_works(&pool);
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (1, 0), "{stats:?}");
    beacon.is_lit()
}

fn what_is_cancelled_while_it_is_held_back_never_runs<K: Kind>() {
    let (drawer, beacon) = (Drawer::default(), Beacon::new());
    let cancelled = drawer.submit(light, beacon.lamp());
    let dropped = drawer.submit(light, beacon.lamp()).cancel_on_drop();
    assert!(cancelled.cancel());
    drop(dropped);
    // A number stays what it is until it is sent.
    let number = drawer.submit(double, 4);
    assert!(number.cancel());
    let tasks = std::mem::take(&mut *drawer.0.lock().unwrap());
    assert!(!run_behind::<K>(tasks, &beacon));
    for cancels in [cancelled.cancel(), number.cancel()] {
        assert!(cancels, "also when asked again");
    }
    assert!(cancelled.cancelled() && number.cancelled());
    assert_error!(cancelled.result(), Error::Cancelled);
}

/// What its own encoding cancels.
static REGRETTED: std::sync::Mutex<Option<Future<()>>> = std::sync::Mutex::new(None);

/// Cancels [`REGRETTED`] as it is encoded.
#[derive(Deserialize)]
struct Regret;

impl Serialize for Regret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // It may be asked for its size before.
        if let Some(future) = REGRETTED.lock().unwrap().take() {
            assert!(future.cancel());
        }
        serializer.serialize_unit_struct("Regret")
    }
}

fn what_is_cancelled_while_it_is_encoded_never_runs() {
    let (drawer, beacon) = (Drawer::default(), Beacon::new());
    let task = |(_, lamp): (Regret, Lamp)| lamp.light();
    let future = drawer.submit(task, (Regret, beacon.lamp()));
    *REGRETTED.lock().unwrap() = Some(future);
    let tasks = std::mem::take(&mut *drawer.0.lock().unwrap());
    assert!(!run_behind::<Processes>(tasks, &beacon));
}

fn a_task_that_is_dropped_is_cancelled<K: Kind>() {
    let drawer = Drawer::default();
    let pool = K::pool(1);
    let options = TaskOptions::new().name("third");
    let futures = [
        drawer.submit(double, 1),
        drawer.submit(double, 2),
        drawer.submit_with(options, double, 3),
        drawer.submit(double, 4),
    ];
    let mut tasks = std::mem::take(&mut *drawer.0.lock().unwrap());
    assert_eq!(tasks[2].id(), futures[2].id());
    assert!(futures[3].cancel());
    pool.execute(tasks.pop().unwrap());
    pool.execute(tasks.pop().unwrap());
    tasks.pop().unwrap().run();
    assert!(futures[1].done() && !futures[0].done());
    drop(tasks);
    let [first, second, third, fourth] = futures;
    assert!(first.cancelled());
    assert_error!(first.result(), Error::Cancelled);
    assert_eq!(second.result().unwrap(), 4);
    assert_eq!(third.result().unwrap(), 6);
    assert_error!(fourth.result(), Error::Cancelled);
}
