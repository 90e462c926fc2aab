//! What runs the tasks: an executor, or threads started by hand.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use concurrent_futures::{Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};

use crate::kernel::{Darts, Gil, calc_pi};

#[derive(Clone, Copy, PartialEq)]
pub enum Runner {
    Serial,
    BareThreads,
    Threads,
    Processes,
}

impl Runner {
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::BareThreads => "std::thread",
            Self::Threads => "threads",
            Self::Processes => "processes",
        }
    }

    /// Starts the workers, runs the tasks, stops the workers.
    pub fn run(self, workers: usize, tasks: &[Darts]) -> Result<Vec<u64>, Box<dyn Error>> {
        match self {
            Self::Serial => map(&SerialExecutor::new(), tasks),
            Self::BareThreads => Ok(bare_threads(workers, tasks)),
            Self::Threads => map(&ThreadPoolExecutor::new(workers)?, tasks),
            Self::Processes => map(&ProcessPoolExecutor::new(workers)?, tasks),
        }
    }
}

/// The lesson's program: one function, many arguments, whatever executor.
fn map(executor: &impl Executor, tasks: &[Darts]) -> Result<Vec<u64>, Box<dyn Error>> {
    let results = executor.map(calc_pi, tasks.iter().copied());
    Ok(results.collect::<Result<_, _>>()?)
}

/// What `map` does, by hand: each thread takes the next task until there are none.
fn bare_threads(workers: usize, tasks: &[Darts]) -> Vec<u64> {
    let next = AtomicUsize::new(0);
    let work = || -> Vec<u64> {
        // Relaxed: the counter hands out numbers and orders nothing else.
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = numbers.map_while(|number| tasks.get(number));
        mine.map(|&darts| calc_pi(free(darts))).collect()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let results = threads.into_iter().map(thread::ScopedJoinHandle::join);
        results
            .flat_map(|result| result.expect("calc_pi does not panic"))
            .collect()
    })
}

/// The ceiling is what the machine can do, so no lock stands in its way.
fn free(darts: Darts) -> Darts {
    let gil = Gil::None;
    Darts { gil, ..darts }
}
