//! Recovers what dead workers leave in the shared-memory queue: outcomes that they had finished are
//! collected, work that they had not begun is published again, and what they were running is returned as an
//! [`Orphan`]. Supervisors call it once they have reaped the process; what it cannot decide is left to the
//! `audit`.

use super::InFlight;
use super::audit::is_rendezvous;
use super::table::{Completion, Published, SlotEntry, SlotTable, Taken, WorkerRecord};
use crate::error::{Error, Suspect};
use crate::future::dyn_promise::DynPromise;
use crate::process::shm::queue::{
    Current, SlotAfterDeath, SlotPublish, SlotRef, Standing, Trace, Transition,
};
use crate::process::worker::UNFIT;
use crate::sys::child::{ProcessEnd, from_outside};
use crate::task::request::RemoteTask;
use crate::task::work_item::WorkItem;
use crate::transport::work::RemoteWork;

/// What a dead worker leaves behind unfinished.
pub(crate) enum Orphan {
    /// The task that the worker was running.
    Ran(DynPromise<dyn RemoteTask>),
    /// The task that the worker was running, and that was killed.
    Killed(DynPromise<dyn RemoteTask>),
    /// Work that the worker had claimed and not begun.
    Unstarted(RemoteWork),
}

/// What a dead worker left of a task.
enum Recovered {
    /// Its outcome, which is collected.
    Arrived(Completion),
    /// No outcome: the task is an orphan.
    Left(Orphan),
    /// Nothing: the task was ended in another way.
    Nothing,
}

/// Whether a process that ended this way may have made a stray write itself. A worker that finds its slot
/// overwritten, by another worker's stray write, exits with [`UNFIT`].
fn is_suspicious(end: ProcessEnd) -> bool {
    match end {
        ProcessEnd::Exited(code) => code != 0 && code != UNFIT,
        ProcessEnd::Signalled(_) => !from_outside(end),
        ProcessEnd::Unknown => false,
    }
}

