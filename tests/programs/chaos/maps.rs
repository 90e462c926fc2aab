//! Maps: ordered and not, read to the end or dropped half-way.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use concurrent_futures::{Error, Executor, MapOptions, TaskOptions};
use rand::Rng;
use rand::rngs::StdRng;

use crate::drive::Driver;
use crate::jobs::Job;
use crate::ledger::Entry;
use crate::plan::{Kind, Plan};

/// What is asked of a map.
struct Wishes {
    /// Items a message.
    chunksize: Option<usize>,
    /// Items ahead of the reader.
    buffersize: Option<usize>,
    /// For the whole map.
    timeout: Option<Duration>,
    /// For each item.
    limit: Option<Duration>,
    /// For each item.
    retries: u32,
    /// How many results are read.
    read: usize,
}

impl Driver<'_> {
    /// Maps over some items, and reads the results, or some of them.
    pub fn map<J: Job>(&mut self, most: usize, plan: impl Fn(&mut StdRng) -> Plan) {
        let most = most.min(self.page.settings.longest_map);
        let count = self.random.random_range(1..=most);
        let wishes = Wishes::any(&mut self.random, count);
        let plans = (0..count).map(|_| wishes.adapt(plan(&mut self.random)));
        let entries: Vec<_> = plans.map(|plan| Entry::new(plan, self.page)).collect();
        let pulled = Cell::new(0);
        let items = entries.iter().map(|entry| {
            pulled.set(pulled.get() + 1);
            J::argument(&entry.plan)
        });
        let see = |(index, outcome): (usize, Result<J::Result, Error>)| match outcome {
            Err(Error::Timeout) if wishes.timeout.is_some() => {}
            outcome => entries[index].tell(outcome.as_ref()),
        };
        let options = wishes.options();
        if self.random.random_bool(0.5) {
            let map = self.pool.map_with(options, J::FUNCTION, items);
            map.enumerate().take(wishes.read).for_each(see);
        } else {
            let map = self.pool.map_unordered(options, J::FUNCTION, items);
            map.take(wishes.read).for_each(see);
        }
        for entry in &entries[..pulled.get()] {
            let unseen = entry.came().is_none() && wishes.leave_some_unseen();
            entry.facts.let_go.store(unseen, Ordering::Release);
        }
        self.entries.extend(entries.into_iter().take(pulled.get()));
    }
}

impl Wishes {
    fn any(random: &mut StdRng, count: usize) -> Self {
        let millis =
            |random: &mut StdRng, most| Duration::from_millis(random.random_range(0..most));
        Self {
            chunksize: random.random_bool(0.4).then(|| random.random_range(1..100)),
            buffersize: random.random_bool(0.3).then(|| random.random_range(1..200)),
            timeout: random.random_bool(0.1).then(|| millis(random, 60)),
            limit: random.random_bool(0.4).then(|| millis(random, 100)),
            retries: random.random_range(0..8_u32).saturating_sub(5),
            read: if random.random_bool(0.6) {
                usize::MAX
            } else {
                random.random_range(0..count)
            },
        }
    }

    fn options(&self) -> MapOptions {
        let mut task = TaskOptions::new().retries(self.retries);
        let mut options = MapOptions::new();
        if let Some(limit) = self.limit {
            task = task.timeout(limit);
        }
        if let Some(items) = self.chunksize {
            options = options.chunksize(items);
        }
        if let Some(items) = self.buffersize {
            options = options.buffersize(items);
        }
        if let Some(timeout) = self.timeout {
            options = options.timeout(timeout);
        }
        options.task(task)
    }

    /// An item's plan: what the map asks of all goes for it.
    fn adapt(&self, mut plan: Plan) -> Plan {
        if plan.kind == Kind::Overruns && self.limit.is_none() {
            // It would never end.
            plan = Plan::small();
        }
        (plan.limit, plan.retries) = (self.limit, self.retries);
        plan
    }

    /// Whether some items' outcomes are never reported.
    fn leave_some_unseen(&self) -> bool {
        self.read < usize::MAX || self.timeout.is_some()
    }
}
