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

use super::InFlight;
use super::table::{Completion, Presence, Published, SlotEntry, SlotTable, Taken};
use crate::error::Error;
use crate::pool::backlog::WorkItem;
use crate::process::host::connection;
use crate::process::host::driver::CollectedBy;
use crate::process::shm::queue::{Current, SlotPublish, SlotRef, Standing, Trace, Transition};
use crate::task::request::RemoteOutcome;
use crate::transport::work::RemoteWork;

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
    arrivals: Vec<Completion>,
    /// What its worker has yet to ask for, to be queued again.
    untouched: Vec<RemoteWork>,
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
        let on_full = match times.is_suspicious {
            true => times.confirmation,
            false => PERIOD,
        };
        times.last + on_full
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

impl InFlight {
    /// What makes no sense is looked at again after so long, and not after [`CONFIRMATION`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn confirm_after(&self, confirmation: Duration) {
        self.watch.lock().confirmation = confirmation;
    }

    /// Something in shared memory makes no sense: the tender sees to it within a moment.
    pub(crate) fn suspect(&self) {
        self.watch.suspect();
        self.driver.call();
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
        self.queue.mend_head();
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
            self.driver.call();
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
            self.queue.rouse();
            if let Some(worker_pool) = self.worker_pool.get().and_then(Weak::upgrade) {
                worker_pool.ensure_workers();
            }
        }
        self.fetch_more();
        for completion in findings.arrivals {
            self.deliver(completion, CollectedBy::Ours);
        }
        for requests in findings.untouched {
            self.queue_again(requests);
        }
    }

    /// Looks at what is in flight in a slot.
    fn audit_slot(&self, books: &mut SlotTable, slot: usize, findings: &mut Findings) {
        let Some(place) = books.records[slot]
            .as_ref()
            .map(|slot_entry| slot_entry.place)
        else {
            return;
        };
        let standing = self.queue.standing(place);
        let is_sound = match standing {
            Standing::Waiting => {
                findings.is_any_waiting = true;
                true
            }
            Standing::Running(worker) => books.lives(worker),
            Standing::Done(worker) => match self.take_outcome(books, slot) {
                Taken::Arrived(completion) => return findings.arrivals.push(completion),
                // A ticket is never done here; what else is not there yet comes over the link.
                Taken::Nothing => books.lives(worker) && !is_rendezvous(books, slot),
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
    fn recover(
        &self,
        books: &mut SlotTable,
        slot: usize,
        standing: Standing,
        findings: &mut Findings,
    ) {
        let Some(place) = books.records[slot]
            .as_ref()
            .map(|slot_entry| slot_entry.place)
        else {
            return;
        };
        let living: Vec<usize> = books.living().collect();
        for worker in &living {
            match self.take_outcome_of(books, slot, *worker) {
                Taken::Arrived(completion) => return findings.arrivals.push(completion),
                Taken::Nothing | Taken::Corrupt => {}
            }
        }
        // Where a worker has said that it is done, no worker is at it any more.
        let is_done = matches!(standing, Standing::Done(_));
        let at_it = |worker: &usize| self.queue.current(*worker) == Current::Place(place);
        let is_ended = |worker| self.queue.trace(place, worker) == Trace::Ended;
        if let Some(worker) = living.iter().copied().find(at_it) {
            if !is_done && (!is_task(books, slot) || !is_ended(worker)) {
                return self.queue.restore_running(place, worker);
            }
        }
        if is_rendezvous(books, slot) {
            // What was not asked for has not begun; a worker that asks for it now is told that it is gone.
            let (Transition::Taken | Transition::TooLate) = self.queue.withdraw(place, standing);
            let requests = self.remove(books, slot).and_then(SlotEntry::into_requests);
            return findings.untouched.extend(requests);
        }
        if self.queue.withdraw(place, standing) == Transition::TooLate {
            findings.is_any_suspect = true; // a worker has claimed, or ended, it just now
            return;
        }
        let begun = match standing {
            Standing::Done(worker) => Some(Some(worker)),
            _ => self.may_have_begun(books, slot, place),
        };
        match begun {
            Some(worker) => {
                let completion = self.give_up(books, slot, worker);
                findings.arrivals.extend(completion);
            }
            None => self.publish_again(books, slot, findings),
        }
    }

    /// The worker that may have begun what is in a slot; the inner `None`: some worker. `None`: none has.
    fn may_have_begun(
        &self,
        books: &SlotTable,
        slot: usize,
        place: SlotRef,
    ) -> Option<Option<usize>> {
        let slot_entry = books.records[slot].as_ref()?;
        if slot_entry.is_doubtful || slot_entry.is_partly_taken() {
            return Some(None);
        }
        let has_left_a_trace = |worker: &usize| self.queue.trace(place, *worker) != Trace::None;
        let cannot_tell = |worker: &usize| self.queue.current(*worker) == Current::Garbled;
        (0..books.workers.len())
            .find(|worker| {
                has_left_a_trace(worker) || (books.lives(*worker) && cannot_tell(worker))
            })
            .map(Some)
    }

    /// Ends what was hit by a stray write, of a worker that may have been this one.
    pub(super) fn give_up(
        &self,
        books: &mut SlotTable,
        slot: usize,
        worker: Option<usize>,
    ) -> Option<Completion> {
        match &books.records[slot].as_ref()?.work {
            Published::Task { reply, .. } => {
                let error = books.corruption(reply.info(), worker);
                let reply = self.remove_begun(books, slot)?;
                Some(books.completion(reply, RemoteOutcome::Error(error)))
            }
            Published::Items { .. } => self.give_up_items(books, slot, worker),
            Published::Rendezvous(_) => None,
        }
    }

    /// Puts what nobody has begun, and was withdrawn, where workers find it.
    fn publish_again(&self, books: &mut SlotTable, slot: usize, findings: &mut Findings) {
        if self.is_cleared() {
            return findings.arrivals.extend(self.cancel_unbegun(books, slot));
        }
        let Some(slot_entry) = &mut books.records[slot] else {
            return;
        };
        match self.queue.republish(slot_entry.place) {
            SlotPublish::Published(place) => {
                slot_entry.place = place;
                books.suspects.remove(&slot);
                findings.is_any_waiting = true;
            }
            // It stays withdrawn, and is looked at again.
            SlotPublish::Full => findings.is_any_suspect = true,
        }
    }

    /// Ends what nobody has begun, and nobody is to begin any more.
    pub(super) fn cancel_unbegun(&self, books: &mut SlotTable, slot: usize) -> Option<Completion> {
        match &books.records[slot].as_ref()?.work {
            Published::Task { .. } => {
                let reply = self.remove_begun(books, slot)?;
                Some(books.completion(reply, RemoteOutcome::Killed))
            }
            Published::Items { .. } => {
                let Published::Items { item_batch, .. } = self.remove(books, slot)?.work else {
                    return None;
                };
                Some(Completion::Items {
                    sink: Arc::clone(&item_batch.sink),
                    item_outcomes: Vec::new(),
                    // The crew cancels it.
                    rest: Some(item_batch),
                })
            }
            Published::Rendezvous(_) => None,
        }
    }

    /// Takes out what a worker says that it has ended, whatever the state says.
    pub(super) fn take_outcome_of(
        &self,
        books: &mut SlotTable,
        slot: usize,
        worker: usize,
    ) -> Taken {
        match books.records[slot]
            .as_ref()
            .map(|slot_entry| &slot_entry.work)
        {
            Some(Published::Task { .. }) => self.take_task(books, slot, |place, bytes| {
                self.queue.outcome_of(place, worker, bytes)
            }),
            Some(Published::Items { .. }) => self.take_items_of(books, slot, |place| {
                self.queue.items_outcome_of(place, worker)
            }),
            Some(Published::Rendezvous(_)) | None => Taken::Nothing,
        }
    }

    /// Workers that were to leave, had nothing else to do, and are still there after a long time: one hangs
    /// in its exit, or was stopped.
    fn find_overdue(&self, books: &mut SlotTable) -> Vec<usize> {
        if !self.is_closing() {
            return Vec::new();
        }
        let at_work: Vec<usize> = books
            .records
            .iter()
            .flatten()
            .filter_map(|slot_entry| match self.queue.standing(slot_entry.place) {
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
    pub(super) fn queue_again(&self, requests: RemoteWork) {
        let worker_pool = self.worker_pool.get().and_then(Weak::upgrade);
        match worker_pool {
            _ if requests.is_empty() => {}
            Some(worker_pool) if !requests.is_abandoned() => worker_pool.put_back(requests),
            _ => requests.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }
}

fn is_task(books: &SlotTable, slot: usize) -> bool {
    let slot_entry = books.records[slot].as_ref();
    slot_entry.is_some_and(SlotEntry::is_task)
}

pub(super) fn is_rendezvous(books: &SlotTable, slot: usize) -> bool {
    let slot_entry = books.records[slot].as_ref();
    slot_entry.is_some_and(|slot_entry| matches!(slot_entry.work, Published::Rendezvous(_)))
}
