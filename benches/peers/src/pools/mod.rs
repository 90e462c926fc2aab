//! What is measured: our executors and their peers, each behind the traits of what it can do.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::duel::Samples;

pub mod bare_threads;
pub mod ipc;
pub mod ours;
pub mod procspawn;
pub mod python;
pub mod rayon;
pub mod rusty_pool;
pub mod socket;
pub mod threadpool;
pub mod tokio;

/// Every pool has two workers.
pub const WORKERS: usize = 2;

/// The task of most scenes.
pub fn identity(number: u64) -> u64 {
    number
}

/// Has a number returned by a worker.
pub trait Call {
    fn call(&mut self, number: u64) -> Outcome<u64>;
}

/// Has many numbers returned: all submitted, then all awaited.
pub trait CallAll {
    /// The sum of the results for the numbers below `count`.
    fn call_all(&mut self, count: u64) -> Outcome<u64>;
}

/// Has bytes returned by a worker.
pub trait Echo {
    fn echo(&mut self, bytes: Vec<u8>) -> Outcome<Vec<u8>>;
}

/// Calls one after the other.
#[derive(Clone, Copy)]
pub struct Series {
    /// Calls before those that count.
    pub warm_up: u64,
    /// Calls that count.
    pub calls: u64,
    /// How long nothing happens before each call.
    pub pause: Duration,
}

/// How long calls take. A pool that implements it without `Call` measures itself.
pub trait RoundTrips {
    fn round_trips(&mut self, series: Series) -> Outcome<Samples>;
}

impl<C: Call> RoundTrips for C {
    fn round_trips(&mut self, series: Series) -> Outcome<Samples> {
        let mut times = Vec::new();
        for number in 0..series.warm_up + series.calls {
            if !series.pause.is_zero() {
                std::thread::sleep(series.pause);
            }
            let begun = Instant::now();
            let answer = self.call(number)?;
            times.push(begun.elapsed());
            assert_eq!(answer, number, "a call returns its argument");
        }
        Ok(times.into_iter().skip(series.warm_up as usize).collect())
    }
}

/// How long many tasks take. A pool that implements it without `CallAll` measures itself.
pub trait Throughput {
    fn throughput(&mut self, tasks: u64) -> Outcome<Samples>;
}

impl<C: CallAll> Throughput for C {
    fn throughput(&mut self, tasks: u64) -> Outcome<Samples> {
        let begun = Instant::now();
        let sum = self.call_all(tasks)?;
        let time = begun.elapsed();
        assert_eq!(
            sum,
            (0..tasks).sum::<u64>(),
            "each call returns its argument"
        );
        Ok(time.into())
    }
}

/// How long echoes of that many bytes take. A pool that implements it without `Echo` measures itself.
pub trait Echoes {
    fn echoes(&mut self, size: usize, calls: u64) -> Outcome<Samples>;
}

impl<E: Echo> Echoes for E {
    fn echoes(&mut self, size: usize, calls: u64) -> Outcome<Samples> {
        let bytes = vec![7_u8; size];
        let mut times = Vec::new();
        // The first one warms up.
        for _ in 0..=calls {
            let argument = bytes.clone();
            let begun = Instant::now();
            let answer = self.echo(argument)?;
            times.push(begun.elapsed());
            assert!(answer == bytes, "an echo returns its argument");
        }
        Ok(times.into_iter().skip(1).collect())
    }
}
