//! How long shared memory is mapped where, and that there is one copy of it.

use std::sync::atomic::{AtomicU64, Ordering};

use concurrent_futures::{Error, Executor, Shared, current_worker};
use libtest_mimic::Trial;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    MANY, SUM, Scratch, await_nothing_mapped, descriptors, mappings, numbers, over_links, own_pid,
    pools, read_in_a_worker, sum,
};
use crate::support::gate::Hold;
use crate::support::{Kind, Processes, Threads, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["shared";
        a_shared_slice_is_mapped_once_a_worker,
        a_file_is_read_once_and_mapped_once_a_worker,
        few_bytes_are_not_shared,
        an_idle_worker_lets_go_with_the_last_owner,
        a_worker_over_a_link_lets_go_at_its_next_task,
        an_idle_worker_over_a_link_lets_go_after_a_while,
        a_busy_worker_lets_go_when_it_is_free,
        a_worker_of_a_worker_lets_go_with_the_last_owner,
        what_a_task_keeps_stays_mapped,
        a_result_that_nobody_looks_at_keeps_nothing_once_dropped,
        a_cancelled_task_keeps_nothing,
        a_task_that_nobody_waits_for_keeps_nothing,
        items_that_nobody_waits_for_keep_nothing,
        what_went_to_threads_wakes_nobody,
        a_thousand_tasks_read_one_copy,
        what_passes_through_is_the_same_memory,
        what_a_worker_made_is_mapped_once_everywhere,
        a_result_brings_only_so_many,
        a_worker_maps_more_than_its_memory_limit,
        descriptors_are_left_for_others,
        a_forked_copy_touches_nothing,
        a_context_is_decoded_once_a_worker,
    ]
}

fn a_shared_slice_is_mapped_once_a_worker() {
    for pool in pools() {
        let shared = numbers();
        let pid = read_in_a_worker(&pool, &shared);
        for _ in 0..20 {
            assert_eq!(read_in_a_worker(&pool, &shared), pid);
        }
        assert_eq!((mappings(pid), descriptors(pid)), (1, 1));
        assert_eq!((mappings(own_pid()), descriptors(own_pid())), (1, 1));
        let other = numbers();
        read_in_a_worker(&pool, &other);
        assert_eq!(mappings(pid), 2);
    }
}

fn a_file_is_read_once_and_mapped_once_a_worker() {
    let bytes: Vec<u8> = (0..MANY).flat_map(u64::to_ne_bytes).collect();
    let file = Scratch::new(&bytes);
    let shared = Shared::read_file(&file.0).unwrap();
    assert_eq!((mappings(own_pid()), descriptors(own_pid())), (1, 1));
    for pool in pools() {
        let pid = read_in_a_worker(&pool, &shared);
        assert_eq!(read_in_a_worker(&pool, &shared), pid);
        assert_eq!((mappings(pid), descriptors(pid)), (1, 1));
    }
}

fn few_bytes_are_not_shared() {
    let few = Shared::bytes([7; 4095]);
    assert_eq!(mappings(own_pid()), 0);
    let enough = Shared::bytes([7; 4096]);
    assert_eq!(mappings(own_pid()), 1);
    assert_eq!(few[..], enough[..4095]);
}

fn an_idle_worker_lets_go_with_the_last_owner() {
    let pool = Processes::pool(2);
    let shared = numbers();
    let pid = read_in_a_worker(&pool, &shared);
    let clone = shared.clone();
    drop(shared);
    assert_eq!(mappings(pid), 1);
    drop(clone);
    assert_eq!((mappings(own_pid()), descriptors(own_pid())), (0, 0));
    await_nothing_mapped(pid);
    assert_works(&pool);
}

fn a_worker_over_a_link_lets_go_at_its_next_task() {
    let pool = over_links(1);
    let shared = numbers();
    let pid = read_in_a_worker(&pool, &shared);
    drop(shared);
    let mapped = pool.submit(|()| mappings(own_pid()), ());
    assert_eq!(mapped.result().unwrap(), 0);
    assert_eq!(descriptors(pid), 0);
}

fn an_idle_worker_over_a_link_lets_go_after_a_while() {
    let pool = over_links(1);
    let shared = numbers();
    let pid = read_in_a_worker(&pool, &shared);
    await_nothing_mapped(pid);
    assert_eq!(read_in_a_worker(&pool, &shared), pid);
    assert_eq!(mappings(pid), 1);
}

fn a_busy_worker_lets_go_when_it_is_free() {
    let pool = Processes::pool(1);
    let shared = numbers();
    let pid = read_in_a_worker(&pool, &shared);
    let held = Hold::new();
    let running = held.occupy(&pool);
    drop(shared);
    assert_eq!(mappings(pid), 1, "nobody asks it while it is at work");
    held.release();
    running.result().unwrap();
    await_nothing_mapped(pid);
}

