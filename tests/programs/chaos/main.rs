//! Endurance: all that can be asked of process pools, at once, while an outsider stops, ends and
//! kills the workers. Every future settles once, as its task allows; nothing is left at the end.
//!
//! Without further ado it takes 20 s, or 60 s where `CI=true` is set. `CHAOS_SECONDS` sets another
//! time; a full run is a million tasks, some minutes of a release build. `CHAOS_SEED` sets the random
//! numbers.

mod book;
mod callbacks;
mod drive;
mod ends;
mod hunt;
mod jobs;
mod killer;
mod ledger;
mod lanes;
mod maps;
mod memory;
mod outcome;
mod plan;
mod pools;
mod report;
mod support;
mod tasks;
mod vigil;

#[path = "../common/mod.rs"]
mod common;

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use concurrent_futures::{Executor, ProcessPoolExecutor};
use libtest_mimic::{Arguments, Trial};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use killer::Killer;
use report::Report;
use support::leaks::Baseline;
use support::{leaks, watchdog};
use vigil::Vigil;

/// After this time everything is brought to an end and checked.
const ACT: Duration = Duration::from_secs(5);

/// How many pools there are at a time.
const LANES: usize = 3;

fn main() {
    concurrent_futures::init();
    hunt::play();
    leaks::mark_descendants();
    be_quiet();
    memory::Memory::have_one_heap();
    watchdog::start();
    let trial = Trial::test("every_future_settles_once_whatever_dies", || {
        endure();
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn endure() {
    let seed = setting("CHAOS_SEED").unwrap_or_else(seed_of_the_hour);
    let asked = setting("CHAOS_SECONDS");
    let seconds = asked.unwrap_or(if is_ci() { 60 } else { 20 });
    println!("chaos for {seconds} s, CHAOS_SEED={seed}");
    let shows_progress = asked.is_some() || std::io::stdout().is_terminal();
    let vigil = Vigil::keep(shows_progress);
    warm_up();
    let baseline = Baseline::now();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut random = StdRng::seed_from_u64(seed);
    let mut report = Report::new();
    while Instant::now() < end && !ledger::is_anything_wrong() {
        act(
            &mut report,
            &mut random,
            &baseline,
            end.min(Instant::now() + ACT),
        );
        report.note_memory();
    }
    drop(vigil);
    println!("{report}");
    report.check();
    let wrong = ledger::is_anything_wrong();
    assert!(!wrong, "CHAOS_SEED={seed}: what is wrong was told above");
}

/// Some lanes of pools side by side, and the killer; all of it judged at the end.
fn act(report: &mut Report, random: &mut StdRng, baseline: &Baseline, until: Instant) {
    let pause = Duration::from_micros(random.random_range(200..15_000));
    let killer = Killer::start(random.random(), pause);
    vigil::KILLER.store(killer.pid, Ordering::Release);
    let pasts: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|_| StdRng::seed_from_u64(random.random()))
            .map(|random| scope.spawn(|| lanes::run(random, &killer, until)))
            .collect();
        let ended = lanes.into_iter().map(|lane| lane.join());
        ended.map(|past| past.expect("no lane panics")).collect()
    });
    let deeds = killer.finish();
    // Pools that were dropped in their own callbacks have wound down by then.
    baseline.assert_restored();
    report.add(pasts, &deeds);
    let live = tasks::Live::count();
    assert_eq!(live, 0, "values, or callbacks, that nobody has dropped");
}

/// What a first use sets up for the rest of the program is there before the baseline.
fn warm_up() {
    let pool = ProcessPoolExecutor::new(1).expect("the settings make sense");
    assert_eq!(
        pool.submit(tasks::mix, 1).result().ok(),
        Some(tasks::mix(1))
    );
}

/// Panics on purpose are not printed, and have no backtraces, which take long; all others end the run.
/// Crashes leave no file.
fn be_quiet() {
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // SAFETY: called in `main`, while there is one thread.
        unsafe { std::env::remove_var(name) };
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload().downcast_ref::<String>();
        let words = words
            .map(String::as_str)
            .or(panic.payload().downcast_ref().copied());
        let is_meant = words.is_some_and(|words| words.starts_with("on purpose"));
        if !is_meant {
            hook(panic);
            ledger::complain("that was a panic of this program");
        }
    }));
    let nothing = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing) };
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

fn seed_of_the_hour() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("it is past 1970");
    since.as_secs()
}
