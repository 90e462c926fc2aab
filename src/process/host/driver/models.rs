//! Models of the leader lock and its hand-over, checked by loom: waiters, a worker, and the driver's thread,
//! on a queue on the heap.

use std::sync::Arc;

use loom::thread;

use super::*;
use crate::future::state::Watcher;
use crate::process::shm::queue::heap::{Heap, HeapView, immortal};
use crate::process::shm::queue::{Claim, Finish, SlotKind, SlotPublish};
use crate::remote::function::FunctionRef;
use crate::sync::{Condvar, lock};

/// A pool with a task in each slot.
struct Pool {
    /// The queue that the tasks lie in.
    queue: ShmQueue<HeapView>,
    /// The driver under test.
    driver: CompletionDriver<Pool>,
    /// What is known of the task in each slot.
    tasks: Mutex<[ModelTask; 2]>,
}

/// A task, as its future sees it.
#[derive(Default)]
struct ModelTask {
    /// Whether its outcome was collected.
    is_over: bool,
    /// Whether a callback must learn of the outcome, though no thread waits.
    has_listeners: bool,
    /// The watchers to call when it is over.
    watchers: Vec<(WatchKey, Watcher)>,
}

/// A wait for the task in the slot of that number.
struct ModelWait<'a>(&'a Pool, usize);

impl Pool {
    /// Makes a pool with `tasks` tasks published.
    fn new(heap: &Arc<Heap>, tasks: usize) -> Arc<Self> {
        let pool = Arc::new_cyclic(|me| Self {
            queue: immortal(heap),
            driver: CompletionDriver::new(me.clone()),
            tasks: Mutex::new(Default::default()),
        });
        let call = FunctionRef::from_numbers([1, 2, 3]);
        for slot in 0..tasks {
            let published = pool.queue.publish(slot, SlotKind::Argument, call, &[1]);
            assert!(matches!(published, SlotPublish::Published(_)));
        }
        pool
    }

    /// Registers a callback for a task's end.
    fn hook(&self, slot: usize) {
        lock(&self.tasks)[slot].has_listeners = true;
        self.driver.call();
    }

    /// Ends a task without the queue.
    fn cancel(&self, slot: usize) {
        let mut tasks = lock(&self.tasks);
        let watchers = tasks[slot].end();
        drop(tasks);
        call_all(watchers);
    }

    /// Waits, as a future does.
    fn wait(&self, slot: usize) {
        let wait = ModelWait(self, slot);
        while !wait.is_over() {
            assert_eq!(
                self.driver.drive_until(self, &wait, Deadline::never()),
                Drive::Recheck
            );
        }
    }

    /// Ends the driver; no other thread uses it any more.
    fn end(&self) {
        self.driver.end();
        assert!(self.driver.join(Deadline::never()));
    }
}

impl ModelTask {
    /// Notes that the outcome is there. Returns the watchers to call.
    fn end(&mut self) -> Vec<(WatchKey, Watcher)> {
        self.is_over = true;
        std::mem::take(&mut self.watchers)
    }
}

fn call_all(watchers: Vec<(WatchKey, Watcher)>) {
    for (_, watcher) in watchers {
        watcher();
    }
}

impl CompletionSource for Pool {
    type Memory = HeapView;

    fn queue(&self) -> &ShmQueue<HeapView> {
        &self.queue
    }
    fn driver(&self) -> &CompletionDriver<Self> {
        &self.driver
    }
    fn collect(&self, _: CollectedBy) -> usize {
        if !self.queue.has_done() {
            return 0;
        }
        let (mut watchers, mut collected) = (Vec::new(), 0);
        let mut tasks = lock(&self.tasks);
        self.queue.take_done(|slot| {
            collected += 1;
            watchers.extend(tasks[slot].end());
        });
        drop(tasks);
        call_all(watchers);
        collected
    }
    fn sweep(&self) -> bool {
        false
    }
    fn demand(&self) -> Demand {
        let tasks = lock(&self.tasks);
        match tasks.iter().any(|task| task.has_listeners && !task.is_over) {
            true => Demand::Now,
            false => Demand::None,
        }
    }
    fn reclaim(&self) -> Deadline {
        Deadline::never()
    }
    fn audit_at(&self) -> Instant {
        Instant::now()
    }
    fn audit_if_due(&self) {}
}

impl Waiter for ModelWait<'_> {
    fn is_over(&self) -> bool {
        lock(&self.0.tasks)[self.1].is_over
    }
    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool {
        let task = &mut lock(&self.0.tasks)[self.1];
        if !task.is_over {
            task.watchers.push((key, watcher));
        }
        !task.is_over
    }
    fn unwatch(&self, key: WatchKey) {
        let task = &mut lock(&self.0.tasks)[self.1];
        task.watchers.retain(|(other, _)| *other != key);
    }
}

/// Starts a worker that runs `tasks` tasks, which are already published.
fn worker(heap: &Arc<Heap>, tasks: usize) -> thread::JoinHandle<()> {
    let queue = immortal(heap);
    thread::spawn(move || {
        let mut argument = Vec::new();
        for _ in 0..tasks {
            let Claim::Task(place, _) = queue.claim(0, &mut argument) else {
                panic!("there is a task")
            };
            assert_eq!(
                queue.finish(place, 0, SlotKind::Value, &[2]),
                Finish::Published
            );
        }
    })
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

#[test]
fn a_waiter_in_the_seat_hears_of_its_outcome() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let pool = Pool::new(&heap, 1);
        let worker = worker(&heap, 1);
        pool.wait(0);
        worker.join().unwrap();
        pool.end();
    });
}

#[test]
fn a_waiter_in_the_seat_hears_of_an_end_elsewhere() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let pool = Pool::new(&heap, 1);
        let canceller = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.cancel(0))
        };
        pool.wait(0);
        canceller.join().unwrap();
        pool.end();
    });
}

#[test]
fn a_waiter_that_found_no_seat_hears_of_its_outcome() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let pool = Pool::new(&heap, 2);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.wait(1))
        };
        let worker = worker(&heap, 2);
        pool.wait(0);
        other.join().unwrap();
        worker.join().unwrap();
        pool.end();
    });
}

#[test]
fn a_callback_hears_though_the_waiter_leaves_the_seat() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let pool = Pool::new(&heap, 2);
        let (told, heard) = (Arc::new(Mutex::new(false)), Arc::new(Condvar::new()));
        let watcher = {
            let (told, heard) = (Arc::clone(&told), Arc::clone(&heard));
            Box::new(move || {
                *lock(&*told) = true;
                heard.notify_one();
            })
        };
        assert!(ModelWait(&pool, 1).watch(WatchKey::fresh(), watcher));
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.wait(0))
        };
        pool.hook(1);
        let worker = worker(&heap, 2);
        let mut has_heard = lock(&*told);
        while !*has_heard {
            has_heard = sync::sleep(&heard, has_heard);
        }
        drop(has_heard);
        waiter.join().unwrap();
        worker.join().unwrap();
        pool.end();
    });
}
