//! Scopes: tasks that borrow what their submitter owns.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, SerialExecutor, Shutdown, TaskOptions, ThreadPoolExecutor,
    current_worker,
};
use libtest_mimic::Trial;

use crate::support::asynchronous::block_on;
use crate::support::{Kind, Serial, Threads, trials};

pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        scoped_tasks_borrow_and_so_do_their_results,
        scoped_maps_borrow_and_keep_order,
        a_scope_waits_for_tasks_whose_futures_are_forgotten,
        a_scope_waits_for_the_items_of_a_map_that_is_forgotten,
        a_scope_waits_for_a_task_that_is_over_its_time_limit,
        a_scope_whose_body_panics_waits_and_begins_nothing_more,
        a_scope_in_a_drop_during_a_panic_runs_its_tasks,
        a_scoped_task_that_is_cancelled_drops_what_it_has_captured,
        a_scoped_task_that_panics_harms_no_other,
        a_scoped_map_that_is_dropped_cancels_what_has_not_begun,
        a_scoped_map_refuses_options,
        a_scoped_future_is_awaited,
        scoped_tasks_submit_to_their_scope,
        scopes_end_with_a_pool_that_was_shut_down,
        scopes_nest_in_one_worker,
        scoped_maps_nest_in_one_worker,
        what_a_scope_runs_in_its_own_worker_is_counted,
        a_request_to_stop_reaches_the_task_around_a_scope,
        a_deadlock_is_found_through_a_scope_of_another_pool,
        a_deadlock_is_found_through_a_task_that_runs_inside_another,
    ]
}

pub fn serial() -> Vec<Trial> {
    trials![Serial::NAME;
        serial_scopes_borrow,
    ]
}

fn scoped_tasks_borrow_and_so_do_their_results() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let words = [String::from("in"), String::from("place")];
    let mut counts = [0; 2];
    let longest = pool.scope(|scope| {
        for (count, word) in counts.iter_mut().zip(&words) {
            drop(scope.spawn(move || *count = word.len()));
        }
        let longest = scope.submit(
            |words: &[String; 2]| words.iter().max_by_key(|word| word.len()).unwrap(),
            unbound(&words),
        );
        longest.result().unwrap()
    });
    assert_eq!(counts, [2, 5]);
    assert!(std::ptr::eq(longest, &words[1]));
}

/// So that the closure above may return what it is given.
fn unbound<T>(value: T) -> T {
    value
}

fn scoped_maps_borrow_and_keep_order() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let texts: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let offset = 7;
    for options in [
        MapOptions::new(),
        MapOptions::new().chunksize(7).buffersize(20),
    ] {
        let lengths: Vec<usize> = pool.scope(|scope| {
            let map = scope.map_with(options, |text: &String| text.len() + offset, &texts);
            assert_eq!(map.len(), 1000);
            map.collect::<Result<_, _>>().unwrap()
        });
        assert!(
            lengths
                .into_iter()
                .eq(texts.iter().map(|text| text.len() + 7))
        );
    }
}

/// The body has returned, although the thread unwinds.
fn a_scope_in_a_drop_during_a_panic_runs_its_tasks() {
    struct Last<'a>(&'a ThreadPoolExecutor, &'a AtomicUsize);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            self.0.scope(|scope| {
                for _ in 0..100 {
                    drop(scope.spawn(|| self.1.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
    }
    let (pool, ended) = (ThreadPoolExecutor::new(1).unwrap(), AtomicUsize::new(0));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let _last = Last(&pool, &ended);
        resume_unwind(Box::new("on purpose"));
    }));
    assert!(outcome.is_err());
    assert_eq!(ended.load(Ordering::Relaxed), 100);
}

fn a_scope_waits_for_tasks_whose_futures_are_forgotten() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let ended = AtomicUsize::new(0);
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    pool.scope(|scope| {
        for _ in 0..10 {
            let future = scope.spawn(|| {
                let _ = gate.lock().unwrap().recv();
                dawdle();
                ended.fetch_add(1, Ordering::Relaxed);
            });
            std::mem::forget(future);
        }
        drop(go);
    });
    assert_eq!(ended.load(Ordering::Relaxed), 10);
}

