//! Tasks that write where they should not: past the end of a buffer, through a wild pointer, all over the
//! memory that their worker shares with the program. Whatever they hit, every future ends, with the right
//! value or an error; later tasks run; and dropping the pool returns.

use std::fs;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor, TaskOptions};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::gate::{Beacon, Gate, Hold, Lamp, Ticket};
use crate::support::tasks::double;
use crate::support::{Kind, LONG, Processes, assert_error, trial_within, trials};

pub fn trials() -> Vec<Trial> {
    let mut trials = trials![Processes::NAME;
        an_overrun_ends_its_own_task,
        an_overrun_of_an_argument_ends_its_own_task,
        an_argument_that_is_tried_again_is_what_it_was,
        arguments_that_wait_cannot_be_overwritten,
        large_results_that_were_not_read_cannot_be_overwritten,
        what_a_stray_write_has_hit_names_the_suspect,
        items_of_maps_survive_a_stray_write,
        a_stray_write_into_control_words_costs_nobody_else,
    ];
    for wound in Wound::all() {
        for then in [Then::Crash, Then::Return] {
            let name = format!("processes::a_stray_write::{wound:?}::{then:?}");
            let limit = Duration::from_secs(60);
            trials.push(trial_within(limit, name, move || {
                let scene = Scene::begin();
                let wild = scene.submit_wound(wound, then);
                scene.end(wild);
            }));
        }
    }
    for wound in [
        Wound::StatesGarbage,
        Wound::StatesFlipped,
        Wound::ControlRandom,
        Wound::AllRandom,
    ] {
        let name = format!("processes::a_stray_write_of_a_task_with_a_time_limit::{wound:?}");
        trials.push(trial_within(Duration::from_secs(60), name, move || {
            let scene = Scene::begin();
            let options = TaskOptions::new().timeout(LONG);
            let cue = scene.cue();
            let wild = (wound, Then::Crash, cue);
            let wild = scene.pool.submit_with(options, inflict, wild);
            scene.end(wild);
        }));
    }
    let seeds: u64 = match std::env::var("WILD_SEEDS") {
        Ok(seeds) => seeds.parse().unwrap(),
        Err(_) => 16,
    };
    let limit = Duration::from_secs(60 + 10 * seeds);
    let name = "processes::random_stray_writes_hurt_nobody_for_long".to_owned();
    trials.push(trial_within(limit, name, move || {
        (0..seeds).for_each(scribble_by_seed);
    }));
    trials
}

// ---- what is written -----------------------------------------------------------------------

/// A part of the memory that a worker can write, as `src/process/shm/queue/layout.rs` has it for two workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    /// Written by all.
    Control,
    /// Written by this worker alone.
    Own,
}

/// Bytes of the words before the states.
const STATES: usize = 448;
/// Slots of a shared-memory queue for two workers.
const SLOTS: usize = 256;
/// Where outcomes begin in a worker's part.
const OUTCOMES: usize = 64;
/// Where results begin there.
const RESULTS: usize = OUTCOMES + 64 * SLOTS;

