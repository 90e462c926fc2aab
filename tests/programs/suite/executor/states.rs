//! The state of a worker: made by it, borrowed by its tasks, dropped as it leaves.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolExecutor, SerialExecutor, Shutdown, Stats, Task,
    TaskOptions, ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::gate::{Held, Hold, hold};
use crate::support::tasks::{double, own_pid};
use crate::support::{
    Kind, Processes, Serial, Threads, assert_error, assert_works, os, panic_message, trials,
};

/// Executors whose workers make a state.
pub trait Stated: Kind {
    fn stated<S: 'static>(workers: usize, make: fn(Journal) -> S, journal: Journal) -> Self::Pool;
    /// An executor of one worker, whose state may fail to be made.
    fn try_stated<S: 'static>(make: fn(u64) -> Result<S, String>, of: u64) -> Self::Pool;
}

impl Stated for Serial {
    fn stated<S: 'static>(_: usize, make: fn(Journal) -> S, journal: Journal) -> SerialExecutor {
        SerialExecutor::with_state(move || make(journal.clone()))
    }

    fn try_stated<S: 'static>(make: fn(u64) -> Result<S, String>, of: u64) -> SerialExecutor {
        SerialExecutor::try_with_state(move || make(of))
    }
}

impl Stated for Threads {
    fn stated<S: 'static>(
        workers: usize,
        make: fn(Journal) -> S,
        journal: Journal,
    ) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(workers);
        let builder = builder.state(move || make(journal.clone()));
        builder.build().unwrap()
    }

    fn try_stated<S: 'static>(make: fn(u64) -> Result<S, String>, of: u64) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(1);
        builder.try_state(move || make(of)).build().unwrap()
    }
}

impl Stated for Processes {
    fn stated<S: 'static>(
        workers: usize,
        make: fn(Journal) -> S,
        journal: Journal,
    ) -> ProcessPoolExecutor {
        let builder = ProcessPoolExecutor::builder().max_workers(workers);
        builder.state(make, journal).build().unwrap()
    }

    fn try_stated<S: 'static>(make: fn(u64) -> Result<S, String>, of: u64) -> ProcessPoolExecutor {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        builder.try_state(make, of).build().unwrap()
    }
}

pub fn everywhere<K: Stated>() -> Vec<Trial> {
    trials![K::NAME;
        a_state_is_made_once_kept_and_dropped_at_the_end::<K>,
        the_items_of_a_map_borrow_the_state::<K>,
        a_task_without_a_state_says_so::<K>,
        a_state_of_another_type_is_named::<K>,
        a_panic_leaves_the_state_as_it_is::<K>,
        a_state_that_cannot_be_made_breaks_the_pool_in_its_words::<K>,
        a_state_whose_drop_panics_harms_nobody::<K>,
        a_state_is_not_borrowed_twice::<K>,
        an_executor_of_ones_own_lends_the_state::<K>,
    ]
}

pub fn pools<K: Stated>() -> Vec<Trial> {
    trials![K::NAME; each_worker_has_its_own_state::<K>]
}

pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        closures_that_capture_borrow_the_state,
        the_initializer_of_a_thread_runs_before_its_state_is_made,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        the_initializer_of_a_process_runs_before_its_state_is_made,
        a_worker_in_the_place_of_a_dead_one_makes_its_state_anew,
        a_task_beyond_its_limit_takes_the_state_along,
        a_recycled_worker_drops_its_state,
        an_idle_worker_drops_its_state,
        a_killed_worker_drops_nothing,
        a_worker_that_dies_while_it_makes_its_state_breaks_the_pool,
    ]
}

pub fn serial() -> Vec<Trial> {
    trials![Serial::NAME;
        each_calling_thread_has_its_own_state,
        a_shutdown_drops_the_state_of_its_thread,
        closures_in_the_caller_borrow_the_state,
        a_state_that_is_made_with_its_own_executor_is_not_there_yet,
    ]
}

// ---- what workers leave behind ---------------------------------------------------------------

/// A file in which workers note what happens, a line each.
struct Pages(Journal);

/// What a worker writes into [`Pages`] with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Journal(PathBuf);