/// Gives other threads time to go wrong.
fn dawdle() {
    for _ in 0..1000 {
        thread::yield_now();
    }
}

fn a_scope_waits_for_the_items_of_a_map_that_is_forgotten() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    pool.scope(|scope| {
        let item = |_: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            dawdle();
            ended.fetch_add(1, Ordering::Relaxed);
        };
        let mut map = scope.map(item, 0..100);
        assert!(matches!(map.next(), Some(Ok(()))));
        std::mem::forget(map);
    });
    let (begun, ended) = (begun.into_inner(), ended.into_inner());
    assert!(begun == ended && begun > 1, "{begun} begun, {ended} ended");
}

fn a_scope_waits_for_a_task_that_is_over_its_time_limit() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let options = TaskOptions::new().timeout(Duration::from_millis(5));
    let mut has_ended = false;
    let (go, gate) = mpsc::channel::<()>();
    pool.scope(|scope| {
        let task = |gate: mpsc::Receiver<()>| {
            let _ = gate.recv();
            dawdle();
            has_ended = true;
        };
        let late = scope.submit_with(options, task, gate);
        assert!(matches!(late.result(), Err(Error::TaskTimeout { .. })));
        drop(go);
    });
    assert!(has_ended);
}

fn a_scope_whose_body_panics_waits_and_begins_nothing_more() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let mut has_ended = false;
    let others = AtomicUsize::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        pool.scope(|scope| {
            let (go, gate) = mpsc::channel::<()>();
            let (begun, has_begun) = mpsc::channel();
            let has_ended = &mut has_ended;
            drop(scope.spawn(move || {
                begun.send(()).unwrap();
                // Until the body has panicked, which drops `go`.
                let _ = gate.recv();
                dawdle();
                *has_ended = true;
            }));
            for _ in 0..10 {
                drop(scope.spawn(|| others.fetch_add(1, Ordering::Relaxed)));
            }
            has_begun.recv().unwrap();
            // Kept until here by the body alone.
            let _go = go;
            panic!("on purpose");
        })
    }));
    assert!(outcome.is_err() && has_ended);
    assert_eq!(others.into_inner(), 0);
}

fn a_scoped_task_that_is_cancelled_drops_what_it_has_captured() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let captured = Arc::new(());
    let (go, gate) = mpsc::channel::<()>();
    pool.scope(|scope| {
        let busy = scope.spawn(|| gate.into_iter().count());
        let copy = Arc::clone(&captured);
        let queued = scope.spawn(move || Arc::strong_count(&copy));
        assert!(queued.cancel() && queued.cancelled());
        assert_eq!(Arc::strong_count(&captured), 1);
        assert!(matches!(queued.result(), Err(Error::Cancelled)));
        drop(go);
        assert_eq!(busy.result().unwrap(), 0);
    });
}

fn a_scoped_task_that_panics_harms_no_other() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let zero = 0;
    let error = pool.scope(|scope| {
        let fails = scope.submit_with(TaskOptions::new().name("divide"), |n: u32| n / zero, 1);
        let works = scope.spawn(|| zero + 1);
        assert_eq!(works.result().unwrap(), 1);
        fails.exception().unwrap()
    });
    let Error::Panicked(panic) = error else {
        panic!("{error}")
    };
    let task = panic.task().unwrap();
    assert_eq!(task.name(), Some("divide"));
    assert!(task.location().file().ends_with("scopes.rs"), "{task}");
    let function = task.function().unwrap();
    assert!(function.contains("a_scoped_task_that_panics"), "{function}");
    let item = pool.scope(|scope| scope.map(|n: u32| n / zero, [1]).next().unwrap());
    let Err(Error::Panicked(panic)) = item else {
        panic!("{item:?}")
    };
    let task = panic.task().unwrap();
    assert!(task.location().file().ends_with("scopes.rs"), "{task}");
    let function = task.function().unwrap();
    assert!(function.contains("a_scoped_task_that_panics"), "{function}");
}

fn a_scoped_map_that_is_dropped_cancels_what_has_not_begun() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let begun = AtomicUsize::new(0);
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    pool.scope(|scope| {
        let item = |_: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            let _ = gate.lock().unwrap().recv();
        };
        let mut map = scope.map_with(MapOptions::new().chunksize(10), item, 0..100);
        go.send(()).unwrap();
        assert!(matches!(map.next(), Some(Ok(()))));
        drop(map);
        drop(go);
    });
    assert!(begun.into_inner() <= 2);
}

