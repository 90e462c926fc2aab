//! Fates of the whole program: it ends in one way or another, and no process stays behind. Each
//! scene is this program, started anew.

mod abort;
mod executable;
mod forked;
mod hooks;
mod killed;
mod launched;
mod library;
mod numbers;
mod privileges;
mod short;
mod signals;
mod standard;
mod starved;
mod surroundings;
mod terminal;
mod unreachable;
mod words;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Process, ProcessPoolExecutor, Shutdown};
use libtest_mimic::Trial;

use crate::support::gate::{Held, Hold, hold};
use crate::support::leaks::assert_descendants_end;
use crate::support::{Kind, LONG, Processes, trials};

/// Names the scene to be played instead of the suite.
const SCENE: &str = "CONCURRENT_FUTURES_SCENE";
/// What the scene's task waits for.
const HELD: &str = "CONCURRENT_FUTURES_SCENE_HELD";

/// How long workers may live on without their program.
const SOON: Duration = Duration::from_secs(1);

pub fn trials() -> Vec<Trial> {
    let own = trials!["program";
        a_program_drops_its_pool,
        a_program_leaks_its_pool,
        a_program_leaks_a_busy_pool,
        a_program_leaks_a_running_process,
        a_program_exits_with_a_busy_pool,
        a_program_panics_with_a_pool_on_the_stack,
        a_program_returns_while_a_pool_winds_down,
        a_program_aborts_with_a_busy_pool,
        a_program_of_few_descriptors_queues_many_tasks,
    ];
    let groups = [
        own,
        abort::trials(),
        executable::trials(),
        forked::trials(),
        hooks::trials(),
        killed::trials(),
        launched::trials(),
        library::trials(),
        numbers::trials(),
        privileges::trials(),
        short::trials(),
        signals::trials(),
        standard::trials(),
        starved::trials(),
        surroundings::trials(),
        terminal::trials(),
        unreachable::trials(),
        words::trials(),
    ];
    groups.into_iter().flatten().collect()
}

/// Plays the scene that the environment names, if it names one, and ends the program.
pub fn play_scene() {
    let Ok(scene) = std::env::var(SCENE) else {
        return;
    };
    // SAFETY: called first in `main`, while there is one thread.
    unsafe { std::env::remove_var(SCENE) };
    let held = || Held::from_text(&std::env::var(HELD).unwrap());
    match &*scene {
        "drop" => drop(warm_pool()),
        "leak" => std::mem::forget(warm_pool()),
        "leak busy" => std::mem::forget(busy_pool(held())),
        "leak process" => std::mem::forget(Process::new(hold, held()).start().unwrap()),
        "exit" => {
            let _pool = busy_pool(held());
            std::process::exit(5);
        }
        "panic" => {
            let _pool = warm_pool();
            panic!("on purpose: in main");
        }
        "return" => {
            let pool = busy_pool(held());
            pool.shutdown(Shutdown::no_wait());
            std::mem::forget(pool);
        }
        "abort" => {
            let _pool = busy_pool(held());
            std::process::abort();
        }
        "stay" => drop(busy_pool(held())),
        "nest" => {
            let pool = Processes::pool(1);
            pool.submit(|held| drop(busy_pool(held)), held())
                .result()
                .unwrap();
        }
        "library" => library::in_a_foreign_program(),
        "other numbers" => numbers::other_numbers(),
        "main was run" => launched::main_was_run(),
        "few descriptors" => few_descriptors(),
        "short files" => short::big_payloads(),
        "captured" => short::captured(),
        "ignore children" => signals::ignore_children(),
        "reap children" => signals::reap_children(),
        "stand oddly" => signals::stand_oddly(),
        "late hook" => hooks::late_hook(),
        "many hooks" => hooks::many_hooks(),
        "slow hook" => hooks::slow_program(),
        "no advice" => surroundings::no_advice(),
        "no memory files" => surroundings::no_memory_files(),
        "no worker" => privileges::no_worker(),
        "stranger's socket" => privileges::strangers_socket(),
        "more rights" => privileges::more_rights(),
        "rights taken on" => privileges::rights_taken_on(),
        "rights laid down" => privileges::rights_laid_down(),
        "shell" => terminal::shell(),
        "interrupted" => terminal::interrupted(held()),
        "stopped" => terminal::stopped(held()),
        "work" => executable::work(),
        "double" => executable::work_once(),
        "missing" => executable::missing(),
        "start twice" => executable::start_twice(held()),
        "stay changed" => unreachable::stay_changed(held()),
        "stay lowered" => unreachable::stay_lowered(held()),
        "end lowered" => unreachable::end_lowered(),
        "end filtered" => unreachable::end_filtered(),
        "start filtered" => unreachable::start_filtered(),
        "locked stderr" => words::locked(),
        "full stderr" => words::full(),
        "slow stderr" => words::slow(),
        "no processes" => starved::no_processes(),
        "no memory for threads" => starved::no_memory_for_threads(),
        "no descriptors" => starved::no_descriptors(),
        "taken" => standard::taken(),
        other => match other.strip_prefix("closed ") {
            Some(numbers) => standard::closed(numbers),
            None => panic!("no such scene: {other}"),
        },
    }
    std::process::exit(0);
}