impl InFlight {
    /// Recovers what a dead worker left in the queue. `end` is how its process ended. Collects what it had
    /// finished, and returns what it had not.
    pub(crate) fn recover_worker(&self, worker: usize, pid: u32, end: ProcessEnd) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        let mut arrivals = Vec::new();
        let mut table = self.lock();
        if is_suspicious(end) {
            let death = Some((pid, end));
            table.suspect = Some(Suspect { worker, death });
        }
        if let Some(worker) = table.workers.get_mut(worker) {
            *worker = WorkerRecord::default();
        }
        let mut is_any_suspect = false;
        for slot in 0..table.records.len() {
            let Some(slot_entry) = &table.records[slot] else {
                continue;
            };
            let place = slot_entry.place;
            let remains = match self.queue.slot_after_death(place, worker) {
                SlotAfterDeath::None => {
                    self.remains_of_garbled(&mut table, slot, worker, place, &mut arrivals)
                }
                // Its state was overwritten: the audit restores the worker that the slot belongs to.
                _ if self.is_with_another(&table, worker, place) => {
                    table.suspect(slot);
                    SlotAfterDeath::None
                }
                remains => remains,
            };
            match remains {
                SlotAfterDeath::None => {
                    is_any_suspect |= table.suspects.contains_key(&slot);
                    continue;
                }
                // An outcome that the worker has written counts, although the state says that it has not
                // begun, or not ended.
                SlotAfterDeath::Claimed | SlotAfterDeath::Running
                    if self.takes_out_of_band(&mut table, slot, worker, &mut arrivals) =>
                {
                    continue;
                }
                SlotAfterDeath::Claimed if self.has_begun(&table, slot, worker) => {
                    arrivals.extend(self.recover_overwritten(
                        &mut table,
                        slot,
                        worker,
                        &mut orphans,
                    ));
                    continue;
                }
                SlotAfterDeath::Claimed if self.is_cleared() && !is_rendezvous(&table, slot) => {
                    arrivals.extend(self.cancel_unbegun(&mut table, slot));
                    continue;
                }
                SlotAfterDeath::Claimed if self.publish_unbegun(&mut table, slot, worker) => {
                    continue;
                }
                _ => {}
            }
            match table.records[slot]
                .as_ref()
                .map(|slot_entry| &slot_entry.work)
            {
                Some(Published::Task { .. }) => {
                    match self.recover_task(&mut table, slot, worker, remains) {
                        Recovered::Arrived(completion) => arrivals.push(completion),
                        Recovered::Left(orphan) => orphans.push(orphan),
                        Recovered::Nothing => {}
                    }
                }
                Some(Published::Items { .. }) => {
                    let (orphan, completion) =
                        self.recover_items(&mut table, slot, worker, remains);
                    orphans.extend(orphan);
                    arrivals.extend(completion);
                }
                Some(Published::Rendezvous(_)) => {
                    let requests = self.remove(&mut table, slot);
                    let requests = requests.and_then(SlotEntry::into_requests);
                    orphans.extend(requests.map(Orphan::Unstarted));
                }
                None => {}
            }
        }
        drop(table);
        if let Some(arena) = &self.arena {
            arena.worker_died(worker);
        }
        self.queue.worker_died(worker);
        if is_any_suspect {
            self.suspect();
        }
        self.fetch_more();
        for completion in arrivals {
            self.deliver(completion);
        }
        orphans
    }

    /// Whether a living worker says in its own part that it runs the task, or ran it, while the dead worker,
    /// to which the state gives the task, does not say so.
    fn is_with_another(&self, table: &SlotTable, worker: usize, place: SlotRef) -> bool {
        let here = Current::Place(place);
        let is_with = |other| {
            self.queue.current(other) == here || self.queue.trace(place, other) == Trace::Ended
        };
        self.queue.current(worker) != here && table.living().any(is_with)
    }

    /// What a dead worker left in a slot if the state there names no worker that can be there. What this
    /// cannot tell is left to the audit.
    fn remains_of_garbled(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        place: SlotRef,
        arrivals: &mut Vec<Completion>,
    ) -> SlotAfterDeath {
        let says_so = self.queue.current(worker) == Current::Place(place);
        let is_garbled = match self.queue.standing(place) {
            Standing::Waiting => return SlotAfterDeath::None,
            Standing::Running(other) => !table.lives(other),
            // The dead worker says that it was at the task, and the other one does not.
            Standing::Claimed(other) | Standing::Done(other) => says_so || !table.lives(other),
            Standing::Passed | Standing::Garbled => true,
        };
        if !is_garbled {
            return SlotAfterDeath::None;
        }
        if self.takes_out_of_band(table, slot, worker, arrivals) {
            return SlotAfterDeath::None;
        }
        let Some(slot_entry) = &mut table.records[slot] else {
            return SlotAfterDeath::None;
        };
        match self.queue.current(worker) {
            Current::Place(current) if current == place => match slot_entry.is_killed {
                true => SlotAfterDeath::Killed,
                false => SlotAfterDeath::Running,
            },
            current => {
                // Noted here, as the worker's successor does not know what overwritten words (zeros, say)
                // stood for.
                slot_entry.is_doubtful |= current == Current::Garbled
                    || self.queue.trace(place, worker) == Trace::Garbled;
                table.suspect(slot);
                SlotAfterDeath::None
            }
        }
    }

    /// Takes the outcome that a dead worker has written in its own part, although no state says that it has.
    /// Returns whether there was one.
    fn takes_out_of_band(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        arrivals: &mut Vec<Completion>,
    ) -> bool {
        let taken = self.take_outcome_of(table, slot, worker);
        match taken {
            Taken::Arrived(completion) => {
                arrivals.push(completion);
                true
            }
            Taken::Nothing | Taken::Corrupt => false,
        }
    }

    /// Whether a dead worker has begun what it had claimed. Its own part says so, although its worker words
    /// do not.
    fn has_begun(&self, table: &SlotTable, slot: usize, worker: usize) -> bool {
        let Some(slot_entry) = &table.records[slot] else {
            return false;
        };
        if is_rendezvous(table, slot) {
            return false;
        }
        let tells_so = match self.queue.trace(slot_entry.place, worker) {
            Trace::None => false,
            // A worker writes the place of items before it begins the first, so for items there must be
            // progress, too.
            Trace::Ended => {
                slot_entry.is_task() || self.queue.has_progress(slot_entry.place, worker)
            }
            Trace::Garbled => true,
        };
        tells_so || slot_entry.is_partly_taken()
    }

    /// Ends work that a dead worker has begun, and of which its part tells nothing sound. Of items, only
    /// those end of which that is true.
    fn recover_overwritten(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        orphans: &mut Vec<Orphan>,
    ) -> Option<Completion> {
        match &table.records[slot].as_ref()?.work {
            Published::Items { .. } => {
                let (orphan, completion) =
                    self.recover_items(table, slot, worker, SlotAfterDeath::Running);
                orphans.extend(orphan);
                completion
            }
            Published::Task { .. } | Published::Rendezvous(_) => {
                self.give_up(table, slot, Some(worker))
            }
        }
    }

    /// Publishes again what a dead worker had claimed and not begun. Returns `false` if it was not published,
    /// and has to go back to the worker pool's queue.
    fn publish_unbegun(&self, table: &mut SlotTable, slot: usize, worker: usize) -> bool {
        let Some(slot_entry) = &mut table.records[slot] else {
            return true;
        };
        if matches!(slot_entry.work, Published::Rendezvous(_)) {
            return false; // it goes back to the worker pool's queue
        }
        let claimed = Standing::Claimed(worker);
        if self.queue.withdraw(slot_entry.place, claimed) == Transition::TooLate {
            return true; // it was overwritten meanwhile: left to the audit
        }
        match self.queue.republish(slot_entry.place) {
            SlotPublish::Published(place) => {
                slot_entry.place = place;
                true
            }
            SlotPublish::Full => false,
        }
    }

    /// Removes a task of a dead worker, with its outcome if there is one.
    fn recover_task(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        remains: SlotAfterDeath,
    ) -> Recovered {
        if remains == SlotAfterDeath::Done {
            match self.take_outcome(table, slot) {
                Taken::Arrived(completion) => return Recovered::Arrived(completion),
                Taken::Corrupt => {
                    return match self.give_up(table, slot, Some(worker)) {
                        Some(completion) => Recovered::Arrived(completion),
                        None => Recovered::Nothing,
                    };
                }
                // An outcome that the worker was to send over its connection never came.
                Taken::Nothing => {}
            }
        }
        let out_of_band = match remains {
            SlotAfterDeath::Running => table.take_out_of_band(slot),
            _ => None,
        };
        if let Some(outcome) = out_of_band {
            return match self.remove_task(table, slot) {
                Some(promise) => Recovered::Arrived(table.completion(promise, outcome)),
                None => Recovered::Nothing,
            };
        }
        match self.remove_begun(table, slot) {
            Some(promise) if remains == SlotAfterDeath::Killed => {
                Recovered::Left(Orphan::Killed(promise))
            }
            Some(promise) => Recovered::Left(Orphan::Ran(promise)),
            None => Recovered::Nothing,
        }
    }

    /// Ends all that is still published once all workers have exited. It can only be there because a task
    /// corrupted the shared memory, and neither recovery nor audit has repaired it. Tasks and items fail as
    /// `MemoryCorrupted`, rendezvous as `BrokenPool`.
    pub(super) fn write_off(&self) {
        let mut table = self.lock();
        let (mut arrivals, mut tickets) = (Vec::new(), Vec::new());
        for slot in 0..table.records.len() {
            match &table.records[slot] {
                Some(SlotEntry {
                    work: Published::Rendezvous(_),
                    ..
                }) => tickets.extend(self.remove(&mut table, slot).map(SlotEntry::into_requests)),
                Some(_) => arrivals.extend(self.give_up(&mut table, slot, None)),
                None => {}
            }
        }
        drop(table);
        for completion in arrivals {
            self.deliver(completion);
        }
        let words = "a worker has overwritten memory that it shares with the program";
        let error = Error::BrokenPool(words.into());
        for requests in tickets.into_iter().flatten() {
            requests.fail(&error, &mut |verdict| self.lock().counts.count(verdict));
        }
    }
}