impl Pages {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("states-{}-{number}", std::process::id()));
        File::create(&path).unwrap();
        Self(Journal(path))
    }

    fn journal(&self) -> Journal {
        self.0.clone()
    }

    /// How often this was noted.
    fn count(&self, what: &str) -> usize {
        let text = std::fs::read_to_string(&self.0.0).unwrap();
        text.lines().filter(|line| *line == what).count()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0.0).unwrap();
    }
}

impl Journal {
    fn note(&self, what: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.0).unwrap();
        file.write_all(format!("{what}\n").as_bytes()).unwrap();
    }
}

/// A state that can neither travel nor change its thread, and notes when it is made and dropped.
struct Tally {
    count: Rc<u64>,
    journal: Journal,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.journal.note("dropped");
    }
}

fn make(journal: Journal) -> Tally {
    assert!(current_worker().is_some());
    journal.note("made");
    let count = Rc::new(0);
    Tally { count, journal }
}

fn add(tally: &mut Tally, n: u64) -> u64 {
    tally.count = Rc::new(*tally.count + n);
    *tally.count
}

// ---- everywhere ------------------------------------------------------------------------------

fn a_state_is_made_once_kept_and_dropped_at_the_end<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(1, make, pages.journal());
    assert_works(&pool);
    let sums = [1, 2, 3].map(|n| Executor::submit_with_state(&pool, add, n));
    assert_eq!(sums.map(|sum| sum.result().unwrap()), [1, 3, 6]);
    assert_eq!((pages.count("made"), pages.count("dropped")), (1, 0));
    drop(pool);
    assert_eq!((pages.count("made"), pages.count("dropped")), (1, 1));
}

fn the_items_of_a_map_borrow_the_state<K: Stated>() {
    let pages = Pages::new();
    let pool: Box<dyn Executor> = Box::new(K::stated(1, make, pages.journal()));
    let sums: Result<Vec<_>, _> = pool.map_with_state(add, 1..=300).collect();
    let expected: Vec<u64> = (1..=300).map(|n| n * (n + 1) / 2).collect();
    assert_eq!(sums.unwrap(), expected);
    let options = MapOptions::new().chunksize(7);
    let push = |tally: &mut Tally, word: String| format!("{word}{}", tally.count);
    let words = ["a", "b", "c"].map(String::from);
    let texts = pool.map_with_state_with(options, push, words);
    let texts: Vec<_> = texts.map(Result::unwrap).collect();
    assert_eq!(texts, ["a45150", "b45150", "c45150"]);
    assert_eq!(pages.count("made"), 1);
}

/// The text of a task's error that its worker has not the state which it borrows.
fn refusal<T>(outcome: Result<T, Error>) -> String {
    let Err(error) = outcome else {
        panic!("it was not refused")
    };
    assert!(error.task().is_some(), "{error}");
    assert_error!(Err::<(), _>(error.clone()), Error::InvalidConfig(_));
    error.to_string()
}

fn a_task_without_a_state_says_so<K: Stated>() {
    let pool = K::pool(1);
    let words = refusal(Executor::submit_with_state(&pool, add, 1).result());
    assert!(
        words.contains("::Tally`, but its worker has none"),
        "{words}"
    );
    let items = Executor::map_with_state(&pool, add, 0..20);
    let mut count = 0;
    for item in items {
        assert!(refusal(item).contains("its worker has none"));
        count += 1;
    }
    assert_eq!(count, 20);
    assert_works(&pool);
    assert_eq!(pool.stats().failed, 21);
}

fn a_state_of_another_type_is_named<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(1, make, pages.journal());
    let wrong = Executor::submit_with_state(&pool, |n: &mut u32, ()| *n, ()).result();
    let words = refusal(wrong);
    assert!(
        words.contains("of type `u32`, but that of its worker is a `"),
        "{words}"
    );
    assert!(words.contains("::Tally`"), "{words}");
    assert_eq!(
        Executor::submit_with_state(&pool, add, 1).result().unwrap(),
        1
    );
}

