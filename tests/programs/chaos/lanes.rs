//! Where one pool follows the other: submitters are set on each, and then it is ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::book::check_stats;
use crate::drive::Driver;
use crate::ends::{Amid, End, Manner};
use crate::killer::Killer;
use crate::ledger::{Entry, Pool, complain, is_anything_wrong};
use crate::plan::Plan;
use crate::pools::{POOLS, Workers};
use crate::tasks::mix;

/// What became of a lane.
#[derive(Default)]
pub struct Past {
    /// All that was submitted.
    pub entries: Vec<Arc<Entry>>,
    /// The pools, and how long their ends took.
    pub pools: Vec<(Arc<Pool>, Duration)>,
    /// What the observer of each pool was told of its workers.
    pub workers: Vec<Arc<Workers>>,
    /// Workers that were replaced, as the pools say.
    pub restarts: u64,
}

/// Pools of random kinds, one after the other, until the time is over.
pub fn run(mut random: StdRng, killer: &Killer, until: Instant) -> Past {
    let mut past = Past::default();
    while Instant::now() < until && !is_anything_wrong() {
        let lasts = Duration::from_millis(random.random_range(20..2500));
        let lasts = lasts.min(until.saturating_duration_since(Instant::now()));
        past.add_pool(&mut random, killer, lasts);
    }
    past
}

impl Past {
    /// One pool from its beginning to its end.
    fn add_pool(&mut self, random: &mut StdRng, killer: &Killer, lasts: Duration) {
        let settings = &POOLS[random.random_range(0..POOLS.len())];
        let workers = Arc::new(Workers::default());
        let pool = Arc::new(settings.build(&workers));
        let page = Arc::new(Pool {
            settings,
            end: End::any(random),
            nested: Mutex::default(),
        });
        let (mut entries, mut took) = load(&pool, &page, random, killer, lasts);
        let begun = Instant::now();
        match page.end.manner {
            Manner::Drop => drop(pool),
            Manner::DropInCallback => entries.push(drop_in_callback(pool, &page)),
            _ => {
                entries.push(refused(&pool, &page));
                entries.append(&mut page.nested.lock().unwrap_or_else(PoisonError::into_inner));
                let stats = pool.stats();
                check_stats(&page, &entries, &stats);
                self.restarts += stats.worker_restarts;
            }
        }
        took += begun.elapsed();
        if took > page.end.limit() {
            complain(&format!(
                "{:?} of {} took {took:?}",
                page.end, settings.name
            ));
        }
        for entry in &entries {
            entry.check_settled();
        }
        self.workers.push(workers);
        self.pools.push((page, took));
        self.entries.append(&mut entries);
    }
}

/// Lets several threads submit for the given time, and ends the pool, unless a drop is to end it; returns how
/// long that took.
fn load(
    pool: &Arc<ProcessPoolExecutor>,
    page: &Arc<Pool>,
    random: &mut StdRng,
    killer: &Killer,
    lasts: Duration,
) -> (Vec<Arc<Entry>>, Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let drive = |seed| {
            let mut driver = Driver {
                pool,
                page,
                random: StdRng::seed_from_u64(seed),
                entries: Vec::new(),
            };
            driver.go_on_until(&stop);
            driver.entries
        };
        let count = random.random_range(1..4);
        let seeds: Vec<u64> = (0..count).map(|_| random.random()).collect();
        let drivers: Vec<_> = seeds
            .into_iter()
            .map(|seed| scope.spawn(move || drive(seed)))
            .collect();
        thread::sleep(lasts);
        let (mut entries, mut took) = (Vec::new(), Duration::ZERO);
        if page.end.amid == Amid::Submissions {
            took = page.end.carry_out(pool, killer, random);
        }
        stop.store(true, Ordering::Release);
        for driver in drivers {
            match driver.join() {
                Ok(submitted) => entries.extend(submitted),
                Err(_) => complain("a submitter has panicked"),
            }
        }
        if page.end.amid == Amid::Quiet {
            took = page.end.carry_out(pool, killer, random);
        }
        (entries, took)
    })
}

/// A task that comes too late.
fn refused(pool: &ProcessPoolExecutor, page: &Arc<Pool>) -> Arc<Entry> {
    let entry = Entry::new(Plan::tiny(), page);
    entry.facts.late.store(true, Ordering::Release);
    entry.facts.refused.store(true, Ordering::Release);
    let outcome = pool.submit(mix, entry.plan.id).result();
    if !matches!(outcome, Err(Error::ShutDown)) {
        complain(&format!("after the end: {outcome:?}"));
    }
    entry.tell(outcome.as_ref());
    entry
}

/// Drops the pool in the callback of its last task.
fn drop_in_callback(pool: Arc<ProcessPoolExecutor>, page: &Arc<Pool>) -> Arc<Entry> {
    let entry = Entry::new(Plan::small(), page);
    let last = pool.submit(crate::tasks::work, entry.plan.order());
    let told = Arc::clone(&entry);
    last.add_done_callback(move |outcome| {
        told.tell(outcome);
        drop(pool);
    });
    last.wait();
    entry
}
