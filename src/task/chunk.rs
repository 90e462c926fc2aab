//! A chunk of a map: one function, and items that one worker calls it with, one after the other.
//!
//! Made by the feed of a map (`executor/feed.rs`) of a [`ChunkSpec`]. It is run in this process, or packed into item
//! batches (`item_batch.rs`) for worker processes; either way the outcomes go to [`ChunkResults`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::pool_registry::PoolId;
use crate::future::promise::{Expire, Verdict};
use crate::options::RunOptions;
use crate::remote::callee::{Callee, Stateful};
use crate::remote::codec;
use crate::remote::context::{Context, Prefix};
use crate::remote::function::{self, FunctionRef};
use crate::remote::lease::PayloadStore;
use crate::remote::payload::Payload;
use crate::remote::pod;
use crate::task::item_batch::BatchBuilder;
use crate::task::item_timing::ItemTiming;
use crate::task::results::{ChunkResults, Decode, Expiring, Listener};
use crate::task::run::{WorkerHooks, call_in_time, panicked, report};
use crate::task::work_item::Withdrawn;
use crate::task::{RemoteForm, Task, Work};
use crate::task_info::TaskInfo;
use crate::unwind::{self, discard};
use crate::user_state;

/// What a chunk of a map is made of.
pub(crate) struct ChunkSpec<'a, A> {
    /// The options of each item.
    pub(crate) options: RunOptions,
    /// What errors say about each item.
    pub(crate) info: TaskInfo,
    /// The argument of each item.
    pub(crate) arguments: Vec<A>,
    /// Times and sizes that the map learns from its items.
    pub(crate) timing: &'a Arc<ItemTiming>,
    /// Called whenever outcomes have arrived; `None` if that is not needed.
    pub(crate) listener: Option<Listener>,
}

impl Task {
    /// A chunk of a map that may travel to a worker process, and the place where its outcomes arrive.
    pub(crate) fn portable_chunk<A: Payload, R: Payload>(
        chunk: ChunkSpec<'_, A>,
        function: fn(A) -> R,
    ) -> (Self, Arc<ChunkResults<R>>) {
        let call = move |argument| Ok(function(argument));
        Self::chunk(chunk, call, Some(Portable::of(function)))
    }

