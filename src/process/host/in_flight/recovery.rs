//! What dead workers leave on the board.

use super::Ledger;
use super::audit::is_ticket;
use super::table::{Arrival, Books, Posted, Record, Taken, Worker};
use crate::error::{Error, ProcessEnd, Suspect};
use crate::future::dyn_promise::Pledge;
use crate::pool::backlog::Work;
use crate::process::host::driver::Bringer;
use crate::process::host::handshake::from_outside;
use crate::process::shm::queue::{Current, Place, Publish, Remains, Standing, Step, Trace};
use crate::process::worker::UNFIT;
use crate::task::request::Reply;
use crate::transport::work::Requests;

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

/// Whether a process may have ended so after a stray write of its own. A worker that finds its slot
/// overwritten, which another has done, leaves as unfit.
fn is_suspicious(end: ProcessEnd) -> bool {
    match end {
        ProcessEnd::Exited(code) => code != 0 && code != UNFIT,
        ProcessEnd::Signalled(_) => !from_outside(end),
        ProcessEnd::Unknown => false,
    }
}

impl Ledger {
    /// A worker is dead, and ended so: brings in what it left finished; what it did not.
    pub(crate) fn bury(&self, worker: usize, pid: u32, end: ProcessEnd) -> Vec<Legacy> {
        let mut legacies = Vec::new();
        let mut arrivals = Vec::new();
        let mut books = self.lock();
        if is_suspicious(end) {
            let death = Some((pid, end));
            books.suspect = Some(Suspect { worker, death });
        }
        if let Some(worker) = books.workers.get_mut(worker) {
            *worker = Worker::default();
        }
        let mut is_any_suspect = false;
        for slot in 0..books.records.len() {
            let Some(record) = &books.records[slot] else {
                continue;
            };
            let place = record.place;
            let remains = match self.board.remains(place, worker) {
                Remains::None => {
                    self.remains_of_garbled(&mut books, slot, worker, place, &mut arrivals)
                }
                // Its state was overwritten: the audit says again whose it is.
                _ if self.is_with_another(&books, worker, place) => {
                    books.suspect(slot);
                    Remains::None
                }
                remains => remains,
            };
            match remains {
                Remains::None => {
                    is_any_suspect |= books.suspects.contains_key(&slot);
                    continue;
                }
                // What it has told counts, though its state says that it has not begun.
                Remains::Claimed if self.takes_told(&mut books, slot, worker, &mut arrivals) => {
                    continue;
                }
                Remains::Claimed if self.has_begun(&books, slot, worker) => {
                    arrivals.extend(self.bury_overwritten(&mut books, slot, worker, &mut legacies));
                    continue;
                }
                Remains::Claimed if self.is_cleared() && !is_ticket(&books, slot) => {
                    arrivals.extend(self.cancel_unbegun(&mut books, slot));
                    continue;
                }
                Remains::Claimed if self.publish_unbegun(&mut books, slot, worker) => continue,
                _ => {}
            }
            match books.records[slot].as_ref().map(|record| &record.work) {
                Some(Posted::Task { .. }) => {
                    match self.bury_task(&mut books, slot, worker, remains) {
                        Buried::Arrived(arrival) => arrivals.push(arrival),
                        Buried::Left(legacy) => legacies.push(legacy),
                        Buried::Nothing => {}
                    }
                }
                Some(Posted::Parcel { .. }) => {
                    let (legacy, arrival) = self.bury_items(&mut books, slot, worker, remains);
                    legacies.extend(legacy);
                    arrivals.extend(arrival);
                }
                Some(Posted::Ticket(_)) => {
                    let requests = self.remove(&mut books, slot);
                    let requests = requests.and_then(Record::into_requests);
                    legacies.extend(requests.map(Legacy::Untouched));
                }
                None => {}
            }
        }
        drop(books);
        if let Some(depot) = &self.depot {
            depot.bury(worker);
        }
        self.board.bury(worker);
        if is_any_suspect {
            self.suspect();
        }
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        legacies
    }

    /// Whether a living worker says in its own part that it is at the task, or was, which a dead worker is said
    /// to have left and does not say so.
    fn is_with_another(&self, books: &Books, worker: usize, place: Place) -> bool {
        let here = Current::Place(place);
        let is_with = |other| {
            self.board.current(other) == here || self.board.trace(place, other) == Trace::Ended
        };
        self.board.current(worker) != here && books.living().any(is_with)
    }