fn a_panic_leaves_the_state_as_it_is<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(1, make, pages.journal());
    let fail = |tally: &mut Tally, n: u64| -> u64 {
        add(tally, n);
        panic!("on purpose: half-way")
    };
    let failed = Executor::submit_with_state(&pool, fail, 5).result();
    assert_eq!(panic_message(failed), "on purpose: half-way");
    let failed = Executor::map_with_state(&pool, fail, [5, 5]);
    assert_eq!(failed.filter(Result::is_err).count(), 2);
    assert_eq!(
        Executor::submit_with_state(&pool, add, 1).result().unwrap(),
        16
    );
    assert_eq!(pages.count("made"), 1);
}

fn a_state_that_cannot_be_made_breaks_the_pool_in_its_words<K: Stated>() {
    let fail = |n: u64| match n {
        0 => panic!("on purpose: no model"),
        1 => Err("on purpose: no licence".to_owned()),
        n => Ok(n),
    };
    let expected = [
        "the function that makes the state panicked",
        "the function that makes the state failed: on purpose: no licence",
    ];
    for (n, words) in (0..).zip(expected) {
        let pool = K::try_stated(fail, n);
        for _ in 0..2 {
            let outcome = pool.submit(double, 1).result();
            let Err(Error::BrokenPool(reason)) = outcome else {
                panic!("{outcome:?}")
            };
            assert!(reason.as_str().contains(words), "{reason}");
        }
    }
    let pool = K::try_stated(fail, 7);
    let look = Executor::submit_with_state(&pool, |n: &mut u64, ()| *n, ());
    assert_eq!(look.result().unwrap(), 7);
}

/// A state that cannot be dropped.
struct Bomb(Journal);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.note("dropped");
        panic!("on purpose: in the drop of a state");
    }
}

fn a_state_whose_drop_panics_harms_nobody<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(1, Bomb, pages.journal());
    assert_works(&pool);
    pool.shutdown(Shutdown::wait());
    drop(pool);
    assert_eq!(pages.count("dropped"), 1);
}

/// Runs its tasks where they are submitted.
struct Inline;

impl Executor for Inline {
    fn max_workers(&self) -> usize {
        1
    }

    fn shutdown(&self, _: Shutdown) {}

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn execute(&self, task: Task) {
        task.run();
    }
}

/// Tries to borrow the state while it is borrowed; the errors, and what a state of its own has.
fn nest(_: &mut Tally, _: ()) -> (String, String, u64) {
    let again = Inline.submit_with_state(add, 1).result();
    let without = Executor::submit_with_state(&SerialExecutor::new(), add, 1).result();
    let own = SerialExecutor::with_state(|| 5_u64);
    let own = own.submit_with_state(|n: &mut u64, by| *n + by, 2);
    (refusal(again), refusal(without), own.result().unwrap())
}

fn a_state_is_not_borrowed_twice<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(1, make, pages.journal());
    let nested = Executor::submit_with_state(&pool, nest, ()).result();
    let (again, without, own) = nested.unwrap();
    assert!(again.contains("the task around it has borrowed"), "{again}");
    assert!(without.contains("its worker has none"), "{without}");
    assert_eq!(own, 7);
    assert_eq!(
        Executor::submit_with_state(&pool, add, 1).result().unwrap(),
        1
    );
}

/// Hands its tasks on.
struct Forward<E>(E);

impl<E: Executor> Executor for Forward<E> {
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
        self.0.execute(task);
    }
}

fn an_executor_of_ones_own_lends_the_state<K: Stated>() {
    let pages = Pages::new();
    let forward = Forward(K::stated(1, make, pages.journal()));
    let named = TaskOptions::new().name("count");
    let sum = forward.submit_with_state_with(named, add, 4);
    assert_eq!(sum.result().unwrap(), 4);
    // It starts threads of its own, which are no workers.
    assert!(refusal(Inline.submit_with_state(add, 1).result()).contains("has none"));
}

// ---- pools -----------------------------------------------------------------------------------

fn hold_with_state(tally: &mut Tally, held: Held) -> u64 {
    hold(held);
    add(tally, 1)
}

fn each_worker_has_its_own_state<K: Stated>() {
    let pages = Pages::new();
    let pool = K::stated(2, make, pages.journal());
    let held = Hold::new();
    let both = [(); 2].map(|()| pool.submit_with_state(hold_with_state, held.argument()));
    held.await_begun();
    held.await_begun();
    held.release();
    assert_eq!(both.map(|one| one.result().unwrap()), [1, 1]);
    drop(pool);
    assert_eq!((pages.count("made"), pages.count("dropped")), (2, 2));
}

