//! Models of the board, checked by loom: threads in place of processes, one of which may vanish
//! between any two of its steps.

use std::sync::Arc;

use loom::thread;

use super::heap::{Heap, View, immortal, mortal};
use super::{
    Board, Claim, Finish, Form, Place, Progress, Publish, Reading, Remains, Standing, Step,
};
use crate::remote::function::Call;
use crate::unwind;

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
                if board.finish(place, me, Form::Value, &[argument[0] + 1]) == Finish::Told {
                    count += 1;
                }
            }
            Claim::Items(..) | Claim::Stored(..) | Claim::Ticket(_) | Claim::Corrupt => {
                panic!("there are only tasks")
            }
            Claim::Empty if is_closing => return count,
            Claim::Empty => {
                if board.begin_search(me) == Step::Taken {
                    board.end_search();
                }
                board.sleep(me, None, || false);
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
            assert!(matches!(outcome, Reading::Sound(Form::Value, _)));
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
                    let finish = board.finish(place, me, Form::Value, &[argument[0] + 1]);
                    assert_eq!(finish, Finish::Told);
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
                    Claim::Task(place, _) => match board.finish(place, 0, Form::Value, &[2]) {
                        Finish::Told => Step::Taken,
                        _ => panic!("nobody has killed it"),
                    },
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
                    if board.finish(place, 0, Form::Value, &[9]) == Finish::Killed {
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
            let mortal = mortal(&heap, steps);
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
            let mut moved = places.clone();
            let left = |remains| -> Vec<Place> {
                let places = places.iter().copied();
                let left = places.filter(|place| board.remains(*place, 0) == remains);
                left.collect()
            };
            let lost = left(Remains::Running).len();
            // What it had claimed and not begun is put there once more.
            let claimed = left(Remains::Claimed);
            for old in &claimed {
                let standing = board.standing(*old);
                assert_eq!(standing, Standing::Claimed(0));
                assert_eq!(board.withdraw(*old, standing), Step::Taken);
                let Publish::Published(new) = board.republish(*old) else {
                    panic!("there is room")
                };
                let at = places.iter().position(|place| place == old).unwrap();
                moved[at] = new;
            }
            let places = moved;
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

/// How far a worker has come with items each of which comes to a byte.
fn so_far(done: usize) -> Progress {
    Progress {
        done,
        filled: done,
        has_begun: false,
    }
}

/// Runs the items of the one slot, each of which comes to a byte.
fn run_items(board: &Board<View>) {
    let Claim::Items(place, call, items) = board.claim(0, &mut Vec::new()) else {
        return; // they were cancelled
    };
    assert_eq!(call, CALL);
    let mut results = Vec::new();
    let mut run = board.begin_run(place, 0).unwrap();
    for index in 0..items {
        if run.begin() == Step::TooLate {
            break;
        }
        results.push(index as u8 + 1);
        run.end(&results);
    }
    let _ = run.finish(Form::Items, 1);
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
            let mortal = mortal(&heap, steps);
            let mortal = thread::spawn(move || {
                // It may get through before it vanishes.
                let _ = unwind::catch(|| run_items(&mortal));
            });
            mortal.join().unwrap();
            board.bury(0);
            let mut results = Vec::new();
            let sound = board.item_results(place, 0, 2, &mut results);
            match (board.remains(place, 0), sound) {
                (Remains::None, _) => assert!(board.is_ready(place)),
                // None has begun: it may run elsewhere.
                (Remains::Claimed, _) => {}
                (Remains::Running | Remains::Done, None) => panic!("its own results are sound"),
                (Remains::Running, Some(Progress { done, .. })) => {
                    assert_eq!(results, [1, 2][..done]);
                }
                (Remains::Done, Some(progress)) => {
                    assert_eq!(progress, so_far(2));
                    assert_eq!(results, [1, 2]);
                    let reading = board.items_outcome(place);
                    assert_eq!(reading, Reading::Sound(Form::Items, 0));
                }
                (Remains::Killed, _) => panic!("nobody killed it"),
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
                let mut run = board.begin_run(place, 0).unwrap();
                assert_eq!(run.begin(), Step::Taken);
                // And is at the next one for ever.
                run.end(&[1]);
            })
        };
        while board.progress(place, 0, 1).done == 0 {
            let ticket = board.lie_down();
            if board.progress(place, 0, 1).done == 0 && !board.has_done() {
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
            assert_eq!(board.progress(place, 0, 2).done, 0);
        }
    });
}

/// A worker is about to say at its desk that it has claimed a task, while the audit takes the task for one that
/// nobody has begun, and publishes it again: it runs once, here or there.
#[test]
fn a_claim_meets_the_audit() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let place = publish(&board, 0, 1);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                match board.claim(0, &mut argument) {
                    // If the audit takes it away for a moment, the outcome is in the worker's own part.
                    Claim::Task(place, _) => {
                        let (Finish::Told | Finish::Displaced) =
                            board.finish(place, 0, Form::Value, &[2])
                        else {
                            panic!("nobody has killed it")
                        };
                        1
                    }
                    _ => 0,
                }
            })
        };
        let again = audit(&board, place);
        let mut runs = worker.join().unwrap();
        if runs == 0 && again == Step::TooLate {
            let _ = audit(&board, place);
        }
        if let Claim::Task(..) = board.claim(1, &mut Vec::new()) {
            runs += 1;
        }
        assert_eq!(runs, 1);
    });
}

/// Publishes a task again that stands as if no worker had begun it, as the audit does.
fn audit(board: &Board<View>, place: Place) -> Step {
    let standing = board.standing(place);
    if !matches!(standing, Standing::Claimed(_)) || board.withdraw(place, standing) == Step::TooLate
    {
        return Step::TooLate;
    }
    match board.republish(place) {
        Publish::Published(_) => Step::Taken,
        Publish::Full => panic!("there is room"),
    }
}

/// Results are read while their worker lays down more, in a slot that held others before: what is read is what
/// was laid down.
#[test]
fn an_item_meets_who_reads_those_before_it() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let board = immortal(&heap);
        let _ = publish_items(&board, 0, 1);
        run_items(&board);
        let place = publish_items(&board, 0, 3);
        let worker = {
            let board = immortal(&heap);
            thread::spawn(move || run_items(&board))
        };
        for _ in 0..2 {
            if board.runner(place) == Some(0) && board.progress(place, 0, 3).done > 0 {
                let mut results = Vec::new();
                let Some(progress) = board.item_results(place, 0, 3, &mut results) else {
                    panic!("nobody has written there but the worker")
                };
                let filled = progress.filled;
                assert_eq!(filled, progress.done);
                assert_eq!(results[..filled], [1, 2, 3][..filled]);
            }
            thread::yield_now();
        }
        worker.join().unwrap();
        assert_eq!(board.items_outcome(place), Reading::Sound(Form::Items, 0));
    });
}
