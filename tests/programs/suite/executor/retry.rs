//! `submit_retrying`: which failures are followed by another attempt, when that begins, and what ends it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, Executor, Observer, ProcessPoolExecutor, Retry, Shared, Shutdown, TaskEvent,
    TaskOptions, TaskOutcome, current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::limits::Bounded;
use crate::support::gate::{Beacon, Hold, Lamp};
use crate::support::tasks::double;
use crate::support::{
    Kind, LONG, Processes, Threads, assert_error, assert_works, os, panic_message, trials,
};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        an_err_is_tried_again::<K>,
        a_panic_is_tried_again::<K>,
        the_last_outcome_counts::<K>,
        only_the_failures_that_are_named_are_tried_again::<K>,
        a_value_is_judged_in_the_program::<K>,
        a_judge_that_panics_ends_it::<K>,
        attempts_are_apart_by_the_pause::<K>,
        a_panic_within_a_limit_is_tried_again::<K>,
        each_attempt_has_the_same_argument::<K>,
        a_callback_hears_of_the_end_alone::<K>,
    ]
}

pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    trials![K::NAME;
        a_time_limit_is_tried_again::<K>,
        a_task_that_pauses_leaves_its_worker_alone::<K>,
        a_task_that_pauses_can_be_cancelled::<K>,
        a_task_that_pauses_can_be_killed::<K>,
        what_pauses_can_be_awaited_and_dropped::<K>,
        no_attempt_follows_a_kill::<K>,
        no_attempt_follows_a_kill_while_a_value_is_judged::<K>,
        shutdown_ends_the_pause::<K>,
        shutdown_cancels_what_pauses::<K>,
        drop_waits_for_all_attempts::<K>,
        an_observer_hears_of_each_attempt::<K>,
        a_full_queue_does_not_hold_an_attempt_up::<K>,
        many_tasks_are_tried_again_side_by_side::<K>,
    ]
}

pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        a_late_thread_is_asked_and_then_tried_again,
        a_worker_that_waits_for_what_pauses_behind_it_is_a_deadlock,
        what_pauses_has_a_worker_each_after_a_shutdown,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        a_death_is_tried_again_after_a_pause,
        an_observer_hears_of_a_death_before_a_pause,
        all_attempts_of_a_time_limit_have_their_grace,
        over_a_connection_alone_it_is_the_same,
        kill_workers_cancels_what_pauses,
        a_broken_pool_fails_what_pauses,
    ]
}

/// A long pause: the trial does not wait for it.
const PAUSE: Duration = Duration::from_secs(3600);

/// A short limit, which a task that does not end is sure to pass.
const SHORT: Duration = Duration::from_millis(30);

/// Where a task notes its attempts, whichever process it runs in. Removed at the end.
struct Attempts(Notes);

/// What a task notes an attempt in.
#[derive(Clone, Serialize, Deserialize)]
struct Notes(PathBuf);

impl Attempts {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("retries-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "").unwrap();
        Self(Notes(path))
    }

    fn notes(&self) -> Notes {
        self.0.clone()
    }

    fn count(&self) -> usize {
        self.0.count()
    }
}

impl Notes {
    /// Notes an attempt; its number, from 1.
    fn begin(&self) -> usize {
        let mut file = std::fs::File::options().append(true).open(&self.0).unwrap();
        file.write_all(b"x").unwrap();
        self.count()
    }

    fn count(&self) -> usize {
        std::fs::metadata(&self.0).unwrap().len() as usize
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0.0).unwrap();
    }
}

/// `Ok` in attempt `n`, `Err` before it.
fn ok_in((notes, n): (Notes, usize)) -> Result<usize, String> {
    match notes.begin() {
        attempt if attempt >= n => Ok(attempt),
        attempt => Err(format!("attempt {attempt}")),
    }
}

/// Returns in attempt `n`, panics before it.
fn panic_before((notes, n): (Notes, usize)) -> usize {
    let attempt = notes.begin();
    assert!(attempt >= n, "on purpose: attempt {attempt}");
    attempt
}

fn an_err_is_tried_again<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let retry = Retry::new(5).after_err();
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), Ok(3));
    assert_eq!(attempts.count(), 3);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed, stats.pending), (1, 0, 0));
    assert_eq!(stats.worker_restarts, 0);
    assert_works(&pool);
}

