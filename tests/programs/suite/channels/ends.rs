//! The end of a channel: when the last sender is gone, in whatever way.

use std::sync::Mutex;
use std::sync::mpsc;

use concurrent_futures::{
    Error, Executor, Process, ProcessPoolExecutor, RecvError, Sender, channel,
};
use libtest_mimic::Trial;

use super::{all, count, waiting_task, ways};
use crate::support::asynchronous::{Wakes, poll_once};
use crate::support::gate::{Gate, Hold};
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        it_ends_although_nobody_asks_for_the_result::<K>,
        it_ends_when_a_queued_task_is_cancelled::<K>,
        it_ends_for_a_callback_of_the_task::<K>,
        it_ends_after_a_panic::<K>,
        a_dropped_receiver_lets_a_blocked_task_go::<K>,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        what_was_sent_before_a_death_comes,
        half_of_a_value_does_not_come,
        it_ends_with_a_killed_task,
        it_ends_for_a_callback_whichever_way_the_task_went,
        a_task_that_is_tried_again_sends_again,
        a_large_argument_that_found_no_room_holds_it_open,
        a_stored_sender_keeps_it_open,
        a_single_process_sends,
        an_initializer_sends,
    ]
}

fn it_ends_although_nobody_asks_for_the_result<K: Kind>() {
    let pool = K::pool(2);
    let gate = Gate::new();
    let (task, receiver) = waiting_task(&pool, &gate);
    let wakes = Wakes::new();
    let mut end = Box::pin(receiver.recv_async());
    assert!(poll_once(&mut end, &wakes).is_pending());
    gate.open();
    wakes.await_wake();
    drop(end);
    assert_eq!(receiver.try_recv(), Err(RecvError::Disconnected));
    task.result().unwrap();
}

fn it_ends_when_a_queued_task_is_cancelled<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let gate = Gate::new();
    let (task, receiver) = waiting_task(&pool, &gate);
    let wakes = Wakes::new();
    let mut end = Box::pin(receiver.recv_async());
    assert!(poll_once(&mut end, &wakes).is_pending());
    assert!(task.cancel());
    wakes.await_wake();
    drop(end);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    held.release();
    running.result().unwrap();
}

fn it_ends_for_a_callback_of_the_task<K: Kind>() {
    end_for_a_callback(&K::pool(1));
}

fn it_ends_for_a_callback_whichever_way_the_task_went() {
    for pool in ways(1) {
        end_for_a_callback(&pool);
    }
}

/// The callback of a task waits for the end of the task's channel.
fn end_for_a_callback(pool: &impl Executor) {
    let gate = Gate::new();
    let (task, receiver) = waiting_task(pool, &gate);
    let (tell, told) = mpsc::channel();
    task.add_done_callback(move |_| tell.send(receiver.recv()).unwrap());
    gate.open();
    assert_eq!(told.recv().unwrap(), Err(RecvError::Disconnected));
    task.result().unwrap();
}

fn it_ends_after_a_panic<K: Kind>() {
    let fall = |sender: Sender<u8>| -> u8 {
        sender.send(1).unwrap();
        panic!("on purpose");
    };
    let pool = K::pool(1);
    let (sender, receiver) = channel(1);
    let task = pool.submit(fall, sender);
    assert_eq!(all(&receiver), [1]);
    assert_error!(task.result(), Error::Panicked(_));
}

fn a_dropped_receiver_lets_a_blocked_task_go<K: Kind>() {
    let send = |sender: Sender<u64>| (0..).find(|n| sender.send(*n).is_err());
    let pool = K::pool(1);
    let (sender, receiver) = channel(1);
    let task = pool.submit(send, sender);
    assert_eq!(receiver.recv(), Ok(0));
    drop(receiver);
    assert!(task.result().unwrap().unwrap() > 0);
    assert_works(&pool);
}

fn what_was_sent_before_a_death_comes() {
    let send_and_die = |argument| {
        count(argument);
        os::kill(std::process::id(), libc::SIGKILL);
    };
    for pool in ways(2) {
        for sent in [0, 1, 3000] {
            let (sender, receiver) = channel(4);
            let task = pool.submit(send_and_die, (0, sent, sender.clone()));
            // Another worker goes on meanwhile.
            let other = pool.submit(count, (1, 3000, sender));
            let values = all(&receiver);
            for (task, sent) in [(0, sent), (1, 3000)] {
                let own = values.iter().filter(|it| it.0 == task).map(|it| it.1);
                assert!(own.eq(0..sent), "of task {task}, which sent {sent}");
            }
            assert_error!(task.result(), Error::WorkerDied(_));
            other.result().unwrap();
        }
    }
}

