//! What a pool costs while nothing happens.

use std::thread;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor, ThreadPoolExecutor};

use crate::Outcome;
use crate::figure::Unit;
use crate::pools::ours::{PROCESSES, THREADS};
use crate::pools::{WORKERS, identity};
use crate::scenes::{Run, Scene};
use crate::system;

/// Processor time a second of idleness: 10 ms in 10 s.
const TIME_LIMIT: f64 = 0.001;

/// Private memory of a worker.
const MEMORY_LIMIT: f64 = 2.0 * 1024.0 * 1024.0;

pub fn play(run: &mut Run) -> Outcome<()> {
    let rest = Duration::from_secs(run.pick(10, 1));
    let mut memory = Vec::new();
    let mut processes_time = Vec::new();
    let mut threads_time = Vec::new();
    for _ in 0..run.rounds(1).rounds {
        let pool = ProcessPoolExecutor::new(WORKERS)?;
        pool.warm_up()?;
        processes_time.push(idle_time(&pool, &pool.worker_pids(), rest)?);
        memory.push(most_private_memory(&pool.worker_pids())?);
        let pool = ThreadPoolExecutor::new(WORKERS)?;
        threads_time.push(idle_time(&pool, &[], rest)?);
    }
    let limit = TIME_LIMIT * rest.as_secs_f64();
    let what = format!("CPU time in {} s", rest.as_secs());
    run.record_limited(
        Scene::Idle,
        &what,
        Unit::Seconds,
        PROCESSES,
        limit,
        &processes_time,
    );
    run.record_limited(
        Scene::Idle,
        &what,
        Unit::Seconds,
        THREADS,
        limit,
        &threads_time,
    );
    let what = "private memory of a worker";
    run.record_limited(
        Scene::Idle,
        what,
        Unit::Bytes,
        PROCESSES,
        MEMORY_LIMIT,
        &memory,
    );
    Ok(())
}

/// The processor time that the program and its workers use while they have nothing to do.
fn idle_time(pool: &impl Executor, workers: &[u32], rest: Duration) -> Outcome<f64> {
    for number in 0..100 {
        pool.submit(identity, number).result()?;
    }
    let everybody = || -> Outcome<f64> {
        let mut sum = system::own_cpu_seconds();
        for worker in workers {
            sum += system::cpu_seconds(*worker)?;
        }
        Ok(sum)
    };
    let before = everybody()?;
    thread::sleep(rest);
    Ok(everybody()? - before)
}

fn most_private_memory(workers: &[u32]) -> Outcome<f64> {
    let mut most = 0.0_f64;
    for worker in workers {
        most = most.max(system::private_memory(*worker)?);
    }
    Ok(most)
}
