//! What waits for a worker process: a task, or a chunk of a map.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backlog::{Removed, Work};
use crate::error::Error;
use crate::future::{FutureId, Verdict};
use crate::process::board::layout::INLINE;
use crate::process::depot::lease::FEW;
use crate::process::request::{Reply, Request};
use crate::task::Pace;

// What is longer than a slot has room for goes to the depot.
const _: () = assert!(FEW == INLINE);

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
}

impl Requests {
    /// A task, if it fits into a slot of the board, or the slot can say where it is, and nobody wants
    /// to hear how it goes before it is done.
    pub(crate) fn as_small_task(&self) -> Option<&Request> {
        let Self::One(task) = self else {
            return None;
        };
        let is_small = (task.argument.len() <= INLINE || task.argument.lease().is_some())
            && task.options.given_timeout().is_none()
            && task.options.given_retries() == 0;
        is_small.then_some(task)
    }

    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self::Chunk {
            waiting: VecDeque::new(),
            pace: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Chunk { waiting, .. } if waiting.is_empty())
    }

    /// The tasks, and who wants to know how long they take.
    pub(crate) fn into_parts(self) -> (VecDeque<Request>, Option<Arc<Pace>>) {
        match self {
            Self::One(task) => (VecDeque::from([task]), None),
            Self::Chunk { waiting, pace } => (waiting, pace),
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
        }
    }
}

impl Work for Requests {
    fn id(&self) -> FutureId {
        let first = match self {
            Self::One(task) => Some(task),
            Self::Chunk { waiting, .. } => waiting.front(),
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
            _ => self.id(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Chunk { waiting, .. } => waiting.len(),
        }
    }

    fn contains(&self, id: FutureId) -> bool {
        match self {
            Self::One(task) => task.reply.id() == id,
            Self::Chunk { waiting, .. } => {
                let at = waiting.binary_search_by_key(&id, |r| r.reply.id());
                at.is_ok()
            }
        }
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        Some(Box::new(self.take(id)?))
    }

    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
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

impl Removed for Box<dyn Reply> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        (*self).fail(error.clone(), settled);
    }
}
