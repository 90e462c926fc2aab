//! A task's whole way over the board, and that of a map's items, in one process: encoded, published, claimed,
//! run, finished, collected, opened. The worker is a thread, and the board lies on the heap, so that Miri sees
//! all of it.

use std::panic::Location;
use std::sync::Arc;
use std::thread;

use crate::error::Error;
use crate::future::Future;
use crate::future::dyn_promise::Pledge;
use crate::options::TaskOptions;
use crate::process::host::item_outcomes::pieces_of;
use crate::process::shm::item_results::Slip;
use crate::process::shm::queue::heap::{Heap, View, immortal};
use crate::process::shm::queue::{
    Board, Claim, Finish, Form, ItemRun, Place, Publish, Reading, Step,
};
use crate::remote::codec::Source;
use crate::remote::encoded::Bytes;
use crate::remote::function::{self, Argument, Call};
use crate::remote::item_cursor::Tray;
use crate::remote::lease::NoRoom;
use crate::remote::length_delimited::Items;
use crate::remote::payload::Payload;
use crate::shared::attachments::Manifest;
use crate::task::item_batch::Part;
use crate::task::request::{Encoded, Reply};
use crate::task::results::Pace;
use crate::task::{ChunkPlan, Outgoing, Task};
use crate::task_info::{Function, TaskInfo};

/// Bytes that a value may have.
const LIMIT: u64 = 1 << 20;

/// A task on its way.
struct Sent<R> {
    place: Place,
    reply: Pledge<dyn Reply>,
    future: Future<R>,
}

/// Puts a task into a slot, as the ledger does.
fn send<A: Payload, R: Payload>(
    board: &Board<View>,
    slot: usize,
    function: fn(A) -> R,
    argument: A,
) -> Sent<R> {
    let (task, future) = Task::portable(TaskOptions::new(), function, argument);
    let Outgoing::One(mut reply) = task.into_outgoing(LIMIT, &NoRoom, &mut |_| ()) else {
        panic!("it can be encoded")
    };
    let publish = match reply.number() {
        Some((call, number)) => board.publish(slot, Form::Argument, call, &number),
        None => {
            let (call, argument) = reply.take_message();
            board.publish(slot, Form::Argument, call, &argument)
        }
    };
    let place = published(board, publish);
    Sent {
        place,
        reply,
        future,
    }
}

/// Where something was published; a worker hears of it.
fn published(board: &Board<View>, publish: Publish) -> Place {
    let Publish::Published(place) = publish else {
        panic!("there is room")
    };
    board.wake_one();
    place
}

/// Sleeps until the task there is done, as the collector does.
fn await_done(board: &Board<View>, place: Place) {
    let is_under_way = || board.is_ready(place) || board.is_running(place);
    while is_under_way() {
        let ticket = board.lie_down();
        if is_under_way() && !board.has_done() {
            board.rest(ticket, None);
        }
        board.get_up();
        // One bit may be that of another task, whose state tells as much.
        board.take_done(|_| ());
    }
}

impl<R: Payload> Sent<R> {
    /// What came of it, brought in and opened.
    fn result(self, board: &Board<View>) -> Result<R, Error> {
        await_done(board, self.place);
        let mut bytes = Vec::new();
        let reading = board.outcome(self.place, &mut bytes);
        assert_eq!(reading, Reading::Sound(Form::Value, 0));
        let (_, news) = self.reply.arrive(Encoded::Value(Source::Lent(&bytes)));
        assert!(news.is_none(), "nobody listens");
        self.future.result()
    }
}

/// Runs all that comes, as a worker does, until the board is closed.
fn work(board: &Board<View>) {
    let mut argument = Vec::new();
    loop {
        let is_closing = board.is_closing();
        let finish = match board.claim(0, &mut argument) {
            Claim::Task(place, call) => run(board, place, call, &mut argument),
            Claim::Items(place, call, _) => run_items(board, place, call, &argument),
            Claim::Empty if is_closing => return,
            Claim::Empty => {
                board.sleep(0, None, || false);
                continue;
            }
            Claim::Stored(..) | Claim::Ticket(_) | Claim::Corrupt => panic!("it is none of these"),
        };
        assert_eq!(finish, Finish::Told);
    }
}

fn run(board: &Board<View>, place: Place, call: Call, argument: &mut Vec<u8>) -> Finish {
    let result = function::invoke(call, Argument::Kept(argument), LIMIT, &NoRoom);
    let Ok(Err(value)) = result.map(Bytes::into_lease) else {
        panic!("it has a result, which is small")
    };
    board.finish(place, 0, Form::Value, &value)
}

