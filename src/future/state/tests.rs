//! The transitions of a future's state: all short sequences of them against a model, and, with `--cfg loom`,
//! every interleaving of those that race.

use super::{
    Callback, Delivery, Ending, FutureState, Look, Publish, Register, Settling, Start, WaitEnd,
    Withdraw,
};

/// Publishes, running callbacks as pools do: Settling → Done.
fn complete<T>(mut settling: Settling<'_, T>) {
    loop {
        match settling.publish() {
            Publish::Done(wakeups) => return wakeups.deliver(),
            Publish::More(again, callbacks) => {
                for callback in callbacks {
                    callback(again.outcome());
                }
                settling = again;
            }
        }
    }
}

/// Settles a state with a value, and publishes it; `false`: there was an outcome before.
fn settle_and_complete(cell: &FutureState<u32>, value: u32) -> bool {
    match cell.settle(Ok(value), Ending::Finished) {
        Ok(settling) => {
            complete(settling);
            true
        }
        Err(late) => {
            assert!(matches!(late, Ok(back) if back == value), "its own outcome");
            false
        }
    }
}

/// Decodes what has been received to this value, and publishes it. `false`: there is nothing to decode, or
/// another thread does.
fn look_and_complete(cell: &FutureState<u32>, value: u32) -> bool {
    match cell.look() {
        Look::Open(opened) => complete(opened.lay_down(Ok(value))),
        Look::Publish(settling) => complete(settling),
        Look::Stands(_) => return false,
    }
    true
}

/// The value of a state that is done, and that no other thread reads.
fn value_of(cell: &FutureState<u32>) -> Option<u32> {
    assert!(cell.ending().is_some());
    // SAFETY: the state is done, and its test has the part of its handle.
    let outcome = unsafe { cell.outcome() };
    outcome.as_ref()?.as_ref().ok().copied()
}

#[cfg(not(loom))]
mod moves {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::task::{Wake, Waker};
    use std::time::Instant;

    use super::super::{Outcome, WatchKey};
    use super::*;
    use crate::error::Error;
    use crate::sync::deadline::Deadline;

    // ---- all sequences against a model -------------------------------------------------------

