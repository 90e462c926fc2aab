//! What waits for a worker process: a task, or a chunk of a map.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backlog::{Removed, Work};
use crate::batch::Pace;
use crate::error::Error;
use crate::future::{FutureId, Verdict};
use crate::options::TaskOptions;
use crate::process::board::layout::INLINE;
use crate::process::bytes::Bytes;
use crate::process::depot::lease::FEW;
use crate::process::parcel::{self, Parcel};
use crate::process::request::{Reply, Request};

// What is longer than a slot has room for goes to the depot.
const _: () = assert!(FEW == INLINE);

// A parcel fits into a slot.
const _: () = assert!(parcel::ROOM == INLINE);

/// What waits for a worker process.
pub(crate) enum Requests {
    /// A task.
    One(Request),
    /// A chunk of a map, or what is left of one.
    Chunk {
        /// The tasks, their names ascending.
        waiting: VecDeque<Request>,
        /// Who wants to know how long they take.
        pace: Option<Arc<Pace>>,
    },
    /// Items of a map, packed.
    Parcel(Parcel),
}

/// What fits into a slot of the board, where nobody wants to hear how it goes before it is done.
pub(crate) enum Small<'a> {
    /// A task.
    Task(&'a Request),
    /// Items of a map.
    Parcel(&'a Parcel),
}

impl Requests {
    /// What it is, if it fits into a slot of the board, or the slot can say where it is, and nobody
    /// wants to hear how it goes before it is done.
    pub(crate) fn as_small(&self) -> Option<Small<'_>> {
        let is_plain = |options: TaskOptions| {
            options.given_timeout().is_none() && options.given_retries() == 0
        };
        let fits = |bytes: &Bytes| bytes.len() <= INLINE || bytes.lease().is_some();
        match self {
            Self::One(task) if fits(&task.argument) && is_plain(task.options) => {
                Some(Small::Task(task))
            }
            Self::Parcel(parcel) if is_plain(parcel.options) => Some(Small::Parcel(parcel)),
            _ => None,
        }
    }

    /// Whether it need not begin, as it belongs to a map that was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::One(task) => task.reply.is_abandoned(),
            Self::Chunk { waiting, .. } => {
                let first = waiting.front();
                first.is_some_and(|task| task.reply.is_abandoned())
            }
            Self::Parcel(parcel) => parcel.answers.is_abandoned(),
        }
    }

    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self::Chunk {
            waiting: VecDeque::new(),
            pace: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tasks, and who wants to know how long they take.
    pub(crate) fn into_parts(self) -> (VecDeque<Request>, Option<Arc<Pace>>) {
        match self {
            Self::One(task) => (VecDeque::from([task]), None),
            Self::Chunk { waiting, pace } => (waiting, pace),
            Self::Parcel(parcel) => {
                let pace = Arc::clone(parcel.answers.pace());
                (parcel.into_requests(), Some(pace))
            }
        }
    }

    /// Takes out all.
    pub(crate) fn take_all(&mut self) -> VecDeque<Request> {
        std::mem::replace(self, Self::none()).into_parts().0
    }

    /// Takes out the task of that name.
    pub(crate) fn take(&mut self, id: FutureId) -> Option<Request> {
        match self {
            Self::One(task) if task.reply.id() == id => self.take_all().pop_front(),
            Self::One(_) => None,
            Self::Chunk { waiting, .. } => {
                let at = waiting.binary_search_by_key(&id, |r| r.reply.id());
                waiting.remove(at.ok()?)
            }
            // Items of a map are cancelled all together.
            Self::Parcel(_) => None,
        }
    }
}

impl Work for Requests {
    fn id(&self) -> FutureId {
        let first = match self {
            Self::One(task) => Some(task),
            Self::Chunk { waiting, .. } => waiting.front(),
            Self::Parcel(parcel) => return parcel.id(),
        };
        match first {
            Some(request) => request.reply.id(),
            None => unreachable!("empty chunks are not queued"),
        }
    }

    fn last(&self) -> FutureId {
        match self {
            Self::Chunk { waiting, .. } if !waiting.is_empty() => {
                waiting[waiting.len() - 1].reply.id()
            }
            Self::Parcel(parcel) => parcel.last(),
            _ => self.id(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Chunk { waiting, .. } => waiting.len(),
            Self::Parcel(parcel) => parcel.len(),
        }
    }

    fn contains(&self, id: FutureId) -> bool {
        match self {
            Self::One(task) => task.reply.id() == id,
            Self::Chunk { waiting, .. } => {
                let at = waiting.binary_search_by_key(&id, |r| r.reply.id());
                at.is_ok()
            }
            Self::Parcel(parcel) => (parcel.id()..=parcel.last()).contains(&id),
        }
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        Some(Box::new(self.take(id)?))
    }

    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        if let Self::Parcel(parcel) = self {
            return parcel.fail(error, settled);
        }
        for request in self.into_parts().0 {
            request.reply.fail(error.clone(), settled);
        }
    }
}

impl Removed for Request {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.reply.fail(error.clone(), settled);
    }
}

impl Removed for Parcel {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        (*self).fail(error, settled);
    }
}

impl Removed for Box<dyn Reply> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        (*self).fail(error.clone(), settled);
    }
}
