//! Every error of a task tells which one it was: its name, its function, and the place of its submit.

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Mutex;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, Payload, Process, ProcessPoolExecutor, Shutdown, Stats, Task,
    TaskInfo, TaskOptions, ThreadPoolExecutor,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::support::gate::Hold;
use crate::support::tasks::{double, fail};
use crate::support::{Kind, LONG, Processes, Threads, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_panic_names_its_task::<K>,
        a_time_limit_names_its_task::<K>,
        a_future_names_its_task_after_the_end::<K>,
        a_name_is_of_any_text::<K>,
        items_have_the_name_of_their_map::<K>,
        an_executor_is_told_the_name::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_future_names_its_task_before_the_end::<K>,
    ]
}

pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        a_broken_pool_of_threads_names_its_task,
        a_closure_names_its_task,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        a_death_names_its_task,
        a_value_over_the_limit_names_its_task,
        what_cannot_be_encoded_names_its_task,
        what_cannot_be_decoded_names_its_task,
        a_broken_pool_of_processes_names_its_task,
        a_process_names_its_task,
    ]
}

pub const NAME: &str = "doomed";

/// Fails unless `f(argument)` ends with an error that names the task, as a single task and as an item of a map;
/// the errors.
#[track_caller]
fn assert_named<A: Payload, R: Payload>(
    pool: &impl Executor,
    options: TaskOptions,
    f: fn(A) -> R,
    function: &str,
    [one, other]: [A; 2],
) -> [Error; 2] {
    let place = Location::caller();
    let options = options.name(NAME);
    let single = pool.submit_with(options, f, one).result();
    let of_map = pool
        .map_with(MapOptions::new().task(options), f, [other])
        .next();
    let errors = [single.err().unwrap(), of_map.unwrap().err().unwrap()];
    for error in &errors {
        let task = error.task().unwrap_or_else(|| panic!("{error:?}"));
        assert_is(task, place.line(), function);
        let text = error.to_string();
        for words in [format!("`{NAME}`"), place.to_string()] {
            assert!(text.contains(&words), "{words} is not in: {text}");
        }
    }
    errors
}

fn assert_is(task: &TaskInfo, line: u32, function: &str) {
    let place = task.location();
    assert_eq!((place.file(), place.line()), (file!(), line));
    assert_eq!(task.name(), Some(NAME));
    // Optimised, it may have been inlined; without the feature, no symbols are looked up.
    if cfg!(all(debug_assertions, feature = "symbols")) {
        let found = task.function().unwrap();
        assert!(found.ends_with(function), "{found} is not {function}");
    }
}

fn named() -> TaskOptions {
    TaskOptions::new().name(NAME)
}

/// The ways of a task to a process: the queue, and the connection.
fn ways() -> [TaskOptions; 2] {
    [TaskOptions::new(), TaskOptions::new().timeout(LONG)]
}

// ---- everywhere --------------------------------------------------------------------------------

fn a_panic_names_its_task<K: Kind>() {
    let (pool, options) = (K::pool(1), TaskOptions::new());
    let arguments = ["a", "b"].map(str::to_owned);
    for error in assert_named(&pool, options, fail, "tasks::fail", arguments) {
        assert!(error.is_panic(), "{error:?}");
    }
}

fn overrun(_: u8) {
    std::thread::sleep(4 * LIMIT);
}

const LIMIT: Duration = Duration::from_millis(10);

fn a_time_limit_names_its_task<K: Kind>() {
    let (pool, options) = (K::pool(1), TaskOptions::new().timeout(LIMIT));
    for error in assert_named(&pool, options, overrun, "overrun", [1, 2]) {
        assert!(error.to_string().ends_with("its limit of 10ms"), "{error}");
        // What is bound is a copy, as it would be of a duration.
        assert!(
            matches!(error, Error::TaskTimeout { limit } if limit == LIMIT),
            "{error:?}"
        );
        let Error::TaskTimeout { limit } = error else {
            panic!("{error:?}")
        };
        assert_eq!(limit, LIMIT);
        assert_eq!(LIMIT, limit);
        assert!(limit < 2 * LIMIT && LIMIT / 2 < limit);
        assert_eq!((limit.as_millis(), Duration::from(limit)), (10, LIMIT));
    }
}

