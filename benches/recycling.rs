//! What it costs to replace workers: a stream of tasks of one millisecond through a pool whose
//! workers are replaced after 25 tasks, and through one whose workers stay. The two alternate in
//! one run, since the machine's own speed drifts.

#[path = "common/quantiles.rs"]
mod quantiles;

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};

use quantiles::Quantiles;

const ROUNDS: usize = 10;
const TASKS: usize = 1000;
const WORKERS: usize = 2;
const TASKS_PER_CHILD: usize = 25;

fn main() -> Result<(), Error> {
    concurrent_futures::init();
    let lasting = ProcessPoolExecutor::new(WORKERS)?;
    let replaced = ProcessPoolExecutor::builder()
        .max_workers(WORKERS)
        .max_tasks_per_child(TASKS_PER_CHILD)
        .build()?;
    for (name, task) in [("compute", compute as fn(())), ("sleep", sleep)] {
        for ahead in [1, WORKERS] {
            println!(
                "\n{TASKS} tasks a round that {name} for 1 ms, {ahead} at a time, {WORKERS} workers"
            );
            println!(
                "               workers stay       replaced after {TASKS_PER_CHILD}     ratio"
            );
            println!("               p50       p99      p50       p99      p50   p99");
            compare(&lasting, &replaced, task, ahead)?;
        }
    }
    Ok(())
}

/// Some rounds, and all of them together.
fn compare(
    lasting: &ProcessPoolExecutor,
    replaced: &ProcessPoolExecutor,
    task: fn(()),
    ahead: usize,
) -> Result<(), Error> {
    let (mut all_lasting, mut all_replaced) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let times = stream(lasting, task, ahead)?;
        let replaced_times = stream(replaced, task, ahead)?;
        all_lasting.extend_from_slice(&times);
        all_replaced.extend_from_slice(&replaced_times);
        show(&format!("round {round}"), times, replaced_times);
    }
    show("all", all_lasting, all_replaced);
    Ok(())
}

/// How long each task of a stream takes from its submission to its result, with `ahead` tasks under way
/// at a time.
fn stream(pool: &ProcessPoolExecutor, task: fn(()), ahead: usize) -> Result<Vec<Duration>, Error> {
    pool.warm_up()?;
    let mut under_way = VecDeque::new();
    let mut times = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        under_way.push_back((Instant::now(), pool.submit(task, ())));
        if under_way.len() == ahead {
            if let Some((begun, future)) = under_way.pop_front() {
                future.result()?;
                times.push(begun.elapsed());
            }
        }
    }
    for (begun, future) in under_way {
        future.result()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn show(name: &str, lasting: Vec<Duration>, replaced: Vec<Duration>) {
    let (lasting, replaced) = (Quantiles::of(lasting), Quantiles::of(replaced));
    println!(
        "{name:<10} {:>9.2?} {:>9.2?} {:>9.2?} {:>9.2?} {:>7.2} {:>5.2}",
        lasting.p50,
        lasting.p99,
        replaced.p50,
        replaced.p99,
        replaced.p50.as_secs_f64() / lasting.p50.as_secs_f64(),
        replaced.p99.as_secs_f64() / lasting.p99.as_secs_f64(),
    );
}

fn compute(_: ()) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1) {
        spin_loop();
    }
}

fn sleep(_: ()) {
    std::thread::sleep(Duration::from_millis(1));
}
