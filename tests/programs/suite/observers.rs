//! What an observer is told of tasks: each one's submission once, its starts, and its end once, whatever ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, FutureId, MapOptions, Observer, ProcessPoolExecutor, Shutdown, Stats,
    SubmitEvent, Task, TaskEvent, TaskOptions, TaskOutcome, ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;

use crate::limits::Bounded;
use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, Processes, Threads, assert_error, trials};

/// Trials of both pools.
pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    trials![K::NAME;
        a_task_is_told_with_its_name_place_and_error::<K>,
        a_submission_is_told_in_the_thread_that_submits::<K>,
        a_task_cancelled_before_it_began_is_withdrawn::<K>,
        a_task_cancelled_on_its_way_is_withdrawn::<K>,
        a_shutdown_withdraws_what_waits::<K>,
        what_a_pool_refuses_is_not_told::<K>,
        each_item_of_a_map_is_told::<K>,
        the_rest_of_a_dropped_map_is_withdrawn::<K>,
        a_time_limit_is_told_once::<K>,
        observers_are_told_in_their_order::<K>,
        an_end_is_told_before_the_future_is_done::<K>,
    ]
}

/// Trials of threads.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        a_task_that_drops_its_pool_is_told,
        a_broken_pool_withdraws_what_waits,
        a_deadlock_withdraws_the_task,
        an_item_past_its_limit_is_told_once,
    ]
}

/// Trials of processes.
pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        a_killed_task_is_told_as_cancelled,
        a_death_is_told_with_its_signal,
        a_task_that_runs_again_is_told_to_begin_again,
        what_cannot_be_sent_is_withdrawn,
        the_end_of_all_workers_is_told,
    ]
}

/// All that an observer was told of tasks.
#[derive(Default)]
struct Log(Mutex<Vec<Told>>);

/// One call of an observer.
#[derive(Debug, Clone)]
struct Told {
    what: What,
    id: FutureId,
    /// The task's name and the line where it was submitted.
    task: (Option<String>, u32),
    error: Option<Error>,
    queued: Duration,
    /// The thread that called.
    thread: ThreadId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Submitted,
    Started(usize),
    Finished(TaskOutcome),
    Withdrawn,
}

impl Log {
    fn note(&self, what: What, told: Told) {
        self.0.lock().unwrap().push(Told { what, ..told });
    }

    /// All calls so far about one task.
    fn of(&self, id: FutureId) -> Vec<Told> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|told| told.id == id).cloned().collect()
    }

    /// What was told of one task so far.
    fn story(&self, id: FutureId) -> Vec<What> {
        self.of(id).iter().map(|told| told.what).collect()
    }

    /// The last error that was told of one task.
    fn error(&self, id: FutureId) -> Option<Error> {
        self.of(id).pop().and_then(|told| told.error)
    }

    /// Each task was submitted once, first of all, and has ended once, last of all; returns how they have ended.
    fn assert_balanced(&self) -> Vec<What> {
        let mut stories: BTreeMap<FutureId, Vec<What>> = BTreeMap::new();
        for told in &*self.0.lock().unwrap() {
            stories.entry(told.id).or_default().push(told.what);
        }
        let ends = stories.values().map(|story| match story.as_slice() {
            [What::Submitted, What::Withdrawn] => What::Withdrawn,
            [What::Submitted, starts @ .., end @ What::Finished(_)] => {
                let is_start = |what: &What| matches!(what, What::Started(_));
                assert!(
                    !starts.is_empty() && starts.iter().all(is_start),
                    "{story:?}"
                );
                *end
            }
            story => panic!("{story:?}"),
        });
        ends.collect()
    }
}

impl From<&SubmitEvent> for Told {
    fn from(event: &SubmitEvent) -> Self {
        Self {
            what: What::Submitted,
            id: event.id(),
            task: (
                event.task().name().map(str::to_owned),
                event.task().location().line(),
            ),
            error: None,
            queued: event.elapsed(),
            thread: thread::current().id(),
        }
    }
}

impl From<&TaskEvent> for Told {
    fn from(event: &TaskEvent) -> Self {
        Self {
            what: What::Started(event.worker()),
            id: event.id(),
            task: (
                event.task().name().map(str::to_owned),
                event.task().location().line(),
            ),
            error: event.error().cloned(),
            queued: event.queued(),
            thread: thread::current().id(),
        }
    }
}

impl Observer for Log {
    fn task_submitted(&self, task: &SubmitEvent) {
        self.note(What::Submitted, task.into());
    }

    fn task_started(&self, task: &TaskEvent) {
        self.note(What::Started(task.worker()), task.into());
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        self.note(What::Finished(outcome), task.into());
    }

    fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
        let told = Told::from(task);
        let error = Some(error.clone());
        self.note(What::Withdrawn, Told { error, ..told });
    }
}

fn observed<K: Bounded>(workers: usize) -> (Arc<Log>, K::Pool) {
    let log = Arc::new(Log::default());
    let pool = K::observed(workers, Arc::clone(&log));
    (log, pool)
}

fn process_pool() -> (Arc<Log>, ProcessPoolExecutor) {
    observed::<Processes>(1)
}

/// A task named `slow` that does not end by itself.
fn endless(_: ()) {
    while !current_worker().unwrap().cancel_requested() {
        thread::yield_now();
    }
}

fn a_task_is_told_with_its_name_place_and_error<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let held = Hold::new();
    let first = held.occupy(&pool);
    let waiting = Duration::from_millis(20);
    let (line, named) = (
        line!() + 1,
        pool.submit_with(TaskOptions::new().name("halve"), fail, "told".into()),
    );
    let unnamed = pool.submit(double, 4);
    let ids = [first.id(), named.id(), unnamed.id()];
    thread::sleep(waiting); // what the tasks wait for at least
    held.release();
    assert!(named.exception().is_some() && unnamed.result().is_ok() && first.result().is_ok());
    drop(pool);

    let [submitted, started, finished] = &log.of(ids[1])[..] else {
        panic!("{:?}", log.of(ids[1]))
    };
    let what = [submitted, started, finished].map(|told| told.what);
    let failed = What::Finished(TaskOutcome::Failed);
    assert_eq!(what, [What::Submitted, What::Started(0), failed]);
    for told in [submitted, started, finished] {
        assert_eq!(told.task, (Some("halve".to_owned()), line));
    }
    assert!(started.error.is_none() && started.queued >= waiting);
    assert_eq!(finished.queued, started.queued);
    let Some(Error::Panicked(panic)) = &finished.error else {
        panic!("{finished:?}")
    };
    assert_eq!(panic.message(), "on purpose: told");
    assert_eq!(panic.worker(), Some(0));

    let completed = What::Finished(TaskOutcome::Completed);
    assert_eq!(
        log.story(ids[2]),
        [What::Submitted, What::Started(0), completed]
    );
    assert!(log.error(ids[2]).is_none());
    assert_eq!(log.assert_balanced().len(), 3);
}

fn a_submission_is_told_in_the_thread_that_submits<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let own = pool.submit(double, 1);
    let (id, other) = thread::scope(|scope| {
        let submit = || (pool.submit(double, 2), thread::current().id());
        scope.spawn(submit).join().unwrap()
    });
    let ids = [(own.id(), thread::current().id()), (id.id(), other)];
    assert!(own.result().is_ok() && id.result().is_ok());
    drop(pool);
    for (id, thread) in ids {
        assert_eq!(log.of(id)[0].thread, thread);
        assert_ne!(log.of(id)[1].thread, thread, "begun by a worker");
    }
}

fn a_task_cancelled_before_it_began_is_withdrawn<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    assert!(queued.cancel() && queued.cancel(), "a second time, too");
    assert_eq!(log.story(queued.id()), [What::Submitted, What::Withdrawn]);
    assert!(matches!(log.error(queued.id()), Some(Error::Cancelled)));
    held.release();
    running.result().unwrap();
    drop(pool);
    assert_eq!(log.assert_balanced().len(), 2);
}

/// Keeps tasks, which a pool is to run later.
#[derive(Default)]
struct Keeper(Mutex<Vec<Task>>);

impl Executor for Keeper {
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

fn a_task_cancelled_on_its_way_is_withdrawn<K: Bounded>() {
    let (log, keeper) = (Arc::new(Log::default()), Keeper::default());
    let pool = K::observed(1, Arc::clone(&log));
    let future = keeper.submit(double, 1);
    assert!(future.cancel());
    let kept = keeper.0.lock().unwrap().pop();
    pool.execute(kept.unwrap());
    pool.shutdown(Shutdown::wait());
    assert_eq!(log.story(future.id()), [What::Submitted, What::Withdrawn]);
    assert!(matches!(log.error(future.id()), Some(Error::Cancelled)));
}

fn a_shutdown_withdraws_what_waits<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued: Vec<_> = (0..20).map(|n| pool.submit(double, n)).collect();
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    held.release();
    running.result().unwrap();
    for future in queued {
        assert!(matches!(log.error(future.id()), Some(Error::Cancelled)));
        assert_error!(future.result(), Error::Cancelled);
    }
    drop(pool);
    let ends = log.assert_balanced();
    let withdrawn = ends.iter().filter(|end| **end == What::Withdrawn).count();
    assert_eq!((ends.len(), withdrawn), (21, 20));
}

