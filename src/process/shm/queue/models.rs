//! Models of the queue, checked by loom: threads in place of processes, one of which may vanish between any
//! two of its steps.

use std::sync::Arc;

use loom::thread;

use super::heap::{Heap, HeapView, immortal, mortal};
use super::{
    BatchProgress, Claim, Current, Finish, Reading, ShmQueue, SlotAfterDeath, SlotKind,
    SlotPublish, SlotRef, Standing, Transition,
};
use crate::remote::function::FunctionRef;
use crate::sync::deadline::Deadline;
use crate::unwind;

const CALL: FunctionRef = FunctionRef {
    entry: 1,
    function: 2,
    fingerprint: 3,
};

/// Publishes a task whose argument is one byte.
fn publish(queue: &ShmQueue<HeapView>, slot: usize, byte: u8) -> SlotRef {
    match queue.publish(slot, SlotKind::Argument, CALL, &[byte]) {
        SlotPublish::Published(place) => place,
        SlotPublish::Full => panic!("there is room"),
    }
}

/// Runs all tasks until the queue is closed; returns the number of tasks that it has run.
fn work(queue: &ShmQueue<HeapView>, me: usize) -> usize {
    let (mut argument, mut count, mut has_waited) = (Vec::new(), 0, false);
    loop {
        let is_closing = queue.is_closing();
        let claim = queue.claim(me, &mut argument);
        if std::mem::take(&mut has_waited) {
            queue.pass_on();
        }
        match claim {
            Claim::Task(place, call) => {
                assert_eq!(call, CALL);
                if queue.finish(place, me, SlotKind::Value, &[argument[0] + 1]) == Finish::Published
                {
                    count += 1;
                }
            }
            Claim::Items(..) | Claim::Stored(..) | Claim::Rendezvous(_) | Claim::Corrupt => {
                panic!("there are only tasks")
            }
            Claim::Empty if is_closing => return count,
            Claim::Empty => {
                if queue.begin_search(me) == Transition::Taken {
                    queue.end_search();
                }
                queue.sleep(me, Deadline::never(), || false);
                has_waited = true;
            }
        }
    }
}

/// Waits for the outcomes of all these tasks, as the collector does; returns the byte of each.
fn collect(queue: &ShmQueue<HeapView>, places: &[SlotRef]) -> Vec<u8> {
    let mut outcomes = vec![None; places.len()];
    loop {
        queue.take_done(|slot| {
            let Some(at) = places.iter().position(|place| place.slot == slot) else {
                panic!("nobody published there")
            };
            let mut bytes = Vec::new();
            let outcome = queue.outcome(places[at], &mut bytes);
            assert!(matches!(outcome, Reading::Sound(SlotKind::Value, _)));
            assert!(outcomes[at].replace(bytes[0]).is_none(), "done twice");
        });
        if let Some(all) = outcomes.iter().copied().collect() {
            return all;
        }
        let key = queue.prepare_wait();
        if !queue.has_done() {
            queue.wait(key, Deadline::never());
        }
        queue.end_wait();
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
        let queue = immortal(&heap);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || work(&queue, 0))
        };
        let places = [0, 1].map(|slot| {
            let place = publish(&queue, slot, slot as u8);
            queue.wake_one();
            place
        });
        assert_eq!(collect(&queue, &places), [1, 2]);
        queue.close();
        assert_eq!(worker.join().unwrap(), 2);
    });
}

#[test]
fn two_workers_run_each_task_once() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let queue = immortal(&heap);
        let places = [publish(&queue, 0, 5), publish(&queue, 1, 6)];
        let workers = [0, 1].map(|me| {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                let mut count = 0;
                while let Claim::Task(place, _) = queue.claim(me, &mut argument) {
                    let finish = queue.finish(place, me, SlotKind::Value, &[argument[0] + 1]);
                    assert_eq!(finish, Finish::Published);
                    count += 1;
                }
                count
            })
        });
        assert_eq!(collect(&queue, &places), [6, 7]);
        assert_eq!(workers.map(|w| w.join().unwrap()).iter().sum::<usize>(), 2);
    });
}

