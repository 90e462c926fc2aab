//! The publication of work in slots of the queue: a task with its argument, by the argument's block in the
//! arena, or as a rendezvous; and items of a map.
//!
//! Called by `pull_queue`, under the slot table's lock.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::InFlight;
use super::table::{Extra, Published, SlotEntry, SlotTable};
use crate::future::dyn_promise::DynPromise;
use crate::process::shm::queue::{SlotKind, SlotPublish, SlotRef};
use crate::remote::function::FunctionRef;
use crate::remote::lease::{EAGER_LIMIT, Lease};
use crate::shared::attachments::Attachments;
use crate::task::request::RemoteTask;
use crate::transport::work::RemoteWork;

/// Whether work that was published needs the driver's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It does: the caller calls the driver.
    CallDriver,
    /// It does not.
    Done,
}

/// A rendezvous calls no function.
const NO_CALL: FunctionRef = FunctionRef {
    entry: 0,
    function: 0,
    fingerprint: 0,
};

impl InFlight {
    /// Publishes work in a free slot.
    ///
    /// # Errors
    /// The work, where there is no free slot, or the ring is full.
    #[inline]
    pub(super) fn put_in(
        &self,
        table: &mut SlotTable,
        work: RemoteWork,
    ) -> Result<Put, RemoteWork> {
        if !self.make_room(table) {
            return Err(work);
        }
        let Some(slot) = table.free.pop() else {
            return Err(work);
        };
        let is_abandoned = work.is_abandoned();
        let (place, work) = match self.publish_task(slot, work) {
            Ok(published) => published,
            Err(work) => {
                table.free.push(slot);
                return Err(work);
            }
        };
        if is_abandoned {
            self.queue.stop(place); // its map was dropped before it was published
        }
        let has_listeners = match &work {
            // A receiver waits for the end of its channel, which is not before that of the task.
            Published::Task {
                extra: Some(extra), ..
            } if extra.channels.has_channels() => true,
            Published::Task { promise, .. } => table.has_any_listeners && promise.has_listeners(),
            Published::Items { item_batch, .. } => item_batch.sink.has_listeners(),
            Published::Rendezvous(_) => false, // its outcome comes over a connection, and settles elsewhere
        };
        if has_listeners {
            // ORDERING: Relaxed; the caller calls the driver.
            self.listening.fetch_add(1, Ordering::Relaxed);
        }
        table.item_batches += usize::from(matches!(work, Published::Items { .. }));
        let is_unwatched = !table.is_watched && work.holds_memory();
        table.is_watched |= is_unwatched;
        table.records[slot] = Some(SlotEntry::new(place, work, has_listeners));
        Ok(match has_listeners || is_unwatched {
            true => Put::CallDriver,
            false => Put::Done,
        })
    }

    /// Calls the driver for work that was published. If it has no thread, no thread looks for outcomes that are
    /// not collected, and the next publication calls again.
    pub(super) fn call_driver(&self) {
        if !self.driver.call() {
            self.lock().is_watched = false;
        }
    }

    /// Whether a slot is free. If none is, more slots get memory, as far as the limit and the system allow.
    pub(super) fn make_room(&self, table: &mut SlotTable) -> bool {
        if !table.free.is_empty() {
            return true;
        }
        if table.backed == table.limit {
            return false;
        }
        let more = table.backed..table.limit.min(2 * table.backed);
        if self.memory.back(self.geometry, more.clone()).is_err() {
            // The system has no more memory: the slots that have some must do.
            table.limit = table.backed;
            return false;
        }
        table.backed = more.end;
        table.free.extend(more.rev());
        true
    }

    /// Publishes work in a slot that is free: in the slot itself, by its block in the arena, or as a
    /// rendezvous.
    ///
    /// # Errors
    /// The work, where the ring is full.
    #[inline]
    fn publish_task(
        &self,
        slot: usize,
        work: RemoteWork,
    ) -> Result<(SlotRef, Published), RemoteWork> {
        let queue = &self.queue;
        let is_plain = work.is_plain();
        match work {
            RemoteWork::One(mut promise) if is_plain => {
                if let Some((call, number)) = promise.number() {
                    let published = queue.publish(slot, SlotKind::Argument, call, &number);
                    return note_published(published, promise, Attachments::default(), None);
                }
                let (call, mut argument) = promise.take_message();
                let published = match argument.lease() {
                    Some(lease) => {
                        let place = lease.location().to_bytes();
                        queue.publish(slot, SlotKind::StoredArgument, call, &place)
                    }
                    None if argument.len() <= EAGER_LIMIT => {
                        queue.publish(slot, SlotKind::Argument, call, &argument)
                    }
                    None => {
                        promise.put_message(argument);
                        return self.publish_rendezvous(slot, RemoteWork::One(promise));
                    }
                };
                if published == SlotPublish::Full {
                    promise.put_message(argument);
                    return Err(RemoteWork::One(promise));
                }
                let channels = argument.take_attachments();
                note_published(published, promise, channels, argument.into_lease().ok())
            }
            RemoteWork::Items(item_batch) if is_plain => {
                let (call, count) = (item_batch.call, item_batch.len());
                let bytes = &item_batch.bytes;
                match queue.publish_items(slot, SlotKind::Items, call, bytes, count) {
                    SlotPublish::Full => Err(RemoteWork::Items(item_batch)),
                    SlotPublish::Published(place) => {
                        let (out_of_band, taken) = (None, (0, 0));
                        let item_batch = Published::Items {
                            item_batch,
                            out_of_band,
                            taken,
                        };
                        Ok((place, item_batch))
                    }
                }
            }
            work => self.publish_rendezvous(slot, work),
        }
    }

    /// Publishes a rendezvous: the worker that claims it asks for the work over its connection.
    ///
    /// # Errors
    /// The work, where the ring is full.
    fn publish_rendezvous(
        &self,
        slot: usize,
        work: RemoteWork,
    ) -> Result<(SlotRef, Published), RemoteWork> {
        match self.queue.publish(slot, SlotKind::Rendezvous, NO_CALL, &[]) {
            SlotPublish::Full => Err(work),
            SlotPublish::Published(place) => Ok((place, Published::Rendezvous(work))),
        }
    }

    /// Asks the worker pool for more work, if some waits for room.
    pub(super) fn fetch_more(&self) {
        // ORDERING: Relaxed; written under the worker pool's lock, which `refill` takes. Work that this load
        // misses was queued after the slot became free, by a thread that afterwards looks for room itself.
        if self.is_behind.load(Ordering::Relaxed) {
            if let Some(worker_pool) = self.worker_pool.get().and_then(Weak::upgrade) {
                worker_pool.refill();
            }
        }
    }
}

/// The slot entry of a task that was published, which keeps the lease of its argument, if it has one, and the
/// channels that it names.
///
/// # Errors
/// The task, where the ring was full.
#[inline]
fn note_published(
    published: SlotPublish,
    promise: DynPromise<dyn RemoteTask>,
    channels: Attachments,
    argument: Option<Lease>,
) -> Result<(SlotRef, Published), RemoteWork> {
    let SlotPublish::Published(place) = published else {
        return Err(RemoteWork::One(promise));
    };
    let has_extra = argument.is_some() || !channels.is_empty();
    let extra = has_extra.then(|| {
        Box::new(Extra {
            _argument: argument,
            channels,
            out_of_band: None,
        })
    });
    let task = Published::Task {
        id: promise.id(),
        promise,
        extra,
    };
    Ok((place, task))
}