fn what_a_pool_refuses_is_not_told<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    pool.shutdown(Shutdown::wait());
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
    assert!(log.assert_balanced().is_empty());
}

fn each_item_of_a_map_is_told<K: Bounded>() {
    let (log, pool) = observed::<K>(2);
    let options = MapOptions::new().task(TaskOptions::new().name("item"));
    for options in [options, options.chunksize(7)] {
        let outcomes = pool.map_with(options, odd_only, 0..20_u64);
        assert_eq!(outcomes.filter(Result::is_ok).count(), 10);
    }
    drop(pool);
    let ends = log.assert_balanced();
    let of = |outcome| {
        let ends = ends.iter().filter(|end| **end == What::Finished(outcome));
        ends.count()
    };
    assert_eq!(
        (of(TaskOutcome::Completed), of(TaskOutcome::Failed)),
        (20, 20)
    );
    for told in &*log.0.lock().unwrap() {
        assert_eq!(told.task.0.as_deref(), Some("item"));
        let is_end = told.what == What::Finished(TaskOutcome::Failed);
        assert_eq!(matches!(&told.error, Some(Error::Panicked(_))), is_end);
    }
}

fn odd_only(n: u64) -> u64 {
    assert!(n % 2 == 1, "on purpose: even");
    n
}

fn the_rest_of_a_dropped_map_is_withdrawn<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    drop(pool.map_with(MapOptions::new().chunksize(5), double, 0..50));
    held.release();
    running.result().unwrap();
    drop(pool);
    let ends = log.assert_balanced();
    let withdrawn = ends.iter().filter(|end| **end == What::Withdrawn).count();
    assert!(withdrawn > 0 && withdrawn == ends.len() - 1, "{ends:?}");
}

/// A thread goes on after its limit, so its end is told when it has come to it.
fn a_time_limit_is_told_once<K: Bounded>() {
    let (log, pool) = observed::<K>(1);
    let options = TaskOptions::new()
        .timeout(Duration::from_millis(30))
        .name("slow");
    let late = pool.submit_with(options, endless, ());
    let id = late.id();
    assert_error!(late.result(), Error::TaskTimeout { .. });
    drop(pool);
    let outcome = match K::NAME {
        "threads" => TaskOutcome::AfterTimeout,
        _ => TaskOutcome::Failed,
    };
    let finished = What::Finished(outcome);
    assert_eq!(log.story(id), [What::Submitted, What::Started(0), finished]);
    assert!(matches!(log.error(id), Some(Error::TaskTimeout { .. })));
}

fn observers_are_told_in_their_order<K: Bounded>() {
    #[derive(Default)]
    struct Order(Mutex<Vec<u8>>);
    struct Numbered(Arc<Order>, u8);
    impl Observer for Numbered {
        fn task_submitted(&self, _: &SubmitEvent) {
            self.0.0.lock().unwrap().push(self.1);
            assert!(self.1 > 1, "on purpose: the others are told all the same");
        }
    }
    let order = Arc::new(Order::default());
    let [one, two] = [1, 2].map(|number| Numbered(Arc::clone(&order), number));
    let pool = K::observed_by_two(one, two);
    pool.submit(double, 1).result().unwrap();
    drop(pool);
    assert_eq!(*order.0.lock().unwrap(), [1, 2]);
}

fn an_end_is_told_before_the_future_is_done<K: Bounded>() {
    let (log, pool) = observed::<K>(2);
    for n in 0..200 {
        let future = pool.submit(double, n);
        future.wait();
        let last = log.story(future.id()).pop();
        assert_eq!(last, Some(What::Finished(TaskOutcome::Completed)));
    }
}

// ---- threads -----------------------------------------------------------------------------------

/// The futures of a pool that is gone do not find it any more: there the worker tells of the end.
fn a_task_that_drops_its_pool_is_told() {
    let (log, pool) = observed::<Threads>(1);
    let (hand_over, receive) = std::sync::mpsc::channel::<ThreadPoolExecutor>();
    let future = pool.spawn(move || drop(receive.recv().unwrap()));
    let id = future.id();
    hand_over.send(pool).unwrap();
    future.result().unwrap();
    let completed = What::Finished(TaskOutcome::Completed);
    assert_eq!(
        log.story(id),
        [What::Submitted, What::Started(0), completed]
    );
}

