//! What the program knows of the slots of a board: whose task lies there, and where its outcome goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, MemoryCorruption, Suspect};
use crate::future::Notifications;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::pool::backlog::WorkItem;
use crate::pool::worker_state::Counts;
use crate::process::host::item_outcomes::Piece;
use crate::process::shm::queue::SlotRef;
use crate::remote::encoded::Encoded;
use crate::remote::lease::Lease;
use crate::task::item_batch::ItemBatch;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::task::results::ResultSink;
use crate::task_info::TaskInfo;
use crate::transport::wire::Fault;
use crate::transport::work::RemoteWork;

/// What the ledger's lock guards.
pub(super) struct SlotTable {
    /// What lies in each slot.
    pub(super) records: Vec<Option<SlotEntry>>,
    /// The slots where nothing does, of those that have memory.
    pub(super) free: Vec<usize>,
    /// The slots up to this one have memory.
    pub(super) backed: usize,
    /// As many may have some.
    pub(super) limit: usize,
    /// What came of tasks so far.
    pub(super) counts: Counts,
    /// How many of the slots hold items of maps.
    pub(super) parcels: usize,
    /// Where outcomes are read.
    pub(super) scratch: Vec<u8>,
    /// Whether somebody may be to hear of a task that waits for a slot.
    pub(super) has_any_listeners: bool,
    /// Slots where the state makes no sense, or the outcome is not what its worker wrote; since when.
    pub(super) suspects: BTreeMap<usize, Instant>,
    /// The workers, by index.
    pub(super) workers: Vec<WorkerRecord>,
    /// The worker that crashed last.
    pub(super) suspect: Option<Suspect>,
}

/// What is known of a worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WorkerRecord {
    /// What it is about.
    pub(super) presence: Presence,
    /// Since when it has had nothing to do, while it was to leave.
    pub(super) idle_since: Option<Instant>,
}

/// What a worker is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// There is no process.
    #[default]
    Absent,
    /// It takes tasks by itself.
    Here,
    /// It is told over its link what to do.
    Told,
}

/// What lies in a slot.
pub(super) struct SlotEntry {
    /// The slot, and the position on the ring.
    pub(super) place: SlotRef,
    /// What it is.
    pub(super) work: Published,
    /// Whether somebody is to hear of it at once.
    pub(super) has_listeners: bool,
    /// Whether a worker may have begun it that died without a sign of what it had begun.
    pub(super) is_doubtful: bool,
    /// Whether its worker was to be killed for it.
    pub(super) is_killed: bool,
}

/// What lies in a slot.
pub(super) enum Published {
    /// A small task.
    Task {
        /// Its future's name.
        id: FutureId,
        /// Where its outcome goes.
        reply: DynPromise<dyn RemoteTask>,
        /// What few have.
        aside: Option<Box<Extra>>,
    },
    /// Items of a map.
    Items {
        /// They.
        item_batch: Box<ItemBatch>,
        /// The outcome of one of them, where it came over the link and the slot is not done.
        out_of_band: Option<Box<Result<Encoded, Fault>>>,
        /// How many outcomes were brought home before the slot is done, and how many bytes they take.
        taken: (usize, usize),
    },
    /// What its worker is told over the link.
    Rendezvous(RemoteWork),
}

/// What few tasks have.
#[derive(Default)]
pub(super) struct Extra {
    /// Where the argument is, if not in the slot: it stays there until the task has ended.
    pub(super) _argument: Option<Lease>,
    /// The outcome, where it came over the link and the slot is not done.
    pub(super) out_of_band: Option<RemoteOutcome<'static>>,
}

/// Whether the outcome of a slot could be taken out.
#[must_use]
pub(super) enum Taken {
    /// It was, or a part of it.
    Arrived(Completion),
    /// Not yet.
    Nothing,
    /// What lies there is not what the worker has written.
    Corrupt,
}

/// What is on its way to where it was asked for.
pub(super) enum Completion {
    /// The outcome of a task is there.
    Task(
        /// Who is to hear of it; `None`: nobody.
        Option<Box<Notifications>>,
    ),
    /// Outcomes of items of a map.
    Items {
        /// Where they go.
        sink: Arc<dyn ResultSink>,
        /// They.
        item_outcomes: Vec<Piece>,
        /// Items that their worker has not begun.
        rest: Option<Box<ItemBatch>>,
    },
}

impl Completion {
    /// Whether there is nothing left to be done about it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Task(None))
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
    /// What lies in a slot makes no sense, from now on unless it did before; since when.
    pub(super) fn suspect(&mut self, slot: usize) -> Instant {
        *self.suspects.entry(slot).or_insert_with(Instant::now)
    }

    /// The indexes of workers that live.
    pub(super) fn living(&self) -> impl Iterator<Item = usize> + use<'_> {
        let workers = self.workers.iter().enumerate();
        let living = workers.filter(|(_, worker)| worker.presence != Presence::Absent);
        living.map(|(index, _)| index)
    }

    pub(super) fn lives(&self, worker: usize) -> bool {
        let worker = self.workers.get(worker);
        worker.is_some_and(|worker| worker.presence != Presence::Absent)
    }

    /// The error of a task that a stray write has hit; where nobody has crashed, this worker is suspected.
    pub(super) fn corruption(&self, task: TaskInfo, worker: Option<usize>) -> Error {
        let of_worker = worker.map(|worker| Suspect {
            worker,
            death: None,
        });
        Error::MemoryCorrupted(MemoryCorruption::new(task, self.suspect.or(of_worker)))
    }

    /// The slot and record of the task of that name.
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
        for (values, errors) in item_outcomes.iter().map(Piece::counts) {
            self.counts.completed += values;
            self.counts.failed += errors;
        }
    }

    /// Counts an outcome, and brings it to where it was asked for.
    #[inline]
    pub(super) fn completion(
        &mut self,
        reply: DynPromise<dyn RemoteTask>,
        outcome: RemoteOutcome<'_>,
    ) -> Completion {
        let (verdict, news) = reply.arrive(outcome);
        self.counts.count(verdict);
        Completion::Task(news)
    }

    pub(super) fn take_told(&mut self, slot: usize) -> Option<RemoteOutcome<'static>> {
        match &mut self.records[slot].as_mut()?.work {
            Published::Task { aside, .. } => aside.as_mut()?.out_of_band.take(),
            Published::Items { .. } | Published::Rendezvous(_) => None,
        }
    }
}

impl SlotEntry {
    pub(super) fn is_task(&self) -> bool {
        matches!(self.work, Published::Task { .. })
    }

    /// Whether items of it have arrived, and others have not.
    pub(super) fn is_partly_taken(&self) -> bool {
        matches!(&self.work, Published::Items { taken, .. } if taken.0 > 0)
    }

    /// What it is, unless it is a task, to be queued again.
    pub(super) fn into_requests(self) -> Option<RemoteWork> {
        match self.work {
            Published::Task { .. } => None,
            Published::Items { item_batch, .. } => Some(RemoteWork::Parcel(item_batch)),
            Published::Rendezvous(requests) => Some(requests),
        }
    }

    /// Whether it belongs to the chunk of a map whose items have these names.
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