    /// A chunk of a map that may travel to a worker process; all its items are given the same context.
    pub(crate) fn portable_chunk_in<C, A, R>(
        chunk: ChunkSpec<'_, A>,
        function: fn(&C, A) -> R,
        context: &Arc<Context<C>>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        C: Payload + Sync,
        A: Payload,
        R: Payload,
    {
        let portable = Portable {
            call: function::function_ref_in_context(function),
            prefix: Some(Arc::clone(context) as Arc<dyn Prefix>),
            ..Portable::coded(Err(Error::Cancelled))
        };
        let context = Arc::clone(context);
        let call = move |argument| Ok(function(context.value(), argument));
        Self::chunk(chunk, call, Some(portable))
    }

    /// A chunk of a map that may travel to a worker process; its items borrow the state of its worker.
    pub(crate) fn portable_chunk_with_state<S, A, R>(
        chunk: ChunkSpec<'_, A>,
        function: fn(&mut S, A) -> R,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        S: 'static,
        A: Payload,
        R: Payload,
    {
        let callee = Stateful(function);
        let call = move |argument| callee.call(argument);
        Self::chunk(chunk, call, Some(Portable::coded(callee.to_ref())))
    }

    /// A chunk of a map that can run in this process only, and the place where its outcomes arrive.
    pub(crate) fn local_chunk<F, A, R>(
        chunk: ChunkSpec<'_, A>,
        f: &Arc<F>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::clone(f);
        Self::chunk(chunk, move |argument| Ok(f(argument)), None)
    }

    /// A chunk of a map that can run in this process only; its items borrow the state of its worker.
    pub(crate) fn local_chunk_with_state<S, F, A, R>(
        chunk: ChunkSpec<'_, A>,
        f: &Arc<F>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        S: 'static,
        F: Fn(&mut S, A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::clone(f);
        let call = move |argument| user_state::borrow(|state: &mut S| f(state, argument));
        Self::chunk(chunk, call, None)
    }

    fn chunk<F, A, R>(
        chunk: ChunkSpec<'_, A>,
        call: F,
        portable: Option<Portable<A, R>>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        F: FnMut(A) -> Result<R, Error> + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let ChunkSpec {
            options,
            info,
            arguments,
            timing,
            listener,
        } = chunk;
        let decode = portable.as_ref().map(|portable| portable.decode);
        let chunk_results =
            ChunkResults::new(arguments.len(), info.clone(), decode, timing, listener);
        let job = Chunk {
            info,
            options,
            call,
            portable,
            items: (0..).zip(arguments).collect(),
            chunk_results: Arc::clone(&chunk_results),
        };
        (Self(Work::Chunk(Box::new(job))), chunk_results)
    }
}

/// A chunk of a map with its types erased.
pub(super) trait ErasedChunk: Send {
    fn info(&self) -> &TaskInfo;
    fn options(&self) -> RunOptions;
    fn id(&self) -> FutureId;
    fn last(&self) -> FutureId;
    fn len(&self) -> usize;
    fn attach(&self, pool: PoolId);
    fn contains(&self, id: FutureId) -> bool;
    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>>;
    fn run(self: Box<Self>, hooks: &dyn WorkerHooks);
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict));
    fn encode(
        self: Box<Self>,
        limit: u64,
        payload_store: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm;
}

/// A chunk of a map: a function, and the items that it is called with, one after the other.
struct Chunk<F, A, R> {
    /// What errors say about each item: where the map was called, and with which function.
    info: TaskInfo,
    /// The options of each item.
    options: RunOptions,
    /// The function that each item is called with.
    call: F,
    /// How the chunk travels to a worker process; `None` if it may not.
    portable: Option<Portable<A, R>>,
    /// The items that have not begun: their indexes, ascending, and arguments.
    items: VecDeque<(usize, A)>,
    /// Where the items' outcomes are stored.
    chunk_results: Arc<ChunkResults<R>>,
}

impl<F, A, R> ErasedChunk for Chunk<F, A, R>
where
    F: FnMut(A) -> Result<R, Error> + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn info(&self) -> &TaskInfo {
        &self.info
    }

    fn options(&self) -> RunOptions {
        self.options
    }

    fn id(&self) -> FutureId {
        self.chunk_results
            .id(self.items.front().map_or(0, |(index, _)| *index))
    }

    fn last(&self) -> FutureId {
        let last = self.items.back();
        last.map_or_else(|| self.id(), |(index, _)| self.chunk_results.id(*index))
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn attach(&self, pool: PoolId) {
        self.chunk_results.attach(pool);
    }

    fn contains(&self, id: FutureId) -> bool {
        self.at(id).is_some()
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        let (index, argument) = self.items.remove(self.at(id)?)?;
        Some(Box::new(Item {
            chunk_results: Arc::clone(&self.chunk_results),
            index,
            argument,
        }))
    }

    fn run(mut self: Box<Self>, hooks: &dyn WorkerHooks) {
        let begun = Instant::now();
        let mut count = 0;
        while let Some((index, argument)) = self.items.pop_front() {
            if self.chunk_results.is_abandoned() || (count > 0 && hooks.cancels()) {
                self.items.push_front((index, argument));
                hooks.drop_rest();
                break;
            }
            let id = self.chunk_results.id(index);
            hooks.task_starting(id);
            hooks.task_started(id);
            count += 1;
            let chunk_results = &self.chunk_results;
            let expiring = || -> Arc<dyn Expire> {
                let chunk_results = Arc::clone(chunk_results);
                Arc::new(Expiring {
                    chunk_results,
                    index,
                })
            };
            let call = &mut self.call;
            let info = || self.info.clone();
            let outcome = call_in_time(expiring, self.options, info, hooks, || call(argument));
            if self.items.is_empty() {
                self.chunk_results.timing().note(count, begun.elapsed());
            }
            let limit = self.options.given_timeout();
            self.chunk_results
                .settle_quietly(index, outcome, |verdict, error| {
                    report(hooks, verdict, error, limit);
                });
        }
        self.cancel_rest(&Error::Cancelled, &mut |verdict| hooks.count(verdict));
        // The function may be a closure, and its captures may implement `Drop`.
        discard(self);
    }

    fn fail(mut self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.cancel_rest(error, settled);
        discard(self);
    }

    fn encode(
        mut self: Box<Self>,
        limit: u64,
        payload_store: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm {
        let Some(portable) = self.portable.take() else {
            unreachable!("only portable tasks reach a process pool")
        };
        let call = match portable.call.clone() {
            Ok(call) => call,
            Err(error) => {
                self.cancel_rest(&error, settled);
                return RemoteForm::Nothing;
            }
        };
        let mut packing = Packing {
            batch_builder: BatchBuilder::new(
                &self.chunk_results,
                self.options,
                call,
                self.items.len(),
            ),
            prefix: portable.prefix.as_deref(),
            limit,
            payload_store,
            at: 0,
            bytes: 0,
        };
        while !self.items.is_empty() {
            let packed = unwind::catch(|| (portable.pack)(&mut self.items, &mut packing));
            let packed =
                packed.unwrap_or_else(|panic| Err(panicked(panic, self.info.clone(), None)));
            if let Err(error) = packed {
                self.chunk_results
                    .settle(packing.at, Err(error), &mut *settled);
            }
        }
        let Packing {
            batch_builder,
            bytes,
            ..
        } = packing;
        self.chunk_results.timing().note_bytes(bytes);
        match batch_builder.into_parts() {
            parts if parts.is_empty() => RemoteForm::Nothing,
            parts => RemoteForm::Many(parts),
        }
    }
}

impl<F, A, R> Chunk<F, A, R> {
    /// The position in `items` of the item with this id; `None` if it is not there.
    fn at(&self, id: FutureId) -> Option<usize> {
        let index = self.chunk_results.index_of(id)?;
        self.items.binary_search_by_key(&index, |(i, _)| *i).ok()
    }

    /// Settles the items that have not begun with `error`.
    fn cancel_rest(&mut self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        while let Some((index, argument)) = self.items.pop_front() {
            discard(argument);
            self.chunk_results
                .settle(index, Err(error.clone()), &mut *settled);
        }
    }
}

/// Dropping a chunk cancels the items that have not begun.
impl<F, A, R> Drop for Chunk<F, A, R> {
    fn drop(&mut self) {
        self.cancel_rest(&Error::Cancelled, &mut |_| ());
    }
}

/// An item that was taken out of its chunk.
struct Item<A, R> {
    /// Where its outcome is stored.
    chunk_results: Arc<ChunkResults<R>>,
    /// Its index in the chunk.
    index: usize,
    /// The argument, with which the function is not called.
    argument: A,
}

impl<A: Send, R: Send> Withdrawn for Item<A, R> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        discard(self.argument);
        self.chunk_results
            .settle(self.index, Err(error.clone()), settled);
    }
}

/// How the items of a chunk travel: what needs the types' serde implementations, as plain functions.
struct Portable<A, R> {
    /// The reference to the function, or the reason why there is none.
    call: Result<FunctionRef, Error>,
    /// What stands before each item's argument: where the context is; `None` without a context.
    prefix: Option<Arc<dyn Prefix>>,
    /// Packs items, up to the first that cannot be encoded.
    pack: Pack<A>,
    /// Decodes a result.
    decode: Decode<R>,
}

impl<A: Payload, R: Payload> Portable<A, R> {
    fn of(function: fn(A) -> R) -> Self {
        Self::coded(function::function_ref(function))
    }

