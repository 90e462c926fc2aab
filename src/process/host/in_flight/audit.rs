//! The audit: what stands in shared memory is held against what the program knows, and set right.
//!
//! A task may write where it should not, and go on, or crash. Then a state, a sleeper's bit, or the head of the
//! ring is any number, and somebody would wait for ever. So the program looks through all that it has in
//! flight: when a worker dies, when one raises an alarm, when an outcome is not what its worker wrote, and once a
//! second as long as a thread sleeps until something comes. What makes no sense is looked at once more a
//! moment later, as a worker may have been between two steps, and a crash explains it by then. If it still
//! makes none:
//!
//! 1. A worker has an outcome of the task that is sound: it is brought home.
//! 2. A worker says at its own desk that it is at the task, and no state says that it is done: so it is, and
//!    the state says so again.
//! 3. A worker may have begun the task (its state says that it is done, say), and nothing tells what came of
//!    it: it ends as [`Error::MemoryCorrupted`].
//! 4. Else nobody has begun it, and its argument cannot have been written by workers: it is published again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Ledger;
use super::table::{Arrival, Books, Posted, Presence, Record, Taken};
use crate::error::Error;
use crate::pool::backlog::Work;
use crate::process::host::connection;
use crate::process::host::driver::Bringer;
use crate::process::shm::queue::{Current, Place, Publish, Standing, Step, Trace};
use crate::task::request::Encoded;
use crate::transport::work::Requests;

/// How long it takes at most until something is looked at, while a thread sleeps on the board.
const PERIOD: Duration = Duration::from_secs(1);

/// When what made no sense is looked at again: a worker is through with its step by then, and a crash was
/// noticed.
const CONFIRMATION: Duration = Duration::from_millis(100);

/// When the next audit is due.
pub(super) struct Watch(
    /// What decides that. No other lock is taken under this one.
    Mutex<Times>,
);

/// What the lock guards.
struct Times {
    /// When the last audit was, or something was found that makes no sense.
    last: Instant,
    /// Whether something makes no sense.
    is_suspicious: bool,
    /// How long what makes no sense is left alone before it is looked at again.
    confirmation: Duration,
}

