//! The backlog: work that was accepted and has not begun, in the order of ids. Used by the worker pool, which
//! takes the backlog's locks last; it calls no user code. [`WorkItem`] is implemented by `task/` (threads)
//! and `transport/work.rs` (processes).

use std::collections::VecDeque;

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::Verdict;
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, lock};
use crate::task::work_item::{Withdrawn, WorkItem};

/// A whole work item, as a [`Withdrawn`].
pub(super) struct Whole<W>(pub(super) W);

impl<W: WorkItem> Withdrawn for Whole<W> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.0.fail(error, settled);
    }
}

/// A queue of work items, first in first out by id, from which tasks can be withdrawn. Work that returns (its
/// worker was lost before the work began) is older than what came later, so it goes to the front.
///
/// The queue has two halves, so that submitters and workers do not wait for each other.
pub(crate) struct Backlog<W> {
    /// The older half, from which workers take. Its lock is taken before the lock of `back`.
    front: Mutex<Half<W>>,
    /// The newer half, to which submitters add. It becomes the front when the front is empty.
    back: Mutex<Half<W>>,
    /// How often work was added; wraps around.
    pushes: AtomicU32,
}

/// One half of a backlog.
struct Half<W> {
    /// The entries, ids ascending. A withdrawn work item leaves a tombstone, but never at the front.
    waiting: VecDeque<QueueEntry<W>>,
    /// The id of the entry at the back; kept when that entry is gone.
    last: Option<FutureId>,
    /// The number of work items that wait, tombstones not counted.
    work_items: usize,
    /// The number of tasks in those work items.
    tasks: usize,
}

/// An entry of the queue.
enum QueueEntry<W> {
    /// A work item that waits.
    Waits(W),
    /// The place of a withdrawn work item, with its first id.
    Tombstone(FutureId),
}

impl<W: WorkItem> QueueEntry<W> {
    /// The first id of the work item that waits, or waited, here.
    fn id(&self) -> FutureId {
        match self {
            Self::Waits(work) => work.id(),
            Self::Tombstone(id) => *id,
        }
    }

    /// The work item that waits here; `None`: it was withdrawn.
    fn work(&self) -> Option<&W> {
        match self {
            Self::Waits(work) => Some(work),
            Self::Tombstone(_) => None,
        }
    }

    /// Takes the work item out, and leaves a tombstone.
    fn take(&mut self) -> Option<W> {
        let left = Self::Tombstone(self.id());
        std::mem::replace(self, left).into_work()
    }

    #[inline]
    fn into_work(self) -> Option<W> {
        match self {
            Self::Waits(work) => Some(work),
            Self::Tombstone(_) => None,
        }
    }
}

impl<W: WorkItem> Backlog<W> {
    pub(crate) fn new() -> Self {
        Self {
            front: Mutex::new(Half::new()),
            back: Mutex::new(Half::new()),
            pushes: AtomicU32::new(0),
        }
    }

    /// Adds new work at the back.
    #[inline(always)]
    pub(crate) fn push(&self, work: W) {
        let mut back = lock(&self.back);
        back.push(work);
        // ORDERING: Relaxed; a hint for a thread that spins, which then takes the lock.
        let pushes = self.pushes.load(Ordering::Relaxed);
        // ORDERING: Relaxed; a hint, too, and the lock keeps other threads from writing the counter.
        self.pushes.store(pushes.wrapping_add(1), Ordering::Relaxed);
    }

    /// How often work was added so far, as a hint.
    pub(crate) fn pushes(&self) -> u32 {
        // ORDERING: Relaxed; a hint, after which the caller takes the lock.
        self.pushes.load(Ordering::Relaxed)
    }

    /// Puts work back that was taken; it goes to its old place by id.
    pub(crate) fn put_back(&self, work: W) {
        lock(&self.front).push(work);
    }

    /// Takes the oldest work item.
    #[inline]
    pub(crate) fn pop(&self) -> Option<W> {
        let mut front = lock(&self.front);
        if front.waiting.is_empty() {
            std::mem::swap(&mut *front, &mut *lock(&self.back));
        }
        front.pop()
    }

