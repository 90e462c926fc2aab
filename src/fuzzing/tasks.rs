//! The tasks of a script, and the check that each ended in a way that is allowed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::future::id::FutureId;
use crate::options::{RunOptions, TaskOptions};
use crate::process::shm::arena::Arena;
use crate::remote::payload::Payload;
use crate::task::chunk::ChunkSpec;
use crate::task::item_batch::BatchPart;
use crate::task::results::ChunkResults;
use crate::task::{RemoteForm, Task};
use crate::task_info::{Function, TaskInfo};
use crate::transport::work::RemoteWork;

/// The most bytes that an encoded argument or result may have.
pub(super) const LIMIT: u64 = 1 << 20;

thread_local! {
    /// The ids of the tasks that ran on this thread, in order.
    static RUNS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Forgets which tasks ran.
pub(super) fn forget_runs() {
    RUNS.with_borrow_mut(Vec::clear);
}

/// The id of the task that ran last; `None`: none ran yet.
pub(super) fn last_run() -> Option<u64> {
    RUNS.with_borrow(|runs| runs.last().copied())
}

/// The right result of the number task of this id.
fn answer(id: u64) -> u64 {
    id.wrapping_mul(3) + 1
}

/// The function of number tasks.
fn compute(id: u64) -> u64 {
    RUNS.with_borrow_mut(|runs| runs.push(id));
    answer(id)
}

/// The argument of the text task of this id: the id, then bytes that depend on it.
fn text(id: u64, size: usize) -> Vec<u8> {
    let tail = (8..size).map(|at| (at as u64 * 7 + id) as u8);
    id.to_le_bytes().into_iter().chain(tail).collect()
}

/// The id with which an encoded argument begins; `None` if it is shorter than an id.
pub(super) fn id_of(argument: &[u8]) -> Option<u64> {
    argument.first_chunk().map(|id| u64::from_le_bytes(*id))
}

/// The function of text tasks.
fn invert(bytes: Vec<u8>) -> Vec<u8> {
    RUNS.with_borrow_mut(|runs| runs.extend(id_of(&bytes)));
    bytes.iter().map(|byte| !byte).collect()
}

/// The id of a task and its outcome: whether its value is the right one, or its error.
type Came = (u64, Result<bool, Error>);

/// The tasks of a script.
#[derive(Default)]
pub(super) struct Tasks {
    /// For each submission, a closure that takes the outcomes of its tasks once everything is over.
    submissions: Vec<Box<dyn FnOnce() -> Vec<Came>>>,
    /// The ids of tasks that were submitted together.
    groups: Vec<Range<u64>>,
    /// The ids of the futures of single tasks.
    futures: Vec<FutureId>,
    /// The ids of the first and last item of each map.
    maps: Vec<(FutureId, FutureId)>,
    /// Tasks for which a worker made up an outcome, and all other tasks of the same map.
    made_up: BTreeSet<u64>,
    /// Whether a worker has written what it must not write, or sent what is not true.
    is_hit: bool,
    /// Whether a slot's state may have become exactly another valid state, which no accident does: then a
    /// task may run twice, or a worker that does not have it may report its outcome.
    is_forged: bool,
    /// Whether a worker may have told of a block that holds no result, with a sound checksum, which no accident
    /// makes: its later results in that block are refused.
    is_misplaced: bool,
}

impl Tasks {
    // ---- submissions -------------------------------------------------------------------------

    /// Makes a number task; it becomes a rendezvous if `options` have a time limit.
    pub(super) fn number(&mut self, options: TaskOptions, arena: &Arc<Arena>) -> Vec<RemoteWork> {
        let id = self.name(1);
        self.single(options, compute, id, arena, id, move |value| {
            *value == answer(id)
        })
    }

    /// Makes a text task with an argument of `size` bytes, at least 8.
    pub(super) fn text(
        &mut self,
        options: TaskOptions,
        size: usize,
        arena: &Arc<Arena>,
    ) -> Vec<RemoteWork> {
        let id = self.name(1);
        let argument = text(id, size);
        self.single(options, invert, argument, arena, id, move |value| {
            *value == inverted(id, size)
        })
    }

    /// Makes a map over `count` numbers.
    pub(super) fn numbers(&mut self, count: usize, arena: &Arc<Arena>) -> Vec<RemoteWork> {
        let first = self.name(count);
        let arguments = (first..).take(count).collect();
        self.map(compute, arguments, arena, first, |id, value| {
            *value == answer(id)
        })
    }

    /// Makes a map over `count` texts of `size` bytes each, at least 8.
    pub(super) fn texts(
        &mut self,
        count: usize,
        size: usize,
        arena: &Arc<Arena>,
    ) -> Vec<RemoteWork> {
        let first = self.name(count);
        let arguments = (first..).take(count).map(|id| text(id, size)).collect();
        self.map(invert, arguments, arena, first, move |id, value| {
            *value == inverted(id, size)
        })
    }

    /// Gives ids to the `count` tasks of one group, and returns the first id.
    fn name(&mut self, count: usize) -> u64 {
        let first = self.groups.last().map_or(1, |group| group.end);
        self.groups.push(first..first + count as u64);
        first
    }

    fn single<A: Payload, R: Payload>(
        &mut self,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
        arena: &Arc<Arena>,
        id: u64,
        is_right: impl Fn(&R) -> bool + 'static,
    ) -> Vec<RemoteWork> {
        let (task, future) = Task::portable(options, function, argument);
        self.futures.push(future.id());
        self.submissions.push(Box::new(move || {
            assert!(future.done(), "task {id} has not ended");
            vec![(id, future.result().map(|value| is_right(&value)))]
        }));
        requests_of(task, arena)
    }

    fn map<A: Payload, R: Payload>(
        &mut self,
        function: fn(A) -> R,
        arguments: Vec<A>,
        arena: &Arc<Arena>,
        first: u64,
        is_right: impl Fn(u64, &R) -> bool + 'static,
    ) -> Vec<RemoteWork> {
        let count = arguments.len();
        let info = TaskInfo::new(None, Location::caller(), Function::Address(0));
        let chunk_spec = ChunkSpec {
            options: RunOptions::new(),
            info,
            arguments,
            timing: &Arc::default(),
            listener: None,
        };
        let (task, chunk_results): (_, Arc<ChunkResults<R>>) =
            Task::portable_chunk(chunk_spec, function);
        self.maps
            .push((chunk_results.id(0), chunk_results.id(count - 1)));
        self.submissions.push(Box::new(move || {
            let outcomes = chunk_results.take_all().outcomes;
            assert_eq!(
                outcomes.len(),
                count,
                "items of the map of {first} have not ended"
            );
            let judge = |(index, outcome): (usize, Result<R, Error>)| {
                let id = first + index as u64;
                (id, outcome.map(|value| is_right(id, &value)))
            };
            outcomes.into_iter().map(judge).collect()
        }));
        requests_of(task, arena)
    }

    // ---- what is done to them ----------------------------------------------------------------

    /// The id of a future; `None` if there are no futures.
    pub(super) fn future(&self, choice: usize) -> Option<FutureId> {
        self.futures
            .get(choice % self.futures.len().max(1))
            .copied()
    }

    /// The ids of the first and last item of a map; `None` if there are no maps.
    pub(super) fn items(&self, choice: usize) -> Option<(FutureId, FutureId)> {
        self.maps.get(choice % self.maps.len().max(1)).copied()
    }

    /// Notes that the worker that runs the task of this id is about to report an outcome that the function
    /// did not have.
    pub(super) fn make_up(&mut self, id: u64) {
        self.is_hit = true;
        let group = self.groups.iter().find(|group| group.contains(&id));
        self.made_up.extend(group.cloned().into_iter().flatten());
    }

    /// Notes that a worker has written what it must not write, or sent what is not true.
    pub(super) fn hit(&mut self) {
        self.is_hit = true;
    }

    /// A worker may be about to tell of a block that holds no result.
    pub(super) fn misplace(&mut self) {
        self.is_misplaced = true;
    }

    /// Notes that a slot's state may have become exactly another valid state.
    pub(super) fn forge(&mut self) {
        self.is_forged = true;
    }

    // ---- the end -----------------------------------------------------------------------------

    /// Called when workers have had the time to run everything, and `left` slots are still occupied.
    pub(super) fn assert_all_ran(&self, left: usize) {
        assert!(self.is_hit || left == 0, "{left} tasks were left over");
    }

    /// Called when all workers are dead and the pool has ended: checks that every task has ended in a way
    /// that is allowed.
    pub(super) fn judge(self) {
        for (id, came) in self.submissions.into_iter().flat_map(|came| came()) {
            let is_made_up = self.is_forged || self.made_up.contains(&id);
            match came {
                Ok(true) | Err(Error::Cancelled | Error::BrokenPool(_)) => {}
                Ok(false) => assert!(is_made_up, "task {id} has another value"),
                Err(Error::Decode(words))
                    if self.is_misplaced && words.as_str().ends_with("its place is in use") => {}
                Err(Error::MemoryCorrupted(_)) => assert!(self.is_hit, "nothing has hit task {id}"),
                Err(error) => assert!(is_made_up, "task {id}: {error:?}"),
            }
        }
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        RUNS.with_borrow(|runs| {
            runs.iter()
                .for_each(|id| *counts.entry(*id).or_default() += 1)
        });
        for (id, count) in counts {
            assert!(count == 1 || self.is_forged, "task {id} ran {count} times");
        }
    }
}

/// The right result of the text task of this id and size.
fn inverted(id: u64, size: usize) -> Vec<u8> {
    text(id, size).iter().map(|byte| !byte).collect()
}

/// Encodes a task as work for a worker process.
fn requests_of(task: Task, arena: &Arc<Arena>) -> Vec<RemoteWork> {
    let of_part = |part| match part {
        BatchPart::Batch(item_batch) => RemoteWork::Items(item_batch),
        BatchPart::Item(item) => RemoteWork::One(item),
    };
    match task.into_outgoing(LIMIT, arena, &mut |_| ()) {
        RemoteForm::Nothing => Vec::new(),
        RemoteForm::One(task) => vec![RemoteWork::One(task)],
        RemoteForm::Many(parts) => parts.into_iter().map(of_part).collect(),
    }
}

/// Options with a time limit, which make a task a rendezvous.
pub(super) fn with_rendezvous() -> TaskOptions {
    TaskOptions::new().timeout(Duration::from_secs(3600))
}
