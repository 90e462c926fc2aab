//! What workers and their children have of the program: directory, environment, descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::{Kind, Processes, assert_works, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        env_reaches_tasks,
        current_dir_is_that_of_tasks,
        a_backtrace_is_told_where_env_asks_for_it,
        no_mark_is_left_in_the_environment_of_tasks,
        no_mark_is_left_in_the_environment_of_their_children,
        arguments_of_the_program_are_not_passed_on,
        no_descriptor_reaches_a_child_of_the_program,
        no_descriptor_reaches_a_child_of_a_task,
        no_descriptor_of_one_worker_reaches_another,
        pools_nest_in_tasks,
        a_nested_pool_ends_with_its_killed_worker,
    ]
}

type Environment = BTreeMap<String, String>;

fn environment(_: ()) -> Environment {
    std::env::vars().collect()
}

/// As a child of the calling process sees it.
fn environment_of_a_child(_: ()) -> Environment {
    let output = Command::new("env").arg("-0").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let entries = text
        .split_terminator('\0')
        .filter_map(|entry| entry.split_once('='));
    entries
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What a child of the calling process has open: what for, and how often.
fn descriptors_of_a_child(_: ()) -> Vec<String> {
    let script = "for f in /proc/self/fd/*; do readlink $f; done; true";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Its standard output is a pipe made for it.
    text.lines()
        .map(str::to_owned)
        .filter(|target| !target.starts_with("pipe:"))
        .collect()
}

fn own_sockets_and_files(_: ()) -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}

// ---- environment and directory -------------------------------------------------------------

fn env_reaches_tasks() {
    let read = |name: String| std::env::var(name).ok();
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder
        .env("LANGUAGE_OF_TASKS", "Rust")
        .env("EMPTY", "")
        .build()
        .unwrap();
    let value = pool
        .submit(read, "LANGUAGE_OF_TASKS".into())
        .result()
        .unwrap();
    assert_eq!(value.as_deref(), Some("Rust"));
    assert_eq!(
        pool.submit(read, "EMPTY".into())
            .result()
            .unwrap()
            .as_deref(),
        Some("")
    );
    assert_eq!(std::env::var("LANGUAGE_OF_TASKS").ok(), None);
}

fn current_dir_is_that_of_tasks() {
    let here = |()| std::env::current_dir().unwrap();
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.current_dir("/proc").build().unwrap();
    assert_eq!(
        pool.submit(here, ()).result().unwrap().to_str(),
        Some("/proc")
    );
    assert_eq!(
        Processes::pool(1).submit(here, ()).result().unwrap(),
        here(())
    );
}

fn a_backtrace_is_told_where_env_asks_for_it() {
    for (asked, value) in [(true, "1"), (false, "0")] {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.env("RUST_BACKTRACE", value).build().unwrap();
        let failing = pool.submit(|()| -> u8 { panic!("on purpose") }, ());
        let Err(Error::Panicked(panic)) = failing.result() else {
            panic!("no panic")
        };
        let trace = panic.backtrace();
        assert_eq!(trace.is_some(), asked);
        // Files are named where the build has debug information.
        if cfg!(debug_assertions) {
            assert_eq!(trace.is_some_and(|t| t.contains("surroundings.rs")), asked);
        }
    }
}

fn no_mark_is_left_in_the_environment_of_tasks() {
    let pool = Processes::pool(1);
    assert_eq!(
        pool.submit(environment, ()).result().unwrap(),
        environment(())
    );
}

fn no_mark_is_left_in_the_environment_of_their_children() {
    let pool = Processes::pool(1);
    let of_task = pool.submit(environment_of_a_child, ()).result().unwrap();
    assert_eq!(of_task, environment_of_a_child(()));
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.env("ADDED", "1").build().unwrap();
    let mut of_task = pool.submit(environment_of_a_child, ()).result().unwrap();
    assert_eq!(of_task.remove("ADDED").as_deref(), Some("1"));
    assert_eq!(of_task, environment_of_a_child(()));
}

fn arguments_of_the_program_are_not_passed_on() {
    let pool = Processes::pool(1);
    let arguments = |()| std::env::args().collect::<Vec<_>>();
    let of_task = pool.submit(arguments, ()).result().unwrap();
    assert_eq!(of_task[1..], ["concurrent-futures-worker"]);
}

// ---- descriptors ---------------------------------------------------------------------------

fn no_descriptor_reaches_a_child_of_the_program() {
    let before = descriptors_of_a_child(());
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let queued = [(); 3].map(|()| pool.submit(environment, ()));
    assert_eq!(descriptors_of_a_child(()), before);
    held.release();
    running.result().unwrap();
    assert!(queued.into_iter().all(|future| future.result().is_ok()));
    assert_works(&pool);
}

fn no_descriptor_reaches_a_child_of_a_task() {
    let of_program: BTreeSet<String> = descriptors_of_a_child(()).into_iter().collect();
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let of_task = pool.submit(descriptors_of_a_child, ()).result().unwrap();
    let odd = |target: &&String| {
        !of_program.contains(*target) && *target != "/dev/null" && !target.starts_with("/proc/")
    };
    let odd: Vec<_> = of_task.iter().filter(odd).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

fn no_descriptor_of_one_worker_reaches_another() {
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let held = Hold::new();
    let sockets = |held| {
        hold(held);
        own_sockets_and_files(())
    };
    let tasks = [(); 2].map(|()| pool.submit(sockets, held.argument()));
    held.await_begun();
    held.await_begun();
    held.release();
    let [first, second] = tasks.map(|task| task.result().unwrap());
    let is_socket = |target: &&String| target.starts_with("socket:");
    let inherited = own_sockets_and_files(());
    let own = |all: &BTreeSet<String>| {
        let sockets = all.iter().filter(is_socket).cloned();
        sockets
            .filter(|socket| !inherited.contains(socket))
            .collect::<BTreeSet<_>>()
    };
    let (first, second) = (own(&first), own(&second));
    assert_eq!((first.len(), second.len()), (1, 1), "{first:?} {second:?}");
    assert!(first.is_disjoint(&second));
}

// ---- nesting -------------------------------------------------------------------------------

fn pools_nest_in_tasks() {
    /// Goes down this number of levels, one process each; returns the ids of the processes on the way.
    fn dive(levels: u32) -> Vec<u32> {
        let mut pids = match levels {
            0 => Vec::new(),
            _ => Processes::pool(1)
                .submit(dive, levels - 1)
                .result()
                .unwrap(),
        };
        pids.push(std::process::id());
        pids
    }
    let pids = dive(3);
    let distinct: BTreeSet<_> = pids.iter().collect();
    assert_eq!(distinct.len(), 4, "{pids:?}");
}

fn a_nested_pool_ends_with_its_killed_worker() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let task = |held| Processes::pool(1).submit(hold, held).result().unwrap();
    let outer = pool.submit(task, held.argument());
    let inner = held.await_begun();
    assert!(outer.kill());
    outer.wait();
    let deadline = std::time::Instant::now() + crate::support::LONG;
    assert!(
        crate::support::os::await_end(inner, deadline),
        "and nobody opened its gate"
    );
}
