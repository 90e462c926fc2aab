//! Items of maps in the shared-memory queue. Their outcomes are collected while the worker runs later items,
//! when the slot is done, and when the worker dies. Called by the other files of `in_flight`, under the slot
//! table's lock; `item_outcomes` takes the bytes apart.

use std::sync::Arc;
use std::time::Duration;

use super::table::{Completion, Published, SlotEntry, SlotTable, Taken};
use super::{InFlight, Orphan};
use crate::error::Error;
use crate::process::host::item_outcomes::{ItemOutcomes, Piece, item_outcomes_of};
use crate::process::shm::queue::{BatchProgress, Reading, SlotAfterDeath, SlotKind, SlotRef};
use crate::remote::encoded::Encoded;
use crate::task::item_batch::ItemBatch;
use crate::transport::fault::Fault;

/// A batch of items that no worker runs any more, removed from its slot.
struct ClosedBatch {
    /// The outcomes of its items, and the items that are left.
    completion: Completion,
    /// Whether the worker has begun the first of the items that are left.
    has_begun: bool,
}

impl InFlight {
    /// Takes the outcomes of items in a slot: all, with the items that the worker left unstarted, where the
    /// slot is done; else those that are done so far.
    pub(super) fn take_items(&self, table: &mut SlotTable, slot: usize) -> Taken {
        let Some(slot_entry) = &table.records[slot] else {
            return Taken::Nothing;
        };
        match self.queue.items_outcome(slot_entry.place) {
            Reading::NotDone => self.take_early(table, slot),
            reading => self.take_items_of(table, slot, |_| reading),
        }
    }

