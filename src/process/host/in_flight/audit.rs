//! The audit compares shared memory with what the program knows, and repairs it.
//!
//! A task may write where it should not, and go on, or crash. Then a slot's state, a sleeper's bit, or the
//! head of the ring can be any number, and a thread would wait for ever. So the program checks all that it
//! has in flight: when a worker dies, when a worker raises an alarm, when an outcome is not what its worker
//! wrote, and once a second as long as a thread sleeps until an outcome comes. A slot that makes no sense is
//! checked a second time a moment later, because a worker may have been between two steps, and because by
//! then a crash is known that explains it. If it still makes no sense:
//!
//! 1. A worker has a sound outcome of the task: it is collected.
//! 2. A worker says in its own worker words that it runs the task, and no state says that the task is done:
//!    the worker does run it, and the state is set to say so again.
//! 3. A worker may have begun the task (its state says that it is done, say), and nothing tells what came of
//!    it: it ends as [`Error::MemoryCorrupted`].
//! 4. Otherwise no worker has begun it, and workers cannot have written to its argument: it is published
//!    again.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::InFlight;
use super::table::{Completion, Presence, Published, SlotEntry, SlotTable, Taken};
use crate::error::Error;
use crate::process::host::connection;
use crate::process::shm::queue::{Current, SlotPublish, SlotRef, Standing, Trace, Transition};
use crate::sync::lock;
use crate::task::request::RemoteOutcome;
use crate::task::work_item::WorkItem;
use crate::transport::work::RemoteWork;

/// The longest time between two audits while a thread sleeps on the queue.
const PERIOD: Duration = Duration::from_secs(1);

/// How long a suspect slot is left alone before it is checked again: by then a worker is through with its
/// step, and a crash was noticed.
const CONFIRMATION: Duration = Duration::from_millis(100);

/// Decides when the next audit is due.
pub(super) struct AuditSchedule(
    /// The state of that. No other lock is taken under this one.
    Mutex<Times>,
);

/// What the lock guards.
struct Times {
    /// When the last audit was, or when the first suspicion after it came up.
    last: Instant,
    /// Whether something makes no sense.
    is_suspicious: bool,
    /// How long a suspect slot is left alone before it is checked again.
    confirmation: Duration,
}

/// What an audit has found.
#[derive(Default)]
struct Findings {
    /// The outcomes that it has collected, to be delivered.
    arrivals: Vec<Completion>,
    /// Rendezvous that their worker has not asked for yet, to be queued again.
    untouched: Vec<RemoteWork>,
    /// Whether published work waits for a worker.
    is_any_waiting: bool,
    /// Whether something makes no sense, and is to be checked again.
    is_any_suspect: bool,
}

impl AuditSchedule {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Times {
            last: Instant::now(),
            is_suspicious: false,
            confirmation: CONFIRMATION,
        }))
    }

    pub(super) fn due(&self) -> Instant {
        let times = self.lock();
        let period = match times.is_suspicious {
            true => times.confirmation,
            false => PERIOD,
        };
        times.last + period
    }

    /// How long a suspect slot is left alone before it is checked again.
    fn confirmation(&self) -> Duration {
        self.lock().confirmation
    }

    pub(super) fn is_suspicious(&self) -> bool {
        self.lock().is_suspicious
    }

    /// Notes a suspicion. The time until the next audit starts now, unless there was a suspicion already.
    fn suspect(&self) {
        let mut times = self.lock();
        if !times.is_suspicious {
            times.is_suspicious = true;
            times.last = Instant::now();
        }
    }

    /// Notes that an audit has ended, and whether it leaves a suspicion.
    fn note(&self, findings: &Findings) {
        let mut times = self.lock();
        times.last = Instant::now();
        times.is_suspicious = findings.is_any_suspect;
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        lock(&self.0)
    }
}