/// What an audit has found.
#[derive(Default)]
struct Findings {
    /// What was brought home.
    arrivals: Vec<Arrival>,
    /// What its worker has yet to ask for, to be queued again.
    untouched: Vec<Requests>,
    /// Whether tasks wait for a worker.
    is_any_waiting: bool,
    /// Whether something makes no sense, and is to be looked at again.
    is_any_suspect: bool,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Times {
            last: Instant::now(),
            is_suspicious: false,
            confirmation: CONFIRMATION,
        }))
    }

    pub(super) fn due(&self) -> Instant {
        let times = self.lock();
        let patience = match times.is_suspicious {
            true => times.confirmation,
            false => PERIOD,
        };
        times.last + patience
    }

    /// How long what makes no sense is left alone before it is looked at again.
    fn confirmation(&self) -> Duration {
        self.lock().confirmation
    }

    pub(super) fn is_suspicious(&self) -> bool {
        self.lock().is_suspicious
    }

    /// Something makes no sense, from now on unless it did before.
    fn suspect(&self) {
        let mut times = self.lock();
        if !times.is_suspicious {
            times.is_suspicious = true;
            times.last = Instant::now();
        }
    }

    /// There was an audit, after which something makes no sense, or all does.
    fn note(&self, findings: &Findings) {
        let mut times = self.lock();
        times.last = Instant::now();
        times.is_suspicious = findings.is_any_suspect;
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// What makes no sense is looked at again after so long, and not after [`CONFIRMATION`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn confirm_after(&self, confirmation: Duration) {
        self.watch.lock().confirmation = confirmation;
    }

    /// Something in shared memory makes no sense: the tender sees to it within a moment.
    pub(crate) fn suspect(&self) {
        self.watch.suspect();
        self.tender.call();
    }

    /// A worker finds something in shared memory that makes no sense.
    pub(crate) fn alarm(&self) {
        self.audit();
        self.suspect();
    }

    /// Looks through all that is in flight.
    pub(crate) fn audit(&self) {
        let mut findings = Findings::default();
        let mut books = self.lock();
        self.board.mend_head();
        for slot in 0..books.records.len() {
            if books.records[slot].is_some() {
                self.audit_slot(&mut books, slot, &mut findings);
            }
        }
        let overdue = self.find_overdue(&mut books);
        // Under the lock: what is found from here on is noted afterwards.
        self.watch.note(&findings);
        drop(books);
        if findings.is_any_suspect {
            self.tender.call();
        }
        self.conclude(findings);
        for worker in overdue {
            if let Some(kill) = self.killer.get() {
                kill(worker);
            }
        }
    }

    /// Tells of what an audit has found.
    fn conclude(&self, findings: Findings) {
        if findings.is_any_waiting {
            // It waits for its turn, or for a worker that a stray write has put to sleep, or that has left, as
            // there was nothing that made sense.
            self.board.rouse();
            if let Some(crew) = self.crew.get().and_then(Weak::upgrade) {
                crew.restaff();
            }
        }
        self.fetch_more();
        for arrival in findings.arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        for requests in findings.untouched {
            self.queue_again(requests);
        }
    }

    /// Looks at what is in flight in a slot.
    fn audit_slot(&self, books: &mut Books, slot: usize, findings: &mut Findings) {
        let Some(place) = books.records[slot].as_ref().map(|record| record.place) else {
            return;
        };
        let standing = self.board.standing(place);
        let is_sound = match standing {
            Standing::Waiting => {
                findings.is_any_waiting = true;
                true
            }
            Standing::Running(worker) => books.lives(worker),
            Standing::Done(worker) => match self.take_outcome(books, slot) {
                Taken::Arrived(arrival) => return findings.arrivals.push(arrival),
                // A ticket is never done here; what else is not there yet comes over the link.
                Taken::Nothing => books.lives(worker) && !is_ticket(books, slot),
                Taken::Corrupt => false,
            },
            Standing::Passed | Standing::Claimed(_) | Standing::Garbled => false,
        };
        if is_sound {
            books.suspects.remove(&slot);
            return;
        }
        match books.suspect(slot).elapsed() >= self.watch.confirmation() {
            true => self.recover(books, slot, standing, findings),
            false => findings.is_any_suspect = true,
        }
    }

    /// Sees to what made no sense twice.
    fn recover(&self, books: &mut Books, slot: usize, standing: Standing, findings: &mut Findings) {
        let Some(place) = books.records[slot].as_ref().map(|record| record.place) else {
            return;
        };
        let living: Vec<usize> = books.living().collect();
        for worker in &living {
            match self.take_outcome_of(books, slot, *worker) {
                Taken::Arrived(arrival) => return findings.arrivals.push(arrival),
                Taken::Nothing | Taken::Corrupt => {}
            }
        }
        // Where a worker has said that it is done, no worker is at it any more.
        let is_done = matches!(standing, Standing::Done(_));
        let at_it = |worker: &usize| self.board.current(*worker) == Current::Place(place);
        let is_ended = |worker| self.board.trace(place, worker) == Trace::Ended;
        if let Some(worker) = living.iter().copied().find(at_it) {
            if !is_done && (!is_task(books, slot) || !is_ended(worker)) {
                return self.board.restore_running(place, worker);
            }
        }
        if is_ticket(books, slot) {
            // What was not asked for has not begun; a worker that asks for it now is told that it is gone.
            let (Step::Taken | Step::TooLate) = self.board.withdraw(place, standing);
            let requests = self.remove(books, slot).and_then(Record::into_requests);
            return findings.untouched.extend(requests);
        }
        if self.board.withdraw(place, standing) == Step::TooLate {
            findings.is_any_suspect = true; // a worker has claimed, or ended, it just now
            return;
        }
        let begun = match standing {
            Standing::Done(worker) => Some(Some(worker)),
            _ => self.may_have_begun(books, slot, place),
        };
        match begun {
            Some(worker) => {
                let arrival = self.give_up(books, slot, worker);
                findings.arrivals.extend(arrival);
            }
            None => self.publish_again(books, slot, findings),
        }
    }

    /// The worker that may have begun what is in a slot; the inner `None`: some worker. `None`: none has.
    fn may_have_begun(&self, books: &Books, slot: usize, place: Place) -> Option<Option<usize>> {
        let record = books.records[slot].as_ref()?;
        if record.is_doubtful || record.is_partly_taken() {
            return Some(None);
        }
        let has_left_a_trace = |worker: &usize| self.board.trace(place, *worker) != Trace::None;
        let cannot_tell = |worker: &usize| self.board.current(*worker) == Current::Garbled;
        (0..books.workers.len())
            .find(|worker| {
                has_left_a_trace(worker) || (books.lives(*worker) && cannot_tell(worker))
            })
            .map(Some)
    }

    /// Ends what was hit by a stray write, of a worker that may have been this one.
    pub(super) fn give_up(
        &self,
        books: &mut Books,
        slot: usize,
        worker: Option<usize>,
    ) -> Option<Arrival> {
        match &books.records[slot].as_ref()?.work {
            Posted::Task { reply, .. } => {
                let error = books.corruption(reply.info(), worker);
                let reply = self.remove_begun(books, slot)?;
                Some(books.arrival(reply, Encoded::Error(error)))
            }
            Posted::Parcel { .. } => self.give_up_items(books, slot, worker),
            Posted::Ticket(_) => None,
        }
    }

    /// Puts what nobody has begun, and was withdrawn, where workers find it.
    fn publish_again(&self, books: &mut Books, slot: usize, findings: &mut Findings) {
        if self.is_cleared() {
            return findings.arrivals.extend(self.cancel_unbegun(books, slot));
        }
        let Some(record) = &mut books.records[slot] else {
            return;
        };
        match self.board.republish(record.place) {
            Publish::Published(place) => {
                record.place = place;
                books.suspects.remove(&slot);
                findings.is_any_waiting = true;
            }
            // It stays withdrawn, and is looked at again.
            Publish::Full => findings.is_any_suspect = true,
        }
    }

    /// Ends what nobody has begun, and nobody is to begin any more.
    pub(super) fn cancel_unbegun(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        match &books.records[slot].as_ref()?.work {
            Posted::Task { .. } => {
                let reply = self.remove_begun(books, slot)?;
                Some(books.arrival(reply, Encoded::Killed))
            }
            Posted::Parcel { .. } => {
                let Posted::Parcel { parcel, .. } = self.remove(books, slot)?.work else {
                    return None;
                };
                Some(Arrival::Items {
                    answers: Arc::clone(&parcel.answers),
                    pieces: Vec::new(),
                    // The crew cancels it.
                    rest: Some(parcel),
                })
            }
            Posted::Ticket(_) => None,
        }
    }

    /// Takes out what a worker says that it has ended, whatever the state says.
    pub(super) fn take_outcome_of(&self, books: &mut Books, slot: usize, worker: usize) -> Taken {
        match books.records[slot].as_ref().map(|record| &record.work) {
            Some(Posted::Task { .. }) => self.take_task(books, slot, |place, bytes| {
                self.board.outcome_of(place, worker, bytes)
            }),
            Some(Posted::Parcel { .. }) => self.take_items_of(books, slot, |place| {
                self.board.items_outcome_of(place, worker)
            }),
            Some(Posted::Ticket(_)) | None => Taken::Nothing,
        }
    }

    /// Workers that were to leave, had nothing else to do, and are still there after a long time: one hangs
    /// in its exit, or was stopped.
    fn find_overdue(&self, books: &mut Books) -> Vec<usize> {
        if !self.is_closing() {
            return Vec::new();
        }
        let at_work: Vec<usize> = books
            .records
            .iter()
            .flatten()
            .filter_map(|record| match self.board.standing(record.place) {
                Standing::Running(worker) | Standing::Claimed(worker) => Some(worker),
                _ => None,
            })
            .collect();
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (index, worker) in books.workers.iter_mut().enumerate() {
            if worker.presence != Presence::Here || at_work.contains(&index) {
                worker.idle_since = None;
                continue;
            }
            let since = *worker.idle_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= connection::LEAVING {
                overdue.push(index);
            }
        }
        overdue
    }

    /// Queues again what no worker has begun, unless nobody wants it any more.
    pub(super) fn queue_again(&self, requests: Requests) {
        let crew = self.crew.get().and_then(Weak::upgrade);
        match crew {
            _ if requests.is_empty() => {}
            Some(crew) if !requests.is_abandoned() => crew.put_back(requests),
            _ => requests.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }
}

fn is_task(books: &Books, slot: usize) -> bool {
    let record = books.records[slot].as_ref();
    record.is_some_and(Record::is_task)
}

pub(super) fn is_ticket(books: &Books, slot: usize) -> bool {
    let record = books.records[slot].as_ref();
    record.is_some_and(|record| matches!(record.work, Posted::Ticket(_)))
}
