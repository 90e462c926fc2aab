//! The slot table: for each slot of the shared-memory queue, what the program has published there and where
//! its outcome goes. Used by the other files of `in_flight`, under the lock of [`InFlight`](super::InFlight).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, MemoryCorruption, Suspect};
use crate::executor::counts::Counts;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::promise::Notifications;
use crate::process::host::item_outcomes::Piece;
use crate::process::shm::queue::SlotRef;
use crate::remote::encoded::Encoded;
use crate::remote::lease::Lease;
use crate::shared::attachments::Attachments;
use crate::task::item_batch::ItemBatch;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::task::results::ResultSink;
use crate::task::work_item::WorkItem;
use crate::task_info::TaskInfo;
use crate::transport::fault::Fault;
use crate::transport::work::RemoteWork;

/// What the lock of the in-flight table guards.
pub(super) struct SlotTable {
    /// What lies in each slot, by slot number; `None`: the slot is free.
    pub(super) records: Vec<Option<SlotEntry>>,
    /// The free slots that have memory.
    pub(super) free: Vec<usize>,
    /// How many slots have memory: those below this number.
    pub(super) backed: usize,
    /// How many slots may have memory.
    pub(super) limit: usize,
    /// How many tasks have completed, failed, or been cancelled so far.
    pub(super) counts: Counts,
    /// How many slots hold items of maps.
    pub(super) item_batches: usize,
    /// A buffer into which outcomes are read, kept for the next.
    pub(super) scratch: Vec<u8>,
    /// Whether a task that is not published yet may have listeners.
    pub(super) has_any_listeners: bool,
    /// Whether the driver's thread is to look, within a second, for outcomes that no thread has collected.
    pub(super) is_watched: bool,
    /// Suspect slots: the state makes no sense, or the outcome is not what its worker wrote. The time is when
    /// that was first seen.
    pub(super) suspects: BTreeMap<usize, Instant>,
    /// What is known of each worker, by its index.
    pub(super) workers: Vec<WorkerRecord>,
    /// The worker that crashed last, which an error of corrupted memory names.
    pub(super) suspect: Option<Suspect>,
}

/// What is known of a worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerRecord {
    /// How the worker gets its tasks, if it has a process.
    pub(super) presence: Presence,
    /// Since when the worker has had nothing to do although it was to leave; `None`: that is not so.
    pub(super) idle_since: Option<Instant>,
}

/// How a worker gets its tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// The worker has no process.
    #[default]
    Absent,
    /// It claims tasks from the queue by itself.
    Here,
    /// It is told over its connection what to do.
    OverConnection,
}

/// A slot entry: what the program knows of the work in a slot.
pub(super) struct SlotEntry {
    /// The slot, and the position on the ring.
    pub(super) place: SlotRef,
    /// What was published there.
    pub(super) work: Published,
    /// Whether it has listeners that must learn of the outcome at once.
    pub(super) has_listeners: bool,
    /// Whether it may have been begun by a worker that died without a trace of what it had begun.
    pub(super) is_doubtful: bool,
    /// Whether its worker was to be killed for it.
    pub(super) is_killed: bool,
}

/// The work that was published in a slot.
pub(super) enum Published {
    /// A task that the worker claims whole, without asking over its connection.
    Task {
        /// The id of its future.
        id: FutureId,
        /// The promise to which its outcome goes.
        promise: DynPromise<dyn RemoteTask>,
        /// What only some tasks have; `None` for most.
        extra: Option<Box<Extra>>,
    },
    /// Items of a map.
    Items {
        /// The batch, as it was published.
        item_batch: Box<ItemBatch>,
        /// The outcome of one of them, where it came over the connection before the slot was done.
        out_of_band: Option<Box<Result<Encoded, Fault>>>,
        /// How many outcomes were collected before the slot was done, and how many bytes they take in the
        /// worker's part of the slot.
        taken: (usize, usize),
    },
    /// Work that the worker has to ask for over its connection.
    Rendezvous(RemoteWork),
}

/// What only some tasks have.
#[derive(Default)]
pub(super) struct Extra {
    /// The block of the argument, if it does not lie in the slot: held until the task has ended.
    pub(super) _argument: Option<Lease>,
    /// The channels into which the task can send: held open until it has ended.
    pub(super) channels: Attachments,
    /// The outcome, where it came over the connection before the slot was done.
    pub(super) out_of_band: Option<RemoteOutcome<'static>>,
}

/// Whether the outcome of a slot could be taken.
#[must_use]
pub(super) enum Taken {
    /// It was taken, or a part of it was.
    Arrived(Completion),
    /// There is none yet.
    Nothing,
    /// What lies there is not what the worker has written.
    Corrupt,
}

