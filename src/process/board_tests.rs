//! Models of the board, checked by loom: threads in place of processes, one of which may vanish
//! between any two of its steps.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Counter, Ordering as CounterOrdering};

use loom::cell::UnsafeCell;
use loom::thread;

use super::bed::Bed;
use super::layout::{Header, Line, Memory, Slot};
use super::{Board, Claim, Form, Place, Progress, Publish, Remains, Step};
use crate::process::entry::Call;
use crate::sync::{AtomicU32, AtomicU64};
use crate::unwind;

/// A board's memory, for two workers.
struct Heap {
    header: Header,
    ring: Vec<AtomicU32>,
    slots: Vec<Slot>,
    done: [AtomicU64; 1],
    asleep: [AtomicU64; 1],
    beds: [Line<Bed>; 2],
    bytes: Vec<UnsafeCell<Vec<u8>>>,
}

impl Heap {
    fn new(slots: usize) -> Self {
        Self {
            header: Header::default(),
            ring: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            done: [AtomicU64::new(0)],
            asleep: [AtomicU64::new(0)],
            beds: Default::default(),
            bytes: (0..slots).map(|_| UnsafeCell::new(Vec::new())).collect(),
        }
    }
}

/// What a process sees of it. Each look is a step; a mortal one vanishes after so many.
struct View {
    heap: Arc<Heap>,
    steps_left: Option<Counter>,
}

/// What a process that vanishes unwinds with.
struct Vanished;

impl View {
    fn step(&self) -> &Heap {
        if let Some(left) = &self.steps_left {
            let before = left.load(CounterOrdering::Relaxed);
            if before == 0 {
                resume_unwind(Box::new(Vanished));
            }
            left.store(before - 1, CounterOrdering::Relaxed);
        }
        &self.heap
    }
}

impl Memory for View {
    fn header(&self) -> &Header {
        &self.step().header
    }
    fn ring(&self) -> &[AtomicU32] {
        &self.step().ring
    }
    fn slots(&self) -> &[Slot] {
        &self.step().slots
    }
    fn done(&self) -> &[AtomicU64] {
        &self.step().done
    }
    fn asleep(&self) -> &[AtomicU64] {
        &self.step().asleep
    }
    fn beds(&self) -> &[Line<Bed>] {
        &self.step().beds
    }
    fn write(&self, slot: usize, offset: usize, bytes: &[u8]) {
        self.step().bytes[slot].with_mut(|place| {
            // SAFETY: loom checks that nobody else reaches the bytes meanwhile.
            let place = unsafe { &mut *place };
            place.truncate(offset);
            place.extend(bytes);
        });
    }
    fn read(&self, slot: usize, size: usize, into: &mut Vec<u8>) {
        self.step().bytes[slot].with(|place| {
            // SAFETY: as above.
            let bytes = unsafe { &*place };
            into.clear();
            into.extend(&bytes[..size]);
        });
    }
}

/// A process that lives as long as it likes.
fn immortal(heap: &Arc<Heap>) -> Board<View> {
    Board::new(View {
        heap: Arc::clone(heap),
        steps_left: None,
    })
}

const CALL: Call = Call {
    entry: 1,
    function: 2,
    fingerprint: 3,
};

/// Puts a task with one byte into a slot.
fn publish(board: &Board<View>, slot: usize, byte: u8) -> Place {
    match board.publish(slot, Form::Argument, CALL, &[byte]) {
        Publish::Published(place) => place,
        Publish::Full => panic!("there is room"),
    }
}

/// Runs all tasks until the board is closed; how many.
fn work(board: &Board<View>, me: usize) -> usize {
    let (mut argument, mut count, mut has_waited) = (Vec::new(), 0, false);
    loop {
        let is_closing = board.is_closing();
        let claim = board.claim(me, &mut argument);
        if std::mem::take(&mut has_waited) {
            board.pass_on();
        }
        match claim {
            Claim::Task(place, call) => {
                assert_eq!(call, CALL);
                if board.finish(place, me, Form::Value, &[argument[0] + 1]) == Step::Taken {
                    count += 1;
                }
            }
            Claim::Items(..) | Claim::Stored(..) | Claim::Ticket(_) => {
                panic!("there are only tasks")
            }
            Claim::Empty if is_closing => return count,
            Claim::Empty => {
                if board.begin_search(me) == Step::Taken {
                    board.end_search();
                }
                board.sleep(me, || false);
                has_waited = true;
            }
        }
    }
}