    /// What a dead worker left in a slot whose state names no worker that can be there: the rest is the
    /// audit's to see to.
    fn remains_of_garbled(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        place: Place,
        arrivals: &mut Vec<Arrival>,
    ) -> Remains {
        let says_so = self.board.current(worker) == Current::Place(place);
        let is_garbled = match self.board.standing(place) {
            Standing::Waiting => return Remains::None,
            Standing::Running(other) => !books.lives(other),
            // The worker that died says that it was at the task, and the other one does not.
            Standing::Claimed(other) | Standing::Done(other) => says_so || !books.lives(other),
            Standing::Passed | Standing::Garbled => true,
        };
        if !is_garbled {
            return Remains::None;
        }
        if self.takes_told(books, slot, worker, arrivals) {
            return Remains::None;
        }
        let Some(record) = &mut books.records[slot] else {
            return Remains::None;
        };
        match self.board.current(worker) {
            Current::Place(current) if current == place => match record.is_killed {
                true => Remains::Killed,
                false => Remains::Running,
            },
            current => {
                // Its successor does not know what zeros there stood for.
                record.is_doubtful |= current == Current::Garbled
                    || self.board.trace(place, worker) == Trace::Garbled;
                books.suspect(slot);
                Remains::None
            }
        }
    }

    /// Takes out what a dead worker has told of a task, though no state says that it has; whether it has.
    fn takes_told(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        arrivals: &mut Vec<Arrival>,
    ) -> bool {
        let taken = self.take_outcome_of(books, slot, worker);
        match taken {
            Taken::Arrived(arrival) => {
                arrivals.push(arrival);
                true
            }
            Taken::Nothing | Taken::Corrupt => false,
        }
    }

    /// Whether a dead worker has begun what it had claimed, as its own part tells, though its desk does not.
    fn has_begun(&self, books: &Books, slot: usize, worker: usize) -> bool {
        let Some(record) = &books.records[slot] else {
            return false;
        };
        if is_ticket(books, slot) {
            return false;
        }
        let tells_so = match self.board.trace(record.place, worker) {
            Trace::None => false,
            // A worker says where items are before it begins the first.
            Trace::Ended => record.is_task() || self.board.has_progress(record.place, worker),
            Trace::Garbled => true,
        };
        tells_so || record.is_partly_taken()
    }

    /// Ends what a dead worker has begun, and of which its part tells nothing that is sound; items as far as
    /// that tells nothing.
    fn bury_overwritten(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        legacies: &mut Vec<Legacy>,
    ) -> Option<Arrival> {
        match &books.records[slot].as_ref()?.work {
            Posted::Parcel { .. } => {
                let (legacy, arrival) = self.bury_items(books, slot, worker, Remains::Running);
                legacies.extend(legacy);
                arrival
            }
            Posted::Task { .. } | Posted::Ticket(_) => self.give_up(books, slot, Some(worker)),
        }
    }

    /// Publishes again what a dead worker had claimed and not begun; whether there was room for it, and
    /// it lies there.
    fn publish_unbegun(&self, books: &mut Books, slot: usize, worker: usize) -> bool {
        let Some(record) = &mut books.records[slot] else {
            return true;
        };
        if matches!(record.work, Posted::Ticket(_)) {
            return false; // it goes back to the queue
        }
        let claimed = Standing::Claimed(worker);
        if self.board.withdraw(record.place, claimed) == Step::TooLate {
            return true; // it was overwritten meanwhile: the audit's to see to
        }
        match self.board.republish(record.place) {
            Publish::Published(place) => {
                record.place = place;
                true
            }
            Publish::Full => false,
        }
    }

    /// Takes out a task of a dead worker.
    fn bury_task(&self, books: &mut Books, slot: usize, worker: usize, remains: Remains) -> Buried {
        if remains == Remains::Done {
            match self.take_outcome(books, slot) {
                Taken::Arrived(arrival) => return Buried::Arrived(arrival),
                Taken::Corrupt => {
                    return match self.give_up(books, slot, Some(worker)) {
                        Some(arrival) => Buried::Arrived(arrival),
                        None => Buried::Nothing,
                    };
                }
                // What it had to tell over the link never came.
                Taken::Nothing => {}
            }
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

    /// All workers have left. What is still published can only be there because a task corrupted the shared
    /// memory, and nobody has seen to it: it ends so.
    pub(super) fn write_off(&self) {
        let mut books = self.lock();
        let (mut arrivals, mut tickets) = (Vec::new(), Vec::new());
        for slot in 0..books.records.len() {
            match &books.records[slot] {
                Some(Record {
                    work: Posted::Ticket(_),
                    ..
                }) => tickets.extend(self.remove(&mut books, slot).map(Record::into_requests)),
                Some(_) => arrivals.extend(self.give_up(&mut books, slot, None)),
                None => {}
            }
        }
        drop(books);
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        let words = "a worker has overwritten memory that it shares with the program";
        let error = Error::BrokenPool(words.into());
        for requests in tickets.into_iter().flatten() {
            requests.fail(&error, &mut |_| self.lock().counts.failed += 1);
        }
    }
}
