//! Callbacks: when, where, in what order they run, and what they may do.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use concurrent_futures::{Error, Executor, Future, Shutdown};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Gate, Hold, hold};
use crate::support::tasks::{double, fail, light};
use crate::support::{Kind, NO_TIME, assert_error, assert_works, trials};

/// Those registered on a future that is done.
pub fn late<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        late_callbacks_borrow_the_value::<K>,
        a_late_callback_that_panics_harms_nobody::<K>,
        a_late_callback_may_wait_for_its_future::<K>,
    ]
}

/// Those registered before.
pub fn early<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        callbacks_run_in_order::<K>,
        callbacks_see_the_outcome::<K>,
        callbacks_end_before_anybody_sees_the_future_done::<K>,
        a_callback_registered_meanwhile_joins_the_list::<K>,
        a_callback_may_register_another::<K>,
        a_callback_that_panics_harms_nobody::<K>,
        a_callback_may_submit::<K>,
        a_callback_may_cancel::<K>,
        a_callback_may_shut_the_pool_down::<K>,
        a_callback_may_drop_the_last_owner_of_the_pool::<K>,
        a_callback_of_a_cancelled_future_runs_in_cancel::<K>,
        a_callback_of_a_refused_or_dropped_task_runs::<K>,
        waiting_for_the_own_future_is_a_deadlock::<K>,
        waiting_for_another_future_in_a_callback_works::<K>,
        cancel_and_kill_are_too_late_while_callbacks_run::<K>,
        a_callback_outlives_a_dropped_future::<K>,
    ]
}

/// What a callback saw.
type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: &str) -> impl FnOnce(Result<&u64, &Error>) + Send + 'static {
    let (log, what) = (Arc::clone(log), what.to_owned());
    move |_| log.lock().unwrap().push(what)
}

// ---- late ----------------------------------------------------------------------------------

fn late_callbacks_borrow_the_value<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(double, 3);
    future.wait();
    let here = thread::current().id();
    let (sender, seen) = mpsc::channel();
    for _ in 0..2 {
        let sender = sender.clone();
        future.add_done_callback(move |value| {
            sender
                .send((value.copied().ok(), thread::current().id()))
                .unwrap();
        });
    }
    for _ in 0..2 {
        assert_eq!(seen.try_recv().unwrap(), (Some(6), here));
    }
    assert_eq!(future.result().unwrap(), 6);
}

fn a_late_callback_that_panics_harms_nobody<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(double, 3);
    future.wait();
    future.add_done_callback(|_| panic!("on purpose: in a late callback"));
    assert_eq!(future.result().unwrap(), 6);
    assert_works(&pool);
}

fn a_late_callback_may_wait_for_its_future<K: Kind>() {
    let pool = K::pool(1);
    let future = Arc::new(pool.submit(double, 3));
    future.wait();
    let same = Arc::clone(&future);
    let (sender, seen) = mpsc::channel();
    future.add_done_callback(move |_| {
        same.wait();
        sender.send(same.exception().is_none()).unwrap();
    });
    assert!(seen.try_recv().unwrap());
}

// ---- early ---------------------------------------------------------------------------------

fn callbacks_run_in_order<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let log = Log::default();
    for name in ["1", "2", "3", "4", "5"] {
        future.add_done_callback(note(&log, name));
    }
    assert!(log.lock().unwrap().is_empty());
    held.release();
    future.wait();
    assert_eq!(log.lock().unwrap().concat(), "12345");
    assert_eq!(Arc::strong_count(&log), 1, "they are let go");
}

fn callbacks_see_the_outcome<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let failing = pool.submit(fail, "seen".into());
    let (sender, seen) = mpsc::channel();
    for future in [&future, &failing] {
        let sender = sender.clone();
        future.add_done_callback(move |outcome| {
            sender
                .send(outcome.map_err(ToString::to_string).copied())
                .unwrap();
        });
    }
    held.release();
    assert_eq!(seen.recv().unwrap(), Ok(8));
    assert!(
        seen.recv()
            .unwrap()
            .unwrap_err()
            .contains("on purpose: seen")
    );
    assert_eq!(future.result().unwrap(), 8);
}

fn callbacks_end_before_anybody_sees_the_future_done<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let mut future = pool.submit(double, 4);
    let (gate, beacon) = (Gate::new(), Beacon::new());
    let (ticket, lamp) = (gate.ticket(), beacon.lamp());
    future.add_done_callback(move |_| {
        lamp.light();
        ticket.wait();
    });
    held.release();
    beacon.await_lit();
    assert!(!future.done() && !future.wait_timeout(NO_TIME));
    assert_error!(future.result_timeout(NO_TIME), Error::Timeout);
    gate.open();
    assert_eq!(future.result().unwrap(), 8);
}

fn a_callback_registered_meanwhile_joins_the_list<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (gate, beacon) = (Gate::new(), Beacon::new());
    let (ticket, lamp) = (gate.ticket(), beacon.lamp());
    let log = Log::default();
    future.add_done_callback(move |_| {
        lamp.light();
        ticket.wait();
    });
    held.release();
    beacon.await_lit();
    future.add_done_callback(note(&log, "1"));
    future.add_done_callback(note(&log, "2"));
    assert!(log.lock().unwrap().is_empty(), "not in the caller");
    gate.open();
    future.wait();
    assert_eq!(log.lock().unwrap().concat(), "12", "before it is done");
}

fn a_callback_may_register_another<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let future = Arc::new(future);
    let log = Log::default();
    let (same, its_log) = (Arc::clone(&future), Arc::clone(&log));
    future.add_done_callback(move |outcome| {
        same.add_done_callback(note(&its_log, "inner"));
        note(&its_log, "outer")(outcome);
    });
    held.release();
    future.wait();
    assert_eq!(log.lock().unwrap().join(" "), "outer inner");
}