/// An enum whose kinds can be listed one after the other.
macro_rules! kinds {
    ($(#[$attribute:meta])* enum $name:ident { $($kind:ident,)* }) => {
        $(#[$attribute])*
        enum $name { $($kind,)* }

        impl $name {
            fn all() -> Vec<Self> {
                vec![$(Self::$kind,)*]
            }
        }
    };
}

kinds! {
    /// What is overwritten, with what.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    enum Wound {
        HeadTooHigh,
        HeadZero,
        HeadAhead,
        Searcher,
        CollectorAwake,
        CollectorAsleep,
        DoneZero,
        DoneOnes,
        SleepersZero,
        SleepersOnes,
        EventCounts,
        StatesGarbage,
        StatesZero,
        StatesFlipped,
        DeskZero,
        DeskGarbage,
        PlacesZero,
        HeadsFlipped,
        ChecksZero,
        ProgressFlipped,
        WordsFlipped,
        ResultsFlipped,
        ControlZero,
        ControlOnes,
        ControlRandom,
        OwnZero,
        OwnOnes,
        OwnRandom,
        AllZero,
        AllOnes,
        AllRandom,
    }
}

impl Wound {
    /// Whether only control words are hit, all of which can be made anew.
    fn is_harmless(self) -> bool {
        use Wound::*;
        matches!(
            self,
            HeadTooHigh
                | HeadZero
                | HeadAhead
                | Searcher
                | CollectorAwake
                | CollectorAsleep
                | DoneZero
                | DoneOnes
                | SleepersZero
                | SleepersOnes
                | EventCounts
                | StatesGarbage
                | StatesZero
                | StatesFlipped
                | ControlZero
                | ControlOnes
                | ControlRandom
        )
    }

    fn inflict(self) {
        use Wound::*;
        let random = &mut Random(0x1234_5678_9abc_def1);
        match self {
            HeadTooHigh => put(Part::Control, 0, 0x4141_4141_4141_4141),
            HeadZero => put(Part::Control, 0, 0),
            HeadAhead => put(Part::Control, 0, get(Part::Control, 0) + 100),
            Searcher => put(Part::Control, 64, 0x4141_4141),
            CollectorAwake => put(Part::Control, 128, 0),
            CollectorAsleep => put(Part::Control, 128, u64::MAX),
            DoneZero => (0..4).for_each(|at| put(Part::Control, 192 + 8 * at, 0)),
            DoneOnes => (0..4).for_each(|at| put(Part::Control, 192 + 8 * at, u64::MAX)),
            SleepersZero => put(Part::Control, 256, 0),
            SleepersOnes => put(Part::Control, 256, u64::MAX),
            EventCounts => (0..16).for_each(|at| put(Part::Control, 320 + 8 * at, random.next())),
            StatesGarbage => each_slot(|at| put(Part::Control, STATES + at, 0x4141_4141)),
            StatesZero => each_slot(|at| put(Part::Control, STATES + at, 0)),
            StatesFlipped => each_slot(|at| flip(Part::Control, STATES + at, 1 << 13)),
            DeskZero => put(Part::Own, 0, 0),
            DeskGarbage => put(Part::Own, 0, random.next()),
            PlacesZero => each_slot(|at| put(Part::Own, OUTCOMES + at, 0)),
            HeadsFlipped => each_slot(|at| flip(Part::Own, OUTCOMES + 8 + at, 1 << 16)),
            ChecksZero => each_slot(|at| put(Part::Own, OUTCOMES + 16 + at, 0)),
            ProgressFlipped => each_slot(|at| flip(Part::Own, OUTCOMES + 24 + at, 2)),
            WordsFlipped => each_slot(|at| flip(Part::Own, OUTCOMES + 40 + at, 1)),
            ResultsFlipped => {
                (0..SLOTS).for_each(|slot| flip(Part::Own, RESULTS + 2048 * slot, 1));
            }
            ControlZero => fill(Part::Control, || 0),
            ControlOnes => fill(Part::Control, || u64::MAX),
            ControlRandom => fill(Part::Control, || random.next()),
            OwnZero => fill(Part::Own, || 0),
            OwnOnes => fill(Part::Own, || u64::MAX),
            OwnRandom => fill(Part::Own, || random.next()),
            AllZero => {
                fill(Part::Control, || 0);
                fill(Part::Own, || 0);
            }
            AllOnes => {
                fill(Part::Control, || u64::MAX);
                fill(Part::Own, || u64::MAX);
            }
            AllRandom => {
                fill(Part::Control, || random.next());
                fill(Part::Own, || random.next());
            }
        }
    }
}

/// Numbers that a seed gives.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Shared memory of that name that this process can write.
fn writable(name: &str) -> Vec<(usize, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.contains(" rw-s ") && line.contains(name))
        .map(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            (address(start), address(end))
        })
        .collect()
}

