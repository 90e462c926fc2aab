//! rusty_pool's `evaluate`.

use std::time::Duration;

use rusty_pool::{JoinHandle, ThreadPool};

use crate::Outcome;
use crate::pools::{Call, CallAll, WORKERS, identity};

pub struct RustyPool(ThreadPool);

impl RustyPool {
    pub const NAME: &str = "rusty_pool";

    pub fn new() -> Self {
        let keep_alive = Duration::from_secs(60);
        Self(ThreadPool::new(WORKERS, WORKERS, keep_alive))
    }

    fn submit(&self, number: u64) -> JoinHandle<u64> {
        self.0.evaluate(move || identity(number))
    }
}

impl Call for RustyPool {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        Ok(self.submit(number).try_await_complete()?)
    }
}

impl CallAll for RustyPool {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        let handles: Vec<_> = (0..count).map(|number| self.submit(number)).collect();
        let results = handles.into_iter().map(JoinHandle::try_await_complete);
        Ok(results.sum::<Result<u64, _>>()?)
    }
}
