//! What tasks cost that wait in a queue.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor};

use crate::Outcome;
use crate::children::Role;
use crate::figure::Unit;
use crate::pools::ours::PROCESSES;
use crate::pools::{WORKERS, identity};
use crate::scenes::{Run, Scene};
use crate::system;

/// Beside the argument.
const LIMIT: f64 = 256.0;

/// Measured by a program that has done nothing else: memory that was used before would be used
/// again.
pub fn play(run: &mut Run) -> Outcome<()> {
    let tasks: usize = run.pick(1_000_000, 100_000);
    let mut values = Vec::new();
    for _ in 0..run.rounds(3).rounds {
        let mut child = Role::Queue.command();
        let output = child
            .arg(tasks.to_string())
            .stderr(Stdio::inherit())
            .output()?;
        let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        values.push(bytes / tasks as f64);
    }
    let limit = LIMIT + size_of::<u64>() as f64;
    let what = format!("a task of {tasks} queued");
    run.record_limited(Scene::Queue, &what, Unit::Bytes, PROCESSES, limit, &values);
    Ok(())
}

/// Queues `tasks` tasks behind busy workers, and prints by how many bytes that makes the program's
/// private memory grow.
pub fn print_growth(tasks: u64) -> Outcome<()> {
    let pool = ProcessPoolExecutor::new(WORKERS)?;
    pool.warm_up()?;
    let sleep = |seconds| thread::sleep(Duration::from_secs(seconds));
    let busy: Vec<_> = (0..WORKERS).map(|_| pool.submit(sleep, 3600)).collect();
    let before = system::private_memory(std::process::id())?;
    let queued: Vec<_> = (0..tasks).map(|n| pool.submit(identity, n)).collect();
    let after = system::private_memory(std::process::id())?;
    println!("{}", after - before);
    pool.kill_workers();
    drop((busy, queued));
    Ok(())
}