fn part(part: Part) -> (usize, usize) {
    let mut parts = writable("concurrent-futures board");
    parts.sort_by_key(|(start, end)| end - start);
    match part {
        Part::Control => parts[0],
        Part::Own => parts[1],
    }
}

fn at(place: Part, offset: usize) -> *mut u64 {
    std::ptr::with_exposed_provenance_mut(part(place).0 + offset)
}

fn put(place: Part, offset: usize, value: u64) {
    // SAFETY: none: the memory is mapped, but not ours to write. That is what this is about.
    unsafe { at(place, offset).write_volatile(value) };
}

fn get(place: Part, offset: usize) -> u64 {
    // SAFETY: as above.
    unsafe { at(place, offset).read_volatile() }
}

fn flip(place: Part, offset: usize, bits: u64) {
    put(place, offset, get(place, offset) ^ bits);
}

fn each_slot(mut act: impl FnMut(usize)) {
    (0..SLOTS).for_each(|slot| act(64 * slot));
}

fn fill(place: Part, mut value: impl FnMut() -> u64) {
    let (start, end) = part(place);
    for address in (start..end).step_by(8) {
        let word: *mut u64 = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: as above.
        unsafe { word.write_volatile(value()) };
    }
}

fn crash() -> ! {
    let nowhere: *mut u8 = std::ptr::without_provenance_mut(8);
    // SAFETY: none: it is to be a SIGSEGV.
    unsafe { nowhere.write_volatile(1) };
    unreachable!()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    Crash,
    Return,
}

impl Then {
    fn go_on(self) -> u64 {
        match self {
            Self::Crash => crash(),
            Self::Return => 7,
        }
    }
}

/// What a wild task is given: the gate at which it waits until everything is ready for its write, and the
/// lamp that it lights when it has written.
type Cue = (Ticket, Lamp);

fn inflict((wound, then, (gate, lamp)): (Wound, Then, Cue)) -> u64 {
    gate.wait();
    wound.inflict();
    lamp.light();
    then.go_on()
}

// ---- the scene -----------------------------------------------------------------------------

/// What must be true within this time.
const SOON: Duration = Duration::from_secs(10);

/// A pool of two workers with everything that can be hit: a task that runs, small and large results that are
/// not read, and a queue.
struct Scene {
    pool: ProcessPoolExecutor,
    hold: Hold,
    cue: Gate,
    written: Beacon,
    innocent: Future<u32>,
    numbers: Vec<Future<u64>>,
    texts: Vec<Future<Vec<u8>>>,
}

/// Sizes of results: in a line, in a slot, in a block.
const SIZES: [usize; 6] = [12, 300, 2000, 20_000, 5, 150_000];

fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 / 3) as u8).collect()
}

/// How what a stray write may have hit has ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    right: usize,
    hit: usize,
}

