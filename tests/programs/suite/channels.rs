//! Channels: what tasks send comes, whole and in order, while they run; and it ends when they do.

mod ends;
mod worker;

use std::thread;
use std::time::Duration;

use concurrent_futures::{
    Executor, ProcessPoolExecutor, Receiver, RecvError, SendError, Sender, channel,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::gate::{Gate, Held, Hold, Ticket};
use crate::support::{Kind, LONG, Processes, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        every_value_comes_once_and_in_order::<K>,
        a_sender_stands_anywhere_in_an_argument::<K>,
        items_and_context_of_a_map_bring_senders::<K>,
        a_sender_without_a_receiver_is_told::<K>,
        values_of_all_shapes_come_back::<K>,
    ]
}

/// What holds for the pools.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let mut all = trials![K::NAME;
        a_value_comes_while_its_task_runs::<K>,
        a_sender_waits_for_room::<K>,
        a_runtime_awaits_values_and_the_end::<K>,
        two_threads_share_a_receiver::<K>,
    ];
    all.extend(ends::pools::<K>());
    all
}

/// What holds for processes.
pub fn processes() -> Vec<Trial> {
    let mut all = ends::processes();
    all.extend(worker::trials());
    all
}

/// What holds in the caller.
pub fn serial() -> Vec<Trial> {
    trials!["serial"; a_task_in_the_caller_does_not_wait_for_room]
}

/// A pool of each way to a worker.
fn ways(workers: usize) -> [ProcessPoolExecutor; 2] {
    let over_links = ProcessPoolExecutor::builder()
        .max_workers(workers)
        .task_timeout(LONG);
    [Processes::pool(workers), over_links.build().unwrap()]
}

/// The values up to the end.
fn all<T: concurrent_futures::Payload>(receiver: &Receiver<T>) -> Vec<T> {
    receiver.iter().collect::<Result<_, _>>().unwrap()
}

/// Sends so many numbers, each with the number of the task.
fn count((task, to, sender): (u64, u64, Sender<(u64, u64)>)) {
    for n in 0..to {
        sender.send((task, n)).unwrap();
    }
}

fn every_value_comes_once_and_in_order<K: Kind>() {
    const TASKS: u64 = 6;
    const EACH: u64 = 2000;
    let pool = K::pool(3);
    let (sender, receiver) = channel(16);
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| pool.submit(count, (task, EACH, sender.clone())))
        .collect();
    drop(sender);
    let mut next = [0; TASKS as usize];
    for value in &receiver {
        let (task, n) = value.unwrap();
        assert_eq!(n, next[task as usize], "of task {task}");
        next[task as usize] += 1;
    }
    assert_eq!(next, [EACH; TASKS as usize]);
    for task in tasks {
        task.result().unwrap();
    }
}

/// An argument with senders inside.
#[derive(Serialize, Deserialize)]
struct Job {
    /// Each is sent its own number.
    senders: Vec<Sender<usize>>,
    /// Of another type.
    log: Option<Box<Sender<String>>>,
}

fn a_sender_stands_anywhere_in_an_argument<K: Kind>() {
    let run = |job: Job| {
        for (at, sender) in job.senders.iter().enumerate() {
            sender.send(at).unwrap();
        }
        let log = job.log.unwrap();
        log.send("done".to_owned()).unwrap();
    };
    let pool = K::pool(1);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| channel(9)).unzip();
    let (log, lines) = channel(1);
    let job = Job {
        senders: senders
            .into_iter()
            .flat_map(|it| [it.clone(), it])
            .collect(),
        log: Some(Box::new(log)),
    };
    let task = pool.submit(run, job);
    assert_eq!(all(&lines), ["done"]);
    for (at, receiver) in receivers.iter().enumerate() {
        assert_eq!(all(receiver), [2 * at, 2 * at + 1]);
    }
    task.result().unwrap();
}

fn items_and_context_of_a_map_bring_senders<K: Kind>() {
    fn tell(context: &Sender<u64>, n: u64) {
        context.send(n).unwrap();
    }
    let tell_own = |(sender, n): (Sender<u64>, u64)| sender.send(n).unwrap();
    let pool = K::pool(2);
    let (sender, of_context) = channel(8);
    let (each, of_items) = channel(8);
    thread::scope(|scope| {
        let sorted = |receiver| {
            let mut values = all(&receiver);
            values.sort_unstable();
            assert!(values.into_iter().eq(0..500));
        };
        scope.spawn(move || sorted(of_context));
        scope.spawn(move || sorted(of_items));
        let results = pool.map_with_context(tell, sender, 0..500);
        assert_eq!(results.filter(Result::is_ok).count(), 500);
        let items = (0..500).map(move |n| (each.clone(), n));
        assert_eq!(pool.map(tell_own, items).filter(Result::is_ok).count(), 500);
    });
}

fn a_sender_without_a_receiver_is_told<K: Kind>() {
    let send = |sender: Sender<String>| {
        let refused = sender.send("kept".to_owned()).unwrap_err();
        assert!(matches!(refused, SendError::Disconnected(_)));
        assert!(matches!(
            sender.try_send(String::new()),
            Err(SendError::Disconnected(_))
        ));
        refused.into_inner()
    };
    let pool = K::pool(1);
    let (sender, receiver) = channel(1);
    drop(receiver);
    assert_eq!(pool.submit(send, sender).result().unwrap(), "kept");
}