fn warm_pool() -> ProcessPoolExecutor {
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    pool
}

/// A pool with a running task and a queued one.
fn busy_pool(held: Held) -> ProcessPoolExecutor {
    let pool = Processes::pool(1);
    let begun = Hold::new();
    drop(pool.submit(announce, (begun.argument(), held.clone())));
    begun.await_begun();
    drop(pool.submit(hold, held));
    pool
}

/// Says twice that it has begun: to the scene and to the trial that has it played.
fn announce((scene, trial): (Held, Held)) {
    scene.begin();
    hold(trial);
}

/// This program, started anew to play a scene.
fn command(scene: &str, held: &Hold) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(SCENE, scene)
        .env(HELD, held.argument().to_text());
    command
}

/// Plays a scene to its end; how it ended. Nothing of it may be left.
fn play(scene: &str) -> ExitStatus {
    let held = Hold::new();
    let status = command(scene, &held).status().unwrap();
    assert_descendants_end(Instant::now() + LONG);
    // The task may have come so far that it could say so; what is queued behind it has not.
    if held.has_begun() {
        held.await_begun();
    }
    assert!(!held.has_begun(), "what was queued ran");
    status
}

fn a_program_drops_its_pool() {
    assert_eq!(play("drop").code(), Some(0));
}

fn a_program_leaks_its_pool() {
    assert_eq!(play("leak").code(), Some(0));
}

fn a_program_leaks_a_busy_pool() {
    assert_eq!(play("leak busy").code(), Some(0));
}

fn a_program_leaks_a_running_process() {
    assert_eq!(play("leak process").code(), Some(0));
}

fn a_program_exits_with_a_busy_pool() {
    assert_eq!(play("exit").code(), Some(5));
}

fn a_program_panics_with_a_pool_on_the_stack() {
    assert_eq!(play("panic").code(), Some(101));
}

fn a_program_returns_while_a_pool_winds_down() {
    assert_eq!(play("return").code(), Some(0));
}

fn a_program_aborts_with_a_busy_pool() {
    assert_eq!(play("abort").signal(), Some(libc::SIGABRT));
}

/// The scene: tasks cost no descriptors.
fn few_descriptors() {
    let pool = Processes::pool(4);
    let futures: Vec<_> = (0..100_000_u64)
        .map(|n| pool.submit(|n| n + 1, n))
        .collect();
    for (n, future) in (1..).zip(futures) {
        assert_eq!(future.result().unwrap(), n);
    }
}

fn a_program_of_few_descriptors_queues_many_tasks() {
    let mut program = Command::new("sh");
    program.args(["-c", "ulimit -n 64; exec \"$0\""]);
    program.arg(std::env::current_exe().unwrap());
    let status = program.env(SCENE, "few descriptors").status().unwrap();
    assert_eq!(status.code(), Some(0));
}