    /// What can be done to a state.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Move {
        Start,
        PutBack,
        Withdraw,
        Finish,
        Kill,
        Publish,
    }

    const MOVES: [Move; 6] = [
        Move::Start,
        Move::PutBack,
        Move::Withdraw,
        Move::Finish,
        Move::Kill,
        Move::Publish,
    ];

    /// What a method of the state returns, as far as the model knows it.
    #[derive(Debug, PartialEq, Eq)]
    enum Answer {
        Nothing,
        Begun,
        Cancelled,
        Yours,
        Already,
        TooLate,
        Settled,
        HandedBack,
    }

    /// The phase of the model.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Place {
        Pending,
        Running,
        Settling(Ending),
        Done(Ending),
    }

    impl Place {
        /// The state machine of the picture in `state.rs`, written a second time.
        fn after(self, step: Move) -> (Self, Answer) {
            use Place::{Done, Pending, Running, Settling};
            match (step, self) {
                (Move::Start, Pending) => (Running, Answer::Begun),
                (Move::Start, _) => (self, Answer::Cancelled),
                (Move::PutBack, Running) => (Pending, Answer::Nothing),
                (Move::PutBack, _) => (self, Answer::Nothing),
                (Move::Withdraw, Pending) => (Settling(Ending::Withdrawn), Answer::Yours),
                (Move::Withdraw, Settling(Ending::Withdrawn) | Done(Ending::Withdrawn)) => {
                    (self, Answer::Already)
                }
                (Move::Withdraw, _) => (self, Answer::TooLate),
                (Move::Finish, Pending | Running) => (Settling(Ending::Finished), Answer::Settled),
                (Move::Kill, Pending | Running) => (Settling(Ending::Killed), Answer::Settled),
                (Move::Finish | Move::Kill, _) => (self, Answer::HandedBack),
                (Move::Publish, Settling(ending)) => (Done(ending), Answer::Nothing),
                (Move::Publish, _) => (self, Answer::Nothing),
            }
        }
    }

    /// Makes a transition; the proof of settling is kept for `Move::Publish`.
    fn make<'a>(
        cell: &'a FutureState<u32>,
        proof: &mut Option<Settling<'a, u32>>,
        step: Move,
    ) -> Answer {
        let mut settle = |outcome: Outcome<u32>, ending| match cell.settle(outcome, ending) {
            Ok(settling) => {
                *proof = Some(settling);
                Answer::Settled
            }
            Err(_) => Answer::HandedBack,
        };
        match step {
            Move::Start => match cell.start() {
                Start::Begun => Answer::Begun,
                Start::Cancelled => Answer::Cancelled,
            },
            Move::PutBack => {
                cell.put_back();
                Answer::Nothing
            }
            Move::Finish => settle(Ok(7), Ending::Finished),
            Move::Kill => settle(Err(Error::Cancelled), Ending::Killed),
            Move::Withdraw => match cell.withdraw() {
                Withdraw::Yours(settling) => {
                    *proof = Some(settling);
                    Answer::Yours
                }
                Withdraw::Already => Answer::Already,
                Withdraw::TooLate => Answer::TooLate,
            },
            Move::Publish => {
                if let Some(settling) = proof.take() {
                    complete(settling);
                }
                Answer::Nothing
            }
        }
    }

    /// Checks what can be seen of a state from the thread that makes all its transitions.
    fn assert_looks(cell: &FutureState<u32>, place: Place) {
        assert_eq!(cell.is_running(), place == Place::Running);
        let (ending, waited) = match place {
            Place::Pending | Place::Running => (None, WaitEnd::TimedOut),
            Place::Settling(_) => (None, WaitEnd::Deadlock),
            Place::Done(ending) => (Some(ending), WaitEnd::Done),
        };
        assert_eq!(cell.ending(), ending);
        assert_eq!(cell.wait(Deadline::at(Instant::now())), waited);
        if let Some(ending) = ending {
            assert_eq!(cell.wait(Deadline::never()), WaitEnd::Done);
            assert_eq!(value_of(cell), (ending == Ending::Finished).then_some(7));
        }
    }

    fn assert_goes_like_the_model(steps: &[Move]) {
        let cell = FutureState::new();
        let (mut proof, mut place) = (None, Place::Pending);
        for step in steps {
            let (next, expected) = place.after(*step);
            let answer = make(&cell, &mut proof, *step);
            assert_eq!(answer, expected, "{step:?} of {steps:?}");
            place = next;
            assert_looks(&cell, place);
        }
    }

    #[test]
    fn every_sequence_of_five_moves_goes_like_the_model() {
        // Miri is slow, and finds what it looks for in sequences of three.
        let length = if cfg!(miri) { 3 } else { 5 };
        for number in 0..MOVES.len().pow(length) {
            let step = |place: u32| MOVES[number / MOVES.len().pow(place) % MOVES.len()];
            let steps: Vec<_> = (0..length).map(step).collect();
            assert_goes_like_the_model(&steps);
        }
    }

    // ---- listeners in every phase ------------------------------------------------------------

    fn counting(count: &Arc<AtomicUsize>) -> Callback<u32> {
        let count = Arc::clone(count);
        Box::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn callbacks_are_taken_in_order_before_it_is_done() {
        let cell = FutureState::new();
        let (sender, seen) = channel();
        for number in 0..3 {
            let sender = sender.clone();
            let callback: Callback<u32> =
                Box::new(move |value| sender.send((number, value.copied().unwrap())).unwrap());
            assert!(matches!(cell.add_callback(callback), Register::Registered));
        }
        let settling = cell
            .settle(Ok(7), Ending::Finished)
            .unwrap_or_else(|_| panic!("first"));
        let Publish::More(settling, callbacks) = settling.publish() else {
            panic!("callbacks come first")
        };
        assert_eq!(cell.ending(), None);
        for callback in callbacks {
            callback(settling.outcome());
        }
        assert_eq!(
            seen.try_iter().collect::<Vec<_>>(),
            [(0, 7), (1, 7), (2, 7)]
        );
        complete(settling);
        assert_eq!(value_of(&cell), Some(7));
    }

    #[test]
    fn a_callback_added_while_settling_is_run_by_the_settler() {
        let cell = FutureState::new();
        let count = Arc::default();
        let settling = cell
            .settle(Ok(7), Ending::Finished)
            .unwrap_or_else(|_| panic!("first"));
        assert!(matches!(
            cell.add_callback(counting(&count)),
            Register::Registered
        ));
        assert_eq!(settling.take_callbacks().len(), 1);
        assert!(matches!(
            cell.add_callback(counting(&count)),
            Register::Registered
        ));
        complete(settling);
        assert_eq!(
            count.load(Ordering::Relaxed),
            1,
            "the one that was not taken"
        );
        assert!(matches!(
            cell.add_callback(counting(&count)),
            Register::Done(_)
        ));
        assert_eq!(count.load(Ordering::Relaxed), 1, "handed back, not called");
    }

    #[test]
    fn watchers_hear_of_the_end_unless_they_are_removed() {
        let cell = FutureState::new();
        let (sender, heard) = channel();
        let keys = [WatchKey::fresh(), WatchKey::fresh()];
        for (number, key) in [(0, keys[0]), (1, keys[1]), (2, keys[0])] {
            let sender = sender.clone();
            let watcher = Box::new(move || sender.send(number).unwrap());
            assert!(matches!(cell.watch(key, watcher), Register::Registered));
        }
        cell.unwatch(keys[0]);
        assert!(settle_and_complete(&cell, 7));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [1]);
        assert!(matches!(
            cell.watch(keys[0], Box::new(|| ())),
            Register::Done(())
        ));
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_last_waker_is_woken_once() {
        let cell = FutureState::new();
        let wakes: [Arc<Wakes>; 2] = Default::default();
        let [first, second] = wakes.clone().map(Waker::from);
        for waker in [&first, &second, &second] {
            assert!(matches!(cell.set_waker(waker), Register::Registered));
        }
        assert!(settle_and_complete(&cell, 7));
        assert_eq!(wakes.map(|w| w.0.load(Ordering::Relaxed)), [0, 1]);
        assert!(matches!(cell.set_waker(&first), Register::Done(())));
    }

    #[test]
    fn another_thread_waits_for_the_settler_and_is_no_deadlock() {
        let cell = FutureState::new();
        let settling = cell
            .settle(Ok(7), Ending::Finished)
            .unwrap_or_else(|_| panic!("first"));
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| cell.wait(Deadline::at(Instant::now())));
            assert_eq!(elsewhere.join().unwrap(), WaitEnd::TimedOut);
            let waiter = scope.spawn(|| cell.wait(Deadline::never()));
            complete(settling);
            assert_eq!(waiter.join().unwrap(), WaitEnd::Done);
        });
    }

    #[test]
    fn the_outcome_is_dropped_once() {
        let value = Arc::new(());
        let cell = FutureState::new();
        complete(
            cell.settle(Ok(Arc::clone(&value)), Ending::Finished)
                .unwrap_or_else(|_| panic!("first")),
        );
        let late = cell
            .settle(Ok(Arc::clone(&value)), Ending::Finished)
            .err()
            .unwrap();
        assert_eq!(Arc::strong_count(&value), 3);
        drop(late);
        drop(cell);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    // ---- received results and outcomes --------------------------------------------------------

    #[test]
    fn what_arrives_is_opened_by_the_first_who_looks() {
        let cell = FutureState::new();
        assert!(!look_and_complete(&cell, 7), "there is nothing");
        assert!(cell.arrive(Delivery::Encoded).is_some());
        assert!(cell.arrive(Delivery::Encoded).is_none(), "it has arrived");
        assert!(cell.ending().is_none());
        assert!(look_and_complete(&cell, 7));
        assert!(!look_and_complete(&cell, 8), "it is done");
        assert_eq!(value_of(&cell), Some(7));
    }

    /// Outcomes that need no decoding.
    fn outcomes() -> [(Outcome<u32>, Ending); 3] {
        [
            (Ok(6), Ending::Finished),
            (Err(Error::ShutDown), Ending::Finished),
            (Err(Error::Cancelled), Ending::Killed),
        ]
    }

    #[test]
    fn an_outcome_that_arrives_is_there_at_once() {
        for (outcome, ending) in outcomes() {
            let cell = FutureState::new();
            let value = outcome.as_ref().ok().copied();
            assert!(cell.arrive(Delivery::Outcome(outcome, ending)).is_some());
            assert_eq!(cell.ending(), Some(ending));
            assert!(matches!(cell.settle(Ok(7), Ending::Finished), Err(Ok(7))));
            assert!(cell.arrive(Delivery::Encoded).is_none());
            assert!(!look_and_complete(&cell, 7));
            assert_eq!(value_of(&cell), value);
        }
    }

    #[test]
    fn an_outcome_that_arrives_where_there_are_callbacks_is_published_by_who_looks() {
        for (outcome, ending) in outcomes() {
            let cell = FutureState::new();
            let value = outcome.as_ref().ok().copied();
            let called = Arc::new(AtomicUsize::new(0));
            let registered = cell.add_callback(counting(&called));
            assert!(matches!(registered, Register::Registered));
            assert!(cell.arrive(Delivery::Outcome(outcome, ending)).is_some());
            assert_eq!(cell.ending(), None, "its callbacks come first");
            assert!(matches!(cell.withdraw(), Withdraw::TooLate));
            assert!(look_and_complete(&cell, 7));
            assert_eq!(called.load(Ordering::Relaxed), 1);
            assert_eq!(cell.ending(), Some(ending));
            assert_eq!(value_of(&cell), value);
        }
    }
}