fn a_future_names_its_task_after_the_end<K: Kind>() {
    let pool = K::pool(1);
    let (line, mut future) = (line!(), pool.submit_with(named(), double, 21));
    future.wait();
    assert_is(&future.task(), line, "tasks::double");
    assert_eq!(future.result_timeout(LONG).unwrap(), 42);
    assert_is(&future.task(), line, "tasks::double");
    let unnamed = pool.submit(double, 21).cancel_on_drop();
    assert_eq!(unnamed.task().name(), None);
    pool.shutdown(Shutdown::wait());
    let (line, refused) = (line!(), pool.submit_with(named(), double, 21));
    assert_is(&refused.task(), line, "tasks::double");
    assert_error!(refused.result(), Error::ShutDown);
}

const DEFAULT: TaskOptions = TaskOptions::new().static_name("default");

fn a_name_is_of_any_text<K: Kind>() {
    let pool = K::pool(1);
    for options in [DEFAULT, DEFAULT.timeout(LONG)] {
        for file in ["cat.png", "dog.png"] {
            let path = format!("{}/{file}", "images/".repeat(20));
            for (name, told) in [
                (file, file),
                (&path, &format!("…{}", &path[path.len() - 117..])),
            ] {
                let future = pool.submit_with(options.name(name.to_owned()), fail, file.into());
                assert_eq!(future.task().name(), Some(told));
                let error = future.result().unwrap_err();
                assert_eq!(error.task().unwrap().name(), Some(told));
                assert!(error.to_string().contains(&format!("`{told}`")), "{error}");
            }
        }
        let error = pool.submit_with(options, fail, "x".into()).exception();
        assert_eq!(error.unwrap().task().unwrap().name(), Some("default"));
    }
}

fn items_have_the_name_of_their_map<K: Kind>() {
    let pool = K::pool(1);
    let options = MapOptions::new().chunksize(2);
    for options in [options.task(named()), options.task(named().timeout(LONG))] {
        for result in pool.map_with(options, fail, [(); 5].map(|()| String::new())) {
            assert_eq!(result.unwrap_err().task().unwrap().name(), Some(NAME));
        }
    }
}

/// Notes the options of each task.
struct Noting<E> {
    pool: E,
    noted: Mutex<Vec<TaskOptions>>,
}

impl<E: Executor> Executor for Noting<E> {
    fn max_workers(&self) -> usize {
        self.pool.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.pool.shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.pool.stats()
    }

    fn execute(&self, task: Task) {
        self.noted.lock().unwrap().push(task.options());
        self.pool.execute(task);
    }
}

fn an_executor_is_told_the_name<K: Kind>() {
    let (pool, noted) = (K::pool(1), Mutex::default());
    let noting = Noting { pool, noted };
    for name in [Cow::Borrowed("static"), Cow::Owned("owned".to_owned())] {
        let options = TaskOptions::new().name(name.clone());
        noting.submit_with(options, double, 1).result().unwrap();
        let mapped = MapOptions::new().task(options);
        assert_eq!(noting.map_with(mapped, double, [1]).count(), 1);
        let noted = std::mem::take(&mut *noting.noted.lock().unwrap());
        assert_eq!(noted.len(), 2);
        for options in noted {
            let again = noting.pool.submit_with(options, double, 1);
            assert_eq!(again.task().name(), Some(&*name));
            assert_eq!(again.result().unwrap(), 2);
        }
    }
}

// ---- pools -------------------------------------------------------------------------------------

fn a_future_names_its_task_before_the_end<K: Kind>() {
    let (pool, held) = (K::pool(1), Hold::new());
    let busy = held.occupy(&pool);
    let queued = pool.submit_with(named(), double, 21);
    assert_eq!(queued.task().name(), Some(NAME));
    assert_eq!(queued.task().location().file(), file!());
    assert!(queued.cancel());
    assert_eq!(queued.task().name(), Some(NAME));
    assert_error!(queued.result(), Error::Cancelled);
    assert!(busy.task().location().file().ends_with("gate.rs"));
    held.release();
    busy.result().unwrap();
}

fn a_broken_pool_of_threads_names_its_task() {
    let builder = ThreadPoolExecutor::builder().max_workers(1);
    let pool = builder.initializer(|| panic!("on purpose")).build();
    assert_breaks(&pool.unwrap());
}