fn a_panic_is_tried_again<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let retry = Retry::new(5).after_panic();
    let future = pool.submit_retrying(retry, panic_before, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), 3);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (1, 0));
    assert_works(&pool);
}

fn the_last_outcome_counts<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let retry = Retry::new(2).after_err();
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 9));
    assert_eq!(future.result().unwrap(), Err("attempt 3".to_owned()));
    let attempts = Attempts::new();
    let retry = Retry::new(2).after_failure();
    let future = pool.submit_retrying(retry, panic_before, (attempts.notes(), 9));
    let error = future.result().unwrap_err();
    assert_eq!(error.report().attempts(), Some(3));
    let Error::Panicked(panic) = error else {
        panic!("no panic")
    };
    assert_eq!(panic.attempts(), 3);
    assert!(panic.to_string().contains("(attempt 3)"), "{panic}");
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (1, 1));
    let once = pool.submit(panic_before, (attempts.notes(), 9)).result();
    assert_error!(once, Error::Panicked(panic) if panic.attempts() == 1);
}

fn only_the_failures_that_are_named_are_tried_again<K: Kind>() {
    let pool = K::pool(1);
    let nothing = Retry::new(5).task(TaskOptions::new().retries(5));
    let attempts = Attempts::new();
    let future = pool.submit_retrying(nothing, panic_before, (attempts.notes(), 2));
    assert_eq!(panic_message(future.result()), "on purpose: attempt 1");
    let attempts = Attempts::new();
    let retry = Retry::new(5).after_failure();
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 2));
    assert!(future.result().unwrap().is_err());
    let attempts = Attempts::new();
    let retry = Retry::new(5).when(|n: &usize| *n > 100);
    let future = pool.submit_retrying(retry, panic_before, (attempts.notes(), 2));
    assert_eq!(panic_message(future.result()), "on purpose: attempt 1");
    let never = Retry::new(0).after_failure();
    let attempts = Attempts::new();
    let future = pool.submit_retrying(never, panic_before, (attempts.notes(), 2));
    assert_eq!(panic_message(future.result()), "on purpose: attempt 1");
}

fn a_value_is_judged_in_the_program<K: Kind>() {
    static JUDGED: AtomicUsize = AtomicUsize::new(0);
    let is_small = |text: &String| {
        JUDGED.fetch_add(1, Ordering::SeqCst);
        text.len() < 3
    };
    JUDGED.store(0, Ordering::SeqCst);
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let text = |notes: Notes| "x".repeat(notes.begin());
    let future = pool.submit_retrying(Retry::new(9).when(is_small), text, attempts.notes());
    assert_eq!(future.result().unwrap(), "xxx");
    assert_eq!(JUDGED.load(Ordering::SeqCst), 3);
}

fn a_judge_that_panics_ends_it<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let retry = Retry::new(9).when(|_: &usize| panic!("on purpose: judge"));
    let future = pool.submit_retrying(retry, panic_before, (attempts.notes(), 1));
    assert_eq!(panic_message(future.result()), "on purpose: judge");
    assert_eq!(attempts.count(), 1);
    assert_works(&pool);
}

fn attempts_are_apart_by_the_pause<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let start = Instant::now();
    let retry = Retry::new(3).after_err().backoff(2 * SHORT, 3 * SHORT);
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 4));
    assert_eq!(future.result().unwrap(), Ok(4));
    // Half of 2, 3 and 3 times that.
    assert!(start.elapsed() >= 4 * SHORT);
}

fn a_panic_within_a_limit_is_tried_again<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let limited = TaskOptions::new().name("limited").timeout(LONG);
    let retry = Retry::new(1).after_panic().task(limited);
    let future = pool.submit_retrying(retry, panic_before, (attempts.notes(), 3));
    let Err(Error::Panicked(panic)) = future.result() else {
        panic!("no panic")
    };
    assert_eq!(panic.task().unwrap().name(), Some("limited"));
    assert_eq!(panic.attempts(), 2);
}

/// What each attempt is to find unchanged.
#[derive(Clone, Serialize, Deserialize)]
struct Load {
    notes: Notes,
    bytes: Vec<u8>,
    numbers: Shared<u64>,
}

