use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::future::Future;
use crate::options::{RunOptions, TaskOptions};
use crate::pool::PullQueue;
use crate::process::host::driver::{CollectedBy, CompletionSource};
use crate::process::shm::arena::worker::{ResultPlacement, WorkerArena};
use crate::process::shm::queue::layout::{MappedQueue, Memory};
use crate::process::shm::queue::{Claim, Finish, SlotKind, Transition};
use crate::remote::encoded::Encoded;
use crate::remote::lease::{Block, BlockRef, NoStore, PayloadStore};
use crate::sys::child::ProcessEnd;
use crate::task::chunk::ChunkSpec;
use crate::task::item_batch::BatchPart;
use crate::task::{RemoteForm, Task};
use crate::task_info::{Function, TaskInfo};

const LIMIT: u64 = 1 << 20;

/// An in-flight table, and what its one worker has.
struct TableScene {
    in_flight: Arc<InFlight>,
    queue: ShmQueue,
    worker_arena: Arc<WorkerArena>,
}

impl TableScene {
    fn new() -> Self {
        let in_flight = InFlight::new(1, LIMIT).unwrap();
        let descriptor = in_flight.arena().unwrap().descriptor().unwrap();
        Self {
            queue: queue_of(&in_flight, 0),
            worker_arena: WorkerArena::map(descriptor, 1, 0).unwrap(),
            in_flight,
        }
    }

    /// Publishes a task that returns its argument, a vector of `size` bytes.
    fn context(&self, size: usize) -> Future<Vec<u8>> {
        let echo: fn(Vec<u8>) -> Vec<u8> = |bytes| bytes;
        let (task, future) = Task::portable(TaskOptions::new(), echo, vec![7; size]);
        let arena = self.in_flight.arena().unwrap();
        let RemoteForm::One(request) = task.into_outgoing(LIMIT, &arena, &mut |_| ()) else {
            panic!("it can be encoded")
        };
        assert!(self.in_flight.put(RemoteWork::One(request)).is_ok());
        future
    }

    /// Claims a task as the worker does. Returns its slot, and the block of its argument.
    fn claim(&self) -> (SlotRef, BlockRef) {
        let mut argument = Vec::new();
        let Claim::Stored(place, _) = self.queue.claim(0, &mut argument) else {
            panic!("its argument is in the arena")
        };
        let location = BlockRef::from_bytes(&argument).unwrap();
        assert!(self.worker_arena.argument(location).is_some());
        (place, location)
    }

    /// Ends a task as a worker does that reports `location` as the block of its result.
    fn say(&self, place: SlotRef, location: &[u8]) {
        let finish = self.queue.finish(place, 0, SlotKind::StoredValue, location);
        assert_eq!(finish, Finish::Published);
    }

    /// Stores a result in the arena as a worker does. Returns its block.
    fn store(&self, bytes: &[u8]) -> BlockRef {
        let worker_arena = Some(&self.worker_arena);
        let lease = ResultPlacement { worker_arena }.store(bytes).unwrap();
        lease.hand_over()
    }
}

#[test]
fn a_result_is_found_where_its_worker_has_put_it() {
    let scene = TableScene::new();
    let future = scene.context(100_000);
    let (place, _) = scene.claim();
    let location = scene.store(&[9; 100_000]);
    scene.say(place, &location.to_bytes());
    scene.in_flight.collect(CollectedBy::Ours); // or the driver's thread has
    assert_eq!(future.result().unwrap(), vec![9; 100_000]);
}

#[test]
fn a_result_that_cannot_be_found_is_an_error() {
    let scene = TableScene::new();
    let future = scene.context(100_000);
    let (place, argument) = scene.claim();
    scene.say(place, &argument.to_bytes());
    scene.in_flight.collect(CollectedBy::Ours); // or the driver's thread has
    let Err(Error::Decode(words)) = future.result() else {
        panic!("no worker may write there")
    };
    assert!(
        words.as_str().contains("cannot be found"),
        "{}",
        words.as_str()
    );
}

#[test]
fn what_a_dead_worker_said_is_looked_up_too() {
    let scene = TableScene::new();
    let futures = [scene.context(100_000), scene.context(100_000)];
    let (place, _) = scene.claim();
    let location = scene.store(&[9; 100_000]);
    scene.say(place, &location.to_bytes());
    let (place, _) = scene.claim();
    scene.say(place, &[0xff; BlockRef::SIZE]);
    assert!(
        scene
            .in_flight
            .recover_worker(0, 1, ProcessEnd::Exited(3))
            .is_empty()
    );
    let [out_of_band, lied] = futures.map(Future::result);
    assert_eq!(out_of_band.unwrap(), vec![9; 100_000]);
    assert!(matches!(lied, Err(Error::Decode(_))));
}

