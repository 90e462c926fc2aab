//! A batch: items of a map that the worker has claimed with one slot of the queue. The worker runs them in
//! order, and publishes the outcome of each before the next one begins.
//!
//! Used by the queue loop; `ItemCursor` is how `remote/function.rs` asks for one item after the other.

use std::io;

use crate::channel::socket;
use crate::error::Error;
use crate::process::shm::queue::{ItemRun, SlotRef, Transition};
use crate::process::worker::context::Worker;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::EAGER_LIMIT;
use crate::remote::length_delimited::{ItemKind, ItemWriter, LengthDelimited};
use crate::shared::attachments::Attachments;
use crate::transport::fault::{Fault, fault_of};
use crate::transport::wire::Kind;
use crate::unwind;

/// Runs a batch: items of a map that a worker has claimed with one slot.
pub(super) struct BatchRunner<'a> {
    /// The worker process.
    pub(super) worker: &'a Worker,
    /// The slot that holds the items.
    pub(super) place: SlotRef,
    /// Encoded arguments of the items that have not begun.
    pub(super) arguments: LengthDelimited<'a>,
    /// How many items there are.
    pub(super) count: usize,
    /// The published progress of this run.
    pub(super) run: ItemRun<'a>,
    /// Encoded outcomes of the finished items, as they lie in the queue; behind them that of the running
    /// item.
    pub(super) results: &'a mut Vec<u8>,
    /// Length of the last outcome in bytes: the next one is expected to be as large.
    pub(super) last_result: usize,
    /// Whether another item may begin.
    pub(super) batch_state: BatchState,
}

/// Whether another item of a batch may begin.
pub(super) enum BatchState {
    /// Yes, if one is left.
    Ready,
    /// No: the outcome of the last item was sent over the connection.
    OutOfBand,
    /// No: the connection is broken.
    Broken(io::Error),
}

impl BatchRunner<'_> {
    /// Runs the items in order, until none is left or none may begin.
    pub(super) fn run_all(&mut self, call: FunctionRef) {
        let function = match function::resolve(call) {
            Ok(function) => function,
            Err(error) => {
                while self.begin().is_some() {
                    self.end(Err(error.clone()));
                }
                return;
            }
        };
        let limit = self.worker.welcome.payload_limit;
        let _kept_sockets = socket::keep();
        while let Err(panic) = unwind::catch(|| function.call_each(limit, self)) {
            self.worker.finish_task();
            self.lay_down(Err(Fault::Panicked(panic)));
        }
    }

    /// Publishes the outcome of the item that has ended: in the queue, or over the connection if the queue
    /// has no room or the outcome brings shared memory.
    fn lay_down(&mut self, outcome: Result<Attachments, Fault>) {
        let mut item_writer = ItemWriter::of(self.results, self.run.filled());
        let brought = outcome.unwrap_or_else(|fault| {
            item_writer.replace(&fault.to_body());
            item_writer.mark_as_fault();
            Attachments::default()
        });
        item_writer.end();
        self.last_result = item_writer.len().min(EAGER_LIMIT);
        if let (Some(results), true) = (item_writer.fitting(), brought.is_empty()) {
            return self.run.end(results);
        }
        let kind = match item_writer.kind() {
            ItemKind::Value => Kind::LargeValue,
            ItemKind::Fault => Kind::LargeFault,
        };
        let body = Encoded::copy(item_writer.body()).naming(brought);
        self.batch_state = match self.worker.send_about(kind, self.place, &body) {
            Ok(()) => BatchState::OutOfBand,
            Err(error) => BatchState::Broken(error),
        };
    }
}

impl ItemCursor for BatchRunner<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        let (index, filled) = (self.run.done(), self.run.filled());
        let is_roomy = filled + self.last_result <= EAGER_LIMIT;
        let may_begin =
            is_roomy && index < self.count && matches!(self.batch_state, BatchState::Ready);
        if !may_begin {
            return None; // the program queues the remaining items again
        }
        let argument = self.arguments.next()?;
        if self.run.begin() == Transition::TooLate {
            return None;
        }
        self.worker.progress.begin_task();
        ItemWriter::begin(self.results);
        Some((argument, self.results))
    }

    fn end_well(&mut self) {
        self.worker.finish_task();
        let mut item_writer = ItemWriter::of(self.results, self.run.filled());
        item_writer.end();
        let length = item_writer.len();
        match item_writer.fitting() {
            Some(results) => {
                self.last_result = length;
                self.run.end(results);
            }
            None => self.lay_down(Ok(Attachments::default())),
        }
    }

    fn end(&mut self, outcome: Result<Attachments, Error>) {
        self.worker.finish_task();
        self.lay_down(fault_of(Ok(outcome)));
    }
}
