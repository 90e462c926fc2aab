//! The clock of a task that came over the connection. It runs in the program, which ends a task that takes
//! too long; the worker only says when the clock stops and when it runs again.

use std::sync::Arc;

use crate::clock::Clock;
use crate::sys::fork::ForkEpoch;
use crate::sys::stream::Stream;
use crate::transport::framed;
use crate::transport::wire::{self, Kind};

/// Stops and starts the program's clock of a task that came over the connection, by frames.
pub(super) struct TaskClock {
    /// The connection to the program.
    pub(super) connection: Arc<Stream>,
    /// The task's number in frames.
    pub(super) task: u64,
    /// Tells the worker process from a copy that the task has forked.
    pub(super) fork_epoch: ForkEpoch,
}

impl TaskClock {
    fn send(&self, kind: Kind) {
        if !self.fork_epoch.is_forked_copy() {
            // Fails only if the program has ended.
            let _ = framed::send_signal(&self.connection, &wire::signal(kind, self.task));
        }
    }
}

impl Clock for TaskClock {
    fn stop(&self) {
        self.send(Kind::Stop);
    }

    fn go_on(&self) {
        self.send(Kind::GoOn);
    }
}
