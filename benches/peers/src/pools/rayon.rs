//! rayon's `spawn`, each task with a oneshot channel for its result.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::Outcome;
use crate::pools::{Call, CallAll, WORKERS, identity};

pub struct Rayon(ThreadPool);

impl Rayon {
    pub const NAME: &str = "rayon spawn + oneshot";

    pub fn new() -> Outcome<Self> {
        Self::beginning_with(|| ())
    }

    /// Each thread calls that before it does anything else.
    pub fn beginning_with(begin: impl Fn() + Send + Sync + 'static) -> Outcome<Self> {
        let builder = ThreadPoolBuilder::new().num_threads(WORKERS);
        let pool = builder.start_handler(move |_| begin()).build()?;
        Ok(Self(pool))
    }

    fn submit(&self, number: u64) -> oneshot::Receiver<u64> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(move || {
            // No receiver is dropped before its result is there.
            sender.send(identity(number)).ok();
        });
        receiver
    }
}

impl Call for Rayon {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        Ok(self.submit(number).recv()?)
    }
}

impl CallAll for Rayon {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        let receivers: Vec<_> = (0..count).map(|number| self.submit(number)).collect();
        let results = receivers.into_iter().map(oneshot::Receiver::recv);
        Ok(results.sum::<Result<u64, _>>()?)
    }
}
