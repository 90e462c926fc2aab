//! `Future::kill` on a running task.

use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor};
use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::tasks::{double, own_pid};
use crate::support::{
    Kind, LIMIT, Processes, assert_error, assert_works, os, trial_within, trials,
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![Processes::NAME;
        a_running_task_is_killed_and_the_queue_runs,
        a_killed_task_leaves_its_neighbours_alone,
        nothing_of_a_killed_task_runs_after_its_result,
    ];
    let name = format!("{}::a_task_is_killed_at_any_moment", Processes::NAME);
    let limit = LIMIT + rounds() * Duration::from_millis(20);
    all.push(trial_within(limit, name, a_task_is_killed_at_any_moment));
    all
}

fn a_running_task_is_killed_and_the_queue_runs() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let pid = pool.worker_pids()[0];
    let queued = pool.submit(double, 4);
    assert!(running.kill());
    running.wait();
    assert!(running.cancelled());
    assert!(!os::exists(pid), "it is reaped when the future settles");
    assert_error!(running.result(), Error::Cancelled);
    assert_eq!(queued.result().unwrap(), 8);
    assert_ne!(pool.submit(own_pid, ()).result().unwrap(), pid);
    let stats = pool.stats();
    assert_eq!(
        (stats.cancelled, stats.worker_restarts),
        (1, 1),
        "{stats:?}"
    );
}

fn a_killed_task_leaves_its_neighbours_alone() {
    let pool = Processes::pool(2);
    let (first, second) = (Hold::new(), Hold::new());
    let victim = pool.submit(hold, first.argument());
    first.await_begun();
    let neighbour = pool.submit(hold, second.argument());
    let pid = second.await_begun();
    assert!(victim.kill());
    assert_error!(victim.result(), Error::Cancelled);
    assert!(neighbour.running());
    second.release();
    assert_eq!(neighbour.result().unwrap(), pid);
}

fn nothing_of_a_killed_task_runs_after_its_result() {
    /// Lights the second lamp as soon as the gate opens.
    fn go_on((held, lamp): (crate::support::gate::Held, Lamp)) {
        hold(held);
        lamp.light();
    }
    let pool = Processes::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let future = pool.submit(go_on, (held.argument(), ran.lamp()));
    held.await_begun();
    assert!(future.kill());
    assert_error!(future.result(), Error::Cancelled);
    held.release();
    assert_works(&pool);
    assert!(!ran.is_lit());
}

// ---- at any moment -------------------------------------------------------------------------

/// Says how many rounds of chance are to be played: `CF_ROUNDS=10000`.
const ROUNDS: &str = "CF_ROUNDS";
/// Says where chance begins: `CF_SEED=7`.
const SEED: &str = "CF_SEED";

/// How long a task of these rounds takes.
const WORK: Duration = Duration::from_millis(1);

fn rounds() -> u32 {
    number(ROUNDS).map_or(200, |rounds| rounds.try_into().unwrap())
}

/// The number that a variable of the environment holds, if it is there.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("it is a number"))
}

/// What became of the tasks that were killed.
#[derive(Debug, Default)]
struct Tally {
    /// They never began.
    before: u32,
    /// They had begun, and did not come to their end.
    during: u32,
    /// They had done their work; it came too late.
    at_the_end: u32,
    /// It was too late to kill them.
    after: u32,
}

/// Says how to play the same rounds again, should one of them fail.
struct Again {
    seed: u64,
    round: u32,
}

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, round } = self;
            eprintln!(
                "in round {round}; again with {SEED}={seed} {ROUNDS}={}",
                *round + 1
            );
        }
    }
}

/// Works for a while; lights a lamp before and one after it.
fn work((begun, done): (Lamp, Lamp)) -> u32 {
    begun.light();
    let start = Instant::now();
    while start.elapsed() < WORK {
        std::hint::spin_loop();
    }
    done.light();
    std::process::id()
}

fn a_task_is_killed_at_any_moment() {
    let mut again = Again {
        seed: number(SEED).unwrap_or(1),
        round: 0,
    };
    let mut chance = StdRng::seed_from_u64(again.seed);
    let (pool, start) = (Processes::pool(1), Instant::now());
    let mut tally = Tally::default();
    for round in 0..rounds() {
        again.round = round;
        let moment = chance.random_range(Duration::ZERO..WORK * 3 / 2);
        Round::begin(&pool).kill_at(moment, &mut tally);
    }
    println!("{:?} for {} rounds: {tally:?}", start.elapsed(), rounds());
    let (stats, killed) = (pool.stats(), rounds() - tally.after);
    let (killed, completed) = (u64::from(killed), u64::from(rounds() + tally.after));
    let expected = (killed, completed, 0);
    assert_eq!(
        (stats.cancelled, stats.completed, stats.failed),
        expected,
        "{stats:?} {tally:?}"
    );
    let had_begun = u64::from(tally.during + tally.at_the_end);
    assert!(
        (had_begun..=killed).contains(&stats.worker_restarts),
        "{stats:?} {tally:?}"
    );
}

/// A task to be killed, and one behind it.
struct Round {
    /// Lit when the task begins.
    begun: Beacon,
    /// Lit when its work is done.
    done: Beacon,
    /// When it was submitted.
    start: Instant,
    /// The task.
    victim: Future<u32>,
    /// What waits behind it, for the same worker.
    next: Future<u32>,
}

impl Round {
    fn begin(pool: &ProcessPoolExecutor) -> Self {
        let (begun, done) = (Beacon::new(), Beacon::new());
        Self {
            start: Instant::now(),
            victim: pool.submit(work, (begun.lamp(), done.lamp())),
            next: pool.submit(own_pid, ()),
            begun,
            done,
        }
    }

    fn kill_at(self, moment: Duration, tally: &mut Tally) {
        // Not for something to be true, but to leave the worker a core: this is the chosen moment.
        std::thread::sleep(moment.saturating_sub(self.start.elapsed()));
        let killed = self.victim.kill();
        let outcome = self.victim.result();
        let worker = self.begun.is_lit().then(|| self.begun.await_lit());
        let was_done = self.done.is_lit();
        // Whichever task was killed, it was not this one.
        let next = self.next.result().unwrap();
        match (killed, outcome, worker) {
            (false, Ok(by), Some(worker)) => {
                assert!(was_done && by == worker && by == next);
                tally.after += 1;
            }
            (true, Err(Error::Cancelled), worker) => {
                assert_ne!(worker, Some(next), "its worker is gone");
                *match (worker, was_done) {
                    (None, _) => &mut tally.before,
                    (Some(_), false) => &mut tally.during,
                    (Some(_), true) => &mut tally.at_the_end,
                } += 1;
            }
            other => panic!("{other:?}"),
        }
        let late = self.begun.is_lit() || self.done.is_lit() != was_done;
        assert!(!late, "nothing of it runs after its result");
    }
}
