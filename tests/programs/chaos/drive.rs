//! The threads that submit tasks, and do with the futures all that can be done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Future, ProcessPoolExecutor, ReturnWhen, as_completed, wait,
};
use rand::Rng;
use rand::rngs::StdRng;

use crate::callbacks::Told;
use crate::jobs::{Answer, Job, Tiny, Work};
use crate::ledger::{Entry, Pool, complain, is_anything_wrong};
use crate::outcome::Came;
use crate::plan::{Kind, Plan};
use crate::support::asynchronous::{Wakes, block_on, poll_once};

/// A submitter.
pub struct Driver<'a> {
    /// To it.
    pub pool: &'a Arc<ProcessPoolExecutor>,
    /// The same pool, in the book.
    pub page: &'a Arc<Pool>,
    /// Decides.
    pub random: StdRng,
    /// All that it has submitted.
    pub entries: Vec<Arc<Entry>>,
}

/// A future, and where it is noted.
type Pending<R> = (Arc<Entry>, Future<R>);

impl Driver<'_> {
    /// Submits until `stop` is set, or the pool refuses tasks.
    pub fn go_on_until(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) && !self.is_refused() && !is_anything_wrong() {
            match self.random.random_range(0..100) {
                0..45 => self.batch::<Tiny>(64, |_| Plan::tiny()),
                45..80 => {
                    let settings = self.page.settings;
                    self.batch::<Work>(24, |random| Plan::any(random, settings));
                }
                80..87 => self.map::<Tiny>(3000, |_| Plan::tiny()),
                87..96 => {
                    let settings = self.page.settings;
                    self.map::<Work>(150, |random| Plan::any(random, settings));
                }
                _ => self.look(),
            }
        }
    }

    // ---- single tasks ------------------------------------------------------------------------

    /// Submits some tasks, and sees to their futures.
    fn batch<J: Job>(&mut self, most: usize, plan: impl Fn(&mut StdRng) -> Plan) {
        let count = self.random.random_range(1..=most);
        let told = if self.random.random_bool(0.5) {
            Told::ToCallback
        } else {
            Told::WhenAsked
        };
        let mut pending = Vec::new();
        for _ in 0..count {
            let plan = plan(&mut self.random);
            if let Some(future) = self.submit::<J>(&plan) {
                pending.push((self.note(plan, &future, told), future));
            }
        }
        match self.random.random_range(0..10) {
            0 | 1 => self.see_as_they_complete(pending),
            2 | 3 => self.see_after_waiting(pending),
            _ => self.see_to_each(pending),
        }
    }

    /// By one way or the other; `None`: there was no room.
    fn submit<J: Job>(&mut self, plan: &Plan) -> Option<Future<J::Result>> {
        let argument = J::argument(plan);
        if plan.kind != Kind::Tiny || self.random.random_bool(0.8) {
            let future = self.pool.submit_with(plan.options(), J::FUNCTION, argument);
            return Some(future);
        }
        match self.pool.try_submit(J::FUNCTION, argument) {
            Ok(future) => Some(future),
            Err(back) if J::id(&back) == plan.id => None,
            Err(_) => {
                complain(&format!("another argument came back than that of {plan:?}"));
                None
            }
        }
    }

    fn see_to_each<R: Answer>(&mut self, pending: Vec<Pending<R>>) {
        for (entry, future) in pending {
            self.see_to(&entry, future);
        }
    }

    fn see_to<R: Answer>(&mut self, entry: &Arc<Entry>, mut future: Future<R>) {
        match self.random.random_range(0..100) {
            0..35 => entry.confirm(&future.result()),
            35..42 => {
                let outcome = loop {
                    match future.result_timeout(self.moment()) {
                        Err(Error::Timeout) => {}
                        outcome => break outcome,
                    }
                };
                entry.confirm(&outcome);
            }
            42..47 => {
                future.wait();
                if entry.facts.unheard.swap(false, Ordering::AcqRel) {
                    self.listen(entry, &future);
                }
                entry.confirm(&future.result());
            }
            47..52 => {
                let error = future.exception();
                let outcome = future.result();
                entry.confirm(&outcome);
                if error.is_some() != outcome.is_err() {
                    complain(&format!("its exception is {error:?}: {entry}"));
                }
            }
            52..65 => entry.confirm(&block_on(future)),
            65..68 => drop(poll_once(&mut future, &Wakes::new())),
            68..75 => drop(future),
            75..83 => self.cancel(entry, future, Future::cancel),
            83..86 => self.cancel(entry, future, Future::kill),
            86..94 => {
                // Most likely when it runs; whether it does is not waited for.
                let begins = || future.running() || future.done();
                for _ in (0..2000).take_while(|_| !begins()) {
                    std::thread::yield_now();
                }
                self.cancel(entry, future, Future::kill);
            }
            _ => {
                let future = future.cancel_on_drop();
                if self.random.random_bool(0.3) {
                    return entry.confirm(&future.result());
                }
                entry.facts.let_go.store(true, Ordering::Release);
                std::thread::sleep(self.moment());
                drop(future);
            }
        }
    }

    fn cancel<R: Answer>(
        &mut self,
        entry: &Entry,
        future: Future<R>,
        cancel: fn(&Future<R>) -> bool,
    ) {
        if self.random.random_bool(0.5) {
            std::thread::sleep(self.moment() / 10);
        }
        if cancel(&future) {
            entry.facts.cancelled.store(true, Ordering::Release);
        }
        if self.random.random_bool(0.7) {
            entry.confirm(&future.result());
        }
    }

    fn see_as_they_complete<R: Answer>(&mut self, pending: Vec<Pending<R>>) {
        let mut entries = HashMap::new();
        let mut futures = Vec::new();
        for (entry, future) in pending {
            entries.insert(future.id(), entry);
            futures.push(future);
        }
        let mut taken = 0;
        let enough = self.random.random_range(0..=2 * futures.len());
        let mut completed = as_completed(futures);
        while taken < enough {
            match completed.next_timeout(self.moment()) {
                Ok(Some(future)) => {
                    let entry = entries.remove(&future.id()).expect("it is one of them");
                    entry.confirm(&future.result());
                    taken += 1;
                }
                Ok(None) => break,
                Err(Error::Timeout) => {}
                Err(error) => complain(&format!("as_completed says {error}")),
            }
        }
        for future in completed.into_pending() {
            let entry = entries.remove(&future.id()).expect("it is one of them");
            self.see_to(&entry, future);
        }
    }

    fn see_after_waiting<R: Answer>(&mut self, pending: Vec<Pending<R>>) {
        const UNTIL: [ReturnWhen; 3] = [
            ReturnWhen::FirstCompleted,
            ReturnWhen::FirstException,
            ReturnWhen::AllCompleted,
        ];
        let until = UNTIL[self.random.random_range(0..3)];
        let limit = self.random.random_bool(0.5).then(|| self.moment());
        let (entries, futures): (Vec<_>, Vec<_>) = pending.into_iter().unzip();
        let ids: Vec<_> = futures.iter().map(Future::id).collect();
        let mut entries: HashMap<_, _> = ids.into_iter().zip(entries).collect();
        let waited = wait(futures, limit, until);
        for future in waited.done {
            let entry = entries.remove(&future.id()).expect("it is one of them");
            entry.confirm(&future.result());
        }
        for future in waited.not_done {
            let entry = entries.remove(&future.id()).expect("it is one of them");
            self.see_to(&entry, future);
        }
    }

    // ---- what else can be asked --------------------------------------------------------------

    /// Asks the pool how it is.
    fn look(&mut self) {
        let stats = self.pool.stats();
        let most = self.page.settings.workers;
        if stats.workers > most || stats.idle + stats.running > stats.workers {
            complain(&format!("{stats:?} of at most {most} workers"));
        }
        if self.pool.worker_pids().len() > most {
            complain(&format!("more than {most} workers have numbers"));
        }
        if self.random.random_bool(0.1) {
            match self.pool.warm_up() {
                Ok(()) => {}
                Err(Error::ShutDown) if self.page.end.refuses() => {}
                Err(error) => complain(&format!("warm_up says {error}")),
            }
        }
    }

    /// Whether what it submitted last was refused.
    fn is_refused(&self) -> bool {
        let last = self.entries.last();
        last.is_some_and(|entry| entry.came() == Some(&Came::ShutDown))
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.random.random_range(0..5000))
    }
}
