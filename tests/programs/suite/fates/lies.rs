//! Workers that send frames which look right and are not: half of a frame, a frame that announces what
//! never comes, an answer to a question that was not asked.

use std::time::Duration;

use concurrent_futures::{Error, Executor, TaskOptions};
use libtest_mimic::Trial;

use super::frames::Way::{self, Taken, Told};
use super::frames::{
    CLAIM, Frame, GO_ON, HELLO, Lie, MEMORY, REGION_REQUEST, STORED_VALUE, Then, lie,
};
use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_worker_sends_half_a_frame_and_ends,
        a_worker_sends_half_a_frame_and_stays,
        a_worker_sends_half_a_frame_and_goes_on,
        a_worker_sends_byte_by_byte_beyond_its_limit,
        a_worker_sends_what_is_no_answer_beyond_its_limit,
        a_worker_asks_for_memory_and_reads_no_answer,
        a_worker_announces_more_than_it_may_send,
        a_worker_announces_more_than_it_sends,
        a_worker_answers_what_nobody_asked,
        a_worker_speaks_of_places_that_are_not_its_own,
        a_worker_says_that_its_result_is_where_none_can_be,
    ]
}

/// What becomes of a task that lies. What waits behind it runs, on another worker if that is lost.
fn outcome(options: TaskOptions, lie_of: Lie) -> Result<(), Error> {
    let pool = Processes::pool(1);
    pool.warm_up().unwrap();
    let pid = pool.worker_pids()[0];
    let lying = pool.submit_with(options, lie, lie_of);
    let behind = pool.submit(own_pid, ());
    let outcome = lying.result();
    let other = match (behind.result(), &outcome) {
        (Ok(other), _) => Some(other),
        // Only now was it found out.
        (Err(Error::WorkerDied(death)), Ok(())) => {
            assert_eq!(death.pid(), pid);
            None
        }
        (Err(other), _) => panic!("{other:?}"),
    };
    if outcome.is_err() {
        assert_ne!(other, Some(pid));
        assert!(!os::exists(pid));
    }
    // Those of the other way go on, too.
    for way in [Told, Taken] {
        let next = pool.submit_with(way.options(), own_pid, ());
        match next.result() {
            Ok(_) => {}
            // Only now was it found out.
            Err(Error::WorkerDied(death)) => assert_eq!(death.pid(), pid),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_works(&pool);
    outcome
}

/// The worker is killed for what it said; the words that say so.
fn violation(way: Way, bytes: Vec<u8>) -> String {
    match outcome(way.options(), Lie::new(bytes, Then::Stay)) {
        Err(Error::WorkerDied(death)) => {
            assert_eq!(death.signal(), Some(libc::SIGKILL));
            death.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// The worker exits; nothing it said is taken for an answer.
fn exits(way: Way, lie: Lie) {
    match outcome(way.options(), lie) {
        Err(Error::WorkerDied(death)) => assert_eq!(death.exit_code(), Some(3), "{death}"),
        other => panic!("{other:?}"),
    }
}

/// The task does not end; its limit does.
fn late(bytes: Vec<u8>, then: Then) {
    let short = TaskOptions::new().timeout(Duration::from_millis(50));
    assert_error!(
        outcome(short, Lie::new(bytes, then)),
        Error::TaskTimeout { .. }
    );
}

/// The task returns. Either its outcome arrives, or the program finds out first what was sent before it.
fn goes_on(way: Way, bytes: Vec<u8>) {
    match outcome(way.options(), Lie::new(bytes, Then::Return)) {
        Ok(()) | Err(Error::WorkerDied(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
}

// ---- half a frame --------------------------------------------------------------------------

/// Frames cut short: in the header, before the body, in the body.
fn halves(way: Way) -> [Vec<u8>; 3] {
    let whole = way.value(100).with(&[0; 100]);
    [5, 24, 60].map(|length| whole[..length].to_vec())
}

fn a_worker_sends_half_a_frame_and_ends() {
    for way in [Told, Taken] {
        for half in halves(way) {
            exits(way, Lie::new(half, Then::Exit));
        }
    }
}

fn a_worker_sends_half_a_frame_and_stays() {
    for half in halves(Told) {
        late(half, Then::Stay);
    }
}

fn a_worker_sends_half_a_frame_and_goes_on() {
    for way in [Told, Taken] {
        let [in_the_header, ..] = halves(way);
        goes_on(way, in_the_header);
    }
}

/// Each byte comes in time; the answer does not.
fn a_worker_sends_byte_by_byte_beyond_its_limit() {
    late(Told.value(1 << 30).header(), Then::Repeat);
}

/// Frames of which none is an answer, without end. What it asks for it does not read.
fn a_worker_sends_what_is_no_answer_beyond_its_limit() {
    let task = 0;
    let empty = [MEMORY, GO_ON].map(|kind| {
        let length = 0;
        Frame { kind, task, length }.header()
    });
    for frame in empty.into_iter().chain([a_request()]) {
        late(frame.repeat(100), Then::Flood);
    }
}

/// Without a time limit it is waited for until it has not read for some seconds; then it is ended.
fn a_worker_asks_for_memory_and_reads_no_answer() {
    let flood = Lie::new(a_request().repeat(100), Then::Flood);
    let error = outcome(Taken.options(), flood).unwrap_err();
    let Error::WorkerDied(death) = error else {
        panic!("{error:?}")
    };
    assert!(death.to_string().contains("did not read"), "{death}");
}

/// A request for shared memory that the program does not have.
fn a_request() -> Vec<u8> {
    let length = 16;
    let request = Frame {
        kind: REGION_REQUEST,
        task: 0,
        length,
    };
    request.with(&[7; 16])
}

// ---- lengths -------------------------------------------------------------------------------

/// Memory for all that a worker truly sends, and none for what it only announces.
struct Frugal {
    /// How much there may be otherwise.
    enough: u64,
    /// The most memory that was used before.
    before: u64,
}

impl Frugal {
    fn begin() -> Self {
        let enough = os::limit(libc::RLIMIT_AS);
        os::set_limit(libc::RLIMIT_AS, os::mapped_memory() + (4 << 30));
        os::forget_peak_memory();
        let before = os::peak_memory();
        Self { enough, before }
    }

    /// Fails if this process has used, at any time since the beginning, this many bytes more than now.
    fn assert_used_less_than(&self, bytes: u64) {
        let (peak, now) = (os::peak_memory(), os::used_memory());
        let is_new = peak > self.before;
        assert!(
            !is_new || peak < now + bytes,
            "{peak} at the peak, {now} now"
        );
    }
}

impl Drop for Frugal {
    fn drop(&mut self) {
        os::set_limit(libc::RLIMIT_AS, self.enough);
    }
}

fn a_worker_announces_more_than_it_may_send() {
    let frugal = Frugal::begin();
    for way in [Told, Taken] {
        let values = [u64::MAX, 1 << 62, (16 << 30) + 1].map(|length| way.value(length));
        for frame in values.into_iter().chain([way.fault(2 << 30)]) {
            let words = violation(way, frame.header());
            assert!(
                words.contains("announced more bytes than it may send"),
                "{words}"
            );
        }
    }
    frugal.assert_used_less_than(64 << 20);
}

fn a_worker_announces_more_than_it_sends() {
    let frugal = Frugal::begin();
    for way in [Told, Taken] {
        for (length, zeros) in [(16 << 30, 0), (16 << 30, 8 << 20), (1 << 30, 8 << 20)] {
            let lie = Lie::new(way.value(length).header(), Then::Exit);
            exits(way, Lie { zeros, ..lie });
        }
    }
    frugal.assert_used_less_than(64 << 20);
}

// ---- answers -------------------------------------------------------------------------------

fn a_worker_answers_what_nobody_asked() {
    for way in [Told, Taken] {
        let whole = way.value(0);
        for kind in [HELLO, 99] {
            violation(way, Frame { kind, ..whole }.header());
        }
        violation(way, way.fault(4).with(b"what"));
    }
    violation(
        Told,
        Frame {
            task: 7,
            ..Told.value(0)
        }
        .header(),
    );
    violation(Told, Taken.value(0).header());
    violation(Taken, Told.value(0).header());
}

fn a_worker_speaks_of_places_that_are_not_its_own() {
    for task in [0, 1, 1 << 20, 1 << 40, u64::MAX] {
        let claim = Frame {
            task,
            kind: CLAIM,
            length: 0,
        };
        goes_on(Taken, claim.header());
        let value = Frame {
            task,
            ..Taken.value(8)
        };
        goes_on(Taken, value.with(&[0; 8]));
    }
}

fn a_worker_says_that_its_result_is_where_none_can_be() {
    let frame = |length| Frame {
        kind: STORED_VALUE,
        ..Told.value(length)
    };
    // Block, length and room: a length that is too long, a block of the program's own, no such block.
    let location = |block: u32, length: u64| {
        let room = u64::MAX;
        let numbers = [
            &block.to_le_bytes()[..],
            &length.to_le_bytes(),
            &room.to_le_bytes(),
        ];
        frame(20).with(&numbers.concat())
    };
    let lies = [
        location(0, 1 << 62),
        location(63, 100),
        location(u32::MAX, 1),
    ];
    for bytes in lies.into_iter().chain([frame(7).with(b"nowhere")]) {
        let words = violation(Told, bytes);
        assert!(words.contains("result is not where it may be"), "{words}");
    }
    violation(Told, frame(21).header());
    violation(Taken, frame(20).header());
    // Memory for it is not made up.
    let frugal = Frugal::begin();
    let never_written = location(62, 1 << 30);
    match outcome(Told.options(), Lie::new(never_written, Then::Exit)) {
        Err(Error::Decode(_) | Error::WorkerDied(_)) => {}
        other => panic!("{other:?}"),
    }
    frugal.assert_used_less_than(64 << 20);
}
