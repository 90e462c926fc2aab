//! loom models of a channel: nothing is lost, and no wait is without end. The channel has room for one value.

use std::sync::Arc;

use loom::thread;

use crate::channel::receiver::{Receiver, RecvError};
use crate::channel::sender::{SendError, Sender, SenderKind};
use crate::channel::state::Channel;

fn model(f: impl Fn(Sender<u8>, Receiver<u8>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(move || {
        let channel = Channel::new(1);
        f(Sender::new(Arc::clone(&channel)), Receiver::new(channel));
    });
}

#[test]
fn values_come_in_order_and_then_the_end() {
    model(|sender, receiver| {
        let sends = thread::spawn(move || {
            assert_eq!(sender.send(1), Ok(()));
            assert_eq!(sender.send(2), Ok(()));
        });
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        assert!(sends.join().is_ok());
    });
}

#[test]
fn each_of_two_senders_finds_room() {
    model(|sender, receiver| {
        let other = sender.clone();
        let sends = [(sender, 1), (other, 2)]
            .map(|(sender, n)| thread::spawn(move || assert_eq!(sender.send(n), Ok(()))));
        let values = [receiver.recv(), receiver.recv()];
        assert!(values == [Ok(1), Ok(2)] || values == [Ok(2), Ok(1)]);
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        assert!(sends.into_iter().all(|it| it.join().is_ok()));
    });
}

#[test]
fn a_sender_that_waits_is_told_that_the_receiver_is_gone() {
    model(|sender, receiver| {
        let sends = thread::spawn(move || {
            let outcomes = [sender.send(1), sender.send(2)];
            assert_eq!(outcomes[1], Err(SendError::Disconnected(2)));
        });
        drop(receiver);
        assert!(sends.join().is_ok());
    });
}

#[test]
fn the_end_of_the_last_message_wakes_the_receiver() {
    model(|sender, receiver| {
        let SenderKind::Local(local) = &sender.0 else {
            unreachable!("it is of this process")
        };
        let hold = local.0.message_hold();
        let drops = [
            thread::spawn(move || drop(hold)),
            thread::spawn(move || drop(sender)),
        ];
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        assert!(drops.into_iter().all(|it| it.join().is_ok()));
    });
}
