//! Outcomes that callbacks report; the callbacks may do more than that.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor};
use rand::Rng;

use crate::drive::Driver;
use crate::jobs::Answer;
use crate::ledger::{Entry, Pool};
use crate::plan::Plan;
use crate::tasks::{Live, mix};

/// How the outcomes of a group of tasks are reported.
#[derive(Clone, Copy)]
pub enum Told {
    ToCallback,
    WhenAsked,
}

/// What a callback does once it has reported the outcome.
enum Afterwards {
    Nothing,
    Panic,
    /// Submits one more task.
    Submit(Weak<ProcessPoolExecutor>),
}

impl Driver<'_> {
    /// Writes it down, with a callback or without.
    pub fn note<R: Answer>(&mut self, plan: Plan, future: &Future<R>, told: Told) -> Arc<Entry> {
        let entry = Entry::new(plan, self.page);
        note_refusal(&entry, future);
        match told {
            Told::ToCallback => self.listen(&entry, future),
            Told::WhenAsked => entry.facts.unheard.store(true, Ordering::Release),
        }
        self.entries.push(Arc::clone(&entry));
        entry
    }

    /// Adds a callback that reports the outcome.
    pub fn listen<R: Answer>(&mut self, entry: &Arc<Entry>, future: &Future<R>) {
        let afterwards = match self.random.random_range(0..100) {
            0..2 => Afterwards::Panic,
            2..7 if !self.page.end.drops() => Afterwards::Submit(Arc::downgrade(self.pool)),
            _ => Afterwards::Nothing,
        };
        let (told, live) = (Arc::clone(entry), Live::new());
        future.add_done_callback(move |outcome| {
            let _live = live;
            told.tell(outcome);
            afterwards.happen(&told.pool);
        });
    }
}

impl Afterwards {
    fn happen(self, page: &Arc<Pool>) {
        match self {
            Self::Nothing => {}
            Self::Panic => panic!("on purpose: a callback"),
            Self::Submit(pool) => {
                if let Some(pool) = pool.upgrade() {
                    submit_one_more(&pool, page);
                }
            }
        }
    }
}

fn submit_one_more(pool: &ProcessPoolExecutor, page: &Arc<Pool>) {
    let plan = Plan::tiny();
    let entry = Entry::new(plan, page);
    // The pool may be on its way out.
    entry.facts.late.store(true, Ordering::Release);
    let future = pool.submit(mix, plan.id);
    note_refusal(&entry, &future);
    let told = Arc::clone(&entry);
    future.add_done_callback(move |outcome| told.tell(outcome));
    let mut nested = page.nested.lock().unwrap_or_else(PoisonError::into_inner);
    nested.push(entry);
}

/// Notes whether the executor refused the task for sure: then it says so at once, and has not stopped
/// it by now.
fn note_refusal<R>(entry: &Entry, future: &Future<R>) {
    let is_shut_down = future.done() && matches!(future.exception(), Some(Error::ShutDown));
    let is_refused = is_shut_down && !entry.pool.end.stops();
    entry.facts.refused.store(is_refused, Ordering::Release);
}