    /// Takes out one task. The caller drops the rest of it without any lock held.
    pub(crate) fn withdraw(&self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        let (mut front, mut back) = self.lock();
        front.withdraw(id).or_else(|| back.withdraw(id))
    }

    /// Takes out the work item with this first id, which was added last, if it is still there.
    pub(crate) fn recall(&self, id: FutureId) -> Option<W> {
        let (mut front, mut back) = self.lock();
        back.recall(id).or_else(|| front.recall(id))
    }

    /// Takes out the work items with first ids in `first..=last`.
    pub(crate) fn take_between(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>> {
        let (mut front, mut back) = self.lock();
        let mut taken = front.take_between(first, last);
        taken.append(&mut back.take_between(first, last));
        taken
    }

    /// Takes out the oldest work item with its first id in `first..=last`.
    pub(crate) fn take_one_between(&self, first: FutureId, last: FutureId) -> Option<W> {
        let (mut front, mut back) = self.lock();
        let front = front.take_one_between(first, last);
        front.or_else(|| back.take_one_between(first, last))
    }

    /// The oldest of the tasks `first..=last` that wait.
    pub(crate) fn first_between(&self, first: FutureId, last: FutureId) -> Option<FutureId> {
        let (front, back) = self.lock();
        let front = front.first_between(first, last);
        front.or_else(|| back.first_between(first, last))
    }

    /// The number of tasks that wait.
    pub(crate) fn tasks(&self) -> usize {
        let (front, back) = self.lock();
        front.tasks + back.tasks
    }

    /// The number of work items that wait: each gives one worker something to do.
    pub(crate) fn len(&self) -> usize {
        let (front, back) = self.lock();
        front.work_items + back.work_items
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out all work items.
    pub(crate) fn take_all(&self) -> Vec<Box<dyn Withdrawn>> {
        let (mut front, mut back) = self.lock();
        let mut all = front.take_all();
        all.append(&mut back.take_all());
        all
    }

    fn lock(&self) -> (MutexGuard<'_, Half<W>>, MutexGuard<'_, Half<W>>) {
        let front = lock(&self.front);
        (front, lock(&self.back))
    }
}

impl<W: WorkItem> Half<W> {
    const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            last: None,
            work_items: 0,
            tasks: 0,
        }
    }