// ---- threads ---------------------------------------------------------------------------------

fn closures_that_capture_borrow_the_state() {
    let pages = Pages::new();
    let pool = Threads::stated(1, make, pages.journal());
    let factor = Box::new(3);
    let once = pool.submit_with_state(move |tally: &mut Tally, n: u64| add(tally, *factor * n), 2);
    assert_eq!(once.result().unwrap(), 6);
    let offset = 10;
    let sums = pool.map_with_state(move |tally: &mut Tally, n| add(tally, n) + offset, [1, 1]);
    assert_eq!(sums.map(Result::unwrap).collect::<Vec<_>>(), [17, 18]);
    // Functions need no annotation.
    assert_eq!(pool.submit_with_state(add, 1).result().unwrap(), 9);
}

fn the_initializer_of_a_thread_runs_before_its_state_is_made() {
    let pages = Pages::new();
    let (first, second) = (pages.journal(), pages.journal());
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .state(move || {
            let before = std::fs::read_to_string(&second.0).unwrap();
            assert_eq!(before, "initialized\n");
            second.note("made");
        })
        .initializer(move || first.note("initialized"))
        .build()
        .unwrap();
    assert_works(&pool);
    assert_eq!(pages.count("made"), 1);
}

// ---- processes -------------------------------------------------------------------------------

fn the_initializer_of_a_process_runs_before_its_state_is_made() {
    let pages = Pages::new();
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .state(
            |journal: Journal| {
                let before = std::fs::read_to_string(&journal.0).unwrap();
                assert_eq!(before, "initialized\n");
                journal.note("made");
            },
            pages.journal(),
        )
        .initializer(
            |journal: Journal| journal.note("initialized"),
            pages.journal(),
        )
        .build()
        .unwrap();
    assert_works(&pool);
    assert_eq!(pages.count("made"), 1);
}

fn a_worker_in_the_place_of_a_dead_one_makes_its_state_anew() {
    let pages = Pages::new();
    let pool = Processes::stated(1, make, pages.journal());
    assert_eq!(pool.submit_with_state(add, 5).result().unwrap(), 5);
    let die = |_: &mut Tally, ()| -> u64 { os::segfault() };
    let died = pool.submit_with_state(die, ()).result();
    assert_error!(died, Error::WorkerDied(_));
    assert_eq!(pool.submit_with_state(add, 1).result().unwrap(), 1);
    drop(pool);
    assert_eq!((pages.count("made"), pages.count("dropped")), (2, 1));
}

fn a_task_beyond_its_limit_takes_the_state_along() {
    let pages = Pages::new();
    let pool = Processes::stated(1, make, pages.journal());
    assert_eq!(pool.submit_with_state(add, 5).result().unwrap(), 5);
    let stay = |_: &mut Tally, ()| -> u64 {
        loop {
            thread::park();
        }
    };
    let options = TaskOptions::new().timeout(Duration::from_millis(5));
    let late = pool.submit_with_state_with(options, stay, ()).result();
    assert_error!(late, Error::TaskTimeout { .. });
    assert_eq!(pool.submit_with_state(add, 1).result().unwrap(), 1);
    assert_eq!((pages.count("made"), pages.count("dropped")), (2, 0));
}

fn a_recycled_worker_drops_its_state() {
    let pages = Pages::new();
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let builder = builder.max_tasks_per_child(2).state(make, pages.journal());
    let pool = builder.build().unwrap();
    let sums = [1; 4].map(|n| pool.submit_with_state(add, n));
    assert_eq!(sums.map(|sum| sum.result().unwrap()), [1, 2, 1, 2]);
    drop(pool);
    assert!(pages.count("made") >= 2);
    assert_eq!(pages.count("made"), pages.count("dropped"));
}

