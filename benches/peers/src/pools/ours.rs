//! The executors of this crate.

use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor};

use crate::Outcome;
use crate::pools::{Call, CallAll, Echo, WORKERS, identity};

pub const PROCESSES: &str = "processes";
pub const THREADS: &str = "threads";

/// One of ours, behind the traits of the peers.
pub struct Ours<E>(pub E);

/// Two processes that wait for work.
pub fn processes() -> Outcome<Ours<ProcessPoolExecutor>> {
    let pool = ProcessPoolExecutor::new(WORKERS)?;
    pool.warm_up()?;
    Ok(Ours(pool))
}

/// Two threads.
pub fn threads() -> Outcome<Ours<ThreadPoolExecutor>> {
    Ok(Ours(ThreadPoolExecutor::new(WORKERS)?))
}

impl<E: Executor> Call for Ours<E> {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        Ok(self.0.submit(identity, number).result()?)
    }
}

impl<E: Executor> CallAll for Ours<E> {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        let submit = |number| self.0.submit(identity, number);
        let futures: Vec<_> = (0..count).map(submit).collect();
        let results = futures.into_iter().map(Future::result);
        Ok(results.sum::<Result<u64, Error>>()?)
    }
}

impl<E: Executor> Echo for Ours<E> {
    fn echo(&mut self, bytes: Vec<u8>) -> Outcome<Vec<u8>> {
        Ok(self.0.submit(|bytes: Vec<u8>| bytes, bytes).result()?)
    }
}
