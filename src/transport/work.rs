//! Work items of a process pool: a task, a chunk of a map, or items of a map packed into a batch. The backlog
//! and the in-flight table (`process/host/in_flight/`) hold them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::promise::Verdict;
use crate::task::item_batch::ItemBatch;
use crate::task::item_timing::ItemTiming;
use crate::task::request::{RemoteTask, Request};
use crate::task::work_item::{Withdrawn, WorkItem};

/// A work item for a worker process.
pub(crate) enum RemoteWork {
    /// A single task.
    One(DynPromise<dyn RemoteTask>),
    /// A chunk of a map, or the rest of one, as single tasks.
    Chunk(Box<RemoteChunk>),
    /// Items of a map, packed into one message.
    Items(Box<ItemBatch>),
}

/// A chunk of a map, or the rest of one, as single tasks.
#[derive(Default)]
pub(crate) struct RemoteChunk {
    /// The tasks, ids ascending.
    pub(crate) waiting: VecDeque<Request>,
    /// The map's record of how long items take; `None`: none is kept.
    pub(crate) timing: Option<Arc<ItemTiming>>,
}

impl RemoteWork {
    /// Whether the message itself may go into the shared-memory queue, if it is small enough. Work with a
    /// time limit, a grace or retries may not: the program must hear of it before it is done, and only over its
    /// connection can a worker be asked to stop.
    pub(crate) fn is_plain(&self) -> bool {
        match self {
            Self::One(task) => task.is_plain(),
            Self::Chunk(_) => false,
            Self::Items(item_batch) => item_batch.options.is_plain(),
        }
    }

    /// Whether the work need not begin, because its map was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::One(task) => task.is_abandoned(),
            Self::Chunk(chunk) => {
                let first = chunk.waiting.front();
                first.is_some_and(|task| task.promise.is_abandoned())
            }
            Self::Items(item_batch) => item_batch.sink.is_abandoned(),
        }
    }

    /// Work without any task; it is never queued.
    pub(crate) fn none() -> Self {
        Self::Chunk(Box::default())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tasks, and the map's record of how long items take, if it is work of a map.
    pub(crate) fn into_parts(self) -> (VecDeque<Request>, Option<Arc<ItemTiming>>) {
        match self {
            Self::One(task) => (VecDeque::from([Request::new(task)]), None),
            Self::Chunk(chunk) => (chunk.waiting, chunk.timing),
            Self::Items(item_batch) => {
                let timing = Arc::clone(item_batch.sink.timing());
                (item_batch.into_requests(), Some(timing))
            }
        }
    }

    /// Takes out all tasks.
    pub(crate) fn take_all(&mut self) -> VecDeque<Request> {
        std::mem::replace(self, Self::none()).into_parts().0
    }

    /// Takes out the task with this id; `None`: it is not here, or it is an item of a batch.
    pub(crate) fn take(&mut self, id: FutureId) -> Option<Request> {
        match self {
            Self::One(task) if task.id() == id => self.take_all().pop_front(),
            Self::One(_) => None,
            Self::Chunk(chunk) => {
                let at = chunk.waiting.binary_search_by_key(&id, |r| r.promise.id());
                chunk.waiting.remove(at.ok()?)
            }
            // The items of a batch are only cancelled all together, with their map.
            Self::Items(_) => None,
        }
    }
}

impl WorkItem for RemoteWork {
    fn id(&self) -> FutureId {
        match self {
            Self::One(task) => task.id(),
            Self::Chunk(chunk) => match chunk.waiting.front() {
                Some(request) => request.promise.id(),
                None => unreachable!("empty chunks are not queued"),
            },
            Self::Items(item_batch) => item_batch.id(),
        }
    }

    fn last(&self) -> FutureId {
        match self {
            Self::Chunk(chunk) if !chunk.waiting.is_empty() => {
                chunk.waiting[chunk.waiting.len() - 1].promise.id()
            }
            Self::Items(item_batch) => item_batch.last(),
            _ => self.id(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Chunk(chunk) => chunk.waiting.len(),
            Self::Items(item_batch) => item_batch.len(),
        }
    }

    fn contains(&self, id: FutureId) -> bool {
        match self {
            Self::One(task) => task.id() == id,
            Self::Chunk(chunk) => {
                let at = chunk.waiting.binary_search_by_key(&id, |r| r.promise.id());
                at.is_ok()
            }
            Self::Items(item_batch) => (item_batch.id()..=item_batch.last()).contains(&id),
        }
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        Some(Box::new(self.take(id)?))
    }

    fn put_back(&self) {
        match self {
            Self::One(task) => task.put_back(),
            Self::Chunk(chunk) => chunk.waiting.iter().for_each(|it| it.promise.put_back()),
            Self::Items(_) => {} // items have no phase
        }
    }

    fn is_given_up(&self) -> bool {
        match self {
            Self::One(task) => task.is_given_up(),
            Self::Chunk(chunk) => {
                let first = chunk.waiting.front();
                first.is_some_and(|task| task.promise.is_given_up())
            }
            Self::Items(_) => false,
        }
    }

    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        match self {
            Self::One(task) => task.fail(error.clone(), settled),
            Self::Items(item_batch) => item_batch.fail(error, settled),
            Self::Chunk(chunk) => {
                for request in chunk.waiting {
                    request.into_promise().fail(error.clone(), settled);
                }
            }
        }
    }
}

impl Withdrawn for Request {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.into_promise().fail(error.clone(), settled);
    }
}

impl Withdrawn for ItemBatch {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        (*self).fail(error, settled);
    }
}

impl Withdrawn for DynPromise<dyn RemoteTask> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        (*self).fail(error.clone(), settled);
    }
}