fn values_of_all_shapes_come_back<K: Kind>() {
    type Shapes = (Vec<(u8, String)>, Option<f64>, [bool; 3]);
    let echo = |(sender, values): (Sender<Shapes>, Vec<Shapes>)| {
        values.into_iter().for_each(|it| sender.send(it).unwrap());
    };
    let large = (0..50_000).map(|n| (n as u8, "x".repeat(n % 50))).collect();
    let values: Vec<Shapes> = vec![
        (Vec::new(), None, [false; 3]),
        (large, Some(0.5), [true; 3]),
        (vec![(1, "one".to_owned())], None, [false; 3]),
    ];
    let pool = K::pool(1);
    let (sender, receiver) = channel(1);
    let task = pool.submit(echo, (sender, values.clone()));
    assert!(all(&receiver) == values);
    task.result().unwrap();
    // Bytes, of all lengths about that of a buffer, and some that no socket takes at once.
    let lengths = [0, 1, 65_519, 65_520, 65_521, 300_000, 5 << 20];
    let send = |(sender, lengths): (Sender<Vec<u8>>, Vec<usize>)| {
        for length in lengths {
            sender.send(vec![length as u8; length]).unwrap();
        }
    };
    let (sender, receiver) = channel(1);
    let task = pool.submit(send, (sender, lengths.to_vec()));
    let expected = lengths.map(|length| vec![length as u8; length]);
    assert!(all(&receiver) == expected);
    task.result().unwrap();
}

fn a_task_in_the_caller_does_not_wait_for_room() {
    let pool = crate::support::Serial::pool(1);
    let (sender, receiver) = channel(2);
    let task = pool.submit(count, (0, 100, sender.clone()));
    assert!(task.done());
    assert!(matches!(sender.try_send((1, 0)), Err(SendError::Full(_))));
    drop(sender);
    assert_eq!(all(&receiver).len(), 100);
}

/// Sends, waits to be let go, and sends again.
fn send_around((sender, held): (Sender<u32>, Held)) {
    sender.send(1).unwrap();
    crate::support::gate::hold(held);
    sender.send(2).unwrap();
}

fn a_value_comes_while_its_task_runs<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let (sender, receiver) = channel(4);
    let task = pool.submit(send_around, (sender, held.argument()));
    assert_eq!(receiver.recv(), Ok(1));
    held.await_begun();
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    held.release();
    assert_eq!(receiver.recv_timeout(LONG), Ok(2));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    assert_eq!(receiver.try_recv(), Err(RecvError::Disconnected));
    task.result().unwrap();
}

fn a_sender_waits_for_room<K: Kind>() {
    const CAPACITY: usize = 3;
    /// More than a socket takes, and what is read from it at once.
    const MORE: usize = 10_000;
    let fill = |(sender, told): (Sender<usize>, Sender<usize>)| {
        let sent = (0..).find(|n| sender.try_send(*n).is_err()).unwrap();
        told.send(sent).unwrap();
        for n in sent..sent + MORE {
            sender.send(n).unwrap();
        }
    };
    let pool = K::pool(1);
    let (sender, receiver) = channel(CAPACITY);
    let (tell, told) = channel(1);
    let task = pool.submit(fill, (sender, tell));
    let sent = told.recv().unwrap();
    assert!((CAPACITY..CAPACITY + MORE).contains(&sent), "{sent}");
    // Time enough for a task that would not wait.
    assert!(!task.wait_timeout(Duration::from_millis(50)));
    assert!(all(&receiver).into_iter().eq(0..sent + MORE));
    task.result().unwrap();
}

fn a_runtime_awaits_values_and_the_end<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let (sender, receiver) = channel(4);
    let task = pool.submit(send_around, (sender, held.argument()));
    assert_eq!(block_on(receiver.recv_async()), Ok(1));
    let wakes = Wakes::new();
    let mut second = Box::pin(receiver.recv_async());
    assert!(poll_once(&mut second, &wakes).is_pending());
    held.release();
    wakes.await_wake();
    drop(second); // nothing is lost by that
    assert_eq!(block_on(receiver.recv_async()), Ok(2));
    assert_eq!(
        block_on(receiver.recv_async()),
        Err(RecvError::Disconnected)
    );
    task.result().unwrap();
}

fn two_threads_share_a_receiver<K: Kind>() {
    let pool = K::pool(1);
    let (sender, receiver) = channel(2);
    let task = pool.submit(count, (0, 1000, sender));
    let receive = || all(&receiver).len();
    let total: usize = thread::scope(|scope| {
        let threads = [scope.spawn(receive), scope.spawn(receive)];
        threads.map(|it| it.join().unwrap()).into_iter().sum()
    });
    assert_eq!(total, 1000);
    task.result().unwrap();
}

/// Waits at a gate; has a sender meanwhile.
fn wait_with((_sender, gate): (Sender<u32>, Ticket)) {
    gate.wait();
}

/// Submits a task that has a sender and waits at the gate.
fn waiting_task(
    pool: &impl Executor,
    gate: &Gate,
) -> (concurrent_futures::Future<()>, Receiver<u32>) {
    let (sender, receiver) = channel(1);
    (pool.submit(wait_with, (sender, gate.ticket())), receiver)
}