fn a_broken_pool_of_processes_names_its_task() {
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.initializer(|()| panic!("on purpose"), ()).build();
    assert_breaks(&pool.unwrap());
}

/// The first task waits as the pool breaks; the second comes later.
fn assert_breaks(pool: &impl Executor) {
    for error in assert_named(pool, TaskOptions::new(), double, "tasks::double", [1, 2]) {
        assert!(matches!(error, Error::BrokenPool(_)), "{error:?}");
    }
}

fn a_closure_names_its_task() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let text = String::from("x");
    let task = move |_: u8| fail(text);
    let (line, future) = (line!(), pool.submit_with(named(), task, 1));
    let error = future.exception().unwrap();
    assert_is(error.task().unwrap(), line, "{{closure}}");
}

// ---- processes ---------------------------------------------------------------------------------

fn die(_: u8) {
    std::process::abort();
}

fn a_death_names_its_task() {
    for options in ways() {
        let pool = Processes::pool(1);
        for error in assert_named(&pool, options, die, "die", [1, 2]) {
            assert!(error.is_worker_death(), "{error:?}");
        }
    }
}

fn blank(size: usize) -> String {
    " ".repeat(size)
}

fn length(text: String) -> usize {
    text.len()
}

fn flags(count: usize) -> Vec<bool> {
    vec![true; count]
}

fn same(number: u64) -> u64 {
    number
}

fn a_value_over_the_limit_names_its_task() {
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.payload_limit(1000).build().unwrap();
    let told = |errors: [Error; 2], value: &str| {
        for error in errors {
            let Error::TooLarge(large) = &error else {
                panic!("{error:?}")
            };
            assert_eq!((large.value(), large.limit()), (value, 1000));
            assert!((2000..2010).contains(&large.size()), "{error}");
            assert!(error.to_string().starts_with(value), "{error}");
        }
    };
    for options in ways() {
        let errors = assert_named(
            &pool,
            options,
            length,
            "length",
            [(); 2].map(|()| blank(2000)),
        );
        told(errors, "the argument, of type `alloc::string::String`");
        let errors = assert_named(&pool, options, blank, "blank", [2000; 2]);
        told(errors, "the result, of type `alloc::string::String`");
        let errors = assert_named(&pool, options, flags, "flags", [2000; 2]);
        told(errors, "the result, of type `alloc::vec::Vec<bool>`");
    }
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.payload_limit(7).build().unwrap();
    for error in assert_named(&pool, TaskOptions::new(), same, "same", [1, 2]) {
        assert!(
            error
                .to_string()
                .starts_with("the argument, of type `u64`, has 8 bytes")
        );
    }
}

/// Is written and read, or not.
struct Stubborn {
    /// Whether it can be written.
    writes: bool,
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.writes {
            true => serializer.serialize_unit(),
            false => Err(ser::Error::custom("on purpose")),
        }
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("on purpose"))
    }
}

fn take(_: Stubborn) {}

fn give(writes: bool) -> Stubborn {
    Stubborn { writes }
}

fn what_cannot_be_encoded_names_its_task() {
    for options in ways() {
        let pool = Processes::pool(1);
        let arguments = [(); 2].map(|()| give(false));
        let of_argument = assert_named(&pool, options, take, "take", arguments);
        let of_result = assert_named(&pool, options, give, "give", [false; 2]);
        for error in of_argument.into_iter().chain(of_result) {
            assert!(matches!(error, Error::Encode(_)), "{error:?}");
        }
    }
}

fn what_cannot_be_decoded_names_its_task() {
    for options in ways() {
        let pool = Processes::pool(1);
        let arguments = [(); 2].map(|()| give(true));
        let of_argument = assert_named(&pool, options, take, "take", arguments);
        let of_result = assert_named(&pool, options, give, "give", [true; 2]);
        for error in of_argument.into_iter().chain(of_result) {
            assert!(matches!(error, Error::Decode(_)), "{error:?}");
        }
    }
}

fn a_process_names_its_task() {
    let (line, process) = (line!(), Process::new(overrun, 1));
    let child = process.timeout(LIMIT).name(NAME).start().unwrap();
    assert_is(&child.task(), line, "overrun");
    let error = child.join().unwrap_err();
    assert!(error.is_timeout());
    assert_is(error.task().unwrap(), line, "overrun");
}
