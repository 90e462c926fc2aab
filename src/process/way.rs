//! Test of a task's whole way over the shared-memory queue, and that of a map's items, in one process:
//! encoded, published, claimed, run, finished, collected, decoded. The worker is a thread, and the queue lies
//! on the heap, so that Miri sees all of it.

use std::panic::Location;
use std::sync::Arc;
use std::thread;

use crate::error::Error;
use crate::future::Future;
use crate::future::dyn_promise::DynPromise;
use crate::options::{RunOptions, TaskOptions};
use crate::process::host::item_outcomes::item_outcomes_of;
use crate::process::shm::queue::heap::{Heap, HeapView, immortal};
use crate::process::shm::queue::{
    Claim, Finish, ItemRun, Reading, ShmQueue, SlotKind, SlotPublish, SlotRef, Transition,
};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::NoStore;
use crate::remote::length_delimited::{ItemWriter, LengthDelimited};
use crate::remote::payload::Payload;
use crate::remote::stub::Argument;
use crate::shared::attachments::Attachments;
use crate::sync::deadline::Deadline;
use crate::task::chunk::ChunkSpec;
use crate::task::item_batch::BatchPart;
use crate::task::item_timing::ItemTiming;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::task::{RemoteForm, Task};
use crate::task_info::{Function, TaskInfo};

/// The most bytes that an encoded value may have.
const LIMIT: u64 = 1 << 20;

/// A task that was published: its slot, its promise and its future.
struct PublishedTask<R> {
    place: SlotRef,
    promise: DynPromise<dyn RemoteTask>,
    future: Future<R>,
}

/// Publishes a task in a slot, as the in-flight table does.
fn send<A: Payload, R: Payload>(
    queue: &ShmQueue<HeapView>,
    slot: usize,
    function: fn(A) -> R,
    argument: A,
) -> PublishedTask<R> {
    let (task, future) = Task::portable(TaskOptions::new(), function, argument);
    let RemoteForm::One(mut promise) = task.into_outgoing(LIMIT, &NoStore, &mut |_| ()) else {
        panic!("it can be encoded")
    };
    let publish = match promise.number() {
        Some((call, number)) => queue.publish(slot, SlotKind::Argument, call, &number),
        None => {
            let (call, argument) = promise.take_message();
            queue.publish(slot, SlotKind::Argument, call, &argument)
        }
    };
    let place = published(queue, publish);
    PublishedTask {
        place,
        promise,
        future,
    }
}

/// Returns the slot in which something was published, and wakes a worker for it.
fn published(queue: &ShmQueue<HeapView>, publish: SlotPublish) -> SlotRef {
    let SlotPublish::Published(place) = publish else {
        panic!("there is room")
    };
    queue.wake_one();
    place
}

/// Sleeps until the task in this slot is done, as a collector does.
fn await_done(queue: &ShmQueue<HeapView>, place: SlotRef) {
    let is_under_way = || queue.is_ready(place) || queue.is_running(place);
    while is_under_way() {
        let ticket = queue.prepare_wait();
        if is_under_way() && !queue.has_done() {
            queue.wait(ticket, Deadline::never());
        }
        queue.end_wait();
        // The done bit may be that of another task; the state of this task's slot tells which is done.
        queue.take_done(|_| ());
    }
}

impl<R: Payload> PublishedTask<R> {
    /// Waits for the task's outcome, delivers it to the promise, and takes the decoded result from the
    /// future.
    fn result(self, queue: &ShmQueue<HeapView>) -> Result<R, Error> {
        await_done(queue, self.place);
        let mut bytes = Vec::new();
        let reading = queue.outcome(self.place, &mut bytes);
        assert_eq!(reading, Reading::Sound(SlotKind::Value, 0));
        let (_, news) = self
            .promise
            .arrive(RemoteOutcome::Value(Source::Borrowed(&bytes)));
        assert!(news.is_none(), "nobody listens");
        self.future.result()
    }
}

/// Runs all tasks that are published, as a worker does, until the queue is closed.
fn work(queue: &ShmQueue<HeapView>) {
    let mut argument = Vec::new();
    loop {
        let is_closing = queue.is_closing();
        let finish = match queue.claim(0, &mut argument) {
            Claim::Task(place, call) => run(queue, place, call, &mut argument),
            Claim::Items(place, call, _) => run_items(queue, place, call, &argument),
            Claim::Empty if is_closing => return,
            Claim::Empty => {
                queue.sleep(0, Deadline::never(), || false);
                continue;
            }
            Claim::Stored(..) | Claim::Rendezvous(_) | Claim::Corrupt => {
                panic!("it is none of these")
            }
        };
        assert_eq!(finish, Finish::Published);
    }
}

fn run(
    queue: &ShmQueue<HeapView>,
    place: SlotRef,
    call: FunctionRef,
    argument: &mut Vec<u8>,
) -> Finish {
    let result = function::invoke(call, Argument::Kept(argument), LIMIT, &NoStore);
    let Ok(Err(value)) = result.map(Encoded::into_lease) else {
        panic!("it has a result, which is small")
    };
    queue.finish(place, 0, SlotKind::Value, &value)
}