fn a_scoped_map_refuses_options() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let options = MapOptions::new().chunksize(0);
    pool.scope(|scope| {
        let mut map = scope.map_with(options, |n: u8| n, [1, 2, 3]);
        assert!(matches!(map.next(), Some(Err(Error::InvalidConfig(_)))));
        assert!(map.next().is_none());
    });
}

fn a_scoped_future_is_awaited() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let text = String::from("awaited");
    let length = pool.scope(|scope| block_on(scope.spawn(|| text.len())));
    assert_eq!(length.unwrap(), 7);
    let mut late = pool.scope(|scope| scope.spawn(|| 8));
    assert_eq!(late.result_timeout(Duration::from_secs(60)).unwrap(), 8);
    assert!(matches!(late.result(), Err(Error::Taken)));
}

fn scoped_tasks_submit_to_their_scope() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let count = AtomicUsize::new(0);
    pool.scope(|scope| {
        for _ in 0..10 {
            drop(scope.spawn(|| {
                for _ in 0..10 {
                    drop(scope.spawn(|| count.fetch_add(1, Ordering::Relaxed)));
                }
            }));
        }
    });
    assert_eq!(count.into_inner(), 100);
}

fn scopes_end_with_a_pool_that_was_shut_down() {
    for (how, cancels) in [
        (Shutdown::no_wait(), false),
        (Shutdown::no_wait().cancel_futures(), true),
        (Shutdown::wait(), false),
    ] {
        let pool = ThreadPoolExecutor::new(1).unwrap();
        let count = AtomicUsize::new(0);
        pool.scope(|scope| {
            for _ in 0..100 {
                drop(scope.spawn(|| count.fetch_add(1, Ordering::Relaxed)));
            }
            pool.shutdown(how);
            let refused = scope.spawn(|| count.load(Ordering::Relaxed));
            assert!(matches!(refused.result(), Err(Error::ShutDown)));
            let mut refused = scope.map(|n: &AtomicUsize| n.load(Ordering::Relaxed), [&count]);
            assert!(matches!(refused.next(), Some(Err(Error::ShutDown))));
        });
        let count = count.into_inner();
        assert!(count == 100 || cancels, "{count}");
    }
}

/// Adds by scopes in scopes, and waits for results.
fn sum(pool: &ThreadPoolExecutor, numbers: &[u64]) -> Result<u64, Error> {
    let ([_, _, ..], (left, right)) = (numbers, numbers.split_at(numbers.len() / 2)) else {
        return Ok(numbers.iter().sum());
    };
    pool.scope(|scope| {
        let left = scope.spawn(|| sum(pool, left));
        Ok(sum(pool, right)? + left.result()??)
    })
}

/// Adds one to each number by scopes in scopes, and waits for nothing but their ends.
fn increment(pool: &ThreadPoolExecutor, numbers: &mut [u64]) {
    if let [one] = numbers {
        *one += 1;
        return;
    }
    let (left, right) = numbers.split_at_mut(numbers.len() / 2);
    pool.scope(|scope| {
        drop(scope.spawn(|| increment(pool, left)));
        drop(scope.spawn(|| increment(pool, right)));
    });
}

fn scopes_nest_in_one_worker() {
    for workers in [1, 2] {
        let pool = ThreadPoolExecutor::new(workers).unwrap();
        let mut numbers: Vec<u64> = (0..300).collect();
        assert_eq!(sum(&pool, &numbers).unwrap(), 44_850);
        pool.scope(|scope| {
            drop(scope.spawn(|| increment(&pool, &mut numbers)));
        });
        assert!(numbers.into_iter().eq(1..=300));
    }
}

fn scoped_maps_nest_in_one_worker() {
    for workers in [1, 2] {
        let pool = ThreadPoolExecutor::new(workers).unwrap();
        let numbers: Vec<u64> = (0..3000).collect();
        let part = |part: &[u64]| {
            pool.scope(|scope| {
                let doubled = scope.map(|number: &u64| 2 * number, part);
                doubled.sum::<Result<u64, _>>().unwrap()
            })
        };
        let total = pool.scope(|scope| {
            let totals = scope.map(part, numbers.chunks(500));
            totals.sum::<Result<u64, _>>().unwrap()
        });
        assert_eq!(total, 2999 * 3000);
    }
}

