//! Tasks that may hang are ended by a time limit, and tasks that may crash are run again.
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

use concurrent_futures::{Executor, ProcessPoolExecutor, TaskOptions};

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

    // Again after its worker died, at most twice. A task that panics is not run again.
    let again = TaskOptions::new().retries(2);
    let trace = std::env::temp_dir().join(format!("fragile-{}", process::id()));
    let value = pool.submit_with(again, fragile, trace.clone()).result();
    fs::remove_file(trace)?;
    println!("fragile: {}", value?);
    println!("workers replaced: {}", pool.stats().worker_restarts);
    Ok(())
}

fn download(milliseconds: u64) -> String {
    thread::sleep(Duration::from_millis(milliseconds));
    format!("downloaded in {milliseconds} ms")
}

/// Ends its process the first time, and leaves a trace of that.
fn fragile(trace: PathBuf) -> String {
    if fs::File::create_new(trace).is_ok() {
        process::abort();
    }
    "went well the second time".to_owned()
}
