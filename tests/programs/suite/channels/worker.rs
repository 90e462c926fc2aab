//! Senders in worker processes: what they refuse, what they leave, and workers that do what they must not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::Mutex;

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolExecutor, RecvError, SendError, Sender, Shared, channel,
};
use libtest_mimic::Trial;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{all, count, ways};
use crate::fates::connections::sockets;
use crate::support::{Kind, Processes, Threads, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        what_cannot_be_encoded_is_given_back,
        what_is_too_large_is_given_back,
        what_cannot_be_decoded_is_said_once,
        shared_memory_and_senders_are_sent_by_threads_alone,
        a_sender_cannot_be_a_result,
        a_sender_travels_in_arguments_alone,
        a_sender_does_not_travel_on,
        senders_of_a_channel_share_a_socket,
        items_that_one_worker_takes_share_a_socket,
        tasks_that_have_ended_keep_no_socket,
        nonsense_ends_what_its_worker_sends,
        a_forked_copy_of_a_worker_sends_nothing,
    ]
}

/// Cannot be encoded, or cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
struct Fickle {
    /// Whether it can be encoded.
    goes: bool,
    /// Whether it can be decoded.
    comes: bool,
}

impl Serialize for Fickle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.goes {
            true => self.comes.serialize(serializer),
            false => Err(serde::ser::Error::custom("it stays")),
        }
    }
}

impl<'de> Deserialize<'de> for Fickle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self {
                goes: true,
                comes: true,
            }),
            false => Err(D::Error::custom("it never came")),
        }
    }
}

