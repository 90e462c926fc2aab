//! What dead workers leave on the board.

use super::Ledger;
use super::books::{Arrival, Books, Posted, Record};
use crate::backlog::Work;
use crate::error::Error;
use crate::pledge::Pledge;
use crate::process::board::Remains;
use crate::process::request::{Encoded, Reply};
use crate::process::requests::Requests;
use crate::process::tender::Bringer;

/// What a dead worker leaves behind.
pub(crate) enum Legacy {
    /// The task that it ran.
    Ran(Pledge<dyn Reply>),
    /// The task that it ran, which was killed.
    Killed(Pledge<dyn Reply>),
    /// What it had taken and not begun.
    Untouched(Requests),
}

/// What a dead worker left of a task.
enum Buried {
    /// Its outcome.
    Arrived(Arrival),
    /// None.
    Left(Legacy),
    /// Somebody else has seen to it.
    Nothing,
}

impl Ledger {
    /// A worker is dead: brings in what it left finished; what it did not.
    pub(crate) fn bury(&self, worker: usize) -> Vec<Legacy> {
        let mut legacies = Vec::new();
        let mut arrivals = Vec::new();
        let mut books = self.lock();
        for slot in 0..books.records.len() {
            let Some(record) = &books.records[slot] else {
                continue;
            };
            let remains = self.board.remains(record.place, worker);
            if remains == Remains::None && !self.board.is_lost(record.place) {
                continue;
            }
            match record.work {
                Posted::Task { .. } => match self.bury_task(&mut books, slot, remains) {
                    Buried::Arrived(arrival) => arrivals.push(arrival),
                    Buried::Left(legacy) => legacies.push(legacy),
                    Buried::Nothing => {}
                },
                Posted::Parcel { .. } => {
                    let (legacy, arrival) = self.bury_items(&mut books, slot, worker, remains);
                    legacies.extend(legacy);
                    arrivals.extend(arrival);
                }
                Posted::Ticket(_) => {
                    let requests = self.remove(&mut books, slot);
                    let requests = requests.and_then(Record::into_requests);
                    legacies.extend(requests.map(Legacy::Untouched));
                }
            }
        }
        drop(books);
        if let Some(depot) = &self.depot {
            depot.bury(worker);
        }
        self.board.bury(worker);
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        legacies
    }

    /// Takes out a task of a dead worker.
    fn bury_task(&self, books: &mut Books, slot: usize, remains: Remains) -> Buried {
        if remains == Remains::Done {
            if let Some(arrival) = self.take_outcome(books, slot) {
                return Buried::Arrived(arrival);
            }
            // What it had to tell over the link never came.
        }
        let told = match remains {
            Remains::Running => books.take_told(slot),
            _ => None,
        };
        if let Some(outcome) = told {
            return match self.remove_task(books, slot) {
                Some(reply) => Buried::Arrived(books.arrival(reply, outcome)),
                None => Buried::Nothing,
            };
        }
        match self.remove_begun(books, slot) {
            Some(reply) if remains == Remains::Killed => Buried::Left(Legacy::Killed(reply)),
            Some(reply) => Buried::Left(Legacy::Ran(reply)),
            None => Buried::Nothing,
        }
    }

    /// No worker is left. What is still on the board has no worker to end it: somebody has written
    /// where he should not.
    pub(super) fn write_off(&self) {
        let mut books = self.lock();
        let (mut tasks, mut tickets) = (Vec::new(), Vec::new());
        for slot in 0..books.records.len() {
            match &books.records[slot] {
                Some(record) if record.is_task() => {
                    tasks.extend(self.remove_begun(&mut books, slot))
                }
                _ => tickets.extend(self.remove(&mut books, slot).map(Record::into_requests)),
            }
        }
        drop(books);
        let words = "a worker has overwritten memory that it shares with the program";
        let error = Error::BrokenPool(words.into());
        for reply in tasks {
            self.hand_over(reply, Encoded::Error(error.clone()));
        }
        for requests in tickets.into_iter().flatten() {
            requests.fail(&error, &mut |_| self.lock().counts.failed += 1);
        }
    }
}