/// A worker's side of the queue; the worker claims tasks by itself from now on.
fn queue_of(in_flight: &InFlight, worker: usize) -> ShmQueue {
    let (memory, geometry, key) = in_flight.memory();
    let queue = MappedQueue::map(memory.copy().unwrap(), geometry, worker).unwrap();
    let queue = ShmQueue::new(queue, key);
    queue.arrive(worker);
    in_flight.enlist(worker).unwrap();
    queue
}

// ---- stray writes and frames that are out of turn ------------------------------------------------

impl TableScene {
    /// The outcome of a slot in the part of shared memory that the worker writes.
    fn outcome(&self, place: SlotRef) -> &crate::process::shm::queue::layout::SlotOutcome {
        &self.queue.memory().outcomes(0).unwrap()[place.slot]
    }

    /// Claims a task whose argument lies in its slot.
    fn claim_short(&self) -> SlotRef {
        let mut argument = Vec::new();
        let Claim::Task(place, _) = self.queue.claim(0, &mut argument) else {
            panic!("there is one")
        };
        place
    }

    /// Audits the queue, with no time between suspicion and repair.
    fn audit(&self) {
        self.in_flight.confirm_after(Duration::ZERO);
        self.in_flight.audit();
    }

    /// Whether there is nothing that a worker can claim.
    fn is_empty(&self) -> bool {
        matches!(self.queue.claim(0, &mut Vec::new()), Claim::Empty)
    }
}

#[test]
fn what_another_worker_tells_of_a_task_does_not_count() {
    let scene = TableScene::new();
    let future = scene.context(10);
    let place = scene.claim_short();
    scene
        .in_flight
        .note_outcome(place, Ok(Encoded::copy(&[9; 10])), 1);
    let legacies = scene.in_flight.recover_worker(0, 1, ProcessEnd::Exited(3));
    assert!(matches!(legacies[..], [Orphan::Ran(_)]));
    drop(legacies);
    assert!(matches!(future.result(), Err(Error::Cancelled)));
}

#[test]
fn what_a_worker_tells_of_its_own_task_counts_whatever_the_state() {
    let scene = TableScene::new();
    let future = scene.context(10);
    let place = scene.claim_short();
    let state = &scene.queue.memory().states()[place.slot].0;
    state.store(0x4141, Ordering::Relaxed);
    scene
        .in_flight
        .note_outcome(place, Ok(Encoded::copy(&[9; 10])), 0);
    let legacies = scene.in_flight.recover_worker(0, 1, ProcessEnd::Exited(3));
    assert!(legacies.is_empty());
    assert_eq!(future.result().unwrap(), [9; 10]);
}

#[test]
fn a_task_whose_outcome_was_overwritten_is_not_run_again() {
    let scene = TableScene::new();
    let (future, _next) = (scene.context(10), scene.context(10));
    let place = scene.claim_short();
    let finish = scene.queue.finish(place, 0, SlotKind::Value, &[9; 10]);
    assert_eq!(finish, Finish::Published);
    let _ = scene.claim_short();
    scene.outcome(place).place.store(0, Ordering::Relaxed);
    scene.audit();
    assert!(scene.is_empty());
    assert!(matches!(future.result(), Err(Error::MemoryCorrupted(_))));
}

#[test]
fn a_task_is_not_run_again_whose_worker_has_a_bit_of_its_desk_flipped() {
    let scene = TableScene::new();
    let future = scene.context(10);
    let _ = scene.claim_short();
    let words = scene.queue.memory().worker_words(0).unwrap();
    words.current.fetch_xor(1 << 63, Ordering::Relaxed);
    scene.audit();
    assert!(scene.is_empty());
    assert!(matches!(future.result(), Err(Error::MemoryCorrupted(_))));
}

#[test]
fn a_task_that_another_worker_runs_is_not_what_a_dead_one_has_left() {
    for bit in 8..24 {
        let in_flight = InFlight::new(2, LIMIT).unwrap();
        let [dying, running] = [0, 1].map(|worker| queue_of(&in_flight, worker));
        let arena = in_flight.arena().unwrap();
        let (task, future) = Task::portable(TaskOptions::new(), |n: u64| n, 7);
        let RemoteForm::One(request) = task.into_outgoing(LIMIT, &arena, &mut |_| ()) else {
            panic!("it can be encoded")
        };
        assert!(in_flight.put(RemoteWork::One(request)).is_ok());
        let Claim::Task(place, _) = running.claim(1, &mut Vec::new()) else {
            panic!("there is one")
        };
        let state = &running.memory().states()[place.slot].0;
        state.fetch_xor(1 << bit, Ordering::Relaxed);
        assert!(
            in_flight
                .recover_worker(0, 1, ProcessEnd::Exited(3))
                .is_empty()
        );
        assert!(
            matches!(dying.claim(0, &mut Vec::new()), Claim::Empty),
            "bit {bit}"
        );
        in_flight.confirm_after(Duration::ZERO);
        in_flight.audit();
        let finish = running.finish(place, 1, SlotKind::Value, &9_u64.to_le_bytes());
        assert_eq!(finish, Finish::Published, "bit {bit}");
        in_flight.collect(CollectedBy::Ours); // or the driver's thread has
        assert_eq!(future.result().unwrap(), 9);
    }
}