    fn coded(call: Result<FunctionRef, Error>) -> Self {
        Self {
            call,
            prefix: None,
            pack: pack_items,
            decode: Decode {
                one: codec::unpack,
                all: codec::unpack_all,
            },
        }
    }
}

/// Packs arguments with their indexes into batches.
type Pack<A> = fn(&mut VecDeque<(usize, A)>, &mut Packing<'_>) -> Result<(), Error>;

/// Items of a chunk on their way into batches.
struct Packing<'a> {
    /// Builds the batches.
    batch_builder: BatchBuilder,
    /// What stands before each item's argument; `None` without a context.
    prefix: Option<&'a dyn Prefix>,
    /// The largest size of an encoded argument, in bytes.
    limit: u64,
    /// The store for large arguments, as far as it has space.
    payload_store: &'a dyn PayloadStore,
    /// The index of the current item.
    at: usize,
    /// The number of bytes packed so far, length prefixes included.
    bytes: usize,
}

/// Packs items; each is dropped as soon as it is packed.
///
/// # Errors
/// The reason why the current item could not be encoded; that item is gone.
fn pack_items<A: Payload>(
    items: &mut VecDeque<(usize, A)>,
    packing: &mut Packing<'_>,
) -> Result<(), Error> {
    let (prefix, limit) = (packing.prefix, packing.limit);
    let is_number = pod::is_number::<A>() && codec::check_number::<A>(limit).is_ok();
    while let Some((index, argument)) = items.pop_front() {
        packing.at = index;
        packing.bytes += 2; // the length prefix
        if let (true, None, Some(bytes)) = (is_number, prefix, pod::bytes_of(&argument)) {
            packing.bytes += packing
                .batch_builder
                .add_few(index, packing.payload_store, bytes)?;
            continue;
        }
        let encode = |to: &mut Vec<u8>| {
            let around = prefix.map(|prefix| prefix.append(limit, to)).transpose()?;
            let mut named = codec::append(&argument, limit, to)?;
            drop(argument);
            if let Some(around) = around {
                named.join(&around);
            }
            Ok(named)
        };
        packing.bytes += packing
            .batch_builder
            .add(index, packing.payload_store, encode)?;
    }
    Ok(())
}
