//! Some consecutive items of a map's chunk on their way to a worker process, and how they are packed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::state::{Start, Wakeups};
use crate::future::{Notifications, Settle, Verdict};
use crate::options::TaskOptions;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::PayloadStore;
use crate::remote::length_delimited::LengthDelimited;
use crate::shared::attachments::Attachments;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::request::{RemoteOutcome, RemoteTask, Request};
use crate::task::results::{ChunkResults, ResultSink};
use crate::task_info::TaskInfo;

/// Some consecutive items of a map's chunk, encoded. Dropping it cancels them.
pub(crate) struct ItemBatch {
    /// What to call.
    pub(crate) call: FunctionRef,
    /// What the user asked of each item.
    pub(crate) options: TaskOptions,
    /// Encoded arguments: each two bytes that tell its length, then itself.
    pub(crate) bytes: Vec<u8>,
    /// Which items they are.
    items: Range<usize>,
    /// Where their outcomes go.
    pub(crate) sink: Arc<dyn ResultSink>,
}

/// Bytes that a parcel has room for: as many as a slot of the board.
pub(crate) const ROOM: usize = 2048;

impl ItemBatch {
    /// The indexes of its items.
    pub(crate) fn items(&self) -> Range<usize> {
        self.items.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The name of its first item.
    pub(crate) fn id(&self) -> FutureId {
        self.sink.id(self.items.start)
    }

    /// The name of its last item.
    pub(crate) fn last(&self) -> FutureId {
        self.sink.id(self.items.end.saturating_sub(1))
    }

    /// Leaves out its first items, which are seen to.
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.len());
        self.items.start += count;
        if self.items.is_empty() {
            return;
        }
        let mut items = LengthDelimited::new(&self.bytes);
        items.by_ref().take(count).for_each(drop);
        let read = self.bytes.len() - items.left();
        self.bytes.drain(..read);
    }

    /// Takes out its first item, as a task of its own.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let argument = Encoded::copy(LengthDelimited::new(&self.bytes).next()?);
        let request = (self.len() > 0).then(|| self.request(self.items.start, argument));
        self.skip(1);
        request
    }

    /// Its items, as tasks of their own.
    pub(crate) fn into_requests(mut self) -> VecDeque<Request> {
        let items = std::mem::take(&mut self.items);
        let arguments = LengthDelimited::new(&self.bytes).map(Encoded::copy);
        let requests = items.zip(arguments);
        requests
            .map(|(index, argument)| self.request(index, argument))
            .collect()
    }

    /// Settles every item with this error.
    pub(crate) fn fail(mut self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        for index in std::mem::take(&mut self.items) {
            self.sink.fail(index, error.clone(), settled);
        }
    }

    fn request(&self, index: usize, argument: Encoded) -> Request {
        let sink = Arc::clone(&self.sink);
        Request::new(ItemReply::dyn_promise(
            sink,
            index,
            self.options,
            (self.call, argument),
        ))
    }
}

impl Drop for ItemBatch {
    fn drop(&mut self) {
        for index in std::mem::take(&mut self.items) {
            self.sink.fail(index, Error::Cancelled, &mut |_| ());
        }
    }
}

/// Packs the items of a chunk into parcels.
pub(crate) struct BatchBuilder {
    /// Where outcomes go.
    sink: Arc<dyn ResultSink>,
    /// What the user asked of each item.
    options: TaskOptions,
    /// What to call.
    call: FunctionRef,
    /// What is packed.
    parts: Vec<BatchPart>,
    /// What is being packed.
    bytes: Vec<u8>,
    /// How many of those bytes are whole items: what stands behind them is one whose encoding panicked.
    whole: usize,
    /// Which items those are.
    items: Range<usize>,
    /// How many items are to come.
    expected: usize,
}

/// A part of a chunk.
pub(crate) enum BatchPart {
    /// Some items.
    Parcel(Box<ItemBatch>),
    /// An item that is too large for a parcel.
    Item(DynPromise<dyn RemoteTask>),
}

