//! Outcomes on their way from slots and connections to the futures and maps that they belong to.
//!
//! They are taken under the slot table's lock, and delivered without it. Called by `completion_source`, and
//! by supervisors for what came over a connection; `batches` is for the outcomes of items.

use std::sync::Weak;

use super::InFlight;
use super::table::{Completion, Published, SlotEntry, SlotTable, Taken};
use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::promise::Notifications;
use crate::future::state::Start;
use crate::process::shm::queue::{Reading, SlotKind, SlotRef};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::task::item_batch::ItemBatch;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::transport::fault::{Fault, error_of};
use crate::transport::work::RemoteWork;

impl InFlight {
    /// Notes an outcome that came over a worker's connection, before or after its slot became done. It counts
    /// only if that worker may report on the task: a frame that names the slot of another worker's task does
    /// not end that task.
    pub(crate) fn note_outcome(
        &self,
        place: SlotRef,
        outcome: Result<Encoded, Fault>,
        worker: usize,
    ) {
        let mut table = self.lock();
        let slot_entry = table.records.get_mut(place.slot).and_then(Option::as_mut);
        let is_its = |slot_entry: &&mut SlotEntry| {
            slot_entry.place == place && self.queue.speaks_for(place, worker)
        };
        let Some(slot_entry) = slot_entry.filter(is_its) else {
            return; // the task was killed, or the worker invents a report
        };
        match &mut slot_entry.work {
            Published::Task { promise, extra, .. } => {
                extra.get_or_insert_default().out_of_band = Some(match outcome {
                    Ok(value) => RemoteOutcome::Value(Source::Owned(value)),
                    Err(fault) => {
                        RemoteOutcome::Error(error_of(fault, promise.info(), worker, None))
                    }
                });
            }
            Published::Items { out_of_band, .. } => *out_of_band = Some(Box::new(outcome)),
            Published::Rendezvous(_) => {}
        }
        let taken = self.take_outcome(&mut table, place.slot);
        drop(table);
        self.fetch_more();
        match taken {
            Taken::Arrived(completion) => self.deliver(completion),
            Taken::Nothing => {}
            Taken::Corrupt => self.suspect(),
        }
    }

    /// Delivers the outcome of a task that was removed earlier.
    pub(crate) fn hand_over(
        &self,
        promise: DynPromise<dyn RemoteTask>,
        outcome: RemoteOutcome<'_>,
    ) {
        let completion = self.lock().completion(promise, outcome);
        self.deliver(completion);
    }

    /// Takes the outcome of a slot that is done, or of those of its items that are done.
    pub(super) fn take_outcome(&self, table: &mut SlotTable, slot: usize) -> Taken {
        match table.records.get(slot).and_then(Option::as_ref) {
            Some(slot_entry) => match slot_entry.work {
                Published::Task { .. } => {}
                Published::Items { .. } => return self.take_items(table, slot),
                Published::Rendezvous(_) => return Taken::Nothing,
            },
            None => return Taken::Nothing,
        }
        self.take_task(table, slot, |place, bytes| self.queue.outcome(place, bytes))
    }

    /// Takes the outcome of a task, which `read` reads from shared memory. Removes the task if there is a
    /// sound one.
    #[inline]
    pub(super) fn take_task(
        &self,
        table: &mut SlotTable,
        slot: usize,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        // The buffer is moved out, so that it can be read while the slot table is written.
        let mut bytes = std::mem::take(&mut table.scratch);
        let taken = self.take_task_by(table, slot, &mut bytes, read);
        table.scratch = bytes;
        taken
    }

