//! Fuzz target of the shared memory: a script decides what the program and its workers do, and overwrites
//! anything that a worker can write, between any two steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::script::Script;
use super::tasks::{self, LIMIT, Tasks};
use super::worker::{FuzzedWorker, put};
use crate::error::Error;
use crate::options::TaskOptions;
use crate::pool::PullQueue;
use crate::process::host::driver::{CollectedBy, CompletionSource};
use crate::process::host::in_flight::InFlight;
use crate::process::shm::queue::layout::{MappedQueue, Memory};
use crate::process::shm::queue::{ShmQueue, SlotRef};

/// The number of workers.
pub(super) const WORKERS: usize = 2;

/// The number of slots that the script overwrites: those that are used first.
const SLOTS: usize = 12;

/// How many times, at the end, workers look for more tasks and the program audits what they have left.
const ROUNDS: usize = 8;

/// The most bytes of one input that are used.
const MOST: usize = 2048;

/// Runs tasks on a shared-memory queue with two workers and stray writes, as the bytes say. Then kills the
/// workers, and checks that every task has ended with its own value, a value that its worker made up, or an
/// error, and that none ran twice.
pub fn queue(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MOST)];
    tasks::forget_runs();
    let Some(in_flight) = InFlight::new(WORKERS, LIMIT) else {
        return; // the system has no memory
    };
    // Everything happens on this thread: no thread of the driver runs.
    in_flight.driver().end();
    let queues: Vec<_> = (0..WORKERS)
        .map(|worker| queue_of(&in_flight, worker))
        .collect();
    let mut scene = ScriptScene {
        workers: (0..WORKERS)
            .map(|worker| FuzzedWorker::new(&in_flight, &queues[worker], worker))
            .collect(),
        in_flight: &in_flight,
        tasks: Tasks::default(),
        script: Script::new(bytes),
    };
    while !scene.script.is_over() {
        scene.step();
    }
    let tasks = scene.end();
    tasks.judge();
    let load = in_flight.load();
    assert_eq!((load.waiting, load.tasks, load.running), (0, 0, 0));
    assert_eq!(
        in_flight.occupied(),
        0,
        "slots are free once their tasks have ended"
    );
}

fn queue_of(in_flight: &InFlight, worker: usize) -> Arc<ShmQueue> {
    let (memory, geometry, key) = in_flight.memory();
    let memory = memory.copy().expect("it is open");
    let memory = MappedQueue::map(memory, geometry, worker).expect("it can be mapped");
    Arc::new(ShmQueue::new(memory, key))
}

/// Everything that a script acts on.
struct ScriptScene<'a> {
    /// The program's side.
    in_flight: &'a Arc<InFlight>,
    /// The workers.
    workers: Vec<FuzzedWorker<'a>>,
    /// The tasks that were submitted.
    tasks: Tasks,
    /// The steps that are left.
    script: Script<'a>,
}

