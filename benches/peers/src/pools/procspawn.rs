//! procspawn's `Pool`, which executes the program again, as we do.

use std::collections::VecDeque;

use procspawn::{JoinHandle, Pool};

use crate::Outcome;
use crate::pools::{Call, CallAll, Echo, WORKERS, identity};

pub struct Procspawn(Pool);

/// Tasks that are queued at a time: each takes three descriptors of the program.
const WINDOW: usize = 200;

impl Procspawn {
    pub const NAME: &str = "procspawn Pool";

    pub fn new() -> Outcome<Self> {
        Ok(Self(Pool::new(WORKERS)?))
    }

    fn submit(&self, number: u64) -> JoinHandle<u64> {
        self.0.spawn(number, identity)
    }
}

impl Call for Procspawn {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        Ok(self.submit(number).join()?)
    }
}

impl CallAll for Procspawn {
    fn call_all(&mut self, count: u64) -> Outcome<u64> {
        let mut sum = 0;
        let mut queued = VecDeque::new();
        for number in 0..count {
            if queued.len() == WINDOW {
                sum += join_first(&mut queued)?;
            }
            queued.push_back(self.submit(number));
        }
        while !queued.is_empty() {
            sum += join_first(&mut queued)?;
        }
        Ok(sum)
    }
}

/// It must be the first: a worker waits until its result was taken.
fn join_first(queued: &mut VecDeque<JoinHandle<u64>>) -> Outcome<u64> {
    let first = queued.pop_front().ok_or("nothing is queued")?;
    Ok(first.join()?)
}

impl Echo for Procspawn {
    fn echo(&mut self, bytes: Vec<u8>) -> Outcome<Vec<u8>> {
        Ok(self.0.spawn(bytes, |bytes: Vec<u8>| bytes).join()?)
    }
}