/// Waits for the outcomes of all these, as who collects does; their bytes.
fn collect(board: &Board<View>, places: &[Place]) -> Vec<u8> {
    let mut outcomes = vec![None; places.len()];
    loop {
        board.take_done(|slot| {
            let Some(at) = places.iter().position(|place| place.slot == slot) else {
                panic!("nobody published there")
            };
            let mut bytes = Vec::new();
            let outcome = board.outcome(places[at], &mut bytes);
            assert!(matches!(outcome, Some((Form::Value, _))));
            assert!(outcomes[at].replace(bytes[0]).is_none(), "done twice");
        });
        if let Some(all) = outcomes.iter().copied().collect() {
            return all;
        }
        let ticket = board.lie_down();
        if !board.has_done() {
            board.rest(ticket, None);
        }
        board.get_up();
    }
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

#[test]
fn a_worker_that_sleeps_hears_of_each_task() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || work(&board, 0))
        };
        let places = [0, 1].map(|slot| {
            let place = publish(&board, slot, slot as u8);
            board.wake_one();
            place
        });
        assert_eq!(collect(&board, &places), [1, 2]);
        board.close();
        assert_eq!(worker.join().unwrap(), 2);
    });
}

#[test]
fn two_workers_run_each_task_once() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let places = [publish(&board, 0, 5), publish(&board, 1, 6)];
        let workers = [0, 1].map(|me| {
            let board = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                let mut count = 0;
                while let Claim::Task(place, _) = board.claim(me, &mut argument) {
                    let step = board.finish(place, me, Form::Value, &[argument[0] + 1]);
                    assert_eq!(step, Step::Taken);
                    count += 1;
                }
                count
            })
        });
        assert_eq!(collect(&board, &places), [6, 7]);
        assert_eq!(workers.map(|w| w.join().unwrap()).iter().sum::<usize>(), 2);
    });
}

#[test]
fn a_burst_wakes_who_is_needed() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let workers = [0, 1].map(|me| {
            let board = immortal(&heap);
            thread::spawn(move || work(&board, me))
        });
        let place = publish(&board, 0, 1);
        board.wake_one();
        assert_eq!(collect(&board, &[place]), [2]);
        board.close();
        assert_eq!(workers.map(|w| w.join().unwrap()).iter().sum::<usize>(), 1);
    });
}

#[test]
fn cancel_meets_claim() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let board = immortal(&heap);
        let place = publish(&board, 0, 1);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                match board.claim(0, &mut argument) {
                    Claim::Task(place, _) => board.finish(place, 0, Form::Value, &[2]),
                    _ => Step::TooLate,
                }
            })
        };
        let cancelled = board.cancel(place);
        let ran = worker.join().unwrap();
        assert_ne!(cancelled, ran, "one of them got it");
    });
}

#[test]
fn a_cancelled_slot_is_used_again_while_a_worker_is_slow() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let board = immortal(&heap);
        let first = publish(&board, 0, 1);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || {
                let (mut argument, mut seen) = (Vec::new(), Vec::new());
                while let Claim::Task(place, _) = board.claim(0, &mut argument) {
                    seen.push(argument[0]);
                    let _ = board.finish(place, 0, Form::Value, &[0]);
                }
                seen
            })
        };
        let mut expected = Vec::new();
        if board.cancel(first) == Step::Taken {
            // The ring's one entry is passed by the worker, or by the publisher.
            let second = publish(&board, 0, 2);
            let seen = worker.join().unwrap();
            expected.extend((!board.is_ready(second)).then_some(2));
            assert_eq!(seen, expected);
        } else {
            assert_eq!(worker.join().unwrap(), [1]);
        }
    });
}

#[test]
fn kill_meets_finish() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let (victim, next) = (publish(&board, 0, 1), publish(&board, 1, 2));
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                while let Claim::Task(place, _) = board.claim(0, &mut argument) {
                    if board.finish(place, 0, Form::Value, &[9]) == Step::TooLate {
                        return; // it waits for its death
                    }
                }
            })
        };
        let killed = board.kill(victim);
        worker.join().unwrap();
        match killed {
            Some(worker) => {
                assert_eq!(worker, 0);
                assert_eq!(board.remains(victim, 0), Remains::Killed);
                assert!(board.is_ready(next), "the next one was not begun");
            }
            None => assert_eq!(board.remains(next, 0), Remains::Done),
        }
    });
}