    /// Takes the outcome of a task like `take_task`, and reads it into `bytes`.
    #[inline]
    fn take_task_by(
        &self,
        table: &mut SlotTable,
        slot: usize,
        bytes: &mut Vec<u8>,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        let Some(slot_entry) = table.records.get_mut(slot).and_then(Option::as_mut) else {
            return Taken::Nothing;
        };
        let place = slot_entry.place;
        let Published::Task { promise, extra, .. } = &mut slot_entry.work else {
            return Taken::Nothing;
        };
        let outcome = match read(place, bytes) {
            Reading::Sound(SlotKind::Value, _) => RemoteOutcome::Value(Source::Borrowed(bytes)),
            Reading::Sound(SlotKind::StoredValue, worker) => self.stored(bytes, worker),
            Reading::Sound(SlotKind::Fault, worker) => {
                let error = match Fault::from_body(bytes) {
                    Some(fault) => error_of(fault, promise.info(), worker, None),
                    None => Error::Decode("the worker's report on the task is garbled".into()),
                };
                RemoteOutcome::Error(error)
            }
            // The worker says that the outcome comes over its connection. If it has not come so far, the slot
            // is closed when it comes (`note_outcome`).
            Reading::Sound(..) => match extra.as_mut().and_then(|extra| extra.out_of_band.take()) {
                Some(out_of_band) => out_of_band,
                None => return Taken::Nothing,
            },
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                table.suspect(slot);
                return Taken::Corrupt;
            }
        };
        match self.remove_task(table, slot) {
            Some(promise) => Taken::Arrived(table.completion(promise, outcome)),
            None => Taken::Nothing,
        }
    }

    /// The result that lies in the arena where its worker says; an error where it cannot lie there.
    fn stored(&self, location: &[u8], worker: usize) -> RemoteOutcome<'static> {
        let arrived = match &self.arena {
            Some(arena) => arena.arrived(location, worker),
            None => Err("there is no such place"),
        };
        match arrived {
            Ok(lease) => RemoteOutcome::Value(Source::Owned(lease.into())),
            Err(what) => {
                let words = format!("the worker's result cannot be found: {what}");
                RemoteOutcome::Error(Error::Decode(words.into()))
            }
        }
    }

    /// Removes a task that has begun. A caller that releases the lock before it settles the promise marks it
    /// as started first (`remove_begun`): it can no longer be cancelled.
    #[inline]
    pub(super) fn remove_task(
        &self,
        table: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        match self.remove(table, slot)?.work {
            Published::Task { promise, .. } => Some(promise),
            Published::Items { .. } | Published::Rendezvous(_) => None,
        }
    }

    /// Removes a task that has begun, and marks it as started, as its promise is settled later.
    pub(super) fn remove_begun(
        &self,
        table: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        let promise = self.remove_task(table, slot)?;
        // Only a recall cancels such a task, and a recall removes the slot entry.
        let (Start::Begun | Start::Cancelled) = promise.start();
        Some(promise)
    }

    /// Delivers a collected outcome: to watchers, callbacks, or the sink of a map. No user code runs here: a
    /// `Drop` or a waker may wait for a future of this pool, or for the end of the pool, and that wait may need
    /// the calling thread, which collects, or answers a worker.
    pub(super) fn deliver(&self, completion: Completion) {
        let Notifications {
            wakeups,
            opens,
            remains,
        } = match completion {
            Completion::Task(Some(news)) => *news,
            Completion::Task(None) => return,
            Completion::Items {
                sink,
                item_outcomes,
                rest,
            } => {
                for piece in item_outcomes {
                    piece.arrive(&*sink);
                }
                if let Some(rest) = rest {
                    self.return_rest(rest);
                }
                // The last owner of a sink drops the results that no thread has read.
                return self.callbacks.discard_sink(sink);
            }
        };
        let waker = wakeups.deliver_to_watchers();
        if let Some(opens) = opens {
            self.callbacks.open(opens);
        }
        if let Some(remains) = remains {
            self.callbacks.discard(remains);
        }
        if let Some(waker) = waker {
            self.callbacks.wake(waker);
        }
    }

    /// Returns items that their worker left unstarted to the worker pool, unless their map was dropped.
    fn return_rest(&self, rest: Box<ItemBatch>) {
        let worker_pool = self.worker_pool.get().and_then(Weak::upgrade);
        match worker_pool {
            Some(worker_pool) if !rest.sink.is_abandoned() => {
                worker_pool.put_back(RemoteWork::Items(rest))
            }
            _ => rest.fail(&Error::Cancelled, &mut |verdict| {
                self.lock().counts.count(verdict);
            }),
        }
    }
}