fn what_a_scope_runs_in_its_own_worker_is_counted() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let stats = Mutex::new(pool.stats());
    let outer = pool.scope(|outer| {
        outer
            .spawn(|| {
                pool.scope(|scope| {
                    for n in 0..3 {
                        drop(scope.spawn(move || assert_ne!(n, 1)));
                    }
                    drop(scope.spawn(|| *stats.lock().unwrap() = pool.stats()));
                });
                current_worker().unwrap().index()
            })
            .result()
    });
    assert_eq!(outer.unwrap(), 0);
    let stats = stats.into_inner().unwrap();
    assert_eq!((stats.running, stats.pending), (2, 0));
    assert_eq!((stats.completed, stats.failed), (2, 1));
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (4, 1));
    assert_eq!((stats.running, stats.pending), (0, 0));
}

fn a_request_to_stop_reaches_the_task_around_a_scope() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let (begun, has_begun) = mpsc::channel();
    let its_pool = pool.clone();
    let is_asked = || current_worker().unwrap().cancel_requested();
    let outer = pool.spawn(move || {
        let inner = Mutex::new(None);
        its_pool.scope(|scope| {
            drop(scope.spawn(|| {
                let gate = gate;
                begun.send(()).unwrap();
                let _ = gate.recv();
                *inner.lock().unwrap() = Some(is_asked());
            }));
            drop(scope.spawn(|| ()));
        });
        (inner.into_inner().unwrap(), is_asked())
    });
    has_begun.recv().unwrap();
    assert!(!outer.kill());
    drop(go);
    assert_eq!(outer.result().unwrap(), (Some(false), true));
}

fn a_deadlock_is_found_through_a_scope_of_another_pool() {
    let [mine, other] = [(); 2].map(|()| ThreadPoolExecutor::new(1).unwrap());
    let (its_own, its_other) = (mine.clone(), other.clone());
    let outer = mine.spawn(move || {
        // The one worker that could run the inmost task waits for the end of the scope.
        let ended = its_other.scope(|scope| scope.spawn(|| its_own.spawn(|| ()).result()));
        ended.result()
    });
    let outcome = outer.result().unwrap().unwrap();
    assert!(matches!(outcome, Err(Error::Deadlock)), "{outcome:?}");
}

fn a_deadlock_is_found_through_a_task_that_runs_inside_another() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let (begin, begun) = mpsc::channel();
    let (waits, is_waited_for) = mpsc::channel();
    let busy = pool.spawn(move || begun.recv().unwrap());
    let its_pool = pool.clone();
    let outer = pool.spawn(move || {
        its_pool.scope(|scope| {
            let its_pool = &its_pool;
            // The other worker is busy, so it is this one that runs it, at the end of the scope.
            let inner = scope.spawn(move || {
                begin.send(()).unwrap();
                is_waited_for.recv().unwrap();
                its_pool.spawn(|| ()).result()
            });
            scope.spawn(move || {
                waits.send(()).unwrap();
                inner.result()
            })
        })
    });
    busy.result().unwrap();
    let outcome = outer.result().unwrap().result().unwrap().unwrap();
    assert!(matches!(outcome, Err(Error::Deadlock)), "{outcome:?}");
}

fn serial_scopes_borrow() {
    let executor = SerialExecutor::new();
    let mut words = vec!["one"];
    let here = thread::current().id();
    executor.scope(|scope| {
        let pushed = scope.spawn(|| {
            words.push("two");
            assert_eq!(thread::current().id(), here);
        });
        assert!(pushed.done());
    });
    let lengths = executor.scope(|scope| {
        let lengths = scope.map(|word: &&str| word.len(), &words);
        lengths.collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(lengths.unwrap(), [3, 3]);
    executor.shutdown(Shutdown::wait());
    let refused = executor.scope(|scope| scope.spawn(|| words.len()).result());
    assert!(matches!(refused, Err(Error::ShutDown)));
}