impl InFlight {
    /// Sets after how long a suspect slot is checked again, instead of after [`CONFIRMATION`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn confirm_after(&self, confirmation: Duration) {
        self.audit_schedule.lock().confirmation = confirmation;
    }

    /// Notes that something in shared memory makes no sense: the driver runs an audit within a moment.
    pub(crate) fn suspect(&self) {
        self.audit_schedule.suspect();
        self.driver.call();
    }

    /// A worker has found something in shared memory that makes no sense: audits now, and again within a
    /// moment.
    pub(crate) fn alarm(&self) {
        self.audit();
        self.suspect();
    }

    /// Checks all that is in flight, and repairs or ends what made no sense twice.
    pub(crate) fn audit(&self) {
        let mut findings = Findings::default();
        let mut table = self.lock();
        self.queue.mend_head();
        for slot in 0..table.records.len() {
            if table.records[slot].is_some() {
                self.audit_slot(&mut table, slot, &mut findings);
            }
        }
        let overdue = self.find_overdue(&mut table);
        // Noted under the lock: what is found from here on is noted after it.
        self.audit_schedule.note(&findings);
        drop(table);
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

    /// Acts on what an audit has found: wakes workers, queues work again, and delivers outcomes.
    fn conclude(&self, findings: Findings) {
        if findings.is_any_waiting {
            // It waits for its turn; or for a worker that a stray write has put to sleep, or that has left
            // because it found nothing that made sense.
            self.queue.rouse();
            if let Some(worker_pool) = self.worker_pool.get().and_then(Weak::upgrade) {
                worker_pool.ensure_workers();
            }
        }
        self.fetch_more();
        for completion in findings.arrivals {
            self.deliver(completion);
        }
        for requests in findings.untouched {
            self.queue_again(requests);
        }
    }

    /// Checks the work in a slot: collects its outcome, or finds it sound, or suspects it.
    fn audit_slot(&self, table: &mut SlotTable, slot: usize, findings: &mut Findings) {
        let Some(place) = table.records[slot]
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
            Standing::Running(worker) => table.lives(worker),
            Standing::Done(worker) => match self.take_outcome(table, slot) {
                Taken::Arrived(completion) => return findings.arrivals.push(completion),
                // A rendezvous is never done here. Any other outcome that is not there yet comes over the
                // connection.
                Taken::Nothing => table.lives(worker) && !is_rendezvous(table, slot),
                Taken::Corrupt => false,
            },
            Standing::Passed | Standing::Claimed(_) | Standing::Garbled => false,
        };
        if is_sound {
            table.suspects.remove(&slot);
            return;
        }
        match table.suspect(slot).elapsed() >= self.audit_schedule.confirmation() {
            true => self.recover(table, slot, standing, findings),
            false => findings.is_any_suspect = true,
        }
    }

    /// Repairs or ends the work in a slot that made no sense twice.
    fn recover(
        &self,
        table: &mut SlotTable,
        slot: usize,
        standing: Standing,
        findings: &mut Findings,
    ) {
        let Some(place) = table.records[slot]
            .as_ref()
            .map(|slot_entry| slot_entry.place)
        else {
            return;
        };
        let living: Vec<usize> = table.living().collect();
        for worker in &living {
            match self.take_outcome_of(table, slot, *worker) {
                Taken::Arrived(completion) => return findings.arrivals.push(completion),
                Taken::Nothing | Taken::Corrupt => {}
            }
        }
        // If a worker has said that the task is done, no worker is at it any more.
        let is_done = matches!(standing, Standing::Done(_));
        let at_it = |worker: &usize| self.queue.current(*worker) == Current::Place(place);
        let is_ended = |worker| self.queue.trace(place, worker) == Trace::Ended;
        if let Some(worker) = living.iter().copied().find(at_it) {
            if !is_done && (!is_task(table, slot) || !is_ended(worker)) {
                // If it is too late, the worker has taken a step just now.
                let restored = self.queue.restore_running(place, worker);
                findings.is_any_suspect |= restored == Transition::TooLate;
                return;
            }
        }
        if is_rendezvous(table, slot) {
            // A rendezvous that no worker has asked for has not begun. A worker that asks for it from now on
            // does not get it (`take_rendezvous`).
            let (Transition::Taken | Transition::TooLate) = self.queue.withdraw(place, standing);
            let requests = self.remove(table, slot).and_then(SlotEntry::into_requests);
            return findings.untouched.extend(requests);
        }
        if self.queue.withdraw(place, standing) == Transition::TooLate {
            findings.is_any_suspect = true; // a worker has claimed it, or ended it, just now
            return;
        }
        let begun = match standing {
            Standing::Done(worker) => Some(Some(worker)),
            _ => self.may_have_begun(table, slot, place),
        };
        match begun {
            Some(worker) => {
                let completion = self.give_up(table, slot, worker);
                findings.arrivals.extend(completion);
            }
            None => self.publish_again(table, slot, findings),
        }
    }

    /// The worker that may have begun the work in a slot. `Some(None)`: some worker, not known which. `None`:
    /// no worker has.
    fn may_have_begun(
        &self,
        table: &SlotTable,
        slot: usize,
        place: SlotRef,
    ) -> Option<Option<usize>> {
        let slot_entry = table.records[slot].as_ref()?;
        if slot_entry.is_doubtful || slot_entry.is_partly_taken() {
            return Some(None);
        }
        let has_left_a_trace = |worker: &usize| self.queue.trace(place, *worker) != Trace::None;
        let cannot_tell = |worker: &usize| self.queue.current(*worker) == Current::Garbled;
        (0..table.workers.len())
            .find(|worker| {
                has_left_a_trace(worker) || (table.lives(*worker) && cannot_tell(worker))
            })
            .map(Some)
    }

    /// Fails work that was hit by a stray write. `worker` is the one that may have written it; `None`: not
    /// known.
    pub(super) fn give_up(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: Option<usize>,
    ) -> Option<Completion> {
        match &table.records[slot].as_ref()?.work {
            Published::Task { promise, .. } => {
                let error = table.corruption(promise.info(), worker);
                let promise = self.remove_begun(table, slot)?;
                Some(table.completion(promise, RemoteOutcome::Error(error)))
            }
            Published::Items { .. } => self.give_up_items(table, slot, worker),
            Published::Rendezvous(_) => None,
        }
    }

    /// Publishes withdrawn work again, which no worker has begun.
    fn publish_again(&self, table: &mut SlotTable, slot: usize, findings: &mut Findings) {
        if self.is_cleared() {
            return findings.arrivals.extend(self.cancel_unbegun(table, slot));
        }
        let Some(slot_entry) = &mut table.records[slot] else {
            return;
        };
        match self.queue.republish(slot_entry.place) {
            SlotPublish::Published(place) => {
                slot_entry.place = place;
                table.suspects.remove(&slot);
                findings.is_any_waiting = true;
            }
            // It stays withdrawn, and the next audit tries again.
            SlotPublish::Full => findings.is_any_suspect = true,
        }
    }

    /// Cancels work that no worker has begun, and none may begin any more.
    pub(super) fn cancel_unbegun(&self, table: &mut SlotTable, slot: usize) -> Option<Completion> {
        match &table.records[slot].as_ref()?.work {
            Published::Task { .. } => {
                let promise = self.remove_begun(table, slot)?;
                Some(table.completion(promise, RemoteOutcome::Killed))
            }
            Published::Items { .. } => {
                let Published::Items { item_batch, .. } = self.remove(table, slot)?.work else {
                    return None;
                };
                Some(Completion::Items {
                    sink: Arc::clone(&item_batch.sink),
                    item_outcomes: Vec::new(),
                    // The worker pool cancels it.
                    rest: Some(item_batch),
                })
            }
            Published::Rendezvous(_) => None,
        }
    }

    /// Takes the outcome that a worker has written in its own part for the work in a slot, whatever the state
    /// says.
    pub(super) fn take_outcome_of(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
    ) -> Taken {
        match table.records[slot]
            .as_ref()
            .map(|slot_entry| &slot_entry.work)
        {
            Some(Published::Task { .. }) => self.take_task(table, slot, |place, bytes| {
                self.queue.outcome_of(place, worker, bytes)
            }),
            Some(Published::Items { .. }) => self.take_items_of(table, slot, |place| {
                self.queue.items_outcome_of(place, worker)
            }),
            Some(Published::Rendezvous(_)) | None => Taken::Nothing,
        }
    }

    /// Workers that were to leave, have had nothing to do for [`connection::LEAVING`], and are still there:
    /// such a worker hangs in its exit, or was stopped.
    fn find_overdue(&self, table: &mut SlotTable) -> Vec<usize> {
        if !self.is_closing() {
            return Vec::new();
        }
        let at_work: Vec<usize> = table
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
        for (index, worker) in table.workers.iter_mut().enumerate() {
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

    /// Queues again what no worker has begun, or cancels it if its map was dropped.
    pub(super) fn queue_again(&self, requests: RemoteWork) {
        let worker_pool = self.worker_pool.get().and_then(Weak::upgrade);
        match worker_pool {
            _ if requests.is_empty() => {}
            Some(worker_pool) if !requests.is_abandoned() => worker_pool.put_back(requests),
            _ => requests.fail(&Error::Cancelled, &mut |verdict| {
                self.lock().counts.count(verdict);
            }),
        }
    }
}

fn is_task(table: &SlotTable, slot: usize) -> bool {
    let slot_entry = table.records[slot].as_ref();
    slot_entry.is_some_and(SlotEntry::is_task)
}

pub(super) fn is_rendezvous(table: &SlotTable, slot: usize) -> bool {
    let slot_entry = table.records[slot].as_ref();
    slot_entry.is_some_and(|slot_entry| matches!(slot_entry.work, Published::Rendezvous(_)))
}