impl Tally {
    /// Fails where a future has not ended by then, or with another value or error.
    fn note<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        mut future: Future<T>,
        right: &T,
        by: Instant,
    ) {
        let left = by.saturating_duration_since(Instant::now());
        match future.result_timeout(left.max(Duration::from_millis(1))) {
            Ok(value) if value == *right => self.right += 1,
            Ok(_) => panic!("{what}: another value"),
            Err(Error::MemoryCorrupted(hit)) => {
                assert!(hit.to_string().contains("memory corruption"), "{hit}");
                self.hit += 1;
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
}

impl Scene {
    /// One worker is held; the other one runs what is submitted, in order.
    fn begin() -> Self {
        let pool = Processes::pool(2);
        pool.warm_up().unwrap();
        let hold = Hold::new();
        let innocent = hold.occupy(&pool);
        let numbers = (0..10).map(|n| pool.submit(double, n)).collect();
        let texts = SIZES.map(|size| pool.submit(echo, pattern(size))).into();
        Self {
            pool,
            hold,
            cue: Gate::new(),
            written: Beacon::new(),
            innocent,
            numbers,
            texts,
        }
    }

    fn cue(&self) -> Cue {
        (self.cue.ticket(), self.written.lamp())
    }

    fn submit_wound(&self, wound: Wound, then: Then) -> Future<u64> {
        self.pool.submit(inflict, (wound, then, self.cue()))
    }

    /// Lets the wild task write; until now no future was looked at.
    fn let_it_write(&self) {
        self.cue.open();
        self.written.await_lit();
    }

    /// The wild task was submitted. How all others have ended.
    fn end(self, wild: Future<u64>) -> Tally {
        let queued: Vec<_> = (0..60).map(|n| self.pool.submit(double, n)).collect();
        self.let_it_write();
        self.end_with(wild, queued)
    }

    fn end_with(self, mut wild: Future<u64>, queued: Vec<Future<u64>>) -> Tally {
        // Where something is wrong, the task is let go before the pool is dropped.
        let Self {
            pool,
            hold,
            mut innocent,
            numbers,
            texts,
            ..
        } = self;
        let mut tally = Tally::default();
        let by = Instant::now() + SOON;
        for (n, future) in (0..).zip(numbers) {
            tally.note("a number before", future, &(2 * n), by);
        }
        for (size, future) in SIZES.into_iter().zip(texts) {
            tally.note("a text before", future, &pattern(size), by);
        }
        for (n, future) in (0..).zip(queued) {
            tally.note("queued", future, &(2 * n), by);
        }
        match wild.result_timeout(SOON) {
            Ok(7) | Err(Error::WorkerDied(_) | Error::MemoryCorrupted(_)) => {}
            other => panic!("the wild one: {other:?}"),
        }
        hold.release();
        match innocent.result_timeout(SOON) {
            Ok(_) => tally.right += 1,
            Err(Error::MemoryCorrupted(_)) => tally.hit += 1,
            Err(other) => panic!("the innocent one: {other:?}"),
        }
        assert_goes_on(pool);
        tally
    }
}

/// Later tasks run, and dropping the pool returns.
fn assert_goes_on(pool: ProcessPoolExecutor) {
    let later: Vec<_> = (200..220).map(|n| pool.submit(double, n)).collect();
    for (n, mut future) in (200..).zip(later) {
        match future.result_timeout(SOON) {
            Ok(value) => assert_eq!(value, 2 * n),
            Err(Error::BrokenPool(words)) => assert!(words.as_str().contains("memory"), "{words}"),
            Err(other) => panic!("later: {other:?}"),
        }
    }
    let (tell, hear) = std::sync::mpsc::channel();
    let dropper = std::thread::spawn(move || {
        drop(pool);
        tell.send(()).unwrap();
    });
    hear.recv_timeout(SOON).expect("dropping the pool returns");
    dropper.join().unwrap();
}

// ---- overruns ------------------------------------------------------------------------------

/// `memset(p, ' ', 1 MiB + beyond)`
fn overrun(beyond: usize) -> u64 {
    let mut bytes = std::mem::ManuallyDrop::new(vec![1_u8; 1 << 20]);
    let place = std::hint::black_box(bytes.as_mut_ptr());
    // SAFETY: none: it is what C code does that has a wrong bound.
    unsafe { std::ptr::write_bytes(place, b' ', (1 << 20) + beyond) };
    7
}

fn an_overrun_ends_its_own_task() {
    for beyond in [4000, 4200, 8000, 20_000, 500_000, 560_000] {
        let scene = Scene::begin();
        let wild = scene.pool.submit(overrun, beyond);
        let queued = (0..60).map(|n| scene.pool.submit(double, n)).collect();
        let tally = scene.end_with(wild, queued);
        assert_eq!(tally.hit, 0, "{beyond} bytes beyond");
    }
}

/// Writes past the end of its argument.
fn overrun_argument((bytes, beyond): (Vec<u8>, usize)) -> u64 {
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    let place = std::hint::black_box(bytes.as_mut_ptr());
    // SAFETY: as above.
    unsafe { std::ptr::write_bytes(place, b' ', bytes.len() + beyond) };
    7
}

fn an_overrun_of_an_argument_ends_its_own_task() {
    for size in [130 << 10, 1 << 20, 20 << 20] {
        for beyond in [65_536, 1 << 20, 3 << 20] {
            let scene = Scene::begin();
            let wild = scene.pool.submit(overrun_argument, (vec![1; size], beyond));
            let queued = (0..60).map(|n| scene.pool.submit(double, n)).collect();
            let tally = scene.end_with(wild, queued);
            assert_eq!(tally.hit, 0, "{beyond} bytes beyond {size}");
        }
    }
}

// ---- what cannot be written ----------------------------------------------------------------

/// Overwrites whatever is shared with the program, as far as that can be written, and crashes at its first
/// attempt.
fn fragile((marker, bytes): (std::path::PathBuf, Vec<u8>)) -> Vec<u8> {
    if fs::File::create_new(marker).is_ok() {
        [Part::Control, Part::Own]
            .into_iter()
            .for_each(|part| fill(part, || 0x0909_0909_0909_0909));
        crash()
    }
    bytes
}

fn an_argument_that_is_tried_again_is_what_it_was() {
    for size in [100, 1000, 20_000, 1 << 20] {
        let pool = Processes::pool(1);
        let marker = std::env::temp_dir().join(format!("wild-{}-{size}", std::process::id()));
        let options = TaskOptions::new().retries(1);
        let mut retried = pool.submit_with(options, fragile, (marker.clone(), pattern(size)));
        let outcome = retried.result_timeout(SOON);
        fs::remove_file(marker).unwrap();
        assert!(outcome.unwrap() == pattern(size));
        assert_eq!(pool.stats().worker_restarts, 1);
    }
}

/// Where shared memory is mapped that this process cannot write.
fn read_only() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_ours = |line: &&str| line.contains(" r--s ") && line.contains("concurrent-futures");
    maps.lines().filter(is_ours).count()
}

fn arguments_that_wait_cannot_be_overwritten() {
    let pool = Processes::pool(1);
    // A large one, so that the arena is mapped.
    pool.submit(echo, pattern(100_000)).result().unwrap();
    let count = pool.submit(|()| read_only(), ()).result().unwrap();
    assert!(
        count >= 4,
        "published tasks, words and blocks of the arena, the signals: {count}"
    );
    // A block of the worker's own shard is writable too, as long as it holds no unread result.
    let control_and_outcomes = pool
        .submit(|()| writable("concurrent-futures board").len(), ())
        .result();
    assert_eq!(control_and_outcomes.unwrap(), 2);
}

fn large_results_that_were_not_read_cannot_be_overwritten() {
    let pool = Processes::pool(1);
    let results: Vec<_> = (0..5)
        .map(|_| pool.submit(echo, pattern(100_000)))
        .collect();
    let (cue, written) = (Gate::new(), Beacon::new());
    let wild = pool.submit(fill_blocks, (cue.ticket(), written.lamp()));
    cue.open();
    written.await_lit();
    for result in results {
        assert!(result.result().unwrap() == pattern(100_000));
    }
    assert_error!(wild.result(), Error::WorkerDied(_));
    assert_goes_on(pool);
}

/// Overwrites all of the arena that the worker can write.
fn fill_blocks((cue, written): Cue) -> u64 {
    cue.wait();
    written.light();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps
        .lines()
        .find(|line| line.contains("concurrent-futures depot") && line.contains(" r--s "));
    let start = line.unwrap().split('-').next().unwrap();
    let start = usize::from_str_radix(start, 16).unwrap();
    let word: *mut u64 = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: none: it cannot be written, and that is what this is about.
    unsafe { word.write_volatile(9) };
    7
}

// ---- what is hit ---------------------------------------------------------------------------

fn what_a_stray_write_has_hit_names_the_suspect() {
    let scene = Scene::begin();
    let wild = scene.submit_wound(Wound::WordsFlipped, Then::Crash);
    scene.let_it_write();
    let Scene {
        pool,
        hold,
        numbers,
        ..
    } = scene;
    let Err(Error::WorkerDied(death)) = wild.result() else {
        panic!("it crashes")
    };
    for future in numbers {
        let Err(Error::MemoryCorrupted(corruption)) = future.result() else {
            panic!("it lies in the words that were flipped")
        };
        assert_eq!(corruption.worker(), Some(death.worker()));
        assert_eq!(corruption.pid(), Some(death.pid()));
        assert!(corruption.task().to_string().contains("wild.rs"));
        assert!(corruption.to_string().contains("SIGSEGV"), "{corruption}");
    }
    hold.release();
    assert_goes_on(pool);
}

fn a_stray_write_into_control_words_costs_nobody_else() {
    for wound in Wound::all().into_iter().filter(|wound| wound.is_harmless()) {
        for then in [Then::Crash, Then::Return] {
            let scene = Scene::begin();
            let wild = scene.submit_wound(wound, then);
            let tally = scene.end(wild);
            assert_eq!(tally.hit, 0, "{wound:?} {then:?}");
        }
    }
}

fn wild_item((n, at): (u64, u64)) -> u64 {
    if n == at {
        ResultsAndChecks.inflict();
        crash()
    }
    2 * n
}

/// What of a map's items has been laid down.
struct ResultsAndChecks;

impl ResultsAndChecks {
    fn inflict(self) {
        Wound::ResultsFlipped.inflict();
        Wound::ProgressFlipped.inflict();
        Wound::StatesGarbage.inflict();
    }
}

fn items_of_maps_survive_a_stray_write() {
    for at in [0, 100, 1999, 5000] {
        let pool = Processes::pool(2);
        let mut hit = 0;
        for (n, result) in (0..).zip(pool.map(wild_item, (0..2000_u64).map(|n| (n, at)))) {
            match result {
                Ok(value) => assert_eq!(value, 2 * n),
                Err(Error::WorkerDied(_)) => assert_eq!(n, at),
                Err(Error::MemoryCorrupted(_)) => hit += 1,
                Err(other) => panic!("{n}: {other:?}"),
            }
        }
        assert!(
            hit < 1000,
            "{hit}: those of the worker that were not brought home"
        );
        assert_goes_on(pool);
    }
}

// ---- by chance -----------------------------------------------------------------------------

/// Overwrites what the seed says, in all that can be written.
fn scribble((seed, (gate, lamp)): (u64, Cue)) -> u64 {
    gate.wait();
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let then = [Then::Crash, Then::Return][random.below(2)];
    let parts = writable("");
    for _ in 0..=random.below(64) {
        let (start, end) = parts[random.below(parts.len())];
        let address = start + random.below((end - start) / 8) * 8;
        // A bit, a word, a run.
        let run = [1, 1, 1 + random.below(512)][random.below(3)];
        for address in (address..end).step_by(8).take(run) {
            let word: *mut u64 = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: none, as above.
            let value = unsafe { word.read_volatile() };
            let value = match random.below(4) {
                0 => value ^ (1 << random.below(64)),
                1 => random.next(),
                2 => 0,
                _ => u64::MAX,
            };
            // SAFETY: none, as above.
            unsafe { word.write_volatile(value) };
        }
    }
    lamp.light();
    then.go_on()
}

fn scribble_by_seed(seed: u64) {
    println!("seed {seed}"); // shown if it fails
    let scene = Scene::begin();
    let wild = scene.pool.submit(scribble, (seed, scene.cue()));
    scene.end(wild);
}