impl BatchBuilder {
    pub(crate) fn new<R: Send + 'static>(
        chunk_results: &Arc<ChunkResults<R>>,
        options: TaskOptions,
        call: FunctionRef,
        expected: usize,
    ) -> Self {
        Self {
            sink: Arc::clone(chunk_results) as Arc<dyn ResultSink>,
            options,
            call,
            parts: Vec::new(),
            bytes: Vec::new(),
            whole: 0,
            items: 0..0,
            expected,
        }
    }

    /// Packs one more, whose index is above all before; its bytes are what `encode` appends, and how
    /// many they are is the answer. If that panics, nothing is left behind.
    ///
    /// # Errors
    /// Those of `encode`; nothing is left behind.
    #[inline]
    pub(crate) fn add(
        &mut self,
        index: usize,
        room: &dyn PayloadStore,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Attachments, Error>,
    ) -> Result<usize, Error> {
        let before = self.whole;
        self.bytes.truncate(before);
        self.bytes.extend([0; 2]);
        match encode(&mut self.bytes) {
            Ok(named) if named.is_empty() => {}
            Ok(named) => self.sink.keep(&named),
            Err(error) => {
                self.bytes.truncate(before);
                return Err(error);
            }
        }
        let size = self.bytes.len() - before - 2;
        if before > 0 && (self.bytes.len() > ROOM || self.items.end != index) {
            let last = self.bytes.split_off(before);
            self.close();
            self.bytes = last;
        }
        if self.items.is_empty() {
            self.items.start = index;
            // Items are taken to be of one size.
            let room = self.expected.saturating_mul(size + 2).min(ROOM);
            self.bytes.reserve(room.saturating_sub(self.bytes.len()));
        }
        self.items.end = index + 1;
        self.expected = self.expected.saturating_sub(1);
        match u16::try_from(size) {
            Ok(length) if self.bytes.len() <= ROOM => {
                let at = self.bytes.len() - size - 2;
                self.bytes[at..at + 2].copy_from_slice(&length.to_le_bytes());
            }
            _ => self.close_large(index, room),
        }
        self.whole = self.bytes.len();
        Ok(size)
    }

    /// As `add`, of a few bytes that name nothing.
    ///
    /// # Errors
    /// None of its own.
    #[inline]
    pub(crate) fn add_few(
        &mut self,
        index: usize,
        room: &dyn PayloadStore,
        bytes: &[u8],
    ) -> Result<usize, Error> {
        let is_next = !self.items.is_empty() && self.items.end == index;
        let length = u16::try_from(bytes.len());
        match length {
            Ok(length) if is_next && self.whole + 2 + bytes.len() <= ROOM => {
                self.bytes.truncate(self.whole);
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(bytes);
                self.whole = self.bytes.len();
                self.items.end = index + 1;
                self.expected = self.expected.saturating_sub(1);
                Ok(bytes.len())
            }
            _ => self.add(index, room, |to| {
                to.extend_from_slice(bytes);
                Ok(Attachments::default())
            }),
        }
    }

    /// What is being packed is a parcel.
    fn close(&mut self) {
        let items = std::mem::take(&mut self.items);
        let item_batch = ItemBatch {
            call: self.call,
            options: self.options,
            bytes: std::mem::take(&mut self.bytes),
            items,
            sink: Arc::clone(&self.sink),
        };
        self.parts.push(BatchPart::Parcel(Box::new(item_batch)));
    }

    /// What is being packed is one item that is too large for a parcel.
    fn close_large(&mut self, index: usize, room: &dyn PayloadStore) {
        self.items = 0..0;
        let mut bytes = std::mem::take(&mut self.bytes);
        let argument = match room.store(&bytes[2..]) {
            Some(lease) => lease.into(),
            None => {
                bytes.drain(..2);
                bytes.into()
            }
        };
        let (sink, message) = (Arc::clone(&self.sink), (self.call, argument));
        let item = ItemReply::dyn_promise(sink, index, self.options, message);
        self.parts.push(BatchPart::Item(item));
    }

    pub(crate) fn into_parts(mut self) -> Vec<BatchPart> {
        self.bytes.truncate(self.whole);
        if !self.items.is_empty() {
            self.close();
        }
        self.parts
    }
}