    /// Takes the outcomes of items in a slot. `read` reads the slot's state; if that is sound, the items are
    /// removed.
    pub(super) fn take_items_of(
        &self,
        table: &mut SlotTable,
        slot: usize,
        read: impl FnOnce(SlotRef) -> Reading,
    ) -> Taken {
        let Some(SlotEntry {
            place,
            work: Published::Items { out_of_band, .. },
            ..
        }) = &mut table.records[slot]
        else {
            return Taken::Nothing;
        };
        let (out_of_band, worker) = match read(*place) {
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                table.suspect(slot);
                return Taken::Corrupt;
            }
            // The worker says that the outcome of one item comes over its connection. If it has not come so
            // far, the slot is closed when it comes (`InFlight::note_outcome`).
            Reading::Sound(SlotKind::ItemsOutOfBand, worker) => match out_of_band.take() {
                Some(out_of_band) => (Some(*out_of_band), worker),
                None => return Taken::Nothing,
            },
            Reading::Sound(_, worker) => (None, worker),
        };
        match self.close_items(table, slot, worker, out_of_band) {
            Some(closed) => Taken::Arrived(closed.completion),
            None => Taken::Nothing,
        }
    }

    /// Takes the outcomes that are done of items which a worker is still running.
    pub(super) fn take_early(&self, table: &mut SlotTable, slot: usize) -> Taken {
        let SlotTable {
            records, scratch, ..
        } = table;
        let Some(SlotEntry {
            place,
            work: Published::Items {
                item_batch, taken, ..
            },
            ..
        }) = &mut records[slot]
        else {
            return Taken::Nothing;
        };
        let Some(worker) = self.queue.runner(*place) else {
            return Taken::Nothing;
        };
        let BatchProgress { done, .. } = self.queue.progress(*place, worker, item_batch.len());
        if done <= taken.0 {
            return Taken::Nothing;
        }
        let count = item_batch.len();
        let Some(progress) = self.queue.item_results(*place, worker, count, scratch) else {
            table.suspect(slot);
            return Taken::Corrupt;
        };
        let (done, bytes) = (progress.done, scratch.get(taken.1..));
        let Some(bytes) = bytes.filter(|_| done > taken.0) else {
            return Taken::Nothing;
        };
        let sink = Arc::clone(&item_batch.sink);
        let (first, count) = (item_batch.items().start + taken.0, done - taken.0);
        let found = item_outcomes_of(bytes, first, count, worker, &*sink);
        if found.items < count {
            return Taken::Nothing; // left until the slot is done; then the error is reported
        }
        *taken = (done, taken.1 + found.bytes);
        table.count(&found.item_outcomes);
        Taken::Arrived(Completion::Items {
            sink,
            item_outcomes: found.item_outcomes,
            rest: None,
        })
    }

    /// Removes items that no worker runs any more, with the outcome of the one item that came over the
    /// connection, if one did. `None`: the slot holds no items.
    fn close_items(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        out_of_band: Option<Result<Encoded, Fault>>,
    ) -> Option<ClosedBatch> {
        let slot_entry = self.remove(table, slot)?;
        let place = slot_entry.place;
        let Published::Items {
            mut item_batch,
            taken,
            ..
        } = slot_entry.work
        else {
            return None;
        };
        let count = item_batch.len();
        let results = self
            .queue
            .item_results(place, worker, count, &mut table.scratch);
        let Some(BatchProgress {
            done, has_begun, ..
        }) = results.filter(|progress| progress.done >= taken.0)
        else {
            return Some(ClosedBatch {
                completion: hit(table, *item_batch, taken.0, Some(worker)),
                has_begun: false,
            });
        };
        let sink = Arc::clone(&item_batch.sink);
        let bytes = table.scratch.get(taken.1..).unwrap_or(&[]);
        let first = item_batch.items().start;
        let (from, new) = (first + taken.0, done - taken.0);
        let ItemOutcomes {
            mut item_outcomes,
            items,
            ..
        } = item_outcomes_of(bytes, from, new, worker, &*sink);
        // A worker that says it has done items, and wrote no outcome for them, reports garbage.
        item_outcomes.extend((items..new).map(|at| {
            let words = "the worker's report on the items is garbled";
            Piece::Error(from + at, Error::Decode(words.into()))
        }));
        let nanos = self.queue.item_nanos(place, worker);
        if nanos > 0 {
            let took = Duration::from_nanos(nanos);
            sink.timing().note(done.max(1), took);
        }
        // Behind the last item there is none that an outcome could belong to.
        let out_of_band = out_of_band.filter(|_| done < count);
        let was_told = out_of_band.is_some();
        item_outcomes.extend(
            out_of_band
                .map(|out_of_band| Piece::out_of_band(first + done, out_of_band, worker, &*sink)),
        );
        table.count(&item_outcomes);
        item_batch.skip(done + usize::from(was_told));
        let rest = (item_batch.len() > 0).then_some(item_batch);
        let completion = Completion::Items {
            sink,
            item_outcomes,
            rest,
        };
        Some(ClosedBatch {
            completion,
            has_begun: has_begun && !was_told,
        })
    }

    /// Removes items that a stray write has hit, and fails those that have no collected outcome yet. `worker`
    /// is the one that may have written it; `None`: not known.
    pub(super) fn give_up_items(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: Option<usize>,
    ) -> Option<Completion> {
        match self.remove(table, slot)?.work {
            Published::Items {
                item_batch, taken, ..
            } => Some(hit(table, *item_batch, taken.0, worker)),
            Published::Task { .. } | Published::Rendezvous(_) => None,
        }
    }

    /// Removes the items of a dead worker. The outcomes of those that it had done are collected, the one that
    /// it was running is returned as an orphan, and the rest goes back to the queue.
    pub(super) fn recover_items(
        &self,
        table: &mut SlotTable,
        slot: usize,
        worker: usize,
        remains: SlotAfterDeath,
    ) -> (Option<Orphan>, Option<Completion>) {
        if remains == SlotAfterDeath::Done {
            match self.take_items(table, slot) {
                Taken::Arrived(completion) => return (None, Some(completion)),
                Taken::Corrupt => return (None, self.give_up_items(table, slot, Some(worker))),
                // An outcome that the worker sent over its connection never came: the item that it was
                // running is lost.
                Taken::Nothing => {}
            }
        }
        let out_of_band = match &mut table.records[slot] {
            Some(SlotEntry {
                work: Published::Items { out_of_band, .. },
                ..
            }) => out_of_band.take().map(|out_of_band| *out_of_band),
            _ => None,
        };
        let Some(mut closed) = self.close_items(table, slot, worker, out_of_band) else {
            return (None, None);
        };
        let mut lost = None;
        if let (Completion::Items { rest, .. }, true) = (&mut closed.completion, closed.has_begun) {
            lost = rest.as_mut().and_then(|rest| rest.pop());
            // An empty batch has nothing to return.
            rest.take_if(|rest| rest.len() == 0);
        }
        let lost = lost.map(|lost| Orphan::Ran(lost.promise));
        (lost, Some(closed.completion))
    }
}

/// The outcomes of items that a stray write has hit: `MemoryCorrupted` for all but the first `taken`.
fn hit(
    table: &mut SlotTable,
    mut item_batch: ItemBatch,
    taken: usize,
    worker: Option<usize>,
) -> Completion {
    let sink = Arc::clone(&item_batch.sink);
    let error = table.corruption(sink.info(), worker);
    let items = item_batch.items().skip(taken);
    let item_outcomes: Vec<_> = items
        .map(|index| Piece::Error(index, error.clone()))
        .collect();
    item_batch.skip(item_batch.len());
    table.count(&item_outcomes);
    Completion::Items {
        sink,
        item_outcomes,
        rest: None,
    }
}