fn each_attempt_has_the_same_argument<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let load = Load {
        notes: attempts.notes(),
        bytes: vec![3; 1 << 20],
        numbers: Shared::from_slice(&[1, 2, 3]),
    };
    let sum = |mut load: Load| {
        let attempt = load.notes.begin();
        let sum: u64 = load.bytes.iter().copied().map(u64::from).sum();
        load.bytes.clear(); // what is changed is the attempt's own
        (attempt, sum + load.numbers.iter().sum::<u64>())
    };
    let retry = Retry::new(5).when(|(attempt, _): &(usize, u64)| *attempt < 3);
    let future = pool.submit_retrying(retry, sum, load);
    assert_eq!(future.result().unwrap(), (3, (3 << 20) + 6));
}

fn a_callback_hears_of_the_end_alone<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let retry = Retry::new(5).after_err().backoff(SHORT, SHORT);
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 3));
    let (tell, told) = std::sync::mpsc::channel();
    future.add_done_callback(move |outcome| tell.send(outcome.unwrap().clone()).unwrap());
    assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(3));
    assert!(told.recv().is_err(), "it is called once");
    assert_eq!(future.result().unwrap(), Ok(3));
}

// ---- pools -------------------------------------------------------------------------------------

/// Is late in each attempt before `n`; notices that it is asked to stop, where it can.
fn late_before((notes, n): (Notes, usize)) -> usize {
    let attempt = notes.begin();
    while attempt < n && !current_worker().unwrap().cancel_requested() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    attempt
}

fn a_time_limit_is_tried_again<K: Kind>() {
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let limited = TaskOptions::new().timeout(SHORT);
    let retry = Retry::new(2).after_timeout().task(limited);
    let future = pool.submit_retrying(retry, late_before, (attempts.notes(), 9));
    let late = future.result().map(drop).unwrap_err();
    assert!(matches!(late, Error::TaskTimeout { limit } if limit == SHORT));
    assert_eq!((late.attempts(), attempts.count()), (Some(3), 3));
    assert!(late.to_string().ends_with("(attempt 3)"), "{late}");
    let attempts = Attempts::new();
    let limited = TaskOptions::new().timeout(20 * SHORT);
    let retry = Retry::new(5).after_timeout().task(limited);
    let future = pool.submit_retrying(retry, late_before, (attempts.notes(), 2));
    assert_eq!(future.result().unwrap(), 2);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (1, 1));
    assert_works(&pool);
}

/// Lights a lamp, and fails.
fn fail_lit((notes, lamp): (Notes, Lamp)) -> Result<usize, String> {
    let attempt = notes.begin();
    lamp.light();
    Err(format!("attempt {attempt}"))
}

fn endless() -> Retry<Result<usize, String>> {
    Retry::new(u32::MAX).after_err().backoff(PAUSE, PAUSE)
}

/// A pool of one worker, and a task of it that pauses after its first attempt.
fn pausing<K: Kind>(
    attempts: &Attempts,
) -> (K::Pool, concurrent_futures::Future<Result<usize, String>>) {
    let pool = K::pool(1);
    let future = pause_in(&pool, attempts, endless());
    (pool, future)
}

fn pause_in(
    pool: &impl Executor,
    attempts: &Attempts,
    retry: Retry<Result<usize, String>>,
) -> concurrent_futures::Future<Result<usize, String>> {
    let begun = Beacon::new();
    let future = pool.submit_retrying(retry, fail_lit, (attempts.notes(), begun.lamp()));
    begun.await_lit();
    // The worker takes this once the task before has ended.
    assert_works(pool);
    future
}

fn a_task_that_pauses_leaves_its_worker_alone<K: Kind>() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<K>(&attempts);
    assert!(!future.done() && !future.running());
    let stats = pool.stats();
    assert_eq!(
        (stats.pending, stats.running, stats.completed),
        (1, 0, 1),
        "{stats:?}"
    );
    assert!(future.cancel());
}

fn a_task_that_pauses_can_be_cancelled<K: Kind>() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<K>(&attempts);
    assert!(future.cancel());
    assert!(future.cancelled());
    assert_error!(future.result(), Error::Cancelled);
    let stats = pool.stats();
    assert_eq!((stats.pending, stats.cancelled), (0, 1), "{stats:?}");
    assert_works(&pool);
    assert_eq!(attempts.count(), 1);
}