/// One of two workers vanishes after so many looks at the memory: whatever it was about to do, each
/// task is either lost with it, as its slot says, or done, once.
#[test]
fn a_worker_vanishes_between_any_two_steps() {
    for steps in 0..24 {
        model(move || {
            let heap = Arc::new(Heap::new(2));
            let board = immortal(&heap);
            let mortal = Board::new(View {
                heap: Arc::clone(&heap),
                steps_left: Some(Counter::new(steps)),
            });
            let mortal = thread::spawn(move || {
                // It may get through before it vanishes.
                let _ = unwind::catch(|| work(&mortal, 0));
            });
            let mut places = Vec::new();
            for slot in 0..2 {
                places.push(publish(&board, slot, slot as u8));
                board.wake_one();
            }
            board.close();
            mortal.join().unwrap();
            // As its attendant does, who has seen it dead.
            board.bury(0);
            let lost = places
                .iter()
                .filter(|place| board.remains(**place, 0) == Remains::Running)
                .count();
            // Another one sees to the rest.
            work(&board, 1);
            let done = |worker| {
                let remains = places.iter().map(|place| board.remains(*place, worker));
                remains.filter(|r| *r == Remains::Done).count()
            };
            let waiting = places
                .iter()
                .filter(|place| board.is_ready(**place))
                .count();
            assert!(lost <= 1);
            assert_eq!(lost + done(0) + done(1) + waiting, 2);
            assert_eq!(waiting, 0, "the other one has run the rest");
        });
    }
}

/// Puts items into a slot.
fn publish_items(board: &Board<View>, slot: usize, items: usize) -> Place {
    match board.publish_items(slot, Form::Items, CALL, &[0], items) {
        Publish::Published(place) => place,
        Publish::Full => panic!("there is room"),
    }
}

/// Runs the items of the one slot, each of which comes to a byte.
fn run_items(board: &Board<View>) {
    let Claim::Items(place, call, items) = board.claim(0, &mut Vec::new()) else {
        return; // they were cancelled
    };
    assert_eq!(call, CALL);
    for index in 0..items {
        if board.item_begins(place, index) == Step::TooLate {
            break;
        }
        board.item_ends(place, index, &[index as u8 + 1], index + 1);
    }
    let _ = board.finish_items(place, 0, Form::Items, 1);
}

/// A worker vanishes after so many looks at the memory: the program knows which items are done, has
/// their results, and knows which one was begun.
#[test]
fn a_worker_vanishes_between_any_two_steps_of_its_items() {
    for steps in 0..30 {
        model(move || {
            let heap = Arc::new(Heap::new(1));
            let board = immortal(&heap);
            let place = publish_items(&board, 0, 2);
            let mortal = Board::new(View {
                heap: Arc::clone(&heap),
                steps_left: Some(Counter::new(steps)),
            });
            let mortal = thread::spawn(move || {
                // It may get through before it vanishes.
                let _ = unwind::catch(|| run_items(&mortal));
            });
            mortal.join().unwrap();
            board.bury(0);
            let Progress { done, has_begun } = board.progress(place, 2);
            let mut results = Vec::new();
            board.item_results(place, &mut results);
            assert!(results.starts_with(&[1, 2][..done]), "{done} {results:?}");
            match board.remains(place, 0) {
                Remains::None => assert!(board.is_ready(place) && done == 0 && !has_begun),
                Remains::Running => {}
                Remains::Done => assert_eq!((done, has_begun), (2, false)),
                Remains::Killed => panic!("nobody killed it"),
            }
        });
    }
}

/// Whoever sleeps until something comes is woken by an item, and not only by the last.
#[test]
fn an_item_meets_who_lies_down() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let board = immortal(&heap);
        let place = publish_items(&board, 0, 1);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || {
                let Claim::Items(place, ..) = board.claim(0, &mut Vec::new()) else {
                    panic!("there are items")
                };
                assert_eq!(board.item_begins(place, 0), Step::Taken);
                // And is at the next one for ever.
                board.item_ends(place, 0, &[1], 1);
            })
        };
        while board.progress(place, 1).done == 0 {
            let ticket = board.lie_down();
            if board.progress(place, 1).done == 0 && !board.has_done() {
                board.rest(ticket, None);
            }
            board.get_up();
            board.take_done(|_| ());
        }
        worker.join().unwrap();
    });
}

/// What is to stop stops before the next item, or has begun it.
#[test]
fn stop_meets_the_next_item() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let board = immortal(&heap);
        let place = publish_items(&board, 0, 2);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || run_items(&board))
        };
        let cancelled = board.cancel(place);
        if cancelled == Step::TooLate {
            board.stop(place);
        }
        worker.join().unwrap();
        assert!(!board.is_running(place));
        if cancelled == Step::Taken {
            assert_eq!(board.progress(place, 2).done, 0);
        }
    });
}