fn run_items(
    queue: &ShmQueue<HeapView>,
    place: SlotRef,
    call: FunctionRef,
    arguments: &[u8],
) -> Finish {
    let (Some(run), Ok(function)) = (queue.begin_run(place, 0), function::resolve(call)) else {
        panic!("there is room, and such a function")
    };
    let mut at_hand = AtHand {
        arguments: LengthDelimited::new(arguments),
        results: Vec::new(),
        run,
    };
    function.call_each(LIMIT, &mut at_hand);
    at_hand.run.finish(SlotKind::Items, 1)
}

/// The items of a batch that the worker runs.
struct AtHand<'a> {
    arguments: LengthDelimited<'a>,
    results: Vec<u8>,
    run: ItemRun<'a, HeapView>,
}

impl ItemCursor for AtHand<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        let argument = self.arguments.next()?;
        assert_eq!(self.run.begin(), Transition::Taken);
        ItemWriter::begin(&mut self.results);
        Some((argument, &mut self.results))
    }

    fn end_well(&mut self) {
        let mut item_writer = ItemWriter::of(&mut self.results, self.run.filled());
        item_writer.end();
        match item_writer.fitting() {
            Some(results) => self.run.end(results),
            None => panic!("there is room"),
        }
    }

    fn end(&mut self, outcome: Result<Attachments, Error>) {
        panic!("it has a result, which names nothing: {:?}", outcome.err())
    }
}

/// Runs `program` as the program's side of a queue, beside a thread that is its worker.
fn with_worker(program: impl FnOnce(&ShmQueue<HeapView>)) {
    let heap = Arc::new(Heap::new(4));
    let (queue, theirs) = (immortal(&heap), immortal(&heap));
    let worker = thread::spawn(move || work(&theirs));
    program(&queue);
    queue.close();
    assert!(worker.join().is_ok(), "the worker has panicked");
}

#[test]
fn tasks_go_and_their_results_come() {
    with_worker(|queue| {
        let number = send(queue, 0, |x: u64| x * 2, 21);
        let text = send(queue, 1, |words: String| words + "!", "short".to_owned());
        let bytes = send(
            queue,
            2,
            |mut bytes: Vec<u8>| {
                bytes.reverse();
                bytes
            },
            (0..1000).map(|at| at as u8).collect(),
        );
        assert_eq!(number.result(queue).unwrap(), 42);
        assert_eq!(text.result(queue).unwrap(), "short!");
        let expected: Vec<u8> = (0..1000).rev().map(|at| at as u8).collect();
        assert_eq!(bytes.result(queue).unwrap(), expected);
        // A slot is used again.
        let number = send(queue, 0, |x: u64| x + 1, u64::MAX - 1);
        assert_eq!(number.result(queue).unwrap(), u64::MAX);
    });
}

/// Maps a function over arguments, and also reads the results while the worker still writes them.
fn map<A: Payload, R: Payload>(
    queue: &ShmQueue<HeapView>,
    function: fn(A) -> R,
    arguments: Vec<A>,
) -> Vec<R> {
    let chunk_spec = ChunkSpec {
        options: RunOptions::new(),
        info: TaskInfo::new(None, Location::caller(), Function::Address(0)),
        arguments,
        timing: &Arc::<ItemTiming>::default(),
        listener: None,
    };
    let (task, chunk_results) = Task::portable_chunk(chunk_spec, function);
    let RemoteForm::Many(parts) = task.into_outgoing(LIMIT, &NoStore, &mut |_| ()) else {
        panic!("it can be encoded")
    };
    for part in parts {
        let BatchPart::Batch(mut item_batch) = part else {
            panic!("they are small")
        };
        let (call, count) = (item_batch.call, item_batch.len());
        let publish = queue.publish_items(3, SlotKind::Items, call, &item_batch.bytes, count);
        let place = published(queue, publish);
        let mut bytes = Vec::new();
        while queue.is_running(place) || queue.is_ready(place) {
            // The result is not used: the point is to read while the worker writes more.
            let _ = queue.item_results(place, 0, count, &mut bytes);
            thread::yield_now();
        }
        await_done(queue, place);
        assert_eq!(
            queue.items_outcome(place),
            Reading::Sound(SlotKind::Items, 0)
        );
        let progress = queue.item_results(place, 0, count, &mut bytes);
        assert_eq!(progress.map(|progress| progress.done), Some(count));
        let (first, sink) = (item_batch.items().start, Arc::clone(&item_batch.sink));
        item_batch.skip(count);
        let found = item_outcomes_of(&bytes, first, count, 0, &*sink);
        for piece in found.item_outcomes {
            piece.arrive(&*sink);
        }
    }
    let mut came = chunk_results.take_all().outcomes;
    came.sort_by_key(|(index, _)| *index);
    came.into_iter()
        .filter_map(|(_, value)| value.ok())
        .collect()
}

#[test]
fn items_of_maps_go_and_their_results_come() {
    with_worker(|queue| {
        let squares = map(queue, |x: u32| x * x, (0..20).collect());
        assert!(squares.into_iter().eq((0..20).map(|x| x * x)));
        let words = (0..9).map(|n| "x".repeat(n * 9)).collect();
        let lengths = map(queue, |word: String| vec![word.len(); 2], words);
        assert!(lengths.into_iter().eq((0..9).map(|n| vec![n * 9; 2])));
    });
}
