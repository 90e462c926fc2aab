//! threadpool, with one channel that all results come through, as its documentation has it.

use std::sync::mpsc::{Receiver, Sender, channel};

use threadpool::ThreadPool;

use crate::Outcome;
use crate::pools::{Call, CallAll, WORKERS, identity};

pub struct Threadpool {
    /// The threads.
    pool: ThreadPool,
    /// Cloned for each task.
    sender: Sender<u64>,
    /// Where all results arrive.
    receiver: Receiver<u64>,
}

impl Threadpool {
    pub const NAME: &str = "threadpool + mpsc";

    pub fn new() -> Self {
        let (sender, receiver) = channel();
        Self {
            pool: ThreadPool::new(WORKERS),
            sender,
            receiver,
        }
    }

    fn submit(&self, number: u64) {
        let sender = self.sender.clone();
        self.pool.execute(move || {
            // We keep the receiver as long as the pool.
            sender.send(identity(number)).ok();
        });
    }
}

impl Call for Threadpool {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        self.submit(number);
        Ok(self.receiver.recv()?)
    }
}

impl CallAll for Threadpool {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        for number in 0..count {
            self.submit(number);
        }
        Ok(self.receiver.iter().take(count as usize).sum())
    }
}
