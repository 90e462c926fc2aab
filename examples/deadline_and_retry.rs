//! Tasks that may hang are ended by a time limit, after a grace in which they clean up; tasks that may crash, or
//! fail now and then, are run again.
//!
//! ```sh
//! cargo run --example deadline_and_retry
//! ```

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, Retry, TaskOptions, current_worker};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(2)?;

    // The limit counts from the moment a worker begins the task.
    let limited = TaskOptions::new().timeout(Duration::from_millis(200));
    let start = Instant::now();
    let quick = pool.submit_with(limited, download, 10);
    let stuck = pool.submit_with(limited, download, 3_600_000);
    println!("quick: {:?}", quick.result()?);
    if let Err(error) = stuck.result() {
        println!("stuck: {error}");
    }
    println!("all of it took {:.1} s", start.elapsed().as_secs_f64());

    // At the limit it is asked to stop, and has ten seconds before its process is killed.
    let scratch = temporary("scratch");
    let tidy = limited.grace(Duration::from_secs(10));
    let late = pool.submit_with(tidy, assemble, scratch.clone());
    println!("tidy: {:?}", late.result());
    println!("its file is gone: {}", !scratch.exists());

    // Again after its worker died, or if it returns an `Err`: at most four times, with pauses of some 10, 20, 40 ms.
    let again = Retry::new(4)
        .after_death()
        .after_err()
        .backoff(Duration::from_millis(10), Duration::from_secs(1))
        .task(limited);
    let trace = temporary("fragile");
    let value = pool.submit_retrying(again, fragile, trace.clone()).result();
    fs::remove_file(trace)?;
    println!("fragile: {}", value??);
    println!("workers replaced: {}", pool.stats().worker_restarts);
    Ok(())
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{name}-{}", process::id()))
}

fn download(milliseconds: u64) -> String {
    thread::sleep(Duration::from_millis(milliseconds));
    format!("downloaded in {milliseconds} ms")
}

/// Writes a file that it never finishes, and removes it when it is asked to stop.
fn assemble(scratch: PathBuf) -> Result<(), String> {
    fs::write(&scratch, "half of it").map_err(|error| error.to_string())?;
    while current_worker().is_some_and(|worker| !worker.cancel_requested()) {
        thread::sleep(Duration::from_millis(5)); // a part of the work
    }
    fs::remove_file(&scratch).map_err(|error| error.to_string())
}

/// Ends its process the first time, fails the second time, and leaves a trace of each.
fn fragile(trace: PathBuf) -> Result<String, String> {
    let attempts = fs::read_to_string(&trace).unwrap_or_default().len() + 1;
    fs::write(&trace, "x".repeat(attempts)).map_err(|error| error.to_string())?;
    match attempts {
        1 => process::abort(),
        2 => Err("the server is busy".to_owned()),
        _ => Ok(format!("went well in attempt {attempts}")),
    }
}