fn what_cannot_be_encoded_is_given_back() {
    let send = |sender: Sender<Fickle>| {
        let [goes, comes] = [false, true];
        match sender.send(Fickle { goes, comes }) {
            Err(SendError::Refused(Fickle { goes: false, .. }, error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for pool in ways(1) {
        let (sender, receiver) = channel(1);
        let words = pool.submit(send, sender).result().unwrap();
        assert!(
            words.contains("Fickle") && words.contains("it stays"),
            "{words}"
        );
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    }
}

fn what_is_too_large_is_given_back() {
    let send = |sender: Sender<String>| {
        let refused = sender.send("x".repeat(1001)).unwrap_err();
        assert!(matches!(
            &refused,
            SendError::Refused(_, Error::TooLarge(value)) if value.limit() == 1000
        ));
        sender.send("y".repeat(1000)).unwrap();
        refused.into_inner().len()
    };
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.payload_limit(1000).build().unwrap();
    let (sender, receiver) = channel(1);
    let task = pool.submit(send, sender);
    assert_eq!(all(&receiver), ["y".repeat(1000)]);
    assert_eq!(task.result().unwrap(), 1001);
}

fn what_cannot_be_decoded_is_said_once() {
    let send = |sender: Sender<Fickle>| {
        for comes in [true, false, true] {
            sender.send(Fickle { goes: true, comes }).unwrap();
        }
    };
    for pool in ways(1) {
        let (sender, receiver) = channel(1);
        let task = pool.submit(send, sender);
        let mut values = receiver.iter();
        assert!(values.next().unwrap().is_ok());
        assert_error!(values.next().unwrap(), Error::Decode(_));
        assert!(values.next().unwrap().is_ok());
        assert!(values.next().is_none());
        task.result().unwrap();
    }
}

fn shared_memory_and_senders_are_sent_by_threads_alone() {
    type Both = (Shared<u64>, Option<Sender<u64>>);
    let send_memory = |(to, memory): (Sender<Both>, Shared<u64>)| {
        to.send((memory, None)).map_err(|error| error.to_string())
    };
    let memory = Shared::from_vec((0..10_000_u64).collect());
    let (sender, receiver) = channel(2);
    let threads = Threads::pool(1);
    let sent = threads.submit(send_memory, (sender.clone(), memory.clone()));
    sent.result().unwrap().unwrap();
    assert_eq!(receiver.recv().unwrap().0.as_ptr(), memory.as_ptr());
    for pool in ways(1) {
        let refused = pool.submit(send_memory, (sender.clone(), memory.clone()));
        let words = refused.result().unwrap().unwrap_err();
        assert!(words.contains("a Shared is serialised only"), "{words}");
        let send_sender = |(to, inside): (Sender<Both>, Sender<u64>)| {
            let few = Shared::from_vec(Vec::new());
            to.send((few, Some(inside)))
                .map_err(|error| error.to_string())
        };
        let refused = pool.submit(send_sender, (sender.clone(), channel(1).0));
        assert!(refused.result().unwrap().is_err());
    }
}

fn a_sender_cannot_be_a_result() {
    for pool in ways(1) {
        let (sender, receiver) = channel::<u64>(1);
        let back = pool.submit(|sender: Sender<u64>| sender, sender);
        assert_error!(back.result(), Error::Encode(_));
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        let made = pool.submit(|()| channel::<u64>(1).0, ());
        let Err(Error::Encode(words)) = made.result() else {
            panic!("it is of no use here")
        };
        assert!(words.as_str().contains("cannot be a result"), "{words:?}");
        let items = pool.map(|_: u8| channel::<u64>(1).0, 0..3);
        assert!(
            items
                .into_iter()
                .all(|it| matches!(it, Err(Error::Encode(_))))
        );
        assert_works(&pool);
    }
}

fn a_sender_travels_in_arguments_alone() {
    let (sender, _receiver) = channel::<u64>(1);
    let refused = serde_json::to_string(&sender).unwrap_err().to_string();
    assert!(refused.contains("only as an argument"), "{refused}");
    let refused = serde_json::from_str::<Sender<u64>>("[1, 2]").unwrap_err();
    assert!(refused.to_string().contains("only by a task"), "{refused}");
}

/// Not to a process of the worker's own; one that this has made does, there.
fn a_sender_does_not_travel_on() {
    let pass_on = |sender: Sender<(u64, u64)>| {
        let pool = Processes::pool(1);
        let refused = pool.submit(count, (0, 1, sender)).result();
        assert_error!(refused, Error::Encode(_));
        let (own, receiver) = channel(4);
        let task = pool.submit(count, (0, 100, own));
        let received = all(&receiver).len();
        task.result().unwrap();
        received
    };
    let pool = Processes::pool(1);
    let (sender, receiver) = channel(1);
    assert_eq!(pool.submit(pass_on, sender).result().unwrap(), 100);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

fn senders_of_a_channel_share_a_socket() {
    let open = |_: Vec<Sender<u8>>| sockets().len();
    for pool in ways(1) {
        let before = pool.submit(open, Vec::new()).result().unwrap();
        let (one, _receiver) = channel(1);
        let (other, _receiver) = channel(1);
        let senders = [&one, &one, &other, &one].map(Clone::clone);
        let during = pool.submit(open, senders.to_vec()).result().unwrap();
        let after = pool.submit(open, Vec::new()).result().unwrap();
        assert_eq!((during, after), (before + 2, before));
    }
}

fn items_that_one_worker_takes_share_a_socket() {
    let socket_of = |sender: Sender<u8>| {
        let numbers = sockets().into_iter().map(inode_of).max();
        drop(sender);
        numbers.unwrap()
    };
    let pool = Processes::pool(1);
    let (sender, receiver) = channel(1);
    // As many as fit one slot of the queue.
    let senders = (0..50).map(move |_| sender.clone());
    let options = MapOptions::new().chunksize(50);
    let sockets = pool.map_with(options, socket_of, senders);
    let sockets: BTreeSet<u64> = sockets.collect::<Result<_, _>>().unwrap();
    assert_eq!(sockets.len(), 1);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

fn tasks_that_have_ended_keep_no_socket() {
    let send = |(n, sender): (u64, Sender<u64>)| sender.send(n).unwrap();
    for pool in ways(1) {
        assert_works(&pool);
        let before = sockets().len();
        let (sender, receiver) = channel(1);
        for n in 0..100 {
            pool.submit(send, (n, sender.clone())).result().unwrap();
        }
        // The values wait for room, and the thread that reads has closed the sockets, or is about to.
        while sockets().len() > before {
            std::thread::yield_now();
        }
        drop(sender);
        let mut values = all(&receiver);
        values.sort_unstable();
        assert!(values.into_iter().eq(0..100));
    }
}

/// The number of a socket; of sockets of this process, the one made last has the highest.
fn inode_of(socket: RawFd) -> u64 {
    let target = fs::read_link(format!("/proc/self/fd/{socket}")).unwrap();
    let target = target.to_str().unwrap();
    let number = target.trim_start_matches("socket:[").trim_end_matches(']');
    number.parse().unwrap()
}

/// The sockets of a worker before it was given a sender.
static BEFORE: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn note_sockets(_: ()) {
    BEFORE.lock().unwrap().extend(sockets());
}

/// Sends one value, then bytes past the sender.
fn write_past((sender, bytes): (Sender<u64>, Vec<u8>)) {
    sender.send(1).unwrap();
    let known = BEFORE.lock().unwrap();
    let new: Vec<_> = sockets()
        .into_iter()
        .filter(|fd| !known.contains(fd))
        .collect();
    let [fd] = new[..] else { panic!("{new:?}") };
    // SAFETY: the descriptor is open, and stays so: it is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    (&*file).write_all(&bytes).unwrap();
    let _ = sender.send(2); // it may be found out by now
}

fn nonsense_ends_what_its_worker_sends() {
    let header = |length: u64| [b"cf-value".as_slice(), &length.to_le_bytes()].concat();
    let nonsense = [
        vec![0; 100],
        vec![0xff; 70_000],
        header(u64::MAX),
        header(1 << 60),
    ];
    for pool in ways(1) {
        pool.submit(note_sockets, ()).result().unwrap();
        for bytes in nonsense.clone() {
            let (sender, receiver) = channel(4);
            let task = pool.submit(write_past, (sender, bytes));
            assert_eq!(receiver.recv(), Ok(1));
            let Err(RecvError::Refused(Error::Decode(_))) = receiver.recv() else {
                panic!("it is no value")
            };
            assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
            task.result().unwrap();
        }
        // Announced, within the limit, and never sent: the next value becomes a part of it.
        let (sender, receiver) = channel(4);
        let task = pool.submit(write_past, (sender, header(1 << 33)));
        assert_eq!(all(&receiver), [1]);
        task.result().unwrap();
        // A value of another length than that of the type.
        let (sender, receiver) = channel(4);
        let task = pool.submit(write_past, (sender, [header(3), vec![0; 3]].concat()));
        assert_eq!(receiver.recv(), Ok(1));
        assert!(matches!(
            receiver.recv(),
            Err(RecvError::Refused(Error::Decode(_)))
        ));
        assert_eq!(receiver.recv(), Ok(2));
        task.result().unwrap();
        assert_works(&pool);
    }
}

fn a_forked_copy_of_a_worker_sends_nothing() {
    let fork = |sender: Sender<u64>| {
        sender.send(1).unwrap();
        let copy = os::fork();
        if copy == 0 {
            let is_refused = matches!(sender.send(2), Err(SendError::Disconnected(2)));
            drop(sender);
            os::exit_now(i32::from(!is_refused));
        }
        assert!(os::reap(copy).success());
        sender.send(3).unwrap();
    };
    let pool = Processes::pool(1);
    let (sender, receiver) = channel(4);
    let task = pool.submit(fork, sender);
    assert_eq!(all(&receiver), [1, 3]);
    task.result().unwrap();
}