fn a_worker_of_a_worker_lets_go_with_the_last_owner() {
    fn read_further_down((numbers, held): (Shared<u64>, crate::support::gate::Held)) -> usize {
        let inner = Processes::pool(1);
        let pid = read_in_a_worker(&inner, &numbers);
        assert_eq!(mappings(pid), 1);
        drop(numbers);
        held.begin();
        // It is ours until the program has let go, and the inner worker's as long as it is ours.
        assert_eq!(mappings(own_pid()), 1);
        let outer = super::mappings(pid);
        crate::support::gate::hold(held);
        outer
    }
    let pool = Processes::pool(1);
    let held = Hold::new();
    let task = pool.submit(read_further_down, (numbers(), held.argument()));
    let pid = held.await_begun();
    held.await_begun();
    held.release();
    assert_eq!(task.result().unwrap(), 1);
    await_nothing_mapped(pid);
}

fn what_a_task_keeps_stays_mapped() {
    use std::sync::Mutex;
    static KEPT: Mutex<Option<Shared<u64>>> = Mutex::new(None);
    let keep = |shared: Shared<u64>| {
        *KEPT.lock().unwrap() = Some(shared);
        own_pid()
    };
    let read = |()| KEPT.lock().unwrap().take().map(sum);
    let pool = Processes::pool(1);
    let pid = pool.submit(keep, numbers()).result().unwrap();
    assert_eq!(descriptors(own_pid()), 0);
    assert_works(&pool);
    assert_eq!(mappings(pid), 1);
    assert_eq!(pool.submit(read, ()).result().unwrap(), Some(SUM));
    await_nothing_mapped(pid);
}

fn a_result_that_nobody_looks_at_keeps_nothing_once_dropped() {
    for pool in pools() {
        let same = |shared: Shared<u64>| shared;
        let made = |length: u64| Shared::from_vec((0..length).collect::<Vec<u64>>());
        let (old, new) = (pool.submit(same, numbers()), pool.submit(made, MANY));
        old.wait();
        new.wait();
        drop((old, new));
        super::await_that(|| (mappings(own_pid()), descriptors(own_pid())) == (0, 0));
    }
}

fn a_cancelled_task_keeps_nothing() {
    for pool in pools() {
        let held = Hold::new();
        let running = held.occupy(&pool);
        let waiting = pool.submit(sum, numbers());
        assert_eq!(descriptors(own_pid()), 1);
        assert!(waiting.cancel());
        assert_eq!(descriptors(own_pid()), 0);
        held.release();
        running.result().unwrap();
    }
}

/// No thread collects its outcome, and no other task comes along.
fn a_task_that_nobody_waits_for_keeps_nothing() {
    for pool in pools() {
        let pid = read_in_a_worker(&pool, &numbers());
        await_nothing_mapped(pid);
        drop(pool.submit(sum, numbers()));
        await_nothing_mapped(own_pid());
        await_nothing_mapped(pid);
        // A number in, memory out.
        drop(pool.submit(|n: u64| Shared::from_vec(vec![n; 1 << 12]), 7));
        pool.submit(|()| (), ()).wait();
        await_nothing_mapped(own_pid());
        await_nothing_mapped(pid);
    }
}

/// The last result is read before the worker has said that it has done all of the items.
fn items_that_nobody_waits_for_keep_nothing() {
    fn add(context: &Shared<u64>, n: u64) -> (u64, u32) {
        (sum(context.clone()) + n, std::process::id())
    }
    for pool in pools() {
        let mut results = pool.map_with_context(add, numbers(), 0..8);
        let (total, pid) = results.next().unwrap().unwrap();
        assert_eq!(total, SUM);
        drop(results);
        await_nothing_mapped(own_pid());
        await_nothing_mapped(pid);
    }
}

fn what_went_to_threads_wakes_nobody() {
    let pool = Threads::pool(1);
    let shared = numbers();
    let place = shared.as_ptr().addr();
    let inside = pool.submit(
        |shared: Shared<u64>| (shared.as_ptr().addr(), shared.len()),
        shared,
    );
    assert_eq!(inside.result().unwrap(), (place, 10_000));
    assert_eq!(mappings(own_pid()), 0);
}

fn a_thousand_tasks_read_one_copy() {
    const SIZE: usize = 64 << 20;
    let pool = Processes::pool(2);
    let shared = Shared::from_vec(vec![1_u8; SIZE]);
    os::forget_peak_memory();
    let before = os::peak_memory();
    let read = |(shared, at): (Shared<u8>, usize)| {
        assert_eq!(shared.len(), SIZE);
        let worker = current_worker().unwrap().pid();
        (usize::from(shared[at]), worker, mappings(own_pid()))
    };
    let tasks: Vec<_> = (0..1000)
        .map(|n| pool.submit(read, (shared.clone(), n * 4096)))
        .collect();
    for task in tasks {
        let (element, _, mapped) = task.result().unwrap();
        assert_eq!((element, mapped), (1, 1));
    }
    let grown = os::peak_memory().saturating_sub(before);
    assert!(grown < SIZE as u64 / 4, "{grown} bytes");
    assert_eq!(descriptors(own_pid()), 1);
}

