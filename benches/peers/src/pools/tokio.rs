//! tokio's `spawn_blocking`.

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::pools::{Call, CallAll, WORKERS, identity};

pub struct Tokio(Runtime);

impl Tokio {
    pub const NAME: &str = "tokio spawn_blocking";

    pub fn new() -> Outcome<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(WORKERS)
            .build()?;
        Ok(Self(runtime))
    }

    fn submit(&self, number: u64) -> JoinHandle<u64> {
        self.0.spawn_blocking(move || identity(number))
    }
}

impl Call for Tokio {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        Ok(self.0.block_on(self.submit(number))?)
    }
}

impl CallAll for Tokio {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        let handles: Vec<_> = (0..count).map(|number| self.submit(number)).collect();
        self.0.block_on(async {
            let mut sum = 0;
            for handle in handles {
                sum += handle.await?;
            }
            Ok(sum)
        })
    }
}
