//! `Shared`: the same values everywhere, one copy of them, and none left.

mod life;
mod travel;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;
use std::{fs, io};

use concurrent_futures::{Executor, ProcessPoolExecutor, Shared};
use libtest_mimic::Trial;

use crate::support::{Kind, LONG, Processes, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_shared_slice_reads_the_same::<K>,
        it_stands_anywhere_in_arguments_and_results::<K>,
        items_of_a_map_share::<K>,
        a_file_is_shared_as_it_was::<K>,
        a_file_that_cannot_be_shared_is_an_error::<K>,
    ]
}

/// What holds for processes.
pub fn processes() -> Vec<Trial> {
    let mut all = travel::trials();
    if is_memory_shared() {
        all.extend(life::trials());
    }
    all
}

/// Whether there is shared memory at all: see `.ci/run`.
fn is_memory_shared() -> bool {
    std::env::var_os("CONCURRENT_FUTURES_SHARED_MEMORY").is_none_or(|it| it != "never")
}

/// Elements of enough bytes to be shared.
const MANY: u64 = 10_000;

fn numbers() -> Shared<u64> {
    Shared::from_vec((0..MANY).collect())
}

const SUM: u64 = MANY * (MANY - 1) / 2;

fn sum(numbers: Shared<u64>) -> u64 {
    numbers.iter().sum()
}

/// A pool whose workers receive every task over their connection.
fn over_links(workers: usize) -> ProcessPoolExecutor {
    let builder = ProcessPoolExecutor::builder().max_workers(workers);
    builder.task_timeout(LONG).build().unwrap()
}

/// How often a process has mapped shared memory.
fn mappings(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter(|line| is_shared_memory(line)).count()
}

/// How many descriptors of shared memory a process has open.
fn descriptors(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter(|target| is_shared_memory(&target.display().to_string()))
        .count()
}

fn is_shared_memory(text: &str) -> bool {
    text.contains("memfd:concurrent-futures shared")
}

/// Looks until it is so. The system has no event for it.
fn await_that(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to be");
        thread::yield_now();
    }
}

pub fn await_nothing_mapped(pid: u32) {
    await_that(|| mappings(pid) == 0 && descriptors(pid) == 0);
}

fn a_shared_slice_reads_the_same<K: Kind>() {
    let pool = K::pool(2);
    assert_eq!(pool.submit(sum, numbers()).result().unwrap(), SUM);
    for size in [0, 1, 7, 4095, 4096, 4097, 100_001] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let back = pool.submit(|bytes: Shared<u8>| bytes.to_vec(), Shared::bytes(&bytes));
        assert!(back.result().unwrap() == bytes, "{size}");
    }
    let wide = vec![[u128::MAX - 1, 7]; 1000];
    let back = pool.submit(
        |wide: Shared<[u128; 2]>| (wide.len(), wide[999]),
        Shared::from_slice(&wide),
    );
    assert_eq!(back.result().unwrap(), (1000, wide[0]));
}

fn it_stands_anywhere_in_arguments_and_results<K: Kind>() {
    type Nested = Vec<(String, Option<Shared<u64>>)>;
    let pool = K::pool(1);
    let shared = numbers();
    let short = Shared::from_slice(&[1, 2, 3]);
    let parts = [Some(shared.clone()), None, Some(short), Some(shared)];
    let nested: Nested = parts.into_iter().map(|it| ("part".into(), it)).collect();
    let reversed = |nested: Nested| nested.into_iter().rev().collect::<Nested>();
    let back = pool.submit(reversed, nested).result().unwrap();
    let sums = back.into_iter().map(|(_, part)| part.map(sum));
    assert!(sums.eq([Some(SUM), Some(6), None, Some(SUM)]));
}

fn items_of_a_map_share<K: Kind>() {
    let pool = K::pool(2);
    let shared = numbers();
    let element = |(numbers, at): (Shared<u64>, usize)| numbers[at];
    let items = (0..1000).map(|at| (shared.clone(), at));
    for (at, element) in (0..).zip(pool.map(element, items)) {
        assert_eq!(element.unwrap(), at);
    }
}

/// A file of this trial, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: &[u8]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("shared-{}-{number}", own_pid());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn a_file_is_shared_as_it_was<K: Kind>() {
    let pool = K::pool(1);
    for count in [0, 1, 511, 512, 513, MANY] {
        let bytes: Vec<u8> = (0..count).flat_map(u64::to_ne_bytes).collect();
        let file = Scratch::new(&bytes);
        let numbers = Shared::<u64>::read_file(&file.0).unwrap();
        fs::write(&file.0, "something else").unwrap();
        assert!(numbers.iter().copied().eq(0..count), "{count}");
        let back = pool.submit(|numbers: Shared<u64>| numbers.to_vec(), numbers);
        assert!(back.result().unwrap().into_iter().eq(0..count), "{count}");
    }
    // A file that does not say how long it is.
    let limits = Shared::<u8>::read_file("/proc/self/limits").unwrap();
    assert!(limits.starts_with(b"Limit"));
}

fn a_file_that_cannot_be_shared_is_an_error<K: Kind>() {
    let kind = |outcome: io::Result<Shared<u32>>| outcome.unwrap_err().kind();
    assert_eq!(
        kind(Shared::read_file("/no/such/file")),
        io::ErrorKind::NotFound
    );
    assert_eq!(kind(Shared::read_file("/")), io::ErrorKind::IsADirectory);
    for size in [1, 10, 8_001] {
        let file = Scratch::new(&vec![7; size]);
        let error = Shared::<u32>::read_file(&file.0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let words = error.to_string();
        assert!(
            words.contains(&format!("{size} bytes")) && words.contains("u32"),
            "{words}"
        );
    }
}

/// Its worker, which has then mapped it.
fn read_in_a_worker(pool: &ProcessPoolExecutor, shared: &Shared<u64>) -> u32 {
    let read = |numbers: Shared<u64>| (sum(numbers), std::process::id());
    let (total, pid) = pool.submit(read, shared.clone()).result().unwrap();
    assert_eq!(total, SUM);
    pid
}

fn own_pid() -> u32 {
    std::process::id()
}

/// A pool of each way to a worker.
fn pools() -> [ProcessPoolExecutor; 2] {
    [Processes::pool(1), over_links(1)]
}
