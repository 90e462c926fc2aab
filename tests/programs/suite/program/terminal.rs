//! A program in the foreground of a terminal, and the keys that signal it.

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, TaskOptions};
use libtest_mimic::Trial;

use super::{HELD, SCENE, SOON, announce};
use crate::support::gate::{Held, Hold, hold};
use crate::support::leaks::assert_descendants_end;
use crate::support::terminal::{CTRL_C, CTRL_Z, Terminal, give_terminal};
use crate::support::{Kind, LONG, Processes, assert_error, os, trials};

/// Names the scene of the program that the shell starts.
const PROGRAM: &str = "CONCURRENT_FUTURES_SCENE_PROGRAM";
/// What the shell says, and waits for.
const SHELL: &str = "CONCURRENT_FUTURES_SCENE_SHELL";

pub fn trials() -> Vec<Trial> {
    trials!["program";
        ctrl_c_ends_a_program_and_its_workers_in_silence,
        ctrl_z_stops_a_program_and_not_its_workers,
    ]
}

// ---- the shell -----------------------------------------------------------------------------

/// The scene: starts a program in the foreground, as a shell does. Says that it has, that the
/// program was stopped, and that it has ended; after either of the latter it waits to go on.
pub fn shell() {
    let held = Held::from_text(&std::env::var(SHELL).unwrap());
    let mut program = Command::new(std::env::current_exe().unwrap())
        .env(SCENE, std::env::var(PROGRAM).unwrap())
        .process_group(0)
        .spawn()
        .unwrap();
    give_terminal(program.id());
    held.begin();
    let status = loop {
        let status = os::await_change(program.id());
        hold(held.clone());
        if status.stopped_signal() != Some(libc::SIGTSTP) {
            break status;
        }
        os::kill(program.id(), libc::SIGCONT);
    };
    // It was reaped above; this only tells std.
    let _ = program.try_wait();
    let by_signal = || 128 + status.signal().unwrap();
    std::process::exit(status.code().unwrap_or_else(by_signal));
}

/// A shell in a terminal, and the program in the foreground of it.
struct Session {
    /// Where they run.
    terminal: Terminal,
    /// The shell.
    shell: Child,
    /// What the shell says, and waits for.
    news: Hold,
}

impl Session {
    /// Starts a shell that plays this scene in the foreground.
    fn start(scene: &str, task: &Hold) -> Self {
        let (terminal, news) = (Terminal::new(), Hold::new());
        let mut shell = Command::new(std::env::current_exe().unwrap());
        shell
            .env(SCENE, "shell")
            .env(SHELL, news.argument().to_text())
            .env(PROGRAM, scene)
            .env(HELD, task.argument().to_text());
        let shell = terminal.start(shell);
        news.await_begun();
        Self {
            terminal,
            shell,
            news,
        }
    }

    /// Presses a key, which stops or ends the program; blocks until it has.
    fn press(&self, key: u8) {
        self.terminal.press(key);
        self.news.await_begun();
    }

    /// Lets the shell go on, to the end; how the program ended, and what was printed.
    fn end(mut self) -> (ExitStatus, String) {
        self.news.release();
        let status = self.shell.wait().unwrap();
        assert_descendants_end(Instant::now() + LONG);
        (status, self.terminal.read_to_end())
    }
}

// ---- Ctrl-C --------------------------------------------------------------------------------

/// The scene: busy workers, and something in the queue.
pub fn interrupted(held: Held) {
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let inner = Hold::new();
    let _running = pool.submit(announce, (inner.argument(), held));
    inner.await_begun();
    let _other = inner.occupy(&pool);
    let queued = pool.submit(|()| println!("it runs in spite of all"), ());
    queued.wait();
}

fn ctrl_c_ends_a_program_and_its_workers_in_silence() {
    let task = Hold::new();
    let session = Session::start("interrupted", &task);
    let worker = task.await_begun();
    session.press(CTRL_C);
    // While the terminal and the shell are still there.
    assert!(os::await_end(worker, Instant::now() + SOON));
    let (status, printed) = session.end();
    assert_eq!(status.code(), Some(128 + libc::SIGINT));
    assert_eq!(printed, "", "workers know when to be silent");
}

// ---- Ctrl-Z --------------------------------------------------------------------------------

/// The limit of a task that is passed while the program is stopped.
const TIME: Duration = Duration::from_secs(2);

/// What a task prints in the background.
const WORDS: &str = "the task goes on\n";

/// The scene: a task that is to go on, and one that is to be late.
pub fn stopped(held: Held) {
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let options = TaskOptions::new().timeout(TIME);
    let late = pool.submit_with(options, outlive, held.clone());
    let going_on = pool.submit(go_on, held);
    // Its result is there as soon as the program goes on.
    going_on.result().unwrap();
    let resumed = Instant::now();
    assert_error!(late.result(), Error::TaskTimeout { .. });
    // The time during which the program was stopped counts: nothing of the limit is left.
    assert!(resumed.elapsed() < TIME, "{:?}", resumed.elapsed());
}

/// Says that it has begun, prints when it is let go, and says that it has.
fn go_on(held: Held) {
    hold(held.clone());
    print!("{WORDS}");
    held.begin();
}

/// Says that it has begun, and that its time is up; does not end by itself.
fn outlive(held: Held) {
    let begun = Instant::now();
    held.begin();
    while begun.elapsed() < TIME {
        std::thread::park_timeout(TIME.saturating_sub(begun.elapsed()));
    }
    held.begin();
    loop {
        std::thread::park();
    }
}

fn ctrl_z_stops_a_program_and_not_its_workers() {
    let task = Hold::new();
    let session = Session::start("stopped", &task);
    let workers = BTreeSet::from([task.await_begun(), task.await_begun()]);
    session.press(CTRL_Z);
    task.release();
    // One is done, the other late: no process is there to kill it.
    let after = BTreeSet::from([task.await_begun(), task.await_begun()]);
    assert_eq!(after, workers);
    assert_eq!(session.terminal.read(WORDS.len()), WORDS);
    let (status, printed) = session.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert_eq!(printed, "");
}