#[cfg(loom)]
mod models {
    use std::task::{Wake, Waker};

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::super::WatchKey;
    use super::*;
    use crate::error::Error;
    use crate::sync::deadline::Deadline;

    /// Starts a thread of the model that works on the same state.
    fn spawn<R: 'static>(
        cell: &Arc<FutureState<u32>>,
        f: impl FnOnce(&FutureState<u32>) -> R + 'static,
    ) -> thread::JoinHandle<R> {
        let cell = Arc::clone(cell);
        thread::spawn(move || f(&cell))
    }

    fn new() -> Arc<FutureState<u32>> {
        Arc::new(FutureState::new())
    }

    #[derive(Clone)]
    struct Count(Arc<AtomicUsize>);

    impl Count {
        fn new() -> Self {
            Self(Arc::new(AtomicUsize::new(0)))
        }

        fn add(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn settle_meets_wait() {
        loom::model(|| {
            let cell = new();
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            assert_eq!(cell.wait(Deadline::never()), WaitEnd::Done);
            assert_eq!(value_of(&cell), Some(7));
            assert!(settler.join().unwrap());
        });
    }

    /// Shows that loom notices a read that is too early. So the other models, which do not end like this,
    /// have none.
    #[test]
    #[should_panic(expected = "Causality violation")]
    fn a_look_that_does_not_wait_for_done_would_be_noticed() {
        loom::model(|| {
            let cell = new();
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            // SAFETY: not satisfied, which is to be noticed: loom panics before the outcome is read.
            let _ = unsafe { cell.outcome() };
            settler.join().unwrap();
        });
    }

    #[test]
    fn one_settle_wakes_two_who_wait() {
        loom::model(|| {
            let cell = new();
            let waiter = spawn(&cell, |cell| cell.wait(Deadline::never()));
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            assert_eq!(cell.wait(Deadline::never()), WaitEnd::Done);
            assert_eq!(waiter.join().unwrap(), WaitEnd::Done);
            assert!(settler.join().unwrap());
        });
    }

    #[test]
    fn withdraw_meets_wait() {
        loom::model(|| {
            let cell = new();
            let waiter = spawn(&cell, |cell| cell.wait(Deadline::never()));
            match cell.withdraw() {
                Withdraw::Yours(settling) => complete(settling),
                _ => panic!("nobody else is there"),
            }
            assert_eq!(waiter.join().unwrap(), WaitEnd::Done);
            assert_eq!(cell.ending(), Some(Ending::Withdrawn));
        });
    }

    #[test]
    fn withdraw_meets_start_and_one_wins() {
        loom::model(|| {
            let cell = new();
            let worker = spawn(&cell, |cell| match cell.start() {
                Start::Begun => settle_and_complete(cell, 7),
                Start::Cancelled => false,
            });
            let cancelled = match cell.withdraw() {
                Withdraw::Yours(settling) => {
                    complete(settling);
                    true
                }
                Withdraw::TooLate => false,
                Withdraw::Already => panic!("nobody else withdraws"),
            };
            assert_eq!(cell.wait(Deadline::never()), WaitEnd::Done);
            assert_ne!(worker.join().unwrap(), cancelled);
            let ending = if cancelled {
                Ending::Withdrawn
            } else {
                Ending::Finished
            };
            assert_eq!(cell.ending(), Some(ending));
        });
    }

    #[test]
    fn two_withdraws_meet_and_both_say_yes() {
        loom::model(|| {
            let cell = new();
            let withdraw = |cell: &FutureState<u32>| match cell.withdraw() {
                Withdraw::Yours(settling) => {
                    complete(settling);
                    1
                }
                Withdraw::Already => 0,
                Withdraw::TooLate => panic!("it never runs"),
            };
            let other = spawn(&cell, withdraw);
            let won = withdraw(&cell) + other.join().unwrap();
            assert_eq!((won, cell.ending()), (1, Some(Ending::Withdrawn)));
        });
    }

    #[test]
    fn put_back_meets_withdraw() {
        loom::model(|| {
            let cell = new();
            assert_eq!(cell.start(), Start::Begun);
            let worker = spawn(&cell, |cell| {
                cell.put_back();
                cell.start() == Start::Begun
            });
            let cancelled = match cell.withdraw() {
                Withdraw::Yours(settling) => {
                    complete(settling);
                    true
                }
                Withdraw::TooLate => false,
                Withdraw::Already => panic!("nobody else withdraws"),
            };
            assert_ne!(worker.join().unwrap(), cancelled);
            assert_eq!(cell.is_running(), !cancelled);
        });
    }

    #[test]
    fn two_settlers_meet_and_one_wins() {
        loom::model(|| {
            let cell = new();
            let other = spawn(&cell, |cell| settle_and_complete(cell, 1));
            let first = settle_and_complete(&cell, 2);
            let second = other.join().unwrap();
            assert_ne!(first, second);
            assert_eq!(value_of(&cell), Some(if first { 2 } else { 1 }));
        });
    }

    #[test]
    fn publish_meets_add_callback_and_it_runs_once() {
        loom::model(|| {
            let cell = new();
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            let calls = Count::new();
            let its = calls.clone();
            let callback: Callback<u32> = Box::new(move |value| {
                assert_eq!(value.copied().ok(), Some(7));
                its.add();
            });
            if let Register::Done(callback) = cell.add_callback(callback) {
                callback(Ok(&value_of(&cell).unwrap()));
            }
            assert_eq!(cell.wait(Deadline::never()), WaitEnd::Done);
            assert_eq!(calls.get(), 1, "before anybody sees it done");
            settler.join().unwrap();
            assert_eq!(calls.get(), 1);
        });
    }

    #[test]
    fn publish_meets_watch_and_it_is_told_once() {
        loom::model(|| {
            let cell = new();
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            let calls = Count::new();
            let its = calls.clone();
            let key = WatchKey::fresh();
            if let Register::Done(()) = cell.watch(key, Box::new(move || its.add())) {
                calls.add();
            }
            settler.join().unwrap();
            assert_eq!(calls.get(), 1);
        });
    }

    #[test]
    fn publish_meets_unwatch_and_tells_at_most_once() {
        loom::model(|| {
            let cell = new();
            let calls = Count::new();
            let its = calls.clone();
            let key = WatchKey::fresh();
            let registered = cell.watch(key, Box::new(move || its.add()));
            assert!(matches!(registered, Register::Registered));
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            cell.unwatch(key);
            settler.join().unwrap();
            assert!(calls.get() <= 1);
        });
    }

    struct Ringer(Count);

    impl Wake for Ringer {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.add();
        }
    }

    fn listener() -> (Count, Waker) {
        let count = Count::new();
        let waker = Waker::from(std::sync::Arc::new(Ringer(count.clone())));
        (count, waker)
    }

    #[test]
    fn publish_meets_set_waker_and_no_wake_is_lost() {
        loom::model(|| {
            let cell = new();
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            let (wakes, waker) = listener();
            let registered = matches!(cell.set_waker(&waker), Register::Registered);
            settler.join().unwrap();
            assert_eq!(wakes.get(), usize::from(registered));
            assert!(matches!(cell.set_waker(&waker), Register::Done(())));
        });
    }

    #[test]
    fn publish_meets_a_change_of_waker() {
        loom::model(|| {
            let cell = new();
            let (first_wakes, first) = listener();
            let (second_wakes, second) = listener();
            assert!(matches!(cell.set_waker(&first), Register::Registered));
            let settler = spawn(&cell, |cell| settle_and_complete(cell, 7));
            let registered = matches!(cell.set_waker(&second), Register::Registered);
            settler.join().unwrap();
            let wakes = (first_wakes.get(), second_wakes.get());
            assert_eq!(wakes, if registered { (0, 1) } else { (1, 0) });
        });
    }

    #[test]
    fn poll_meets_publish_and_wait() {
        loom::model(|| {
            let cell = new();
            let waiter = spawn(&cell, |cell| cell.wait(Deadline::never()));
            let (wakes, waker) = listener();
            let registered = matches!(cell.set_waker(&waker), Register::Registered);
            assert!(registered && settle_and_complete(&cell, 7));
            assert_eq!((waiter.join().unwrap(), wakes.get()), (WaitEnd::Done, 1));
        });
    }

    #[test]
    fn two_who_look_meet_what_arrives_and_one_opens_it() {
        loom::model(|| {
            let cell = new();
            let look = |cell: &FutureState<u32>| loop {
                if look_and_complete(cell, 7) {
                    return 1;
                }
                match cell.wait(Deadline::never()) {
                    WaitEnd::Done => return 0,
                    WaitEnd::Arrived => {}
                    other => panic!("{other:?}"),
                }
            };
            let other = spawn(&cell, look);
            assert!(cell.arrive(Delivery::Encoded).is_some());
            assert_eq!(look(&cell) + other.join().unwrap(), 1);
            assert_eq!(value_of(&cell), Some(7));
        });
    }

    #[test]
    fn an_outcome_that_arrives_meets_a_callback() {
        loom::model(|| {
            let cell = new();
            let worker = spawn(&cell, |cell| {
                let arrived = cell.arrive(Delivery::Outcome(Ok(7), Ending::Finished));
                arrived.map(|arrived| arrived.has_callbacks)
            });
            let registered = match cell.add_callback(Box::new(|_| ())) {
                Register::Registered => true,
                Register::Done(_) => false,
                Register::Arrived(_) => panic!("only who has callbacks waits for a look"),
            };
            assert_eq!(worker.join().unwrap(), Some(registered));
            assert_eq!(look_and_complete(&cell, 8), registered);
            assert_eq!(value_of(&cell), Some(7));
        });
    }

    #[test]
    fn an_outcome_that_arrives_meets_a_withdrawal() {
        loom::model(|| {
            let cell = new();
            let worker = spawn(&cell, |cell| {
                let killed = Delivery::Outcome(Err(Error::Cancelled), Ending::Killed);
                cell.arrive(killed).is_some()
            });
            let is_withdrawn = match cell.withdraw() {
                Withdraw::Yours(settling) => {
                    complete(settling);
                    true
                }
                _ => false,
            };
            assert_ne!(worker.join().unwrap(), is_withdrawn);
            assert!(!look_and_complete(&cell, 7), "it is done either way");
            let ending = if is_withdrawn {
                Ending::Withdrawn
            } else {
                Ending::Killed
            };
            assert_eq!(cell.ending(), Some(ending));
        });
    }
}
