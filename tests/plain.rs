//! Process pools in plain `#[test]` functions: one line each, under libtest and nextest.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use concurrent_futures::{Error, Executor, Process, ProcessPoolExecutor};

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn a_process_pool_works_in_a_plain_test() {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(2).unwrap();
    let sum: u64 = pool.map(square, 1..=10).map(Result::unwrap).sum();
    assert_eq!(sum, 385);
    let pid = pool.submit(|()| std::process::id(), ()).result().unwrap();
    assert_ne!(pid, std::process::id());
}

#[test]
fn init_may_be_called_again() {
    concurrent_futures::init();
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    assert_eq!(pool.submit(square, 3).result().unwrap(), 9);
}

#[test]
fn a_process_works_in_a_plain_test() {
    concurrent_futures::init();
    let process = Process::new(square, 12).start().unwrap();
    assert_eq!(process.join().unwrap(), 144);
}

/// Tests of this binary run side by side, each with workers of its own.
#[test]
fn several_pools_work_in_a_plain_test() {
    concurrent_futures::init();
    let pools: Vec<_> = (0..3)
        .map(|_| ProcessPoolExecutor::new(1).unwrap())
        .collect();
    let futures: Vec<_> = pools
        .iter()
        .zip(1..)
        .map(|(pool, n)| pool.submit(square, n))
        .collect();
    let squares: Vec<_> = futures
        .into_iter()
        .map(|future| future.result().unwrap())
        .collect();
    assert_eq!(squares, [1, 4, 9]);
}

/// libtest's main thread runs beside the test's, and may read the environment: so the mark of a worker stays
/// there. It makes no worker of what inherits it.
#[test]
fn a_mark_that_stays_in_the_environment_is_harmless() {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(1).unwrap();
    let is_marked = |()| std::env::var_os("CONCURRENT_FUTURES_WORKER").is_some();
    assert!(pool.submit(is_marked, ()).result().unwrap());
    let run_another = |()| {
        let program = std::env::current_exe().unwrap();
        let arguments = ["a_process_pool_works_in_a_plain_test", "--exact"];
        let output = Command::new(program).args(arguments).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (is_well, printed) = pool.submit(run_another, ()).result().unwrap();
    assert!(is_well && printed.contains("1 passed"));
}

/// Where the test below leaves a mark each time that it runs, if this variable is set. Tests that start this
/// binary anew look at it, too: should a worker run all tests, that must not go on without end.
const RUNS: &str = "CONCURRENT_FUTURES_PLAIN_RUNS";

/// It stands for all that a worker must not run: what drops the tables of a data base, say.
#[test]
fn a_bystander_that_uses_no_processes() {
    use std::io::Write;
    if let Some(runs) = std::env::var_os(RUNS) {
        let file = fs::File::options().append(true).create(true).open(runs);
        file.unwrap().write_all(b"x").unwrap();
    }
}

/// A copy of this binary, under a name that cargo gives to no test.
struct Renamed(PathBuf);

impl Renamed {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        fs::copy(std::env::current_exe().unwrap(), place.join("mytests")).unwrap();
        Self(place)
    }

    /// Runs a test that uses processes, and the one that must run once.
    fn run(&self, setting: impl FnOnce(&Path) -> String) -> String {
        let runs = self.0.join("runs");
        let script = setting(&self.0.join("mytests"));
        let output = Command::new("sh")
            .args(["-c", &script, "sh", "a_process_pool_works_in_a_plain_test"])
            .args(["a_bystander_that_uses_no_processes", "--exact"])
            .env(RUNS, &runs)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(runs).unwrap()
    }
}

impl Drop for Renamed {
    fn drop(&mut self) {
        // What is left is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As other builders name them than cargo.
#[test]
fn a_renamed_test_binary_runs_one_test_a_worker() {
    if std::env::var_os(RUNS).is_some() {
        return; // started by such a test
    }
    let run = |binary: &Path| format!("exec {} \"$@\"", binary.display());
    assert_eq!(Renamed::new("plain-renamed").run(run), "x");
}

/// As a build does that goes on while tests run.
#[test]
fn a_deleted_test_binary_runs_one_test_a_worker() {
    if std::env::var_os(RUNS).is_some() {
        return; // started by such a test
    }
    let run = |binary: &Path| {
        // The shell has it open, and deletes it before it is executed.
        let binary = binary.display();
        format!("exec 9< {binary}; rm {binary}; exec /proc/self/fd/9 \"$@\"")
    };
    assert_eq!(Renamed::new("plain-deleted").run(run), "x");
}

#[test]
fn a_launcher_that_cleans_the_environment_has_no_test_run() {
    concurrent_futures::init();
    if std::env::var_os(RUNS).is_some() {
        panic!("it runs in a worker");
    }
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .launcher(["env", "-i", &format!("{RUNS}=/dev/null")])
        .build()
        .unwrap();
    let error = pool.submit(square, 2).result().unwrap_err().to_string();
    let says = "this process was started as a worker";
    assert!(error.contains("code 70") && error.contains(says), "{error}");
}

mod nested {
    use super::{Error, Executor, ProcessPoolExecutor, square};

    mod deeper {
        use super::{Error, Executor, ProcessPoolExecutor, square};

        #[test]
        fn a_process_pool_works_in_a_nested_module() {
            concurrent_futures::init();
            let pool = ProcessPoolExecutor::new(1).unwrap();
            let crash = pool.submit(|code| -> u8 { std::process::exit(code) }, 7);
            let Err(Error::WorkerDied(death)) = crash.result() else {
                panic!("no death")
            };
            assert_eq!(death.exit_code(), Some(7));
            assert_eq!(pool.submit(square, 4).result().unwrap(), 16);
        }
    }

    #[test]
    #[ignore = "shows that an ignored test finds its workers when it is asked for"]
    fn a_process_pool_works_in_an_ignored_test() {
        concurrent_futures::init();
        let pool = ProcessPoolExecutor::new(1).unwrap();
        assert_eq!(pool.submit(square, 5).result().unwrap(), 25);
    }

    #[test]
    fn a_test_that_returns_a_result_works() -> Result<(), Error> {
        concurrent_futures::init();
        let pool = ProcessPoolExecutor::new(1)?;
        assert_eq!(pool.submit(square, 6).result()?, 36);
        Ok(())
    }
}
