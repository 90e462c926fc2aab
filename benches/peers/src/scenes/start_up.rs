//! The first result of a new pool, against the least that could do the same: one re-execution of
//! this program that answers.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor};

use crate::Outcome;
use crate::children::{ANSWER, Role};
use crate::duel::Samples;
use crate::pools::ours::PROCESSES;
use crate::pools::procspawn::Procspawn;
use crate::pools::python::PythonPool;
use crate::pools::{Call, WORKERS, identity};
use crate::scenes::contest::{Bars, Contest, Measure};
use crate::scenes::{Run, Scene};

pub fn play(run: &mut Run) -> Outcome<()> {
    let calls = run.pick(20, 5);
    let mut contest = Contest {
        scene: Scene::StartUp,
        what: "first result".into(),
        measure: Measure::Times,
        turns: run.turns(5, 5),
        name: PROCESSES,
        turn: || repeat(calls, ours),
    };
    let bars = Bars::at_most(1.5);
    contest.meet(run, "bare re-exec", bars, || repeat(calls, bare))?;
    contest.meet(run, Procspawn::NAME, Bars::NONE, || {
        repeat(calls, procspawn)
    })?;
    contest.meet_python(run, PythonPool::Processes, Bars::NONE, |python| {
        python.start_ups(calls)
    })
}

fn repeat(calls: u64, first_result: fn() -> Outcome<Duration>) -> Outcome<Samples> {
    (0..calls).map(|_| first_result()).collect()
}

/// What comes after the result, the end of the pool, is not counted, here and below.
fn ours() -> Outcome<Duration> {
    let begun = Instant::now();
    let pool = ProcessPoolExecutor::new(WORKERS)?;
    let answer = pool.submit(identity, 42).result()?;
    let time = begun.elapsed();
    assert_eq!(answer, 42);
    Ok(time)
}

fn bare() -> Outcome<Duration> {
    let begun = Instant::now();
    let mut command = Role::Answer.command();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut answer = [0; ANSWER.len()];
    let stdout = child.stdout.as_mut().ok_or("stdout is piped")?;
    stdout.read_exact(&mut answer)?;
    let time = begun.elapsed();
    assert_eq!(answer, ANSWER.as_bytes());
    child.wait()?;
    Ok(time)
}

fn procspawn() -> Outcome<Duration> {
    let begun = Instant::now();
    let mut pool = Procspawn::new()?;
    let answer = pool.call(42)?;
    let time = begun.elapsed();
    assert_eq!(answer, 42);
    Ok(time)
}
