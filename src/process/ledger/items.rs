//! Items of maps on the board: brought home while their worker is at others, at the end, and at a death.

use std::sync::Arc;
use std::time::Duration;

use super::books::{Arrival, Books, Posted, Record};
use super::{Ledger, Legacy};
use crate::error::Error;
use crate::process::board::{Form, Progress, Remains};
use crate::process::bytes::Bytes;
use crate::process::pieces::{Piece, Pieces, pieces_of};
use crate::process::wire::Fault;

impl Ledger {
    /// Takes out items that are done, and those that their worker has left alone.
    pub(super) fn take_items(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let record = books.records.get_mut(slot)?.as_mut()?;
        let Posted::Parcel { told, .. } = &mut record.work else {
            return None;
        };
        let Some((form, worker)) = self.board.done_form(record.place) else {
            return self.take_early(books, slot);
        };
        let told = match form {
            // If it has not come over the link so far, it is closed when it comes.
            Form::ItemsTold => Some(*told.take()?),
            _ => None,
        };
        let (arrival, _) = self.close_items(books, slot, worker, told)?;
        Some(arrival)
    }

    /// Brings home what is done of items that their worker is at.
    pub(super) fn take_early(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let Books {
            records, scratch, ..
        } = books;
        let record = records.get_mut(slot)?.as_mut()?;
        let Posted::Parcel { parcel, taken, .. } = &mut record.work else {
            return None;
        };
        let worker = self.board.runner(record.place)?;
        let Progress { done, .. } = self.board.progress(record.place, parcel.len());
        if done <= taken.0 {
            return None;
        }
        self.board.item_results(record.place, scratch);
        let bytes = scratch.get(taken.1..)?;
        let answers = Arc::clone(&parcel.answers);
        let (first, count) = (parcel.items().start + taken.0, done - taken.0);
        let found = pieces_of(bytes, first, count, worker, &*answers);
        if found.items < count {
            return None; // left to the end, which says what is wrong
        }
        *taken = (done, taken.1 + found.bytes);
        books.count(&found.pieces);
        Some(Arrival::Items {
            answers,
            pieces: found.pieces,
            rest: None,
        })
    }

    /// Takes out items that no worker is at any more, what came over the link of one of them included;
    /// whether the worker has begun the first of those that are left.
    pub(super) fn close_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        told: Option<Result<Bytes, Fault>>,
    ) -> Option<(Arrival, bool)> {
        let record = self.remove(books, slot)?;
        let place = record.place;
        let Posted::Parcel {
            mut parcel, taken, ..
        } = record.work
        else {
            return None;
        };
        let answers = Arc::clone(&parcel.answers);
        let Progress { done, has_begun } = self.board.progress(place, parcel.len());
        let nanos = self.board.item_results(place, &mut books.scratch);
        let bytes = books.scratch.get(taken.1..).unwrap_or(&[]);
        let first = parcel.items().start;
        let (from, count) = (first + taken.0, done.saturating_sub(taken.0));
        let Pieces {
            mut pieces, items, ..
        } = pieces_of(bytes, from, count, worker, &*answers);
        // What a worker says it has done, and has not, it makes up.
        pieces.extend((items..count).map(|at| {
            let words = "the worker's report on the items is garbled";
            Piece::Error(from + at, Error::Decode(words.into()))
        }));
        let done = done.max(taken.0);
        if nanos > 0 {
            answers
                .pace()
                .note(done.max(1), Duration::from_nanos(nanos));
        }
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
        Some((arrival, has_begun && !was_told))
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
            if let Some(arrival) = self.take_items(books, slot) {
                return (None, Some(arrival));
            }
            // What it had to tell over the link never came: the item that it was at is lost.
        }
        let told = match &mut books.records[slot] {
            Some(Record {
                work: Posted::Parcel { told, .. },
                ..
            }) => told.take().map(|told| *told),
            _ => None,
        };
        let closed = self.close_items(books, slot, worker, told);
        let Some((mut arrival, has_begun)) = closed else {
            return (None, None);
        };
        let mut lost = None;
        if let (Arrival::Items { rest, .. }, true) = (&mut arrival, has_begun) {
            lost = rest.as_mut().and_then(|rest| rest.pop());
            // An empty one has nothing to return.
            rest.take_if(|rest| rest.len() == 0);
        }
        (lost.map(|lost| Legacy::Ran(lost.reply)), Some(arrival))
    }
}