impl ScriptScene<'_> {
    fn step(&mut self) {
        match self.script.below(32) {
            0..5 => self.submit(),
            5..18 => {
                let worker = self.script.below(WORKERS);
                self.workers[worker].go_on();
            }
            18..23 => self.scribble(),
            23 | 24 => {
                let _ = self.in_flight.collect(CollectedBy::Ours);
            }
            25 => {
                let _ = self.in_flight.sweep();
            }
            26 => self.audit(),
            27 => {
                let worker = self.script.below(WORKERS);
                self.workers[worker].end_with(&mut self.script, &mut self.tasks);
            }
            28 => self.speak_out_of_turn(),
            29 => {
                let worker = self.script.below(WORKERS);
                self.workers[worker].die();
            }
            30 => self.call_off(),
            _ => self.in_flight.alarm(),
        }
    }

    fn submit(&mut self) {
        let Some(arena) = self.in_flight.arena() else {
            return;
        };
        let (tasks, script) = (&mut self.tasks, &mut self.script);
        let all = match script.below(8) {
            0 | 1 => tasks.number(TaskOptions::new(), &arena),
            2 => tasks.text(TaskOptions::new(), 30, &arena),
            3 => tasks.text(TaskOptions::new(), 1000, &arena),
            4 => tasks.text(TaskOptions::new(), 5000, &arena),
            5 => tasks.number(tasks::with_rendezvous(), &arena),
            6 => tasks.numbers(1 + script.below(20), &arena),
            _ => tasks.texts(1 + script.below(5), 8 + script.below(900), &arena),
        };
        for requests in all {
            put(self.in_flight, requests);
        }
    }

    fn audit(&mut self) {
        let confirmation = match self.script.below(2) {
            0 => Duration::ZERO,
            _ => Duration::from_secs(3600),
        };
        self.in_flight.confirm_after(confirmation);
        self.in_flight.audit();
    }

    fn call_off(&mut self) {
        let choice = self.script.below(256);
        match (
            self.script.below(3),
            self.tasks.future(choice),
            self.tasks.items(choice),
        ) {
            (0, Some(id), _) => drop(self.in_flight.recall(id)),
            (1, Some(id), _) => {
                if let Some(worker) = self.in_flight.mark_killed(id, |worker| worker) {
                    // The index is in range and belongs to a worker, whatever the memory says.
                    if let Some(worker) = self.workers.get_mut(worker) {
                        worker.die();
                    }
                }
            }
            (_, _, Some((first, last))) => drop(self.in_flight.abandon(first, last)),
            _ => {}
        }
    }

    fn speak_out_of_turn(&mut self) {
        let worker = self.script.below(WORKERS);
        let place = match self.script.below(4) {
            0 => self.workers[worker].place(),
            1 => self.workers[(worker + 1) % WORKERS].place(),
            2 => {
                let (slot, position) = (self.script.below(SLOTS), self.script.below(64));
                Some(SlotRef::from_number((position << 24 | slot) as u64))
            }
            _ => Some(SlotRef::from_number(self.script.number())),
        };
        let Some(place) = place else {
            return;
        };
        match self.script.below(3) {
            0 => {
                self.tasks.hit();
                self.workers[worker].redeem(place);
            }
            _ => self.workers[worker].send_outcome(place, &mut self.script, &mut self.tasks),
        }
    }

    // ---- stray writes ------------------------------------------------------------------------

    fn scribble(&mut self) {
        self.tasks.hit();
        let worker = self.script.below(WORKERS);
        let (slot, other) = (self.script.below(SLOTS), self.script.below(SLOTS));
        let script = &mut self.script;
        let memory = self.workers[worker].queue.memory();
        let control = memory.control();
        match script.below(16) {
            0 => overwrite(&control.head.0, None, script),
            1 => overwrite_half(&control.searcher.0, script),
            2 => overwrite(&control.collector.0.asleep, None, script),
            3 => overwrite(&memory.done()[0], None, script),
            4 => overwrite(&memory.asleep()[0], None, script),
            5..8 => {
                let states = memory.states();
                if overwrite_state(&states[slot].0, &states[other].0, script) {
                    self.tasks.forge();
                }
            }
            8 => {
                if let Some(words) = memory.worker_words(worker) {
                    overwrite(&words.current, None, script);
                }
            }
            9 => {
                let offset = script.below(64);
                memory.write_result(worker, slot, offset, &[script.byte()]);
            }
            field => {
                let Some(outcomes) = memory.outcomes(worker) else {
                    return;
                };
                let field_of = |slot: usize| {
                    let outcome = &outcomes[slot];
                    match field {
                        10 => &outcome.place,
                        11 => &outcome.head,
                        12 => &outcome.check,
                        13 => &outcome.progress,
                        14 => &outcome.nanos,
                        _ => &outcome.words[slot % 2],
                    }
                };
                overwrite(field_of(slot), Some(field_of(other)), script);
            }
        }
    }

    // ---- the end -----------------------------------------------------------------------------

    /// Ends the scene: the workers run what is left and die; the program recovers what stray writes have left
    /// behind; then the pool ends.
    fn end(mut self) -> Tasks {
        self.in_flight.confirm_after(Duration::ZERO);
        for _ in 0..ROUNDS {
            if self.in_flight.occupied() == 0 {
                break;
            }
            self.in_flight.audit();
            for worker in &mut self.workers {
                worker.drain();
            }
            let _ = self.in_flight.collect(CollectedBy::Ours);
        }
        for worker in &mut self.workers {
            worker.vanish();
        }
        self.in_flight.audit();
        self.in_flight.audit();
        self.tasks.assert_all_ran(self.in_flight.occupied());
        for left in self.in_flight.clear() {
            left.fail(&Error::Cancelled, &mut |_| ());
        }
        PullQueue::end(&**self.in_flight);
        self.tasks
    }
}

/// Overwrites a word with a value that the script chooses; it may be the value of a neighbour.
fn overwrite(word: &AtomicU64, neighbour: Option<&AtomicU64>, script: &mut Script<'_>) {
    // ORDERING: Relaxed, all; there is one thread.
    let before = word.load(Ordering::Relaxed);
    let after = match script.below(8) {
        0..3 => before ^ 1 << script.below(64),
        3 => 0,
        4 => u64::MAX,
        5 => before.wrapping_add(script.below(8) as u64).wrapping_sub(4),
        6 => match neighbour {
            Some(neighbour) => neighbour.load(Ordering::Relaxed),
            None => before.wrapping_add(1 << 24),
        },
        _ => script.number(),
    };
    word.store(after, Ordering::Relaxed);
}

fn overwrite_half(word: &AtomicU32, script: &mut Script<'_>) {
    let whole = AtomicU64::new(0);
    overwrite(&whole, None, script);
    // ORDERING: Relaxed, both; there is one thread.
    word.store(whole.load(Ordering::Relaxed) as u32, Ordering::Relaxed);
}

/// Overwrites a slot's state. Returns whether it may have become exactly another valid state.
fn overwrite_state(state: &AtomicU64, neighbour: &AtomicU64, script: &mut Script<'_>) -> bool {
    const KINDS: [u64; 5] = [0x35, 0x5a, 0xa6, 0xc9, 0x0f];
    // ORDERING: Relaxed, all; there is one thread.
    let before = state.load(Ordering::Relaxed);
    if script.below(4) == 0 {
        let kind = KINDS[script.below(KINDS.len())];
        let worker = script.below(3) as u64;
        // In a state, a worker's index is stored in this form.
        let after = before & !0xff_ffff | (63 * worker) << 8 | kind;
        state.store(after, Ordering::Relaxed);
        return after != before;
    }
    overwrite(state, Some(neighbour), script);
    let kind = state.load(Ordering::Relaxed) & 0xff;
    kind != before & 0xff && KINDS.contains(&kind)
}
