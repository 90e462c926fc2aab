//! Workers that die, and what becomes of their tasks.

use concurrent_futures::{Error, Executor, Future, MapOptions, Shutdown, WorkerDeath};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::leaks::Baseline;
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        one_of_a_hundred_tasks_kills_its_worker,
        the_dead_worker_is_described,
        tasks_behind_a_dead_one_run,
        an_idle_worker_is_killed,
        an_idle_worker_is_killed_unnoticed,
        all_idle_workers_are_killed_again_and_again,
        all_busy_workers_are_killed_again_and_again,
        a_worker_is_killed_between_two_items_of_a_chunk,
        a_killed_item_costs_its_map_one_item,
        a_worker_dies_during_shutdown,
        a_worker_is_terminated_from_outside,
        an_exit_with_code_zero_is_a_death,
        a_task_forks_and_both_copies_return,
        a_task_forks_and_the_copy_stays,
    ]
}

fn die(_: u64) -> u64 {
    os::kill(std::process::id(), libc::SIGKILL);
    unreachable!("SIGKILL is not survived")
}

/// The death that a future tells of.
pub fn death<T>(future: Future<T>) -> WorkerDeath {
    match future.result() {
        Err(Error::WorkerDied(death)) => death,
        Err(other) => panic!("no death but {other:?}"),
        Ok(_) => panic!("no death but a value"),
    }
}

fn one_of_a_hundred_tasks_kills_its_worker() {
    /// Doubles its number, and dies first if it has a lamp.
    fn maybe_die((n, lamp): (u64, Option<Lamp>)) -> u64 {
        if let Some(lamp) = lamp {
            lamp.light();
            die(n);
        }
        2 * n
    }
    let pool = Processes::pool(2);
    let beacon = Beacon::new();
    let lamp = |n| (n == 37).then(|| beacon.lamp());
    let futures: Vec<_> = (0..100)
        .map(|n| pool.submit(maybe_die, (n, lamp(n))))
        .collect();
    let mut deaths = Vec::new();
    for (n, future) in (0..).zip(futures) {
        match future.result() {
            Ok(value) => assert_eq!(value, 2 * n),
            Err(Error::WorkerDied(death)) => deaths.push((n, death)),
            Err(other) => panic!("{n}: {other:?}"),
        }
    }
    let [(37, death)] = &deaths[..] else {
        panic!("{deaths:?}")
    };
    assert_eq!((death.signal(), death.exit_code()), (Some(9), None));
    assert_eq!(death.pid(), beacon.await_lit());
    assert_works(&pool);
    // The other worker may have done the rest: no replacement was needed until now.
    pool.warm_up().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (100, 1), "{stats:?}");
    assert_eq!(stats.worker_restarts, 1, "{stats:?}");
}

fn the_dead_worker_is_described() {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    let options = concurrent_futures::TaskOptions::new().name("doomed");
    let (line, future) = (line!(), pool.submit_with(options, die, 1));
    let death = death(future);
    assert_eq!((death.pid(), death.worker(), death.attempts()), (pid, 0, 1));
    assert_eq!(death.task().name(), Some("doomed"));
    assert_eq!(death.task().location().line(), line);
    let text = Error::WorkerDied(death).to_string();
    for part in [
        "`doomed`",
        "SIGKILL",
        "signal 9",
        &pid.to_string(),
        "worker 0",
        file!(),
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

fn tasks_behind_a_dead_one_run() {
    let pool = Processes::pool(1);
    let first = pool.submit(die, 1);
    let behind: Vec<_> = (0..50).map(|n| pool.submit(double, n)).collect();
    assert_eq!(death(first).signal(), Some(9));
    for (n, future) in (0..).zip(behind) {
        assert_eq!(future.result().unwrap(), 2 * n);
    }
    assert_eq!(pool.stats().worker_restarts, 1);
}

/// Kills processes and waits until they have ended.
fn kill_all(pids: &[u32]) {
    let deadline = std::time::Instant::now() + crate::support::LONG;
    for &pid in pids {
        os::kill(pid, libc::SIGKILL);
    }
    for &pid in pids {
        assert!(os::await_end(pid, deadline));
    }
}

fn an_idle_worker_is_killed() {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    kill_all(&[pid]);
    let next = pool.submit(own_pid, ()).result().unwrap();
    assert_ne!(next, pid);
    assert_eq!(pool.worker_pids(), [next]);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (2, 0), "{stats:?}");
}

/// The task may meet the dying worker, but never hangs and never breaks the pool.
fn an_idle_worker_is_killed_unnoticed() {
    let pool = Processes::pool(1);
    for _ in 0..20 {
        let pid = pool.submit(own_pid, ()).result().unwrap();
        let (next, other) = {
            os::kill(pid, libc::SIGKILL);
            (pool.submit(own_pid, ()), pool.submit(own_pid, ()))
        };
        match next.result() {
            Ok(next) => assert_ne!(next, pid),
            Err(Error::WorkerDied(death)) => assert_eq!(death.pid(), pid),
            Err(error) => panic!("{error:?}"),
        }
        assert_ne!(other.result().unwrap(), pid);
    }
}

fn all_idle_workers_are_killed_again_and_again() {
    let pool = Processes::pool(3);
    for _ in 0..5 {
        pool.warm_up().unwrap();
        let pids = pool.worker_pids();
        assert_eq!(pids.len(), 3);
        kill_all(&pids);
        let futures = [1, 2, 3, 4].map(|n| pool.submit(double, n));
        assert_eq!(futures.map(|f| f.result().unwrap()), [2, 4, 6, 8]);
    }
    assert_eq!(pool.stats().failed, 0);
}

fn all_busy_workers_are_killed_again_and_again() {
    let pool = Processes::pool(2);
    for round in 1..=5 {
        let held = Hold::new();
        let running = [(); 2].map(|()| pool.submit(hold, held.argument()));
        let queued = [1, 2, 3].map(|n| pool.submit(double, n));
        let pids = [held.await_begun(), held.await_begun()];
        kill_all(&pids);
        let mut dead = running.map(|future| {
            let death = death(future);
            assert_eq!(death.signal(), Some(9));
            death.pid()
        });
        dead.sort_unstable();
        let mut pids = pids;
        pids.sort_unstable();
        assert_eq!(dead, pids);
        assert_eq!(queued.map(|f| f.result().unwrap()), [2, 4, 6]);
        assert_eq!(pool.stats().failed, 2 * round);
    }
}

fn a_worker_is_killed_between_two_items_of_a_chunk() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    // Of a chunk of five, the third is held.
    let step = |held: Option<crate::support::gate::Held>| match held {
        Some(held) => hold(held),
        None => std::process::id(),
    };
    let inputs = (0..5).map(|n| (n == 2).then(|| held.argument()));
    let map = pool.map_with(MapOptions::new().chunksize(5), step, inputs);
    let pid = held.await_begun();
    kill_all(&[pid]);
    let results: Vec<_> = map.collect();
    assert_eq!(results.len(), 5);
    for (n, result) in results.into_iter().enumerate() {
        match (n, result) {
            (0 | 1, Ok(by)) => assert_eq!(by, pid, "finished ones keep their results"),
            (2, Err(Error::WorkerDied(death))) => assert_eq!(death.pid(), pid),
            (3 | 4, Ok(by)) => assert_ne!(by, pid, "unstarted ones move on"),
            (n, other) => panic!("{n}: {other:?}"),
        }
    }
}