#[test]
fn a_task_that_a_dead_worker_had_begun_is_not_left_to_one_that_knows_nothing_of_it() {
    let in_flight = InFlight::new(2, LIMIT).unwrap();
    let [dying, other] = [0, 1].map(|worker| queue_of(&in_flight, worker));
    let arena = in_flight.arena().unwrap();
    let mut futures = Vec::new();
    for _ in 0..2 {
        let (task, future) = Task::portable(TaskOptions::new(), |n: u64| n, 7);
        let RemoteForm::One(request) = task.into_outgoing(LIMIT, &arena, &mut |_| ()) else {
            panic!("it can be encoded")
        };
        assert!(in_flight.put(RemoteWork::One(request)).is_ok());
        futures.push(future);
    }
    let claims = [(&dying, 0), (&other, 1)].map(|(queue, me)| queue.claim(me, &mut Vec::new()));
    let [Claim::Task(first, _), Claim::Task(second, _)] = claims else {
        panic!("there are two")
    };
    // As if the other worker had claimed the first task.
    let states = dying.memory().states();
    let [first, second] = [first, second].map(|place| &states[place.slot].0);
    let worker_and_kind = second.load(Ordering::Relaxed) & 0xff_ffff;
    let position = first.load(Ordering::Relaxed) & !0xff_ffff;
    first.store(position | worker_and_kind, Ordering::Relaxed);
    let legacies = in_flight.recover_worker(0, 1, ProcessEnd::Exited(3));
    assert!(matches!(legacies[..], [Orphan::Ran(_)]));
}

#[test]
fn items_whose_outcome_was_overwritten_end_while_their_worker_is_idle() {
    let scene = TableScene::new();
    let double: fn(u64) -> u64 = |n| 2 * n;
    let chunk_spec = ChunkSpec {
        options: RunOptions::new(),
        info: TaskInfo::new(None, std::panic::Location::caller(), Function::Address(0)),
        arguments: vec![1, 2, 3],
        timing: &Arc::default(),
        listener: None,
    };
    let (task, chunk_results) = Task::portable_chunk(chunk_spec, double);
    let RemoteForm::Many(parts) = task.into_outgoing(LIMIT, &NoStore, &mut |_| ()) else {
        panic!("they can be encoded")
    };
    let Some(BatchPart::Batch(item_batch)) = parts.into_iter().next() else {
        panic!("they are small")
    };
    assert!(scene.in_flight.put(RemoteWork::Items(item_batch)).is_ok());
    let Claim::Items(place, ..) = scene.queue.claim(0, &mut Vec::new()) else {
        panic!("there are some")
    };
    let mut run = scene.queue.begin_run(place, 0).unwrap();
    assert_eq!(run.begin(), Transition::Taken);
    scene.outcome(place).place.store(0, Ordering::Relaxed);
    run.end(&[8, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(run.finish(SlotKind::Items, 1), Finish::Published);
    scene.audit();
    let outcomes = chunk_results.take_all().outcomes;
    assert_eq!(outcomes.len(), 3);
    let is_hit = |(_, outcome): &(_, _)| matches!(outcome, Err(Error::MemoryCorrupted(_)));
    assert!(outcomes.iter().all(is_hit));
}

fn location() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let numbers = (0..130_u32, 0..(2 * LIMIT), any::<u64>());
    let likely = numbers.prop_map(|(block, length, resident)| {
        let block_ref = BlockRef {
            block: Block(block),
            length,
            resident,
        };
        block_ref.to_bytes().to_vec()
    });
    prop_oneof![any_bytes, likely]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wherever_workers_say_that_results_are_every_task_ends(
        said in proptest::collection::vec(location(), 1..10),
    ) {
        let scene = TableScene::new();
        let futures: Vec<_> = said.iter().map(|_| scene.context(5000)).collect();
        for location in &said {
            let (place, _) = scene.claim();
            scene.say(place, location);
        }
        scene.in_flight.collect(CollectedBy::Ours);
        for future in futures {
            prop_assert!(future.done());
            match future.result() {
                Ok(bytes) => prop_assert!(bytes.len() as u64 <= LIMIT),
                Err(error) => prop_assert!(matches!(error, Error::Decode(_))),
            }
        }
        let sound = scene.context(5000);
        let (place, _) = scene.claim();
        if let Some(lease) = (ResultPlacement { worker_arena: Some(&scene.worker_arena) }).store(&[9; 5000]) {
            let location = lease.hand_over();
            scene.say(place, &location.to_bytes());
            scene.in_flight.collect(CollectedBy::Ours);
            // An earlier report may have named that very block.
            if let Ok(bytes) = sound.result() {
                prop_assert_eq!(bytes, vec![9; 5000]);
            }
        }
    }
}