/// A collected outcome on its way to the future or map that asked for it.
pub(super) enum Completion {
    /// The outcome of a task is stored in the state of its future.
    Task(
        /// The listeners to notify; `None`: there are none.
        Option<Box<Notifications>>,
    ),
    /// Outcomes of items of a map.
    Items {
        /// The sink of the map's chunk, to which they go.
        sink: Arc<dyn ResultSink>,
        /// The outcomes, in the order of the items.
        item_outcomes: Vec<Piece>,
        /// Items that their worker has not begun; `None`: there are none.
        rest: Option<Box<ItemBatch>>,
    },
}

impl Completion {
    /// Whether nothing is left to do: the outcome is stored, and has no listeners.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Task(None))
    }
}

impl Published {
    /// Whether the work may hold memory until it is removed from its slot: an argument, shared memory, or a
    /// large result.
    pub(super) fn holds_memory(&self) -> bool {
        match self {
            Self::Task { promise, .. } => promise.holds_memory(),
            Self::Items { .. } | Self::Rendezvous(_) => true,
        }
    }
}

impl SlotEntry {
    pub(super) fn new(place: SlotRef, work: Published, has_listeners: bool) -> Self {
        Self {
            place,
            work,
            has_listeners,
            is_doubtful: false,
            is_killed: false,
        }
    }
}

impl SlotTable {
    /// Marks a slot as suspect, unless it is already. Returns since when it is.
    pub(super) fn suspect(&mut self, slot: usize) -> Instant {
        *self.suspects.entry(slot).or_insert_with(Instant::now)
    }

    /// The indexes of the workers that have a process.
    pub(super) fn living(&self) -> impl Iterator<Item = usize> + use<'_> {
        let workers = self.workers.iter().enumerate();
        let living = workers.filter(|(_, worker)| worker.presence != Presence::Absent);
        living.map(|(index, _)| index)
    }

    pub(super) fn lives(&self, worker: usize) -> bool {
        let worker = self.workers.get(worker);
        worker.is_some_and(|worker| worker.presence != Presence::Absent)
    }

    /// The error of a task that a stray write has hit. It names the worker that crashed last; if none has, it
    /// names `worker` as the suspect.
    pub(super) fn corruption(&self, task: TaskInfo, worker: Option<usize>) -> Error {
        let of_worker = worker.map(|worker| Suspect {
            worker,
            death: None,
        });
        Error::MemoryCorrupted(MemoryCorruption::new(task, self.suspect.or(of_worker)))
    }

    /// The slot, and the slot entry, of the task of that id, also of one that waits in a rendezvous.
    pub(super) fn find(&mut self, id: FutureId) -> Option<(usize, &mut SlotEntry)> {
        let records = self.records.iter_mut().enumerate();
        records
            .filter_map(|(slot, slot_entry)| Some((slot, slot_entry.as_mut()?)))
            .find(|(_, slot_entry)| match &slot_entry.work {
                Published::Task { id: own, .. } => *own == id,
                Published::Items { .. } => false,
                Published::Rendezvous(requests) => requests.contains(id),
            })
    }

    pub(super) fn count(&mut self, item_outcomes: &[Piece]) {
        for counts in item_outcomes.iter().map(Piece::counts) {
            self.counts.add(counts);
        }
    }

    /// Counts an outcome, and stores it for the future of its task.
    #[inline]
    pub(super) fn completion(
        &mut self,
        promise: DynPromise<dyn RemoteTask>,
        outcome: RemoteOutcome<'_>,
    ) -> Completion {
        let (verdict, news) = promise.arrive(outcome);
        self.counts.count(verdict);
        Completion::Task(news)
    }

    pub(super) fn take_out_of_band(&mut self, slot: usize) -> Option<RemoteOutcome<'static>> {
        match &mut self.records[slot].as_mut()?.work {
            Published::Task { extra, .. } => extra.as_mut()?.out_of_band.take(),
            Published::Items { .. } | Published::Rendezvous(_) => None,
        }
    }
}

impl SlotEntry {
    pub(super) fn is_task(&self) -> bool {
        matches!(self.work, Published::Task { .. })
    }

    /// Whether some outcomes of its items were collected early.
    pub(super) fn is_partly_taken(&self) -> bool {
        matches!(&self.work, Published::Items { taken, .. } if taken.0 > 0)
    }

    /// The work, to be queued again; `None` for a task.
    pub(super) fn into_requests(self) -> Option<RemoteWork> {
        match self.work {
            Published::Task { .. } => None,
            Published::Items { item_batch, .. } => Some(RemoteWork::Items(item_batch)),
            Published::Rendezvous(requests) => Some(requests),
        }
    }

    /// Whether it belongs to a chunk of a map with item ids from `first` to `last`.
    pub(super) fn is_one_of(&self, first: FutureId, last: FutureId) -> bool {
        let name = match &self.work {
            Published::Task { id, .. } => *id,
            Published::Items { item_batch, .. } => item_batch.id(),
            Published::Rendezvous(requests) if requests.is_empty() => return false,
            Published::Rendezvous(requests) => requests.id(),
        };
        (first..=last).contains(&name)
    }
}
