//! Threads without a pool: the ceiling of what this machine can do.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::system;

pub const NAME: &str = "bare threads";

/// What the tasks took.
pub struct Spent {
    pub time: Duration,
    /// Processor time, in seconds.
    pub cpu: f64,
}

/// Has `workers` threads do the tasks, which they take by counting up. They wait at a barrier
/// before that, as warm as the workers of a pool.
pub fn run<A: Copy + Sync>(workers: usize, f: fn(A) -> u64, tasks: &[A]) -> Spent {
    let next = AtomicUsize::new(0);
    let barrier = Barrier::new(workers + 1);
    let work = || {
        barrier.wait();
        // Relaxed: the counter hands out numbers and orders nothing else.
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = numbers.map_while(|number| tasks.get(number));
        mine.fold(0_u64, |sum, &task| sum.wrapping_add(f(task)))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let begun = (Instant::now(), system::own_cpu_seconds());
        for thread in threads {
            black_box(thread.join().expect("tasks do not panic"));
        }
        Spent {
            time: begun.0.elapsed(),
            cpu: system::own_cpu_seconds() - begun.1,
        }
    })
}