fn a_task_that_pauses_can_be_killed<K: Kind>() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<K>(&attempts);
    assert!(future.kill());
    assert_error!(future.result(), Error::Cancelled);
    assert_eq!(pool.stats().worker_restarts, 0);
    assert_works(&pool);
}

fn what_pauses_can_be_awaited_and_dropped<K: Kind>() {
    let attempts = Attempts::new();
    let (pool, mut future) = pausing::<K>(&attempts);
    assert_error!(future.result_timeout(SHORT), Error::Timeout);
    drop(future.cancel_on_drop());
    assert_eq!(pool.stats().cancelled, 1);
}

/// Goes on until it is asked to stop, which is an `Err`.
fn err_when_asked((notes, lamp): (Notes, Lamp)) -> Result<usize, String> {
    notes.begin();
    lamp.light();
    while !current_worker().unwrap().cancel_requested() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Err("stopped".to_owned())
}

fn no_attempt_follows_a_kill<K: Kind>() {
    let (pool, attempts, begun) = (K::pool(1), Attempts::new(), Beacon::new());
    let retry = Retry::new(9).after_err().after_failure();
    let argument = (attempts.notes(), begun.lamp());
    let future = pool.submit_retrying(retry, err_when_asked, argument);
    begun.await_lit();
    match future.kill() {
        true => assert_error!(future.result(), Error::Cancelled),
        false => assert_eq!(future.result().unwrap(), Err("stopped".to_owned())),
    }
    assert_works(&pool);
    assert_eq!(attempts.count(), 1);
}

/// No worker runs the task at that moment, nor does it wait for one.
fn no_attempt_follows_a_kill_while_a_value_is_judged<K: Kind>() {
    static MEETING: Barrier = Barrier::new(2);
    fn judge(_: &Result<usize, String>) -> bool {
        MEETING.wait();
        MEETING.wait();
        true
    }
    let (pool, attempts) = (K::pool(1), Attempts::new());
    let argument = (attempts.notes(), 9);
    let future = pool.submit_retrying(Retry::new(9).when(judge), ok_in, argument);
    MEETING.wait();
    assert!(!future.kill());
    MEETING.wait();
    assert_eq!(future.result().unwrap(), Err("attempt 1".to_owned()));
    assert_eq!(attempts.count(), 1);
}

fn shutdown_ends_the_pause<K: Kind>() {
    let attempts = Attempts::new();
    let pool = K::pool(1);
    let retry = Retry::new(3).after_err().backoff(PAUSE, PAUSE);
    let future = pause_in(&pool, &attempts, retry);
    pool.shutdown(Shutdown::wait());
    assert!(future.done());
    assert_eq!(future.result().unwrap(), Err("attempt 4".to_owned()));
}

fn shutdown_cancels_what_pauses<K: Kind>() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<K>(&attempts);
    pool.shutdown(Shutdown::wait().cancel_futures());
    assert_error!(future.result(), Error::Cancelled);
    assert_eq!(attempts.count(), 1);
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.pending), (1, 0), "{stats:?}");
}

fn drop_waits_for_all_attempts<K: Kind>() {
    let attempts = Attempts::new();
    let pool = K::pool(2);
    let retry = Retry::new(2).after_err().backoff(PAUSE, PAUSE);
    let futures = [(); 3].map(|()| pool.submit_retrying(retry, ok_in, (attempts.notes(), 99)));
    drop(pool);
    assert_eq!(attempts.count(), 9);
    assert!(futures.iter().all(|future| future.done()));
}

/// What an observer was told of tasks: their outcomes, `None` for an attempt that is followed by another.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Option<TaskOutcome>>>>);

impl Observer for Heard {
    fn task_retried(&self, _: &TaskEvent) {
        self.0.lock().unwrap().push(None);
    }

    fn task_finished(&self, _: &TaskEvent, outcome: TaskOutcome) {
        self.0.lock().unwrap().push(Some(outcome));
    }
}

fn an_observer_hears_of_each_attempt<K: Bounded>() {
    let heard = Heard::default();
    let pool = K::observed(1, heard.clone());
    let attempts = Attempts::new();
    let future = pool.submit_retrying(Retry::new(5).after_err(), ok_in, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), Ok(3));
    pool.shutdown(Shutdown::wait());
    let expected = [None, None, Some(TaskOutcome::Completed)];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

