//! Launchers that take from a worker what it knows itself by: it never runs `main`, and the pool breaks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolBuilder, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::SCENE;
use crate::support::{assert_breaks, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_launcher_that_cleans_the_environment_breaks_the_pool,
        a_launcher_that_replaces_stdin_breaks_the_pool,
        a_launcher_that_leaves_the_arguments_out_starts_workers,
        the_argument_of_a_worker_starts_no_program,
        a_process_that_says_nothing_is_told_nothing,
    ]
}

/// The scene: what a worker that takes itself for the program would do.
pub fn main_was_run() {
    eprintln!("main was run");
    std::process::exit(9);
}

/// What a worker that does not find its mark prints.
const SAYS: &str = "this process was started as a worker";

/// What starts one worker.
fn behind<const N: usize>(launcher: [&str; N]) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder()
        .max_workers(1)
        .env(SCENE, "main was run")
        .launcher(launcher)
}

fn a_launcher_that_cleans_the_environment_breaks_the_pool() {
    let scene = format!("{SCENE}=main was run");
    let pool = behind(["env", "-i", &scene]).build().unwrap();
    assert_breaks(&pool, &["exited with code 70", SAYS]);
}

fn a_launcher_that_replaces_stdin_breaks_the_pool() {
    let script = "exec \"$0\" \"$@\" </dev/null";
    let pool = behind(["sh", "-c", script]).build().unwrap();
    assert_breaks(&pool, &["exited with code 70", SAYS]);
}

/// The mark says it all.
fn a_launcher_that_leaves_the_arguments_out_starts_workers() {
    let pool = behind(["sh", "-c", "exec \"$0\""]).build().unwrap();
    assert_eq!(pool.submit(|n: u8| 2 * n, 4).result().unwrap(), 8);
}

fn the_argument_of_a_worker_starts_no_program() {
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("concurrent-futures-worker")
        .env(SCENE, "main was run")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(70));
    assert!(String::from_utf8(output.stderr).unwrap().contains(SAYS));
}

/// It is another program, which might take it for its input.
fn a_process_that_says_nothing_is_told_nothing() {
    let name = format!("concurrent-futures-heard-{}", std::process::id());
    let heard = std::env::temp_dir().join(name);
    let script = format!("exec cat > {}", heard.display());
    let pool = behind(["sh", "-c", &script])
        .start_timeout(Duration::from_millis(300))
        .initializer(|_secret: String| (), "a secret".to_owned())
        .build()
        .unwrap();
    assert_breaks(&pool, &["it was not ready after 300ms"]);
    assert_eq!(fs::read(&heard).unwrap(), b"");
    remove(heard);
}

fn remove(file: PathBuf) {
    fs::remove_file(file).unwrap();
}
