//! Items of maps on the board: brought home while their worker is at others, at the end, and at a death.

use std::sync::Arc;
use std::time::Duration;

use super::table::{Arrival, Books, Posted, Record, Taken};
use super::{Ledger, Legacy};
use crate::error::Error;
use crate::process::host::item_outcomes::{Piece, Pieces, pieces_of};
use crate::process::shm::queue::{Form, Place, Progress, Reading, Remains};
use crate::remote::encoded::Bytes;
use crate::task::item_batch::Parcel;
use crate::transport::wire::Fault;

/// Items that no worker is at any more.
struct Closed {
    /// What has come of them, and those that are left.
    arrival: Arrival,
    /// Whether the worker has begun the first of those that are left.
    has_begun: bool,
}

impl Ledger {
    /// Takes out items that are done, and those that their worker has left alone.
    pub(super) fn take_items(&self, books: &mut Books, slot: usize) -> Taken {
        let Some(record) = &books.records[slot] else {
            return Taken::Nothing;
        };
        match self.board.items_outcome(record.place) {
            Reading::NotDone => self.take_early(books, slot),
            reading => self.take_items_of(books, slot, |_| reading),
        }
    }

    /// Takes out items of which this is read.
    pub(super) fn take_items_of(
        &self,
        books: &mut Books,
        slot: usize,
        read: impl FnOnce(Place) -> Reading,
    ) -> Taken {
        let Some(Record {
            place,
            work: Posted::Parcel { told, .. },
            ..
        }) = &mut books.records[slot]
        else {
            return Taken::Nothing;
        };
        let (told, worker) = match read(*place) {
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                books.suspect(slot);
                return Taken::Corrupt;
            }
            // If it has not come over the link so far, it is closed when it comes.
            Reading::Sound(Form::ItemsTold, worker) => match told.take() {
                Some(told) => (Some(*told), worker),
                None => return Taken::Nothing,
            },
            Reading::Sound(_, worker) => (None, worker),
        };
        match self.close_items(books, slot, worker, told) {
            Some(closed) => Taken::Arrived(closed.arrival),
            None => Taken::Nothing,
        }
    }

    /// Brings home what is done of items that their worker is at.
    pub(super) fn take_early(&self, books: &mut Books, slot: usize) -> Taken {
        let Books {
            records, scratch, ..
        } = books;
        let Some(Record {
            place,
            work: Posted::Parcel { parcel, taken, .. },
            ..
        }) = &mut records[slot]
        else {
            return Taken::Nothing;
        };
        let Some(worker) = self.board.runner(*place) else {
            return Taken::Nothing;
        };
        let Progress { done, .. } = self.board.progress(*place, worker, parcel.len());
        if done <= taken.0 {
            return Taken::Nothing;
        }
        let count = parcel.len();
        let Some(progress) = self.board.item_results(*place, worker, count, scratch) else {
            books.suspect(slot);
            return Taken::Corrupt;
        };
        let (done, bytes) = (progress.done, scratch.get(taken.1..));
        let Some(bytes) = bytes.filter(|_| done > taken.0) else {
            return Taken::Nothing;
        };
        let answers = Arc::clone(&parcel.answers);
        let (first, count) = (parcel.items().start + taken.0, done - taken.0);
        let found = pieces_of(bytes, first, count, worker, &*answers);
        if found.items < count {
            return Taken::Nothing; // left to the end, which says what is wrong
        }
        *taken = (done, taken.1 + found.bytes);
        books.count(&found.pieces);
        Taken::Arrived(Arrival::Items {
            answers,
            pieces: found.pieces,
            rest: None,
        })
    }

    /// Takes out items that no worker is at any more, what came over the link of one of them included.
    fn close_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        told: Option<Result<Bytes, Fault>>,
    ) -> Option<Closed> {
        let record = self.remove(books, slot)?;
        let place = record.place;
        let Posted::Parcel {
            mut parcel, taken, ..
        } = record.work
        else {
            return None;
        };
        let count = parcel.len();
        let results = self
            .board
            .item_results(place, worker, count, &mut books.scratch);
        let Some(Progress {
            done, has_begun, ..
        }) = results.filter(|progress| progress.done >= taken.0)
        else {
            return Some(Closed {
                arrival: hit(books, *parcel, taken.0, Some(worker)),
                has_begun: false,
            });
        };
        let answers = Arc::clone(&parcel.answers);
        let bytes = books.scratch.get(taken.1..).unwrap_or(&[]);
        let first = parcel.items().start;
        let (from, new) = (first + taken.0, done - taken.0);
        let Pieces {
            mut pieces, items, ..
        } = pieces_of(bytes, from, new, worker, &*answers);
        // What a worker says it has done, and has not, it makes up.
        pieces.extend((items..new).map(|at| {
            let words = "the worker's report on the items is garbled";
            Piece::Error(from + at, Error::Decode(words.into()))
        }));
        let nanos = self.board.item_nanos(place, worker);
        if nanos > 0 {
            let took = Duration::from_nanos(nanos);
            answers.pace().note(done.max(1), took);
        }
        // Of an item behind the last one nothing can be told.
        let told = told.filter(|_| done < count);
        let was_told = told.is_some();
        pieces.extend(told.map(|told| Piece::told(first + done, told, worker, &*answers)));
        books.count(&pieces);
        parcel.skip(done + usize::from(was_told));
        let rest = (parcel.len() > 0).then_some(parcel);
        let arrival = Arrival::Items {
            answers,
            pieces,
            rest,
        };
        Some(Closed {
            arrival,
            has_begun: has_begun && !was_told,
        })
    }

    /// Ends items that a stray write has hit, of a worker that may have been this one; those that have arrived
    /// before have arrived.
    pub(super) fn give_up_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: Option<usize>,
    ) -> Option<Arrival> {
        match self.remove(books, slot)?.work {
            Posted::Parcel { parcel, taken, .. } => Some(hit(books, *parcel, taken.0, worker)),
            Posted::Task { .. } | Posted::Ticket(_) => None,
        }
    }

    /// Takes out items of a dead worker: those that it had done have arrived, the one that it was at
    /// is left, and the rest goes back.
    pub(super) fn bury_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        remains: Remains,
    ) -> (Option<Legacy>, Option<Arrival>) {
        if remains == Remains::Done {
            match self.take_items(books, slot) {
                Taken::Arrived(arrival) => return (None, Some(arrival)),
                Taken::Corrupt => return (None, self.give_up_items(books, slot, Some(worker))),
                // What it had to tell over the link never came: the item that it was at is lost.
                Taken::Nothing => {}
            }
        }
        let told = match &mut books.records[slot] {
            Some(Record {
                work: Posted::Parcel { told, .. },
                ..
            }) => told.take().map(|told| *told),
            _ => None,
        };
        let Some(mut closed) = self.close_items(books, slot, worker, told) else {
            return (None, None);
        };
        let mut lost = None;
        if let (Arrival::Items { rest, .. }, true) = (&mut closed.arrival, closed.has_begun) {
            lost = rest.as_mut().and_then(|rest| rest.pop());
            // An empty one has nothing to return.
            rest.take_if(|rest| rest.len() == 0);
        }
        let lost = lost.map(|lost| Legacy::Ran(lost.reply));
        (lost, Some(closed.arrival))
    }
}

/// Items, but for the first so many, that a stray write has hit.
fn hit(books: &mut Books, mut parcel: Parcel, taken: usize, worker: Option<usize>) -> Arrival {
    let answers = Arc::clone(&parcel.answers);
    let error = books.corruption(answers.info(), worker);
    let items = parcel.items().skip(taken);
    let pieces: Vec<_> = items
        .map(|index| Piece::Error(index, error.clone()))
        .collect();
    parcel.skip(parcel.len());
    books.count(&pieces);
    Arrival::Items {
        answers,
        pieces,
        rest: None,
    }
}
