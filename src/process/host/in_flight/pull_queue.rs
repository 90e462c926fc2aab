//! The in-flight table as the pull queue of the worker pool: work is put there, counted, and taken back.

use std::sync::atomic::Ordering;

use super::InFlight;
use super::publication::Put;
use super::table::{Published, SlotTable};
use crate::future::id::FutureId;
use crate::future::pool_handle::Unqueue;
use crate::pool::backlog::Backlog;
use crate::pool::{PullQueue, QueueLoad};
use crate::process::host::driver::{CollectedBy, CompletionSource};
use crate::process::shm::queue::Transition;
use crate::sync::deadline::Deadline;
use crate::task::work_item::{Withdrawn, WorkItem};
use crate::transport::work::RemoteWork;

impl PullQueue<RemoteWork> for InFlight {
    fn put(&self, work: RemoteWork) -> Result<(), RemoteWork> {
        let put = self.put_in(&mut self.lock(), work)?;
        if put == Put::CallDriver {
            self.call_driver();
        }
        Ok(())
    }

    fn refill(&self, backlog: &Backlog<RemoteWork>) {
        let mut table = self.lock();
        let mut any = Put::Done;
        while self.make_room(&mut table) {
            let Some(work) = backlog.pop() else {
                table.has_any_listeners = false;
                break;
            };
            match self.put_in(&mut table, work) {
                Ok(Put::Done) => {}
                Ok(Put::CallDriver) => any = Put::CallDriver,
                Err(work) => {
                    backlog.put_back(work);
                    break;
                }
            }
        }
        drop(table);
        if any == Put::CallDriver {
            self.call_driver();
        }
    }

    fn announce(&self) {
        self.queue.wake_one();
    }

    fn occupied(&self) -> usize {
        let table = self.lock();
        table.backed - table.free.len()
    }

    fn is_behind(&self) -> bool {
        // ORDERING: Relaxed; a hint, or ordered by the backlog's lock.
        self.is_behind.load(Ordering::Relaxed)
    }

    fn set_behind(&self, is_behind: bool) {
        // ORDERING: Relaxed; written under the worker pool's lock, and the driver is told below.
        let was = self.is_behind.swap(is_behind, Ordering::Relaxed);
        if is_behind && !was {
            self.driver.call();
        }
    }

    fn load(&self) -> QueueLoad {
        let table = self.lock();
        let mut load = QueueLoad {
            counts: table.counts,
            ..QueueLoad::default()
        };
        for (slot, slot_entry) in table.records.iter().enumerate() {
            let Some(slot_entry) = slot_entry else {
                continue;
            };
            let runner = self.queue.runner(slot_entry.place);
            let is_running = self.queue.is_running(slot_entry.place);
            // A suspect slot counts as ready: its task may have to run once the audit has repaired the slot.
            let is_ready = self.queue.is_ready(slot_entry.place)
                || (!is_running && table.suspects.contains_key(&slot));
            load.waiting += usize::from(is_ready);
            match &slot_entry.work {
                Published::Task { .. } => {
                    load.running += usize::from(is_running);
                    load.tasks += usize::from(is_ready);
                }
                Published::Items { item_batch, .. } if is_running => {
                    let worker = runner.unwrap_or(usize::MAX);
                    let progress = self
                        .queue
                        .progress(slot_entry.place, worker, item_batch.len());
                    load.running += 1;
                    if !item_batch.sink.is_abandoned() {
                        load.tasks += item_batch.len().saturating_sub(progress.done + 1);
                    }
                }
                Published::Items { item_batch, .. } => {
                    load.tasks += if is_ready { item_batch.len() } else { 0 };
                }
                Published::Rendezvous(requests) => {
                    load.claimed += usize::from(is_running);
                    load.tasks += requests.len();
                }
            }
        }
        load
    }

    fn clear(&self) -> Vec<Box<dyn Withdrawn>> {
        let mut table = self.lock();
        // ORDERING: Relaxed; read and written under the slot table's lock.
        self.is_cleared.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        for slot in 0..table.records.len() {
            self.take_back(&mut table, slot, &mut taken);
        }
        taken
    }

    fn recall(&self, id: FutureId) -> Unqueue {
        let mut table = self.lock();
        let Some((slot, slot_entry)) = table.find(id) else {
            return Unqueue::NotHere;
        };
        let place = slot_entry.place;
        match &mut slot_entry.work {
            Published::Task { .. } => {
                if self.queue.cancel(place) == Transition::TooLate {
                    return Unqueue::Started;
                }
                let slot_entry = self.remove(&mut table, slot);
                Unqueue::Removed(Box::new(slot_entry.map(|slot_entry| slot_entry.work)))
            }
            // Items of a map are cancelled only all together (`abandon`).
            Published::Items { .. } => Unqueue::Started,
            Published::Rendezvous(requests) => {
                let request = requests.take(id);
                // That was the last task of the rendezvous: unless its worker is asking for it, no worker
                // needs to.
                if requests.is_empty() && self.queue.cancel(place) == Transition::Taken {
                    let _ = self.remove(&mut table, slot);
                }
                Unqueue::Removed(Box::new(request))
            }
        }
    }

    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>> {
        let mut table = self.lock();
        let mut taken = Vec::new();
        for slot in 0..table.records.len() {
            let slot_entry = table.records[slot].as_ref();
            if slot_entry.is_some_and(|slot_entry| slot_entry.is_one_of(first, last)) {
                self.take_back(&mut table, slot, &mut taken);
            }
        }
        taken
    }

    fn close(&self) {
        // ORDERING: Relaxed; workers learn of it through the queue.
        let was_closing = self.is_closing.swap(true, Ordering::Relaxed);
        self.queue.close();
        if !was_closing {
            // The driver's audits kill workers that do not leave.
            self.driver.call();
        }
    }

    fn reopen(&self) {
        // ORDERING: Relaxed; workers learn of it through the queue.
        self.is_closing.store(false, Ordering::Relaxed);
        self.queue.reopen();
    }

    fn end(&self) {
        self.collect(CollectedBy::Ours);
        self.write_off();
        self.memory.close();
        if let Some(arena) = &self.arena {
            arena.close();
        }
        self.driver.end();
        self.callbacks.end();
    }

    fn includes_caller(&self) -> bool {
        self.driver.is_caller() || self.callbacks.is_caller()
    }

    fn join(&self, deadline: Deadline) -> bool {
        self.driver.join(deadline) && self.callbacks.join(deadline)
    }
}

impl InFlight {
    /// Removes from a slot what no worker has begun, into `taken`, and has workers not begin the rest.
    fn take_back(&self, table: &mut SlotTable, slot: usize, taken: &mut Vec<Box<dyn Withdrawn>>) {
        let Some(slot_entry) = &mut table.records[slot] else {
            return;
        };
        if let Published::Rendezvous(requests) = &mut slot_entry.work {
            // A worker that asks for it just now is told that there is nothing.
            let all = requests.take_all().into_iter();
            taken.extend(all.map(|request| Box::new(request) as _));
        }
        if self.queue.cancel(slot_entry.place) == Transition::TooLate {
            return self.queue.stop(slot_entry.place);
        }
        match self.remove(table, slot).map(|slot_entry| slot_entry.work) {
            Some(Published::Task { promise, .. }) => taken.push(Box::new(promise)),
            Some(Published::Items { item_batch, .. }) => taken.push(item_batch),
            Some(Published::Rendezvous(_)) | None => {}
        }
    }
}
