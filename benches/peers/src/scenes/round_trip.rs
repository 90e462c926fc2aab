//! One task that returns its argument, submitted and awaited; then again.

use std::process;
use std::time::Duration;

use crate::Outcome;
use crate::placement::Apart;
use crate::pools::ipc::IpcPong;
use crate::pools::ours::{self, PROCESSES, THREADS};
use crate::pools::procspawn::Procspawn;
use crate::pools::python::{Python, PythonPool};
use crate::pools::rayon::Rayon;
use crate::pools::rusty_pool::RustyPool;
use crate::pools::socket::SocketPair;
use crate::pools::threadpool::Threadpool;
use crate::pools::tokio::Tokio;
use crate::pools::{RoundTrips, Series};
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

/// No pause between the calls.
const WARM: Series = Series {
    warm_up: 20,
    calls: 200,
    pause: Duration::ZERO,
};

/// A pause between the calls that is long enough for all threads to fall asleep.
const AFTER_IDLE: Series = Series {
    warm_up: 2,
    calls: 25,
    pause: Duration::from_millis(1),
};

pub fn warm(run: &mut Run) -> Outcome<()> {
    warm_processes(run)?;
    pinned_processes(run)?;
    warm_threads(run)
}

fn warm_processes(run: &mut Run) -> Outcome<()> {
    let mut pool = ours::processes()?;
    let mut contest = Contest {
        scene: Scene::RoundTrip,
        what: "round trip".into(),
        measure: Measure::Times,
        turns: run.turns(5, 10),
        name: PROCESSES,
        turn: || pool.round_trips(WARM),
    };
    let turn = |python: &mut Python| python.round_trips(WARM);
    contest.meet_python(run, PythonPool::Processes, Bars::at_most(0.01), turn)?;
    contest.meet_python(run, PythonPool::Multiprocessing, Bars::NONE, turn)?;
    contest.meet_python(run, PythonPool::Loky, Bars::NONE, turn)?;
    contest.meet_python(run, PythonPool::Pebble, Bars::NONE, turn)?;
    let mut peer = Procspawn::new()?;
    let turn = || peer.round_trips(WARM);
    contest.meet(run, Procspawn::NAME, Bars::at_most(1.0 / 40.0), turn)?;
    let mut peer = IpcPong::numbers()?;
    contest.meet(run, IpcPong::NAME, Bars::NONE, || peer.round_trips(WARM))?;
    let mut peer = SocketPair::new()?;
    contest.meet(run, SocketPair::NAME, Bars::NONE, || peer.round_trips(WARM))?;
    let mut peer = Rayon::new()?;
    let bars = Bars::at_most(1.0).p99_at_most(3.0);
    contest.meet(run, Rayon::NAME, bars, || peer.round_trips(WARM))
}

/// The system may put both sides on one core, which is quicker or slower, but not for all alike.
fn pinned_processes(run: &mut Run) -> Outcome<()> {
    let what = "round trip pinned";
    let Some(apart) = Apart::begin()? else {
        run.skip(what, "there is one core");
        return Ok(());
    };
    let mut pool = ours::processes()?;
    apart.place_children(process::id())?;
    let mut contest = Contest {
        scene: Scene::RoundTrip,
        what: what.into(),
        measure: Measure::Times,
        turns: run.turns(5, 10),
        name: PROCESSES,
        turn: || pool.round_trips(WARM),
    };
    let turn = |python: &mut Python| {
        apart.place_children(python.pid())?;
        python.round_trips(WARM)
    };
    contest.meet_python(run, PythonPool::Processes, Bars::at_most(0.01), turn)?;
    let mut peer = Procspawn::new()?;
    peer.round_trips(WARM)?;
    apart.place_children(process::id())?;
    let turn = || peer.round_trips(WARM);
    contest.meet(run, Procspawn::NAME, Bars::at_most(1.0 / 40.0), turn)?;
    let mut peer = Rayon::beginning_with(apart.worker_thread())?;
    let bars = Bars::at_most(1.0).p99_at_most(3.0);
    contest.meet(run, Rayon::NAME, bars, || peer.round_trips(WARM))
}

fn warm_threads(run: &mut Run) -> Outcome<()> {
    let mut pool = ours::threads()?;
    let mut contest = Contest {
        scene: Scene::RoundTrip,
        what: "round trip".into(),
        measure: Measure::Times,
        turns: run.turns(5, 10),
        name: THREADS,
        turn: || pool.round_trips(WARM),
    };
    let bars = Bars::at_most(1.0);
    let mut peer = Rayon::new()?;
    contest.meet(run, Rayon::NAME, bars, || peer.round_trips(WARM))?;
    let mut peer = Threadpool::new();
    contest.meet(run, Threadpool::NAME, bars, || peer.round_trips(WARM))?;
    let mut peer = RustyPool::new();
    contest.meet(run, RustyPool::NAME, bars, || peer.round_trips(WARM))?;
    let mut peer = Tokio::new()?;
    contest.meet(run, Tokio::NAME, bars, || peer.round_trips(WARM))?;
    contest.meet_python(run, PythonPool::Threads, Bars::NONE, |python| {
        python.round_trips(WARM)
    })
}

pub fn after_idle(run: &mut Run) -> Outcome<()> {
    let mut pool = ours::processes()?;
    let mut contest = Contest {
        scene: Scene::AfterIdle,
        what: "round trip after 1 ms".into(),
        measure: Measure::Times,
        turns: run.turns(5, 10),
        name: PROCESSES,
        turn: || pool.round_trips(AFTER_IDLE),
    };
    let mut peer = SocketPair::new()?;
    let turn = || peer.round_trips(AFTER_IDLE);
    contest.meet(run, SocketPair::NAME, Bars::at_most(1.0), turn)?;
    let mut peer = IpcPong::numbers()?;
    let turn = || peer.round_trips(AFTER_IDLE);
    contest.meet(run, IpcPong::NAME, Bars::NONE, turn)?;
    let mut peer = Procspawn::new()?;
    let turn = || peer.round_trips(AFTER_IDLE);
    contest.meet(run, Procspawn::NAME, Bars::NONE, turn)?;
    let mut peer = Rayon::new()?;
    let turn = || peer.round_trips(AFTER_IDLE);
    contest.meet(run, Rayon::NAME, Bars::NONE, turn)?;
    contest.meet_python(run, PythonPool::Processes, Bars::NONE, |python| {
        python.round_trips(AFTER_IDLE)
    })
}
