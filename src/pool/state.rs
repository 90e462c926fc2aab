//! What the lock of a worker pool guards: whether tasks are accepted, which workers exist, how many starts
//! have failed, and how many threads wait.
//!
//! Read and written by [`WorkerPool`](super::WorkerPool) and [`WorkerContext`](super::WorkerContext).

use super::delayed::Delayed;
use super::workers::Workers;
use crate::error::Error;
use crate::executor::waker_line::WakerLine;
use crate::sync::JoinHandle;

/// What the pool's lock guards.
pub(super) struct State<W> {
    /// Whether tasks are accepted.
    pub(super) stage: Stage,
    /// Tasks that are to be run again, during the pause before that. None once the stage is not `Open`.
    pub(super) delayed: Delayed<W>,
    /// Tasks that were admitted and are still to be submitted; counted only where `max_pending` is set.
    pub(super) admitted: usize,
    /// The async tasks that wait for room; there are some only where `max_pending` is set.
    pub(super) line: WakerLine,
    /// Whether workers are being ended from outside; a lost worker is not replaced then.
    pub(super) stopping: bool,
    /// The workers that exist.
    pub(super) entries: Workers,
    /// Handles of threads that are ending, to be joined.
    pub(super) left: Vec<JoinHandle<()>>,
    /// How many callers of `shutdown` are joining threads.
    pub(super) joining: usize,
    /// Failed starts since the last worker became ready.
    pub(super) failures: u32,
    /// Interrupted starts since the last worker became ready.
    pub(super) interruptions: u32,
    /// Workers lost in a row that had begun no task, while no other worker ended a task either.
    pub(super) barren: u32,
    /// How many tasks had ended when the last worker of that row was lost.
    pub(super) ended_at_barren: u64,
    /// Lost workers that have not been replaced so far.
    pub(super) lost: usize,
    /// How many callers of `warm_up` wait for all workers to be ready.
    pub(super) warming: usize,
    /// How many workers spin for work. While there are any, no sleeping worker is woken for new work.
    pub(super) searchers: usize,
    /// How many workers sleep until there is work.
    pub(super) sleepers: usize,
}

/// Whether tasks are accepted.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// Tasks are accepted.
    Open,
    /// No task is accepted; all accepted ones still run.
    Closing,
    /// No task is accepted; only those that have begun still run.
    Cancelling,
    /// No task is accepted, and none begins any more, for this reason.
    Broken(Error),
}

impl<W> State<W> {
    /// Whether workers may be started. After `MAX_START_FAILURES` failed starts in a row none is started any
    /// more as long as some workers are ready: those go on alone.
    pub(super) fn may_start(&self) -> bool {
        self.failures < MAX_START_FAILURES || self.entries.ready() == 0
    }
}

impl Stage {
    /// Why the pool accepts nothing any more; `None`: it accepts tasks.
    pub(super) fn refusal(&self) -> Option<Error> {
        match self {
            Self::Open => None,
            Self::Closing | Self::Cancelling => Some(Error::ShutDown),
            Self::Broken(error) => Some(error.clone()),
        }
    }
}

/// Worker starts in a row that may fail while no worker is ready; then the pool breaks.
pub(super) const MAX_START_FAILURES: u32 = 3;
