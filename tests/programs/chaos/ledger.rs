//! What was submitted and what came of it, written down as it happens.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use concurrent_futures::Error;

use crate::ends::End;
use crate::jobs::Answer;
use crate::outcome::Came;
use crate::plan::Plan;
use crate::pools::Settings;

/// One task that was submitted.
pub struct Entry {
    /// What was asked of it.
    pub plan: Plan,
    /// Where.
    pub pool: Arc<Pool>,
    /// How often its outcome was reported.
    calls: AtomicU32,
    /// What that was.
    came: OnceLock<Came>,
    /// What was done to its future.
    pub facts: Facts,
}

/// What was done to a future. Each is noted before it can show, or once it is known.
#[derive(Debug, Default)]
pub struct Facts {
    /// `cancel` or `kill` said that it is cancelled.
    pub cancelled: AtomicBool,
    /// It was dropped in a way that cancels, or its map was.
    pub let_go: AtomicBool,
    /// The executor would not have it.
    pub refused: AtomicBool,
    /// It has no callback: its outcome is reported when it is asked for, if it is.
    pub unheard: AtomicBool,
    /// It was submitted when the pool might have been at its end.
    pub late: AtomicBool,
}

/// One pool from its beginning to its end.
pub struct Pool {
    /// How it was made.
    pub settings: &'static Settings,
    /// How it ends.
    pub end: End,
    /// Submitted by callbacks.
    pub nested: Mutex<Vec<Arc<Entry>>>,
}

/// Outcomes reported so far, of all tasks: they show that something goes on.
pub static TOLD: AtomicU64 = AtomicU64::new(0);

/// The sum of all values reported so far.
pub static SUM: AtomicU64 = AtomicU64::new(0);

/// How many things were found wrong so far.
static COMPLAINTS: AtomicU64 = AtomicU64::new(0);

/// Tells that something is wrong; where very much is, the first things.
pub fn complain(words: &str) {
    const TOLD: u64 = 10;
    if COMPLAINTS.fetch_add(1, Ordering::AcqRel) < TOLD {
        eprintln!("chaos: {words}");
    }
}

/// Whether something was found wrong.
pub fn is_anything_wrong() -> bool {
    COMPLAINTS.load(Ordering::Acquire) > 0
}

impl Entry {
    pub fn new(plan: Plan, pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            plan,
            pool: Arc::clone(pool),
            calls: AtomicU32::new(0),
            came: OnceLock::new(),
            facts: Facts::default(),
        })
    }

    /// Notes that its outcome was reported.
    pub fn tell<R: Answer>(&self, outcome: Result<&R, &Error>) {
        TOLD.fetch_add(1, Ordering::Relaxed);
        if let Ok(value) = outcome {
            SUM.fetch_add(value.sum(), Ordering::Relaxed);
        }
        let first = self.came.set(self.came_of(outcome));
        if self.calls.fetch_add(1, Ordering::AcqRel) > 0 || first.is_err() {
            complain(&format!("told twice: {self}"));
        }
    }

    /// Notes that its outcome was taken from its future: it must be the one that its callback was given
    /// before.
    pub fn confirm<R: Answer>(&self, outcome: &Result<R, Error>) {
        if is(&self.facts.unheard) {
            return self.tell(outcome.as_ref());
        }
        let came = self.came_of(outcome.as_ref());
        if self.came.get() != Some(&came) {
            complain(&format!("its future says {came:?}: {self}"));
        }
    }

    fn came_of<R: Answer>(&self, outcome: Result<&R, &Error>) -> Came {
        match outcome {
            Ok(value) if value.answers(&self.plan) => Came::Value,
            Ok(_) => Came::Wrong("a value that is not its own".into()),
            Err(error) => self.plan.came(error),
        }
    }

    /// Checks, after the end of its pool, that it has settled, unless no outcome is expected.
    pub fn check_settled(&self) {
        if self.came().is_none() && !self.may_be_unseen() {
            complain(&format!("its pool has ended, and it has not: {self}"));
        }
    }

    /// Its outcome; `None` if none was reported.
    pub fn came(&self) -> Option<&Came> {
        self.came.get()
    }

    fn may_be_unseen(&self) -> bool {
        is(&self.facts.let_go) || is(&self.facts.unheard)
    }

    /// Whether this comes of a stray write: of one that has hit the task, or its worker, which then leaves, or
    /// is killed.
    fn is_hit(&self, came: &Came) -> bool {
        match came {
            Came::Corrupted => true,
            Came::Died(death) => death.attempts == self.plan.retries + 1,
            _ => false,
        }
    }

    /// What is wrong with its outcome, given the processes that the killer hit.
    pub fn fault(&self, hit: &BTreeSet<u32>) -> Option<&'static str> {
        let calls = self.calls.load(Ordering::Acquire);
        let Some(came) = self.came() else {
            let is_seen = calls > 0 || !self.may_be_unseen();
            return is_seen.then_some("never settled");
        };
        if calls != 1 {
            return Some("told more than once");
        }
        let may_be_hit = self.pool.settings.scribbles && !self.plan.fails_at_home();
        if may_be_hit && self.is_hit(came) {
            return None;
        }
        if is(&self.facts.cancelled) && *came != Came::Cancelled {
            return Some("it was said to be cancelled");
        }
        let end = self.pool.end;
        let limit = self.plan.limit.or(self.pool.settings.task_timeout);
        match came {
            Came::Died(death) if death.attempts != self.plan.retries + 1 => {
                Some("not tried as often as it should be")
            }
            came if self.plan.leads_to(came) => None,
            Came::ShutDown if end.refuses() || is(&self.facts.late) => None,
            Came::Cancelled if end.cancels() => None,
            Came::Cancelled if is(&self.facts.cancelled) || is(&self.facts.let_go) => None,
            _ if self.plan.fails_at_home() => Some("no worker had to do with it"),
            Came::TimedOut(after) if limit == Some(*after) => None,
            Came::Died(death) => match death.signal {
                Some(libc::SIGKILL | libc::SIGTERM) if hit.contains(&death.pid) => None,
                Some(libc::SIGKILL | libc::SIGTERM) => Some("nobody killed that worker"),
                _ => Some("no such death was to be expected"),
            },
            _ => Some("not to be expected"),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (came, pool) = (self.came.get(), self.pool.settings.name);
        let (plan, facts, end) = (self.plan, &self.facts, self.pool.end);
        write!(f, "{came:?} of {plan:?} in {pool:?}, {facts:?}, {end:?}")
    }
}

/// Whether that was so.
pub fn is(fact: &AtomicBool) -> bool {
    fact.load(Ordering::Acquire)
}