fn run_items(board: &Board<View>, place: Place, call: Call, arguments: &[u8]) -> Finish {
    let (Some(run), Ok(function)) = (board.begin_run(place, 0), function::find(call)) else {
        panic!("there is room, and such a function")
    };
    let mut at_hand = AtHand {
        arguments: Items::new(arguments),
        results: Vec::new(),
        run,
    };
    function.call_each(LIMIT, &mut at_hand);
    at_hand.run.finish(Form::Items, 1)
}

/// Items that the worker runs.
struct AtHand<'a> {
    arguments: Items<'a>,
    results: Vec<u8>,
    run: ItemRun<'a, View>,
}

impl Tray for AtHand<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        let argument = self.arguments.next()?;
        assert_eq!(self.run.begin(), Step::Taken);
        Slip::begin(&mut self.results);
        Some((argument, &mut self.results))
    }

    fn end_well(&mut self) {
        let mut slip = Slip::of(&mut self.results, self.run.filled());
        slip.end();
        match slip.fitting() {
            Some(results) => self.run.end(results),
            None => panic!("there is room"),
        }
    }

    fn end(&mut self, outcome: Result<Manifest, Error>) {
        panic!("it has a result, which names nothing: {:?}", outcome.err())
    }
}

/// Plays the program, beside a worker.
fn with_worker(program: impl FnOnce(&Board<View>)) {
    let heap = Arc::new(Heap::new(4));
    let (board, theirs) = (immortal(&heap), immortal(&heap));
    let worker = thread::spawn(move || work(&theirs));
    program(&board);
    board.close();
    assert!(worker.join().is_ok(), "the worker has panicked");
}

#[test]
fn tasks_go_and_their_results_come() {
    with_worker(|board| {
        let number = send(board, 0, |x: u64| x * 2, 21);
        let text = send(board, 1, |words: String| words + "!", "short".to_owned());
        let bytes = send(
            board,
            2,
            |mut bytes: Vec<u8>| {
                bytes.reverse();
                bytes
            },
            (0..1000).map(|at| at as u8).collect(),
        );
        assert_eq!(number.result(board).unwrap(), 42);
        assert_eq!(text.result(board).unwrap(), "short!");
        let expected: Vec<u8> = (0..1000).rev().map(|at| at as u8).collect();
        assert_eq!(bytes.result(board).unwrap(), expected);
        // And once more where one was before.
        let number = send(board, 0, |x: u64| x + 1, u64::MAX - 1);
        assert_eq!(number.result(board).unwrap(), u64::MAX);
    });
}

/// Maps these, and reads what is done before all are.
fn map<A: Payload, R: Payload>(
    board: &Board<View>,
    function: fn(A) -> R,
    arguments: Vec<A>,
) -> Vec<R> {
    let plan = ChunkPlan {
        options: TaskOptions::new(),
        info: TaskInfo::new(None, Location::caller(), Function::Address(0)),
        arguments,
        pace: &Arc::<Pace>::default(),
        listener: None,
    };
    let (task, batch) = Task::portable_chunk(plan, function);
    let Outgoing::Many(parts) = task.into_outgoing(LIMIT, &NoRoom, &mut |_| ()) else {
        panic!("it can be encoded")
    };
    for part in parts {
        let Part::Parcel(mut parcel) = part else {
            panic!("they are small")
        };
        let (call, count) = (parcel.call, parcel.len());
        let publish = board.publish_items(3, Form::Items, call, &parcel.bytes, count);
        let place = published(board, publish);
        let mut bytes = Vec::new();
        while board.is_running(place) || board.is_ready(place) {
            // Nothing of it is used: it is read while the worker writes more.
            let _ = board.item_results(place, 0, count, &mut bytes);
            thread::yield_now();
        }
        await_done(board, place);
        assert_eq!(board.items_outcome(place), Reading::Sound(Form::Items, 0));
        let progress = board.item_results(place, 0, count, &mut bytes);
        assert_eq!(progress.map(|progress| progress.done), Some(count));
        let (first, answers) = (parcel.items().start, Arc::clone(&parcel.answers));
        parcel.skip(count);
        let found = pieces_of(&bytes, first, count, 0, &*answers);
        for piece in found.pieces {
            piece.arrive(&*answers);
        }
    }
    let mut came = batch.take_all().outcomes;
    came.sort_by_key(|(index, _)| *index);
    came.into_iter()
        .filter_map(|(_, value)| value.ok())
        .collect()
}

#[test]
fn items_of_maps_go_and_their_results_come() {
    with_worker(|board| {
        let squares = map(board, |x: u32| x * x, (0..20).collect());
        assert!(squares.into_iter().eq((0..20).map(|x| x * x)));
        let words = (0..9).map(|n| "x".repeat(n * 9)).collect();
        let lengths = map(board, |word: String| vec![word.len(); 2], words);
        assert!(lengths.into_iter().eq((0..9).map(|n| vec![n * 9; 2])));
    });
}