fn a_callback_that_panics_harms_nobody<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let log = Log::default();
    future.add_done_callback(note(&log, "before"));
    future.add_done_callback(|_| panic!("on purpose: in a callback"));
    future.add_done_callback(note(&log, "after"));
    held.release();
    assert_eq!(future.result().unwrap(), 8);
    assert_eq!(log.lock().unwrap().join(" "), "before after");
    assert_works(&*pool);
    assert_eq!(pool.stats().workers, 1);
}

fn a_callback_may_submit<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (sender, futures) = mpsc::channel();
    let inner = Arc::clone(&pool);
    future.add_done_callback(move |value| {
        sender.send(inner.submit(double, *value.unwrap())).unwrap();
    });
    held.release();
    assert_eq!(futures.recv().unwrap().result().unwrap(), 16);
    assert_eq!(future.result().unwrap(), 8);
}

fn a_callback_may_cancel<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (between, ran) = (Hold::new(), Beacon::new());
    let _between = pool.submit(hold, between.argument());
    let victim = Arc::new(pool.submit(light, ran.lamp()));
    let same = Arc::clone(&victim);
    future.add_done_callback(move |_| {
        same.cancel();
    });
    held.release();
    victim.wait();
    between.release();
    assert!(victim.cancelled());
    future.wait();
    assert_works(&*pool);
    assert!(!ran.is_lit());
}

fn a_callback_may_shut_the_pool_down<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let between = Hold::new();
    let _between = pool.submit(hold, between.argument());
    let behind = pool.submit(double, 5);
    let inner = Arc::clone(&pool);
    let (sender, stats) = mpsc::channel();
    future.add_done_callback(move |_| {
        inner.shutdown(Shutdown::wait().cancel_futures());
        sender.send(inner.stats()).unwrap();
    });
    held.release();
    assert_error!(behind.result(), Error::Cancelled);
    between.release();
    assert!(
        stats.recv().unwrap().workers <= 1,
        "only the calling one is left"
    );
    assert_eq!(future.result().unwrap(), 8);
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
}

fn a_callback_may_drop_the_last_owner_of_the_pool<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let behind = pool.submit(double, 5);
    future.add_done_callback(move |_| drop(pool));
    held.release();
    assert_eq!(future.result().unwrap(), 8);
    assert_eq!(behind.result().unwrap(), 10);
}

fn a_callback_of_a_cancelled_future_runs_in_cancel<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (sender, seen) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        let cancelled = matches!(outcome, Err(Error::Cancelled));
        sender.send((cancelled, thread::current().id())).unwrap();
    });
    assert!(future.cancel());
    assert_eq!(seen.try_recv().unwrap(), (true, thread::current().id()));
    assert!(seen.recv().is_err(), "once");
}

fn a_callback_of_a_refused_or_dropped_task_runs<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (sender, seen) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        sender
            .send(matches!(outcome, Err(Error::Cancelled)))
            .unwrap();
    });
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    assert!(seen.recv().unwrap());
    let (sender, seen) = mpsc::channel();
    pool.submit(double, 1).add_done_callback(move |outcome| {
        sender
            .send(matches!(outcome, Err(Error::ShutDown)))
            .unwrap();
    });
    assert!(seen.recv().unwrap());
}

fn waiting_for_the_own_future_is_a_deadlock<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (sender, answers) = mpsc::channel();
    let (hand_over, handed) = mpsc::channel::<Future<u64>>();
    let handed = Mutex::new(handed);
    future.add_done_callback(move |_| {
        let mut own = handed.lock().unwrap().recv().unwrap();
        own.wait();
        assert!(!own.wait_timeout(crate::support::LONG));
        sender.send(own.exception()).unwrap();
        sender
            .send(own.result_timeout(crate::support::LONG).err())
            .unwrap();
        sender.send(own.result().err()).unwrap();
    });
    hand_over.send(future).unwrap();
    held.release();
    let answers: Vec<_> = answers.into_iter().collect();
    let deadlocks = answers
        .iter()
        .filter(|a| matches!(a, Some(Error::Deadlock)));
    assert_eq!((deadlocks.count(), answers.len()), (3, 3), "{answers:?}");
}

fn waiting_for_another_future_in_a_callback_works<K: Kind>() {
    let pool = K::pool(2);
    let (held, trigger) = (Hold::new(), Hold::new());
    let other = held.occupy(&pool);
    let first = trigger.occupy(&pool);
    let (sender, seen) = mpsc::channel();
    first.add_done_callback(move |_| sender.send(other.result().is_ok()).unwrap());
    trigger.release();
    held.release();
    assert!(seen.recv().unwrap());
    first.wait();
}

fn cancel_and_kill_are_too_late_while_callbacks_run<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (gate, beacon) = (Gate::new(), Beacon::new());
    let (ticket, lamp) = (gate.ticket(), beacon.lamp());
    future.add_done_callback(move |_| {
        lamp.light();
        ticket.wait();
    });
    held.release();
    beacon.await_lit();
    assert!(!future.cancel() && !future.kill() && !future.running());
    gate.open();
    assert_eq!(future.result().unwrap(), 8);
    assert_works(&*pool);
    assert_eq!(pool.stats().worker_restarts, 0);
}

fn a_callback_outlives_a_dropped_future<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let future = pool.submit(double, 4);
    let (sender, seen) = mpsc::channel();
    future.add_done_callback(move |value| sender.send(*value.unwrap()).unwrap());
    drop(future);
    held.release();
    assert_eq!(seen.recv().unwrap(), 8);
}