#[test]
fn a_burst_wakes_who_is_needed() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let queue = immortal(&heap);
        let workers = [0, 1].map(|me| {
            let queue = immortal(&heap);
            thread::spawn(move || work(&queue, me))
        });
        let place = publish(&queue, 0, 1);
        queue.wake_one();
        assert_eq!(collect(&queue, &[place]), [2]);
        queue.close();
        assert_eq!(workers.map(|w| w.join().unwrap()).iter().sum::<usize>(), 1);
    });
}

#[test]
fn cancel_meets_claim() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let queue = immortal(&heap);
        let place = publish(&queue, 0, 1);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                match queue.claim(0, &mut argument) {
                    Claim::Task(place, _) => match queue.finish(place, 0, SlotKind::Value, &[2]) {
                        Finish::Published => Transition::Taken,
                        _ => panic!("nobody has killed it"),
                    },
                    _ => Transition::TooLate,
                }
            })
        };
        let cancelled = queue.cancel(place);
        let ran = worker.join().unwrap();
        assert_ne!(cancelled, ran, "one of them got it");
    });
}

#[test]
fn a_cancelled_slot_is_used_again_while_a_worker_is_slow() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let queue = immortal(&heap);
        let first = publish(&queue, 0, 1);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let (mut argument, mut seen) = (Vec::new(), Vec::new());
                while let Claim::Task(place, _) = queue.claim(0, &mut argument) {
                    seen.push(argument[0]);
                    let _ = queue.finish(place, 0, SlotKind::Value, &[0]);
                }
                seen
            })
        };
        let mut expected = Vec::new();
        if queue.cancel(first) == Transition::Taken {
            // The ring's only entry is passed by the worker, or by the publisher.
            let second = publish(&queue, 0, 2);
            let seen = worker.join().unwrap();
            expected.extend((!queue.is_ready(second)).then_some(2));
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
        let queue = immortal(&heap);
        let (victim, next) = (publish(&queue, 0, 1), publish(&queue, 1, 2));
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                while let Claim::Task(place, _) = queue.claim(0, &mut argument) {
                    if queue.finish(place, 0, SlotKind::Value, &[9]) == Finish::Killed {
                        return; // it waits to be killed
                    }
                }
            })
        };
        let killed = queue.kill(victim);
        worker.join().unwrap();
        match killed {
            Some(worker) => {
                assert_eq!(worker, 0);
                assert_eq!(queue.slot_after_death(victim, 0), SlotAfterDeath::Killed);
                assert!(queue.is_ready(next), "the next one was not begun");
            }
            None => assert_eq!(queue.slot_after_death(next, 0), SlotAfterDeath::Done),
        }
    });
}

/// One of two workers vanishes after `steps` accesses to the memory. Whatever it was about to do, each task
/// is either lost with it, as its slot says, or done, once.
#[test]
fn a_worker_vanishes_between_any_two_steps() {
    for steps in 0..24 {
        model(move || {
            let heap = Arc::new(Heap::new(2));
            let queue = immortal(&heap);
            let mortal = mortal(&heap, steps);
            let mortal = thread::spawn(move || {
                // It may finish before it vanishes.
                let _ = unwind::catch(|| work(&mortal, 0));
            });
            let mut places = Vec::new();
            for slot in 0..2 {
                places.push(publish(&queue, slot, slot as u8));
                queue.wake_one();
            }
            queue.close();
            mortal.join().unwrap();
            // As the worker's supervisor does, which has seen it dead.
            queue.worker_died(0);
            let mut moved = places.clone();
            let left = |remains| -> Vec<SlotRef> {
                let places = places.iter().copied();
                let left = places.filter(|place| queue.slot_after_death(*place, 0) == remains);
                left.collect()
            };
            let lost = left(SlotAfterDeath::Running).len();
            // A task that it had claimed and not begun is published once more.
            let claimed = left(SlotAfterDeath::Claimed);
            for old in &claimed {
                let standing = queue.standing(*old);
                assert_eq!(standing, Standing::Claimed(0));
                assert_eq!(queue.withdraw(*old, standing), Transition::Taken);
                let SlotPublish::Published(new) = queue.republish(*old) else {
                    panic!("there is room")
                };
                let at = places.iter().position(|place| place == old).unwrap();
                moved[at] = new;
            }
            let places = moved;
            // The other worker runs the rest.
            work(&queue, 1);
            let done = |worker| {
                let remains = places
                    .iter()
                    .map(|place| queue.slot_after_death(*place, worker));
                remains.filter(|r| *r == SlotAfterDeath::Done).count()
            };
            let waiting = places
                .iter()
                .filter(|place| queue.is_ready(**place))
                .count();
            assert!(lost <= 1);
            assert_eq!(lost + done(0) + done(1) + waiting, 2);
            assert_eq!(waiting, 0, "the other one has run the rest");
        });
    }
}