/// An item that travels alone, and where its outcome goes.
struct ItemReply {
    /// Those of its batch.
    sink: Arc<dyn ResultSink>,
    /// Which it is.
    index: usize,
    /// What the user asked of it.
    options: TaskOptions,
    /// What to call.
    call: FunctionRef,
    /// With what; `None` once it was taken.
    argument: ExclusiveCell<Option<Encoded>>,
}

impl ItemReply {
    fn dyn_promise(
        sink: Arc<dyn ResultSink>,
        index: usize,
        options: TaskOptions,
        (call, argument): (FunctionRef, Encoded),
    ) -> DynPromise<dyn RemoteTask> {
        DynPromise::new(Arc::new(Self {
            sink,
            index,
            options,
            call,
            argument: ExclusiveCell::new(Some(argument)),
        }))
    }
}

impl Settle for ItemReply {
    fn id(&self) -> FutureId {
        self.sink.id(self.index)
    }

    unsafe fn fail(self: Arc<Self>, error: Error, settled: &mut dyn FnMut(Verdict)) {
        self.sink.fail(self.index, error, settled);
    }
}

impl RemoteTask for ItemReply {
    fn info(&self) -> TaskInfo {
        self.sink.info()
    }

    fn options(&self) -> TaskOptions {
        self.options
    }

    unsafe fn take_message(&self) -> (FunctionRef, Encoded) {
        // SAFETY: the caller's promise.
        match unsafe { self.argument.replace(None) } {
            Some(argument) => (self.call, argument),
            None => unreachable!("it has not been sent"),
        }
    }

    unsafe fn put_message(&self, argument: Encoded) {
        // SAFETY: the caller's promise.
        let _ = unsafe { self.argument.replace(Some(argument)) };
    }

    /// An item of a map is cancelled with all others: see `is_abandoned`.
    fn start(&self) -> Start {
        Start::Begun
    }

    fn put_back(&self) {}

    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut dyn FnMut(Verdict)) {
        self.sink.deliver(self.index, value, settled);
    }

    unsafe fn leave(
        self: Arc<Self>,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>> {
        let value = value.into_bytes();
        self.sink.arrive_alone(self.index, value, settled);
        None
    }

    unsafe fn killed(self: Arc<Self>, settled: &mut dyn FnMut(Verdict)) {
        self.sink.fail(self.index, Error::Cancelled, settled);
    }

    unsafe fn arrive(
        self: Arc<Self>,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>) {
        let verdict = match outcome {
            RemoteOutcome::Value(value) => {
                let value = value.into_bytes();
                self.sink.arrive_alone(self.index, value, &mut |_| ());
                Verdict::Completed
            }
            RemoteOutcome::Error(error) => {
                self.sink.fail(self.index, error, &mut |_| ());
                Verdict::Failed
            }
            RemoteOutcome::Killed => {
                self.sink.fail(self.index, Error::Cancelled, &mut |_| ());
                Verdict::Cancelled
            }
        };
        let news = Notifications {
            wakeups: Wakeups::none(),
            opens: None,
            // The last to know of the batch, whose map is gone, drops what nobody has read of it.
            remains: Some(self),
        };
        (verdict, Some(Box::new(news)))
    }

    fn has_listeners(&self) -> bool {
        self.sink.has_listeners()
    }

    fn is_abandoned(&self) -> bool {
        self.sink.is_abandoned()
    }
}

#[cfg(test)]
mod tests;
