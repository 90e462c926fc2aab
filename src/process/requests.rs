//! What waits for a worker process: a task, or a chunk of a map.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backlog::{Removed, Work};
use crate::error::Error;
use crate::future::{FutureId, Verdict};
use crate::process::board::layout::INLINE;
use crate::process::request::{Reply, Request};
use crate::task::Pace;

/// What waits for a worker process: a task, or a chunk of a map.
pub(crate) struct Requests {
    /// The tasks, their names ascending.
    pub(crate) waiting: VecDeque<Request>,
    /// Who wants to know how long they take.
    pub(crate) pace: Option<Arc<Pace>>,
}

impl Requests {
    /// The one task that they are, if it fits into a slot of the board, and nobody wants to hear how
    /// it goes before it is done.
    pub(crate) fn as_small_task(&self) -> Option<&Request> {
        let task = self.waiting.front()?;
        let is_small = self.waiting.len() == 1
            && self.pace.is_none()
            && task.argument.len() <= INLINE
            && task.options.given_timeout().is_none()
            && task.options.given_retries() == 0;
        is_small.then_some(task)
    }
}

impl Work for Requests {
    fn id(&self) -> FutureId {
        match self.waiting.front() {
            Some(request) => request.reply.id(),
            None => unreachable!("empty chunks are not queued"),
        }
    }

    fn last(&self) -> FutureId {
        self.waiting
            .back()
            .map_or_else(|| self.id(), |request| request.reply.id())
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn contains(&self, id: FutureId) -> bool {
        let at = self.waiting.binary_search_by_key(&id, |r| r.reply.id());
        at.is_ok()
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        let at = self.waiting.binary_search_by_key(&id, |r| r.reply.id());
        let request = self.waiting.remove(at.ok()?)?;
        Some(Box::new(request))
    }

    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        for request in self.waiting {
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