fn half_of_a_value_does_not_come() {
    const LARGE: usize = 64 << 20;
    let send = |sender: Sender<Vec<u8>>| {
        let pid = std::process::id().to_le_bytes();
        sender.send(pid.to_vec()).unwrap();
        sender.send(vec![7; LARGE]).unwrap();
        sender.send(vec![8; LARGE]).unwrap();
        std::thread::park();
    };
    for pool in ways(1) {
        let (sender, receiver) = channel(1);
        let task = pool.submit(send, sender);
        let pid = receiver.recv().unwrap().try_into().unwrap();
        os::kill(u32::from_le_bytes(pid), libc::SIGKILL);
        for value in receiver.iter() {
            assert_eq!(value.unwrap().len(), LARGE);
        }
        assert_error!(task.result(), Error::WorkerDied(_));
        assert_works(&pool);
    }
}

fn it_ends_with_a_killed_task() {
    for pool in ways(1) {
        let gate = Gate::new();
        let (task, receiver) = waiting_task(&pool, &gate);
        while !task.running() {
            std::thread::yield_now();
        }
        assert!(task.kill());
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
        assert_error!(task.result(), Error::Cancelled);
    }
}

fn a_task_that_is_tried_again_sends_again() {
    use concurrent_futures::TaskOptions;
    let send_and_die = |sender: Sender<u32>| {
        sender.send(std::process::id()).unwrap();
        os::kill(std::process::id(), libc::SIGKILL);
    };
    for pool in ways(1) {
        let (sender, receiver) = channel(9);
        let task = pool.submit_with(TaskOptions::new().retries(2), send_and_die, sender);
        let mut pids = all(&receiver);
        pids.dedup();
        assert_eq!(pids.len(), 3);
        assert_error!(task.result(), Error::WorkerDied(_));
    }
}

fn a_large_argument_that_found_no_room_holds_it_open() {
    /// Of such arguments shared memory holds less than [`MANY`] for a pool of one worker.
    const LARGE: usize = 100_000;
    const MANY: usize = 20;
    let (pool, held) = (Processes::pool(1), Hold::new());
    let running = held.occupy(&pool);
    let length = |bytes: Vec<u8>| bytes.len();
    let filling = [(); MANY].map(|()| pool.submit(length, vec![0; LARGE]));
    let (sender, receiver) = channel(1);
    let send = |(sender, bytes): (Sender<usize>, Vec<u8>)| sender.send(bytes.len()).unwrap();
    let task = pool.submit(send, (sender, vec![0; LARGE]));
    // Now there is room.
    assert!(filling.iter().all(|future| future.cancel()));
    held.release();
    running.result().unwrap();
    assert_eq!(all(&receiver), [LARGE]);
    task.result().unwrap();
}

fn a_stored_sender_keeps_it_open() {
    static STORED: Mutex<Option<Sender<u64>>> = Mutex::new(None);
    let store = |sender| *STORED.lock().unwrap() = Some(sender);
    let send = |n| STORED.lock().unwrap().as_ref().unwrap().send(n).unwrap();
    let drop_it = |()| drop(STORED.lock().unwrap().take());
    for pool in ways(1) {
        let (sender, receiver) = channel(9);
        pool.submit(store, sender).result().unwrap();
        assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
        pool.submit(send, 7).result().unwrap();
        assert_eq!(receiver.recv(), Ok(7));
        pool.submit(drop_it, ()).result().unwrap();
        assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    }
}

fn a_single_process_sends() {
    let (sender, receiver) = channel(2);
    let child = Process::new(count, (0, 500, sender)).start().unwrap();
    assert_eq!(all(&receiver).len(), 500);
    child.join().unwrap();
    let (sender, receiver) = channel::<(u64, u64)>(2);
    let child = Process::new(|_: Sender<(u64, u64)>| std::process::exit(9), sender);
    let child = child.start().unwrap();
    assert_eq!(all(&receiver), []);
    let outcome: Result<(), Error> = child.join();
    assert_error!(outcome, Error::WorkerDied(_));
}

/// What an initializer was given is kept for the next worker, as long as the pool.
fn an_initializer_sends() {
    let begin = |sender: Sender<u32>| sender.send(std::process::id()).unwrap();
    let (sender, receiver) = channel(9);
    let builder = ProcessPoolExecutor::builder().max_workers(2);
    let pool = builder.initializer(begin, sender).build().unwrap();
    pool.warm_up().unwrap();
    let mut pids = pool.worker_pids();
    let mut sent = [receiver.recv().unwrap(), receiver.recv().unwrap()];
    pids.sort_unstable();
    sent.sort_unstable();
    assert_eq!(sent, pids[..]);
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    drop(pool);
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}