fn a_killed_item_costs_its_map_one_item() {
    let pool = Processes::pool(2);
    let die_at_seven = |n: u64| if n == 7 { die(n) } else { double(n) };
    for chunk in [1, 3, 100] {
        let map = pool.map_with(MapOptions::new().chunksize(chunk), die_at_seven, 0..20);
        for (n, result) in (0..).zip(map) {
            match result {
                Ok(value) => assert_eq!(value, 2 * n),
                other => {
                    assert_eq!(n, 7, "chunksize {chunk}: {other:?}");
                    assert_error!(other, Error::WorkerDied(_));
                }
            }
        }
    }
}

fn a_worker_dies_during_shutdown() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let pid = pool.worker_pids()[0];
    let queued = pool.submit(double, 4);
    std::thread::scope(|scope| {
        scope.spawn(|| pool.shutdown(Shutdown::wait()));
        os::kill(pid, libc::SIGKILL);
    });
    assert!(running.done() && queued.done());
    assert_eq!(death(running).pid(), pid);
    assert_eq!(
        queued.result().unwrap(),
        8,
        "what was accepted is run by a replacement"
    );
    assert!(pool.worker_pids().is_empty());
}

fn a_worker_is_terminated_from_outside() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let pid = pool.worker_pids()[0];
    let queued = pool.submit(double, 4);
    os::kill(pid, libc::SIGTERM);
    assert_eq!(death(running).signal(), Some(libc::SIGTERM));
    assert_eq!(queued.result().unwrap(), 8);
    drop(pool);
}

fn an_exit_with_code_zero_is_a_death() {
    let pool = Processes::pool(1);
    let death = death(pool.submit(|code: i32| -> u64 { std::process::exit(code) }, 0));
    assert_eq!((death.exit_code(), death.signal()), (Some(0), None));
    assert_works(&pool);
}

fn a_task_forks_and_both_copies_return() {
    let pool = Processes::pool(1);
    for n in 0..5 {
        // Whichever copy is faster, the worker answers once.
        let answer = pool.submit(
            |n| {
                let copy = os::fork();
                (n, copy)
            },
            n,
        );
        let queued = pool.submit(double, 1);
        let (echo, copy) = answer.result().unwrap();
        assert_eq!(echo, n);
        assert_ne!(copy, 0, "the worker's answer, not its copy's");
        assert_eq!(queued.result().unwrap(), 2);
    }
    let stats = pool.stats();
    assert_eq!(
        (stats.completed, stats.failed, stats.worker_restarts),
        (10, 0, 0),
        "{stats:?}"
    );
}

/// A copy that keeps every descriptor of the worker open: its death is noticed all the same.
fn a_task_forks_and_the_copy_stays() {
    fn fork_and_die(held: crate::support::gate::Held) -> u64 {
        if os::fork() == 0 {
            hold(held);
            os::exit_now(0);
        }
        die(1)
    }
    let before = Baseline::now();
    let pool = Processes::pool(1);
    let held = Hold::new();
    let future = pool.submit(fork_and_die, held.argument());
    assert_eq!(death(future).signal(), Some(9));
    assert_works(&pool);
    drop(pool);
    held.release();
    drop(held);
    before.assert_restored();
}
