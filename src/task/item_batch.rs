//! Batches of consecutive items of a map's chunk on their way to a worker process, and how items are packed
//! into them.
//!
//! Built by [`Task`](crate::Task), queued by `transport::work`, published by the in-flight table
//! (`process::host::in_flight`), and run by a worker. Outcomes go to `results`.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::promise::{Notifications, Settle, Verdict};
use crate::future::state::{Start, Wakeups};
use crate::options::RunOptions;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::{EAGER_LIMIT, PayloadStore};
use crate::remote::length_delimited::{ItemWriter, LengthDelimited, PREFIX};
use crate::shared::attachments::Attachments;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::request::{Delivered, RemoteOutcome, RemoteTask, Request};
use crate::task::results::{ChunkResults, ResultSink};
use crate::task_info::TaskInfo;

/// A batch: consecutive items of a map's chunk, encoded. Dropping it cancels them.
pub(crate) struct ItemBatch {
    /// The function to call.
    pub(crate) call: FunctionRef,
    /// The options of each item.
    pub(crate) options: RunOptions,
    /// The encoded arguments, as `remote::length_delimited` says.
    pub(crate) bytes: Vec<u8>,
    /// The indexes of the items in their chunk.
    items: Range<usize>,
    /// The results of the chunk, where the items' outcomes go.
    pub(crate) sink: Arc<dyn ResultSink>,
}