fn an_idle_worker_drops_its_state() {
    let pages = Pages::new();
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let builder = builder.idle_timeout(Duration::from_millis(1));
    let pool = builder.state(make, pages.journal()).build().unwrap();
    let pid = pool.submit(own_pid, ()).result().unwrap();
    os::wait_until_dead(pid);
    assert_eq!((pages.count("made"), pages.count("dropped")), (1, 1));
    assert_eq!(pool.submit_with_state(add, 1).result().unwrap(), 1);
    assert_eq!(pages.count("made"), 2);
}

fn a_killed_worker_drops_nothing() {
    let pages = Pages::new();
    let pool = Processes::stated(1, make, pages.journal());
    let pid = pool.submit(own_pid, ()).result().unwrap();
    // Not by `kill_workers`: an idle worker may leave by itself before the signal comes.
    os::kill(pid, libc::SIGKILL);
    os::wait_until_dead(pid);
    assert_eq!((pages.count("made"), pages.count("dropped")), (1, 0));
}

fn a_worker_that_dies_while_it_makes_its_state_breaks_the_pool() {
    let pages = Pages::new();
    let die = |_: Journal| -> u64 { std::process::exit(3) };
    let pool = Processes::stated(1, die, pages.journal());
    let outcome = pool.submit(double, 1).result();
    let Err(Error::BrokenPool(reason)) = outcome else {
        panic!("{outcome:?}")
    };
    let words = "exited with code 3 in the function that makes the state";
    assert!(reason.as_str().contains(words), "{reason}");
}

// ---- in the caller ---------------------------------------------------------------------------

fn each_calling_thread_has_its_own_state() {
    let pages = Pages::new();
    let pool = Serial::stated(1, make, pages.journal());
    assert_eq!(pool.submit_with_state(add, 5).result().unwrap(), 5);
    thread::scope(|scope| {
        let other = scope.spawn(|| pool.submit_with_state(add, 1).result().unwrap());
        assert_eq!(other.join().unwrap(), 1);
    });
    // That thread has ended, and its state with it.
    assert_eq!((pages.count("made"), pages.count("dropped")), (2, 1));
    let another = Serial::stated(1, make, pages.journal());
    assert_eq!(another.submit_with_state(add, 2).result().unwrap(), 2);
    assert_eq!(pool.clone().submit_with_state(add, 1).result().unwrap(), 6);
    drop((pool, another));
    assert_eq!((pages.count("made"), pages.count("dropped")), (3, 3));
}

fn a_shutdown_drops_the_state_of_its_thread() {
    let pages = Pages::new();
    let pool = Serial::stated(1, make, pages.journal());
    let ends = pool.clone();
    let inside = pool.submit_with_state(
        move |tally: &mut Tally, n| {
            ends.shutdown(Shutdown::wait());
            (add(tally, n), tally.journal.clone())
        },
        3,
    );
    // A task that has borrowed the state keeps it to its end.
    assert_eq!(inside.result().unwrap().0, 3);
    assert_eq!((pages.count("made"), pages.count("dropped")), (1, 1));
    assert_error!(pool.submit_with_state(add, 1).result(), Error::ShutDown);
}

fn closures_in_the_caller_borrow_the_state() {
    let pages = Pages::new();
    let pool = Serial::stated(1, make, pages.journal());
    let factor = Rc::new(3);
    let by = *factor;
    let once = pool.submit_with_state(move |tally: &mut Tally, n: u64| add(tally, by * n), 2);
    assert_eq!(once.result().unwrap(), 6);
    let sums = pool.map_with_state(move |tally: &mut Tally, n| add(tally, n) + by, [1, 1]);
    assert_eq!(sums.map(Result::unwrap).collect::<Vec<_>>(), [10, 11]);
}

fn a_state_that_is_made_with_its_own_executor_is_not_there_yet() {
    let slot = std::sync::Arc::new(std::sync::Mutex::new(None::<SerialExecutor>));
    let own = std::sync::Arc::clone(&slot);
    let pool = SerialExecutor::with_state(move || {
        let pool = own.lock().unwrap().take().unwrap();
        let early = pool.submit_with_state(|words: &mut String, ()| words.clone(), ());
        refusal(early.result())
    });
    *slot.lock().unwrap() = Some(pool.clone());
    let words = pool.submit_with_state(|words: &mut String, ()| words.clone(), ());
    assert!(words.result().unwrap().contains("its worker has none"));
}