fn what_passes_through_is_the_same_memory() {
    for pool in pools() {
        let shared = numbers();
        let pass = |shared: Shared<u64>| vec![shared.clone(), shared];
        let back = pool.submit(pass, shared.clone()).result().unwrap();
        for same in back {
            assert_eq!(same.as_ptr(), shared.as_ptr());
        }
        assert_eq!((mappings(own_pid()), descriptors(own_pid())), (1, 1));
        // Also if the handle has gone before the result is looked at.
        let future = pool.submit(pass, shared);
        future.wait();
        let mut back = future.result().unwrap();
        assert_eq!(back.pop().map(sum), Some(SUM));
    }
}

fn what_a_worker_made_is_mapped_once_everywhere() {
    for pool in pools() {
        let make = |length: u64| {
            let made: Shared<u64> = Shared::from_vec((0..length).collect());
            (own_pid(), [made.clone(), made])
        };
        let (maker, [one, two]) = pool.submit(make, MANY).result().unwrap();
        assert_eq!(one.as_ptr(), two.as_ptr());
        assert_eq!((mappings(own_pid()), descriptors(own_pid())), (1, 1));
        await_nothing_mapped(maker);
        assert_eq!(read_in_a_worker(&pool, &one), maker);
        assert_eq!(mappings(maker), 1);
    }
}

fn a_result_brings_only_so_many() {
    let make = |count: u8| -> Vec<Shared<u8>> {
        let all = (0..count).map(|n| Shared::from_vec(vec![n; 5000]));
        all.collect()
    };
    for pool in pools() {
        let most = pool.submit(make, 16).result().unwrap();
        assert!((0..).zip(&most).all(|(n, shared)| shared[4999] == n));
        assert_eq!(descriptors(own_pid()), 16);
        drop(most);
        let Err(Error::Encode(words)) = pool.submit(make, 17).result() else {
            panic!("too many")
        };
        let expected = "a result brings at most 16 new Shared, and this one 17";
        assert_eq!(words.as_str(), expected);
        assert_works(&pool);
        assert_eq!(descriptors(own_pid()), 0);
    }
}

fn a_worker_maps_more_than_its_memory_limit() {
    const SIZE: usize = 256 << 20;
    let builder = concurrent_futures::ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.memory_limit(128 << 20).build().unwrap();
    let count = |bytes: Shared<u8>| bytes.iter().step_by(4096).filter(|it| **it == 1).count();
    let counted = pool.submit(count, Shared::from_vec(vec![1; SIZE]));
    assert_eq!(counted.result().unwrap(), SIZE / 4096);
}

/// Where half of the descriptors are used, what is shared travels whole.
fn descriptors_are_left_for_others() {
    let pool = Processes::pool(1);
    assert_works(&pool);
    let limit = os::limit(libc::RLIMIT_NOFILE);
    os::set_limit(libc::RLIMIT_NOFILE, 64);
    let all: Vec<_> = (0..100).map(|_| numbers()).collect();
    os::set_limit(libc::RLIMIT_NOFILE, limit);
    let open = descriptors(own_pid());
    assert!((1..32).contains(&open), "{open}");
    for shared in all {
        assert_eq!(pool.submit(sum, shared).result().unwrap(), SUM);
    }
}

fn a_forked_copy_touches_nothing() {
    let pool = Processes::pool(1);
    let shared = numbers();
    let pid = read_in_a_worker(&pool, &shared);
    let copy = os::fork();
    if copy == 0 {
        let total = sum(shared.clone());
        drop(shared);
        // It shares nothing itself.
        let own = numbers();
        let is_sound = total == SUM && mappings(own_pid()) == 0 && sum(own) == SUM;
        os::exit_now(i32::from(!is_sound));
    }
    assert!(os::reap(copy).success());
    assert_eq!(mappings(pid), 1);
    assert_eq!(read_in_a_worker(&pool, &shared), pid);
    assert_eq!(sum(shared), SUM);
}

/// Counts how often this process has decoded one.
struct Counted(u64);

static DECODED: AtomicU64 = AtomicU64::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        u64::deserialize(deserializer).map(Self)
    }
}

fn a_context_is_decoded_once_a_worker() {
    fn ask(context: &Counted, n: u64) -> (u64, u64, u32) {
        let decoded = DECODED.load(Ordering::Relaxed);
        (context.0 + n, decoded, std::process::id())
    }
    for pool in pools() {
        let answers = pool.map_with_context(ask, Counted(7), 0..500);
        let answers: Vec<_> = answers.collect::<Result<_, _>>().unwrap();
        for (n, (sum, decoded, pid)) in answers.into_iter().enumerate() {
            assert_eq!((sum, decoded), (7 + n as u64, 1));
            if n == 499 {
                await_nothing_mapped(pid);
            }
        }
    }
}