fn a_full_queue_does_not_hold_an_attempt_up<K: Bounded>() {
    let (pool, attempts) = (K::bounded(1, 1), Attempts::new());
    // Time enough to fill the queue before the pause is over.
    let pause = 20 * SHORT;
    let retry = Retry::new(2).after_err().backoff(pause, pause);
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 3));
    let held = Hold::new();
    let running = held.occupy(&pool);
    let waiting = pool.submit(double, 1);
    assert!(!future.wait_timeout(21 * SHORT));
    held.release();
    running.result().unwrap();
    assert_eq!(future.result().unwrap(), Ok(3));
    assert_eq!(waiting.result().unwrap(), 2);
}

fn many_tasks_are_tried_again_side_by_side<K: Kind>() {
    let pool = K::pool(2);
    let attempts: Vec<_> = (0..50).map(|_| Attempts::new()).collect();
    let pause = Duration::from_millis(2);
    let retry = Retry::new(9)
        .after_err()
        .after_failure()
        .backoff(pause, 4 * pause);
    let submit = |attempts: &Attempts| pool.submit_retrying(retry, ok_in, (attempts.notes(), 4));
    let futures: Vec<_> = attempts.iter().map(submit).collect();
    for future in futures {
        assert_eq!(future.result().unwrap(), Ok(4));
    }
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.failed, stats.pending),
        (50, 0, 0),
        "{stats:?}"
    );
}

// ---- threads -----------------------------------------------------------------------------------

fn a_late_thread_is_asked_and_then_tried_again() {
    let (pool, attempts) = (Threads::pool(2), Attempts::new());
    let retry = Retry::new(1).after_timeout();
    let retry = retry.task(TaskOptions::new().timeout(SHORT));
    let begun = Instant::now();
    // Attempts of one task do not overlap, also where a thread is free.
    static RUNNING: AtomicU32 = AtomicU32::new(0);
    let alone = |argument| {
        assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0);
        let attempt = late_before(argument);
        std::thread::sleep(SHORT); // it is slow to stop
        assert_eq!(RUNNING.fetch_sub(1, Ordering::SeqCst), 1);
        attempt
    };
    let future = pool.submit_retrying(retry, alone, (attempts.notes(), 9));
    assert_error!(future.result(), Error::TaskTimeout { .. });
    assert!(begun.elapsed() >= 3 * SHORT);
    pool.shutdown(Shutdown::wait());
    assert_eq!(attempts.count(), 2);
    assert_eq!(RUNNING.load(Ordering::SeqCst), 0);
}

fn a_worker_that_waits_for_what_pauses_behind_it_is_a_deadlock() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<Threads>(&attempts);
    let outer = pool.spawn(move || future.result());
    assert_error!(outer.result().unwrap(), Error::Deadlock);
    assert_works(&pool);
}

// ---- processes ---------------------------------------------------------------------------------

/// Ends its process in each attempt before `n`.
fn die_before((notes, n): (Notes, usize)) -> usize {
    let attempt = notes.begin();
    if attempt < n {
        os::kill(std::process::id(), libc::SIGKILL);
    }
    attempt
}

fn a_death_is_tried_again_after_a_pause() {
    let (pool, attempts) = (Processes::pool(1), Attempts::new());
    let retry = Retry::new(2).after_death().backoff(2 * SHORT, LONG);
    let start = Instant::now();
    let future = pool.submit_retrying(retry, die_before, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), 3);
    assert!(start.elapsed() >= 3 * SHORT);
    assert_eq!(pool.stats().worker_restarts, 2);
    let attempts = Attempts::new();
    let retry = Retry::new(1).after_death();
    let future = pool.submit_retrying(retry, die_before, (attempts.notes(), 9));
    assert_error!(future.result(), Error::WorkerDied(death) if death.attempts() == 2);
    let attempts = Attempts::new();
    let retry = Retry::new(9).after_panic().after_timeout();
    let future = pool.submit_retrying(retry, die_before, (attempts.notes(), 9));
    assert_error!(future.result(), Error::WorkerDied(death) if death.attempts() == 1);
}

/// Tells of each attempt that is followed by another.
struct Retried(Mutex<Sender<()>>);