/// Publishes items in a slot.
fn publish_items(queue: &ShmQueue<HeapView>, slot: usize, items: usize) -> SlotRef {
    match queue.publish_items(slot, SlotKind::Items, CALL, &[0], items) {
        SlotPublish::Published(place) => place,
        SlotPublish::Full => panic!("there is room"),
    }
}

/// The progress of a worker that has done `done` items, whose results take one byte each.
fn so_far(done: usize) -> BatchProgress {
    BatchProgress {
        done,
        filled: done,
        has_begun: false,
    }
}

/// Runs the items of the only slot; each result takes one byte.
fn run_items(queue: &ShmQueue<HeapView>) {
    let Claim::Items(place, call, items) = queue.claim(0, &mut Vec::new()) else {
        return; // they were cancelled
    };
    assert_eq!(call, CALL);
    let mut results = Vec::new();
    let mut run = queue.begin_run(place, 0).unwrap();
    for index in 0..items {
        if run.begin() == Transition::TooLate {
            break;
        }
        results.push(index as u8 + 1);
        run.end(&results);
    }
    let _ = run.finish(SlotKind::Items, 1);
}

/// A worker vanishes after `steps` accesses to the memory: the program knows which items are done, has their
/// results, and knows which one was begun.
#[test]
fn a_worker_vanishes_between_any_two_steps_of_its_items() {
    for steps in 0..30 {
        model(move || {
            let heap = Arc::new(Heap::new(1));
            let queue = immortal(&heap);
            let place = publish_items(&queue, 0, 2);
            let mortal = mortal(&heap, steps);
            let mortal = thread::spawn(move || {
                // It may finish before it vanishes.
                let _ = unwind::catch(|| run_items(&mortal));
            });
            mortal.join().unwrap();
            queue.worker_died(0);
            let mut results = Vec::new();
            let sound = queue.item_results(place, 0, 2, &mut results);
            match (queue.slot_after_death(place, 0), sound) {
                (SlotAfterDeath::None, _) => assert!(queue.is_ready(place)),
                // No item has begun: they may run elsewhere.
                (SlotAfterDeath::Claimed, _) => {}
                (SlotAfterDeath::Running | SlotAfterDeath::Done, None) => {
                    panic!("its own results are sound")
                }
                (SlotAfterDeath::Running, Some(BatchProgress { done, .. })) => {
                    assert_eq!(results, [1, 2][..done]);
                }
                (SlotAfterDeath::Done, Some(progress)) => {
                    assert_eq!(progress, so_far(2));
                    assert_eq!(results, [1, 2]);
                    let reading = queue.items_outcome(place);
                    assert_eq!(reading, Reading::Sound(SlotKind::Items, 0));
                }
                (SlotAfterDeath::Killed, _) => panic!("nobody killed it"),
            }
        });
    }
}

/// A collector that sleeps until something arrives is woken by each item, not only by the last one.
#[test]
fn an_item_meets_who_lies_down() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let queue = immortal(&heap);
        let place = publish_items(&queue, 0, 1);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let Claim::Items(place, ..) = queue.claim(0, &mut Vec::new()) else {
                    panic!("there are items")
                };
                let mut run = queue.begin_run(place, 0).unwrap();
                assert_eq!(run.begin(), Transition::Taken);
                // And runs the next item for ever.
                run.end(&[1]);
            })
        };
        while queue.progress(place, 0, 1).done == 0 {
            let key = queue.prepare_wait();
            if queue.progress(place, 0, 1).done == 0 && !queue.has_done() {
                queue.wait(key, Deadline::never());
            }
            queue.end_wait();
            queue.take_done(|_| ());
        }
        worker.join().unwrap();
    });
}