    #[inline(always)]
    fn push(&mut self, work: W) {
        self.tasks += work.len();
        self.work_items += 1;
        let id = work.id();
        if self.waiting.is_empty() || self.last < Some(id) {
            self.last = Some(id);
            self.waiting.push_back(QueueEntry::Waits(work));
        } else {
            let at = self.waiting.partition_point(|place| place.id() < id);
            self.waiting.insert(at, QueueEntry::Waits(work));
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<W> {
        let Some(work) = self.waiting.pop_front()?.into_work() else {
            unreachable!("what is withdrawn is not left at the front")
        };
        self.forget(work.len());
        Some(work)
    }

    fn withdraw(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        let at = self.at(id)?;
        let place = &mut self.waiting[at];
        if let QueueEntry::Waits(work) = place {
            if work.len() > 1 {
                let item = work.remove(id)?;
                self.tasks -= 1;
                return Some(item);
            }
        }
        if place.id() != id {
            return None;
        }
        let work = place.take()?;
        self.forget(1);
        Some(Box::new(Whole(work)))
    }

    fn recall(&mut self, id: FutureId) -> Option<W> {
        let at = self.at(id)?;
        let place = &mut self.waiting[at];
        if place.id() != id {
            return None;
        }
        let work = place.take()?;
        self.forget(work.len());
        Some(work)
    }

    fn take_between(&mut self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>> {
        let from = self.waiting.partition_point(|place| place.id() < first);
        let to = self.waiting.partition_point(|place| place.id() <= last);
        let mut taken: Vec<Box<dyn Withdrawn>> = Vec::new();
        for at in from..to {
            if let Some(work) = self.waiting[at].take() {
                self.tasks -= work.len();
                self.work_items -= 1;
                taken.push(Box::new(Whole(work)));
            }
        }
        self.trim();
        taken
    }

    fn take_one_between(&mut self, first: FutureId, last: FutureId) -> Option<W> {
        let work = self.first_entry_between(first, last)?.id();
        self.recall(work)
    }

    /// Counts one work item, of the given number of tasks, as gone.
    fn forget(&mut self, tasks: usize) {
        self.tasks -= tasks;
        self.work_items -= 1;
        self.trim();
    }

    /// Removes tombstones from the front.
    fn trim(&mut self) {
        while let Some(QueueEntry::Tombstone(_)) = self.waiting.front() {
            self.waiting.pop_front();
        }
    }

    /// The index of the entry that would hold this task; `None`: the id is less than all here.
    fn at(&self, id: FutureId) -> Option<usize> {
        let behind = self.waiting.partition_point(|place| place.id() <= id);
        behind.checked_sub(1)
    }

    fn first_between(&self, first: FutureId, last: FutureId) -> Option<FutureId> {
        let around = self.at(first).and_then(|at| self.waiting[at].work());
        if around.is_some_and(|work| work.contains(first)) {
            return Some(first);
        }
        self.first_entry_between(first, last).map(W::id)
    }

    /// The oldest work item with its first id in `first..=last`.
    fn first_entry_between(&self, first: FutureId, last: FutureId) -> Option<&W> {
        let from = self.waiting.partition_point(|place| place.id() < first);
        let behind = self.waiting.range(from..);
        behind
            .take_while(|place| place.id() <= last)
            .find_map(QueueEntry::work)
    }

    fn take_all(&mut self) -> Vec<Box<dyn Withdrawn>> {
        (self.tasks, self.work_items) = (0, 0);
        let all = std::mem::take(&mut self.waiting).into_iter();
        all.filter_map(|place| Some(Box::new(Whole(place.into_work()?)) as _))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(Vec<u64>);

    impl WorkItem for Names {
        fn id(&self) -> FutureId {
            FutureId::from_number(self.0[0])
        }
        fn last(&self) -> FutureId {
            FutureId::from_number(self.0[self.0.len() - 1])
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn contains(&self, id: FutureId) -> bool {
            self.0.iter().any(|n| FutureId::from_number(*n) == id)
        }
        fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
            let at = self
                .0
                .iter()
                .position(|n| FutureId::from_number(*n) == id)?;
            Some(Box::new(Whole(Self(vec![self.0.remove(at)]))))
        }
        fn put_back(&self) {}
        fn fail(self, _: &Error, _: &mut dyn FnMut(Verdict)) {}
    }

    fn backlog(chunks: &[&[u64]]) -> Backlog<Names> {
        let backlog = Backlog::new();
        for chunk in chunks {
            backlog.push(Names(chunk.to_vec()));
        }
        backlog
    }

    fn rest(backlog: Backlog<Names>) -> Vec<Vec<u64>> {
        std::iter::from_fn(|| backlog.pop()).map(|n| n.0).collect()
    }

    #[test]
    fn old_ones_that_return_go_to_the_front() {
        let backlog = backlog(&[&[1], &[2], &[3]]);
        let first = backlog.pop().unwrap();
        backlog.put_back(first);
        assert_eq!(rest(backlog), [[1], [2], [3]]);
    }

    #[test]
    fn single_tasks_and_items_of_chunks_can_be_withdrawn() {
        let backlog = backlog(&[&[1], &[2, 3, 4], &[5]]);
        for id in [1, 2, 4] {
            assert!(
                backlog.withdraw(FutureId::from_number(id)).is_some(),
                "{id}"
            );
            assert!(
                backlog.withdraw(FutureId::from_number(id)).is_none(),
                "{id}"
            );
        }
        assert_eq!(backlog.tasks(), 2);
        let first_of = |first, last| {
            let [first, last] = [first, last].map(FutureId::from_number);
            backlog.first_between(first, last)
        };
        assert_eq!(first_of(3, 3), Some(FutureId::from_number(3)));
        assert_eq!(first_of(4, 4), None);
        assert!(backlog.withdraw(FutureId::from_number(3)).is_some());
        assert!(backlog.withdraw(FutureId::from_number(9)).is_none());
        assert_eq!(rest(backlog), [[5]]);
    }
}
