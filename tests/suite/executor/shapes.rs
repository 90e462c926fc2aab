//! Executors behind `Box`, `Arc` and `&`, and those of one's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use concurrent_futures::{Error, Executor, Shutdown, Stats, Task, TaskOptions};
use libtest_mimic::Trial;

use crate::support::tasks::double;
use crate::support::{Kind, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        box_arc_and_reference_submit_alike::<K>,
        an_executor_of_ones_own_can_forward::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_task_that_is_dropped_is_cancelled::<K>,
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
