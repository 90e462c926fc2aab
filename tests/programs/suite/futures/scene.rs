//! A future at some point of its task's way.

use std::thread;

use concurrent_futures::{Error, Executor, Future};
use serde::{Deserialize, Serialize};

use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::{Kind, assert_works};

/// Where a task stands when something is done to its future.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    Pending,
    Running,
    Finished,
    Failed,
    Cancelled,
}

/// What a task comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Value,
    Panic,
    Cancelled,
}

/// A future at some point of its task's way.
pub struct Scene<K: Kind> {
    /// Where the task stands.
    pub stand: Stand,
    /// Keeps the task, or the one before it, until released.
    pub held: Hold,
    /// Lit when the task has run.
    ran: Beacon,
    /// The one before it.
    before: Option<Future<u32>>,
    /// The pool, of one worker.
    pub pool: K::Pool,
}

/// The argument of [`work`].
#[derive(Serialize, Deserialize)]
struct Work {
    /// Where to wait first.
    held: Option<Held>,
    /// To be lit then.
    ran: Lamp,
    /// Whether to panic.
    fails: bool,
}

fn work(work: Work) -> u32 {
    if let Some(held) = work.held {
        hold(held);
    }
    work.ran.light();
    assert!(!work.fails, "on purpose: it fails");
    7
}

impl<K: Kind> Scene<K> {
    /// A task that stands there. It fails if its end is to be a panic.
    pub fn set(stand: Stand) -> (Self, Future<u32>) {
        let fails = stand == Stand::Failed;
        Self::set_with(stand, fails)
    }

    pub fn set_with(stand: Stand, fails: bool) -> (Self, Future<u32>) {
        let mut scene = Self {
            stand,
            held: Hold::new(),
            ran: Beacon::new(),
            before: None,
            pool: K::pool(1),
        };
        let future = scene.submit(fails);
        match stand {
            Stand::Pending => {}
            Stand::Running => assert!(future.running()),
            Stand::Finished | Stand::Failed => {
                future.wait();
                scene.ran.await_lit();
            }
            Stand::Cancelled => assert!(future.cancel()),
        }
        (scene, future)
    }

    fn submit(&mut self, fails: bool) -> Future<u32> {
        let waits_behind = matches!(self.stand, Stand::Pending | Stand::Cancelled);
        if waits_behind {
            self.before = Some(self.pool.submit(hold, self.held.argument()));
            self.held.await_begun();
        }
        let held = (self.stand == Stand::Running).then(|| self.held.argument());
        let waits_inside = held.is_some();
        let ran = self.ran.lamp();
        let future = self.pool.submit(work, Work { held, ran, fails });
        if waits_inside {
            self.held.await_begun();
        }
        future
    }

    /// Does what may block, and lets the task go meanwhile.
    pub fn while_released<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let blocked = scope.spawn(f);
            self.held.release();
            blocked.join().unwrap()
        })
    }

    pub fn is_settled(&self) -> bool {
        !matches!(self.stand, Stand::Pending | Stand::Running)
    }

    /// What the task comes to if nothing is done to it.
    pub fn end(&self) -> End {
        match self.stand {
            Stand::Pending | Stand::Running | Stand::Finished => End::Value,
            Stand::Failed => End::Panic,
            Stand::Cancelled => End::Cancelled,
        }
    }

    /// Lets everything end, and checks that the task has run or not, and that the pool goes on.
    pub fn close(self, has_run: bool) {
        self.held.release();
        assert!(self.before.is_none_or(|before| before.result().is_ok()));
        assert_works(&self.pool);
        drop(self.pool);
        let seen_before = matches!(self.stand, Stand::Finished | Stand::Failed);
        assert_eq!(self.ran.is_lit() || seen_before, has_run);
    }
}

pub fn end_of(outcome: &Result<u32, Error>) -> End {
    match outcome {
        Ok(7) => End::Value,
        Err(Error::Panicked(_)) => End::Panic,
        Err(Error::Cancelled) => End::Cancelled,
        other => panic!("{other:?}"),
    }
}