impl Observer for Retried {
    fn task_retried(&self, _: &TaskEvent) {
        self.0.lock().unwrap().send(()).unwrap();
    }
}

/// They wait for each other; and there are fewer workers than tasks, as each has begun when the one before paused.
fn what_pauses_has_a_worker_each_after_a_shutdown() {
    const TASKS: usize = 6;
    static MEETING: Barrier = Barrier::new(TASKS);
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    fn meet((): ()) -> usize {
        let attempt = 1 + ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        if attempt > TASKS {
            MEETING.wait();
        }
        attempt
    }
    let (sender, retried) = channel();
    let pool = Threads::observed(TASKS, Retried(Mutex::new(sender)));
    let retry = Retry::new(1).when(|_| true).backoff(PAUSE, PAUSE);
    let submit = |_| {
        let future = pool.submit_retrying(retry, meet, ());
        retried.recv().unwrap();
        future
    };
    let futures: Vec<_> = (0..TASKS).map(submit).collect();
    pool.shutdown(Shutdown::wait());
    assert!(futures.into_iter().all(|it| it.result().unwrap() > TASKS));
}

fn an_observer_hears_of_a_death_before_a_pause() {
    let (heard, attempts) = (Heard::default(), Attempts::new());
    let pool = Processes::observed(1, heard.clone());
    let retry = Retry::new(2).after_death().backoff(SHORT, SHORT);
    let future = pool.submit_retrying(retry, die_before, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), 3);
    pool.shutdown(Shutdown::wait());
    let expected = [None, None, Some(TaskOutcome::Completed)];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

fn all_attempts_of_a_time_limit_have_their_grace() {
    let (pool, attempts, asked) = (Processes::pool(1), Attempts::new(), Beacon::new());
    fn say_when_asked((notes, asked): (Notes, Lamp)) {
        late_before((notes, 9));
        asked.light();
    }
    let limited = TaskOptions::new().timeout(SHORT).grace(LONG);
    let retry = Retry::new(1).after_timeout().task(limited);
    let argument = (attempts.notes(), asked.lamp());
    let future = pool.submit_retrying(retry, say_when_asked, argument);
    assert_error!(future.result(), Error::TaskTimeout { .. });
    assert_ne!(
        asked.await_lit(),
        asked.await_lit(),
        "each has its own process"
    );
}

fn over_a_connection_alone_it_is_the_same() {
    let pool = ProcessPoolExecutor::builder().max_workers(1);
    let pool = pool.task_timeout(LONG).build().unwrap();
    let retry = Retry::new(5).after_err().backoff(SHORT, SHORT);
    let attempts = Attempts::new();
    let future = pool.submit_retrying(retry, ok_in, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), Ok(3));
    let attempts = Attempts::new();
    let retry = Retry::new(5).after_failure().backoff(SHORT, SHORT);
    let future = pool.submit_retrying(retry, die_before, (attempts.notes(), 3));
    assert_eq!(future.result().unwrap(), 3);
    let attempts = Attempts::new();
    let future = pause_in(&pool, &attempts, endless());
    assert!(future.cancel());
    let future = pause_in(&pool, &attempts, endless());
    pool.shutdown(Shutdown::wait().cancel_futures());
    assert_error!(future.result(), Error::Cancelled);
}

fn kill_workers_cancels_what_pauses() {
    let attempts = Attempts::new();
    let (pool, future) = pausing::<Processes>(&attempts);
    pool.kill_workers();
    assert_error!(future.result(), Error::Cancelled);
}

fn a_broken_pool_fails_what_pauses() {
    // The initializer fails once this file is there.
    let (broken, attempts) = (Attempts::new(), Attempts::new());
    let fail_later = |notes: Notes| assert!(notes.count() == 0, "on purpose: initializer");
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder
        .initializer(fail_later, broken.notes())
        .build()
        .unwrap();
    let future = pause_in(&pool, &attempts, endless());
    broken.notes().begin();
    let pid = pool.worker_pids()[0];
    os::kill(pid, libc::SIGKILL);
    os::wait_until_dead(pid);
    assert_error!(pool.submit(double, 1).result(), Error::BrokenPool(_));
    assert_error!(future.result(), Error::BrokenPool(_));
}