fn a_broken_pool_withdraws_what_waits() {
    let log = Arc::new(Log::default());
    let held = Arc::new(std::sync::Barrier::new(2));
    let theirs = Arc::clone(&held);
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .observer(Arc::clone(&log))
        .initializer(move || {
            theirs.wait();
            panic!("on purpose: initializer");
        })
        .build()
        .unwrap();
    let futures = [1, 2, 3].map(|n| pool.submit(double, n));
    held.wait();
    for future in futures {
        let id = future.id();
        assert_error!(future.result(), Error::BrokenPool(_));
        assert_eq!(log.story(id), [What::Submitted, What::Withdrawn]);
        assert!(matches!(log.error(id), Some(Error::BrokenPool(_))));
    }
}

fn a_deadlock_withdraws_the_task() {
    let (log, pool) = observed::<Threads>(1);
    let again = pool.clone();
    let outer = pool.spawn(move || {
        let inner = again.submit(double, 1);
        let id = inner.id();
        (inner.result().unwrap_err(), id)
    });
    let (error, id) = outer.result().unwrap();
    assert!(matches!(error, Error::Deadlock), "{error:?}");
    assert_eq!(log.story(id), [What::Submitted, What::Withdrawn]);
    assert!(matches!(log.error(id), Some(Error::Deadlock)));
    drop(pool);
    log.assert_balanced();
}

fn an_item_past_its_limit_is_told_once() {
    let (log, pool) = observed::<Threads>(1);
    let task = TaskOptions::new().timeout(Duration::from_millis(30));
    let mut map = pool.map_with(MapOptions::new().task(task), endless, [()]);
    assert_error!(map.next().unwrap(), Error::TaskTimeout { .. });
    drop(map);
    drop(pool);
    assert_eq!(
        log.assert_balanced(),
        [What::Finished(TaskOutcome::AfterTimeout)]
    );
}

// ---- processes ---------------------------------------------------------------------------------

fn a_killed_task_is_told_as_cancelled() {
    let (log, pool) = process_pool();
    let held = Hold::new();
    let running = held.occupy(&pool);
    assert!(running.kill());
    running.wait();
    let cancelled = What::Finished(TaskOutcome::Cancelled);
    assert_eq!(
        log.story(running.id()),
        [What::Submitted, What::Started(0), cancelled]
    );
    assert!(matches!(log.error(running.id()), Some(Error::Cancelled)));
}

fn a_death_is_told_with_its_signal() {
    let (log, pool) = process_pool();
    let crash = pool.submit(|code: i32| -> u8 { std::process::exit(code) }, 7);
    crash.wait();
    let failed = What::Finished(TaskOutcome::Failed);
    assert_eq!(
        log.story(crash.id()),
        [What::Submitted, What::Started(0), failed]
    );
    let Some(Error::WorkerDied(death)) = log.error(crash.id()) else {
        panic!("{:?}", log.error(crash.id()))
    };
    assert_eq!(death.exit_code(), Some(7));
}

fn a_task_that_runs_again_is_told_to_begin_again() {
    let (log, pool) = process_pool();
    let options = TaskOptions::new().retries(2);
    let crash = pool.submit_with(options, |code: i32| -> u8 { std::process::exit(code) }, 7);
    let next = pool.submit(hold, Hold::new().argument());
    crash.wait();
    let started = What::Started(0);
    let failed = What::Finished(TaskOutcome::Failed);
    assert_eq!(
        log.story(crash.id()),
        [What::Submitted, started, started, started, failed]
    );
    next.result().unwrap();
    drop(pool);
    log.assert_balanced();
}

fn what_cannot_be_sent_is_withdrawn() {
    let log = Arc::new(Log::default());
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let builder = builder.observer(Arc::clone(&log)).payload_limit(100);
    let pool = builder.build().unwrap();
    let long = pool.submit(|text: String| text.len(), "x".repeat(101));
    assert_eq!(log.story(long.id()), [What::Submitted, What::Withdrawn]);
    assert!(matches!(log.error(long.id()), Some(Error::TooLarge { .. })));
    let texts = ["y".to_owned(), "x".repeat(101)];
    assert_eq!(
        pool.map(|text: String| text.len(), texts)
            .filter(Result::is_ok)
            .count(),
        1
    );
    drop(pool);
    let ends = log.assert_balanced();
    assert_eq!(
        ends.iter().filter(|end| **end == What::Withdrawn).count(),
        2
    );
}

fn the_end_of_all_workers_is_told() {
    let (log, pool) = process_pool();
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    pool.kill_workers();
    assert!(matches!(log.error(running.id()), Some(Error::ShutDown)));
    assert!(matches!(log.error(queued.id()), Some(Error::Cancelled)));
    let failed = What::Finished(TaskOutcome::Failed);
    assert_eq!(log.assert_balanced(), [failed, What::Withdrawn]);
}
