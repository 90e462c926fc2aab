//! What was submitted and what came of it, judged and counted afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use concurrent_futures::Stats;

use crate::ledger::{Entry, Pool, SUM, complain, is};
use crate::outcome::Came;
use crate::plan::Kind;
use crate::tasks::mix;

/// What the tasks of one pool have come to, for comparison with what the pool says.
#[derive(Debug, Default)]
struct Counts {
    completed: u64,
    failed: u64,
    cancelled: u64,
    /// Failed as shut down: begun and stopped, or never accepted, which does not count.
    shut_down: u64,
    /// Of these, those that were not accepted for sure.
    refused: u64,
    /// Without a reported outcome: of a map that was dropped, or not asked for.
    unseen: u64,
}

/// Compares what the pool says with what its futures said.
pub fn check_stats(page: &Pool, entries: &[Arc<Entry>], stats: &Stats) {
    let mut counts = Counts::default();
    for entry in entries {
        let counter = match entry.came() {
            None => &mut counts.unseen,
            Some(Came::Value) => &mut counts.completed,
            Some(Came::Cancelled) => &mut counts.cancelled,
            Some(Came::ShutDown) => &mut counts.shut_down,
            Some(_) => &mut counts.failed,
        };
        *counter += 1;
        counts.refused += u64::from(is(&entry.facts.refused));
    }
    let within = |said: u64, low: u64, high: u64| (low..=high).contains(&said);
    let certain = counts.completed + counts.failed + counts.cancelled;
    let unsure = counts.unseen + counts.shut_down - counts.refused;
    let said = stats.completed + stats.failed + stats.cancelled;
    let idle = [stats.workers, stats.idle, stats.pending, stats.running] == [0; 4];
    let sums = within(
        stats.completed,
        counts.completed,
        counts.completed + counts.unseen,
    ) && within(
        stats.cancelled,
        counts.cancelled,
        counts.cancelled + counts.unseen,
    ) && within(stats.failed, counts.failed, counts.failed + unsure)
        && within(said, certain, certain + unsure);
    if !(idle && sums) {
        let (name, end) = (page.settings.name, page.end);
        complain(&format!(
            "{name:?}, {end:?}: {stats:?} does not agree with {counts:?}"
        ));
    }
}

/// All that was judged so far.
#[derive(Debug, Default)]
pub struct Book {
    /// How many tasks of each kind came to what.
    pub table: BTreeMap<(Kind, &'static str), u64>,
    /// How many tasks that is.
    pub tasks: u64,
    /// What the values sum up to.
    sum: u64,
    /// How many tasks of each kind came to an end in a worker, or should have, and how many of them
    /// as their kind does.
    own: BTreeMap<Kind, (u64, u64)>,
}

impl Book {
    /// Judges what was submitted while the killer hit those processes.
    pub fn close(&mut self, entries: &[Arc<Entry>], hit: &BTreeSet<u32>) {
        let mut lost = BTreeMap::new();
        for entry in entries {
            if let Some(fault) = entry.fault(hit) {
                complain(&format!("{fault}: {entry}"));
            }
            if let Some(Came::Died(death)) = entry.came() {
                let other = lost.insert(death.pid, entry);
                // Where states are overwritten, several may name one worker.
                if let Some(other) = other.filter(|_| !entry.pool.settings.scribbles) {
                    complain(&format!("one death costs {other} and {entry}"));
                }
            }
            if let Some(Came::Value) = entry.came() {
                self.sum = self.sum.wrapping_add(mix(entry.plan.id));
            }
            if let Some(came) = entry.came() {
                let is_met = !matches!(came, Came::Cancelled | Came::ShutDown);
                let (met, own) = self.own.entry(entry.plan.kind).or_default();
                *met += u64::from(is_met);
                *own += u64::from(entry.plan.leads_to(came));
            }
            let column = column(entry.came());
            *self.table.entry((entry.plan.kind, column)).or_default() += 1;
        }
        self.tasks += entries.len() as u64;
        if self.sum != SUM.load(Ordering::Acquire) {
            complain("the values do not sum up to what they should");
        }
    }

    /// Complains where most tasks of a kind came to what is only excused by the killer.
    pub fn check_shares(&self) {
        const ENOUGH: u64 = 100;
        for (kind, (met, own)) in &self.own {
            if *met >= ENOUGH && 2 * own < *met {
                complain(&format!(
                    "of {met} {kind:?} only {own} ended as they should"
                ));
            }
        }
    }
}

/// What outcomes are called in the table.
pub const COLUMNS: [&str; 11] = [
    "value",
    "panicked",
    "encode",
    "decode",
    "too large",
    "died",
    "corrupted",
    "time-out",
    "cancelled",
    "shut down",
    "unseen",
];

fn column(came: Option<&Came>) -> &'static str {
    match came {
        Some(Came::Value) => "value",
        Some(Came::Panicked) => "panicked",
        Some(Came::NotEncoded) => "encode",
        Some(Came::NotDecoded) => "decode",
        Some(Came::TooLarge) => "too large",
        Some(Came::Died(_)) => "died",
        Some(Came::Corrupted) => "corrupted",
        Some(Came::TimedOut(_)) => "time-out",
        Some(Came::Cancelled) => "cancelled",
        Some(Came::ShutDown) => "shut down",
        Some(Came::Wrong(_)) => "wrong",
        None => "unseen",
    }
}