impl ItemBatch {
    /// The indexes of its items.
    pub(crate) fn items(&self) -> Range<usize> {
        self.items.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The id of its first item.
    pub(crate) fn id(&self) -> FutureId {
        self.sink.id(self.items.start)
    }

    /// The id of its last item.
    pub(crate) fn last(&self) -> FutureId {
        self.sink.id(self.items.end.saturating_sub(1))
    }

    /// Removes its first `count` items without settling them: the caller is responsible for them.
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

    /// Takes out its first item, as a request of its own; `None` if the batch is empty.
    pub(crate) fn pop(&mut self) -> Option<Request> {
        let argument = Encoded::copy(LengthDelimited::new(&self.bytes).next()?);
        let request = (self.len() > 0).then(|| self.request(self.items.start, argument));
        self.skip(1);
        request
    }

    /// Its items, each as a request of its own.
    pub(crate) fn into_requests(mut self) -> VecDeque<Request> {
        let items = std::mem::take(&mut self.items);
        let arguments = LengthDelimited::new(&self.bytes).map(Encoded::copy);
        let requests = items.zip(arguments);
        requests
            .map(|(index, argument)| self.request(index, argument))
            .collect()
    }

    /// Settles every item with `error`; `settled` receives the verdict of each.
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

/// Packs the items of a chunk into batches.
pub(crate) struct BatchBuilder {
    /// The results of the chunk, where outcomes go.
    sink: Arc<dyn ResultSink>,
    /// The options of each item.
    options: RunOptions,
    /// The function to call.
    call: FunctionRef,
    /// The parts that are finished.
    parts: Vec<BatchPart>,
    /// The encoded items of the open batch.
    bytes: Vec<u8>,
    /// How many of those bytes are whole items: behind them are bytes of an item that panicked while it was
    /// encoded.
    whole: usize,
    /// The indexes of the items in the open batch.
    items: Range<usize>,
    /// How many items are still expected; 0 if more come than expected.
    expected: usize,
}

/// A part of a chunk, as it is queued.
pub(crate) enum BatchPart {
    /// A batch of items.
    Batch(Box<ItemBatch>),
    /// An item that is too large for a batch.
    Item(DynPromise<dyn RemoteTask>),
}

impl BatchBuilder {
    pub(crate) fn new<R: Send + 'static>(
        chunk_results: &Arc<ChunkResults<R>>,
        options: RunOptions,
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

    /// Packs one more item. Its index must be above those of all items before. Its bytes are what `encode`
    /// appends; returns how many they are. If `encode` panics, nothing of the item is left behind.
    ///
    /// # Errors
    /// Those of `encode`; nothing of the item is left behind.
    #[inline]
    pub(crate) fn add(
        &mut self,
        index: usize,
        payload_store: &dyn PayloadStore,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Attachments, Error>,
    ) -> Result<usize, Error> {
        let before = self.whole;
        self.bytes.truncate(before);
        ItemWriter::begin(&mut self.bytes);
        match encode(&mut self.bytes) {
            Ok(named) if named.is_empty() => {}
            Ok(named) => self.sink.keep(&named),
            Err(error) => {
                self.bytes.truncate(before);
                return Err(error);
            }
        }
        let size = self.bytes.len() - before - PREFIX;
        let mut start = before;
        if before > 0 && (self.bytes.len() > EAGER_LIMIT || self.items.end != index) {
            let last = self.bytes.split_off(before);
            self.close();
            self.bytes = last;
            start = 0;
        }
        if self.items.is_empty() {
            self.items.start = index;
            // All items are assumed to be of one size.
            let room = self.expected.saturating_mul(size + PREFIX).min(EAGER_LIMIT);
            self.bytes.reserve(room.saturating_sub(self.bytes.len()));
        }
        self.items.end = index + 1;
        self.expected = self.expected.saturating_sub(1);
        let mut item_writer = ItemWriter::of(&mut self.bytes, start);
        item_writer.end();
        if item_writer.fitting().is_none() {
            self.close_large(index, payload_store);
        }
        self.whole = self.bytes.len();
        Ok(size)
    }

    /// Packs one more item, as `add` does; its bytes are few, and name no shared memory.
    ///
    /// # Errors
    /// None of its own.
    #[inline]
    pub(crate) fn add_few(
        &mut self,
        index: usize,
        payload_store: &dyn PayloadStore,
        bytes: &[u8],
    ) -> Result<usize, Error> {
        let is_next = !self.items.is_empty() && self.items.end == index;
        if !is_next || self.whole + PREFIX + bytes.len() > EAGER_LIMIT {
            return self.add(index, payload_store, |to| {
                to.extend_from_slice(bytes);
                Ok(Attachments::default())
            });
        }
        self.bytes.truncate(self.whole);
        ItemWriter::append(&mut self.bytes, bytes);
        self.whole = self.bytes.len();
        self.items.end = index + 1;
        self.expected = self.expected.saturating_sub(1);
        Ok(bytes.len())
    }

    /// Closes the open batch: it becomes a part.
    fn close(&mut self) {
        let items = std::mem::take(&mut self.items);
        let item_batch = ItemBatch {
            call: self.call,
            options: self.options,
            bytes: std::mem::take(&mut self.bytes),
            items,
            sink: Arc::clone(&self.sink),
        };
        self.parts.push(BatchPart::Batch(Box::new(item_batch)));
    }

    /// Closes the open batch, which is one item that is too large for a batch: it becomes a part by itself.
    fn close_large(&mut self, index: usize, payload_store: &dyn PayloadStore) {
        self.items = 0..0;
        let mut bytes = std::mem::take(&mut self.bytes);
        let argument = match payload_store.store(&bytes[PREFIX..]) {
            Some(lease) => lease.into(),
            None => {
                bytes.drain(..PREFIX);
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

/// An item that travels alone, and the place where its outcome goes.
struct ItemReply {
    /// The results of its chunk.
    sink: Arc<dyn ResultSink>,
    /// Its index in the chunk.
    index: usize,
    /// The item's options.
    options: RunOptions,
    /// The function to call.
    call: FunctionRef,
    /// The encoded argument; `None` once it was taken out.
    argument: ExclusiveCell<Option<Encoded>>,
}

impl ItemReply {
    fn dyn_promise(
        sink: Arc<dyn ResultSink>,
        index: usize,
        options: RunOptions,
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

    fn options(&self) -> RunOptions {
        self.options
    }

    unsafe fn take_message(&self) -> (FunctionRef, Encoded) {
        // SAFETY: guaranteed by the caller.
        match unsafe { self.argument.replace(None) } {
            Some(argument) => (self.call, argument),
            None => unreachable!("it has not been sent"),
        }
    }

    unsafe fn put_message(&self, argument: Encoded) {
        // SAFETY: guaranteed by the caller.
        let _ = unsafe { self.argument.replace(Some(argument)) };
    }

    /// An item of a map is cancelled only together with all others: see `is_abandoned`.
    fn start(&self) -> Start {
        Start::Begun
    }

    fn put_back(&self) {}

    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut Delivered<'_>) {
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
            // If the map is gone, this may be the last reference to the chunk's results: dropping it drops
            // the outcomes that were not read.
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