/// Items that are stopped stop before the next item, or that item has begun.
#[test]
fn stop_meets_the_next_item() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let queue = immortal(&heap);
        let place = publish_items(&queue, 0, 2);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || run_items(&queue))
        };
        let cancelled = queue.cancel(place);
        if cancelled == Transition::TooLate {
            queue.stop(place);
        }
        worker.join().unwrap();
        assert!(!queue.is_running(place));
        if cancelled == Transition::Taken {
            assert_eq!(queue.progress(place, 0, 2).done, 0);
        }
    });
}

/// A worker is about to announce a claim in its worker words, while the audit takes the task for one that no
/// worker has begun, and publishes it again: it runs once, here or there.
#[test]
fn a_claim_meets_the_audit() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let queue = immortal(&heap);
        let place = publish(&queue, 0, 1);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let mut argument = Vec::new();
                match queue.claim(0, &mut argument) {
                    // If the audit withdraws the task for a moment, the outcome is in the worker's own part.
                    Claim::Task(place, _) => {
                        let (Finish::Published | Finish::Displaced) =
                            queue.finish(place, 0, SlotKind::Value, &[2])
                        else {
                            panic!("nobody has killed it")
                        };
                        1
                    }
                    _ => 0,
                }
            })
        };
        let again = audit(&queue, place);
        let mut runs = worker.join().unwrap();
        if runs == 0 && again == Transition::TooLate {
            let _ = audit(&queue, place);
        }
        if let Claim::Task(..) = queue.claim(1, &mut Vec::new()) {
            runs += 1;
        }
        assert_eq!(runs, 1);
    });
}

#[test]
fn the_end_of_a_task_is_not_undone_by_the_audit() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let queue = immortal(&heap);
        let place = publish(&queue, 0, 1);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || {
                let Claim::Task(place, _) = queue.claim(0, &mut Vec::new()) else {
                    panic!("there is a task")
                };
                queue.finish(place, 0, SlotKind::Value, &[2])
            })
        };
        // The audit found the worker between its claim and its words, and then reads these.
        let was_claimed = matches!(queue.standing(place), Standing::Claimed(_));
        if was_claimed && queue.current(0) == Current::Place(place) {
            let (Transition::Taken | Transition::TooLate) = queue.restore_running(place, 0);
        }
        assert_eq!(worker.join().unwrap(), Finish::Published);
        let outcome = queue.outcome(place, &mut Vec::new());
        assert_eq!(outcome, Reading::Sound(SlotKind::Value, 0));
    });
}

/// Publishes a task again whose standing is that no worker has begun it, as the audit does.
fn audit(queue: &ShmQueue<HeapView>, place: SlotRef) -> Transition {
    let standing = queue.standing(place);
    if !matches!(standing, Standing::Claimed(_))
        || queue.withdraw(place, standing) == Transition::TooLate
    {
        return Transition::TooLate;
    }
    match queue.republish(place) {
        SlotPublish::Published(_) => Transition::Taken,
        SlotPublish::Full => panic!("there is room"),
    }
}

/// Results are read while their worker writes more, in a slot that held others before: what is read is what
/// was written.
#[test]
fn an_item_meets_who_reads_those_before_it() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let queue = immortal(&heap);
        let _ = publish_items(&queue, 0, 1);
        run_items(&queue);
        let place = publish_items(&queue, 0, 3);
        let worker = {
            let queue = immortal(&heap);
            thread::spawn(move || run_items(&queue))
        };
        for _ in 0..2 {
            if queue.runner(place) == Some(0) && queue.progress(place, 0, 3).done > 0 {
                let mut results = Vec::new();
                let Some(progress) = queue.item_results(place, 0, 3, &mut results) else {
                    panic!("nobody has written there but the worker")
                };
                let filled = progress.filled;
                assert_eq!(filled, progress.done);
                assert_eq!(results[..filled], [1, 2, 3][..filled]);
            }
            thread::yield_now();
        }
        worker.join().unwrap();
        assert_eq!(
            queue.items_outcome(place),
            Reading::Sound(SlotKind::Items, 0)
        );
    });
}
