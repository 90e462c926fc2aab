//! Watches that something goes on: a run that hangs tells where every thread stands, and ends.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ledger::TOLD;
use crate::support::{os, watchdog};

/// An outcome is reported at least once in this time.
const PATIENCE: Duration = Duration::from_secs(40);

/// Time for the killer to be gone, so that it does not meddle with what is looked at.
const CALM: Duration = Duration::from_secs(2);

/// Between two lines of progress.
const INTERVAL: Duration = Duration::from_secs(5);

/// The process of the killer.
pub static KILLER: AtomicU32 = AtomicU32::new(0);

/// Ends with its drop.
pub struct Vigil {
    /// Its drop is the message.
    end: Option<Sender<()>>,
    /// Watches.
    thread: Option<JoinHandle<()>>,
}

impl Vigil {
    pub fn keep(shows_progress: bool) -> Self {
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("vigil".into());
        let thread = thread.spawn(move || watch_over(&ended, shows_progress));
        Self {
            end: Some(end),
            thread: Some(thread.expect("there is room for a thread")),
        }
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

fn watch_over(ended: &Receiver<()>, shows_progress: bool) {
    let watch = || watchdog::watch("nothing is told any more: chaos".into(), PATIENCE + CALM);
    let begun = Instant::now();
    let mut watched = watch();
    let (mut told, mut last) = (0, Instant::now());
    let mut shown = Instant::now();
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
        let now = TOLD.load(Ordering::Relaxed);
        if now != told {
            (told, last) = (now, Instant::now());
            drop(watched);
            watched = watch();
        } else if last.elapsed() > PATIENCE {
            // It is its last moment: stacks follow.
            os::try_kill(KILLER.load(Ordering::Acquire), libc::SIGKILL);
        }
        if shows_progress && shown.elapsed() >= INTERVAL {
            shown = Instant::now();
            println!("{:>6.0?}  {told} tasks", begun.elapsed());
        }
    }
    drop(watched);
}
