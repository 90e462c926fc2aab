//! The report that is printed at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::book::{Book, COLUMNS};
use crate::ends::Manner;
use crate::killer::Deeds;
use crate::lanes::Past;
use crate::ledger::complain;
use crate::memory::Memory;
use crate::pools::Workers;

/// How much more memory may be in use at the end than after the first act: less than a byte a task
/// in a full run. What the allocator keeps for a thread counts as used, up to some 230 KiB.
const MORE_USED: u64 = 512 << 10;

/// How much more memory the system may have given at the end than after the first act.
const MORE_RESIDENT: u64 = 4 << 20;

/// All that has happened.
pub struct Report {
    /// When it began.
    begun: Instant,
    /// What was submitted.
    book: Book,
    /// Signals sent, by what they were part of.
    signals: BTreeMap<String, u64>,
    /// How often pools ended how, and how long that took at most.
    ends: BTreeMap<Manner, (u64, Duration)>,
    /// Workers that were started, left and were lost.
    workers: [u64; 3],
    /// Workers that were replaced, as the pools say.
    restarts: u64,
    /// After the first act, and after the last.
    memory: Option<(Memory, Memory)>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            book: Book::default(),
            signals: BTreeMap::new(),
            ends: BTreeMap::new(),
            workers: [0; 3],
            restarts: 0,
            memory: None,
        }
    }

    /// Judges, and counts.
    pub fn add(&mut self, pasts: Vec<Past>, deeds: &Deeds) {
        for (what, count) in &deeds.sent {
            *self.signals.entry(what.clone()).or_default() += count;
        }
        let mut entries = Vec::new();
        for past in pasts {
            for (pool, took) in past.pools {
                let (count, longest) = self.ends.entry(pool.end.manner).or_default();
                *count += 1;
                *longest = took.max(*longest);
            }
            for workers in past.workers {
                self.count(&workers);
            }
            self.restarts += past.restarts;
            entries.extend(past.entries);
        }
        self.book.close(&entries, &deeds.hit);
    }

    /// Counts workers: each that was ready has left, or was lost.
    fn count(&mut self, workers: &Workers) {
        let counts = [&workers.started, &workers.left, &workers.lost];
        let counts = counts.map(|count| count.load(Ordering::Acquire));
        if counts[0] != counts[1] + counts[2] {
            complain(&format!("of the workers not all have ended: {workers:?}"));
        }
        for (sum, count) in self.workers.iter_mut().zip(counts) {
            *sum += count;
        }
    }

    /// Looks how much memory the program has now.
    pub fn note_memory(&mut self) {
        let now = Memory::now();
        let (first, _) = self.memory.unwrap_or((now, now));
        self.memory = Some((first, now));
    }

    /// Complains if the killer is too good an excuse, or if the program has much more memory than it
    /// had after the first act.
    pub fn check(&self) {
        self.book.check_shares();
        let (first, last) = self.memory.unwrap_or_default();
        if !last.is_like(first, MORE_USED, MORE_RESIDENT) {
            complain("the program has more memory than before");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tasks, time) = (self.book.tasks, self.begun.elapsed());
        writeln!(f, "\n{tasks} tasks in {time:.0?}\n")?;
        write!(f, "{:20}", "")?;
        for column in COLUMNS {
            write!(f, "{column:>11}")?;
        }
        writeln!(f)?;
        let table = &self.book.table;
        let mut kinds: Vec<_> = table.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            write!(f, "{:20}", format!("{kind:?}"))?;
            for column in COLUMNS {
                let count = table.get(&(kind, column)).copied().unwrap_or_default();
                write!(f, "{count:>11}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (what, count) in &self.signals {
            writeln!(f, "{count:>11}  {what}")?;
        }
        let [started, left, lost] = self.workers;
        writeln!(
            f,
            "\n{started} workers were ready in observed pools, {left} left, {lost} were lost"
        )?;
        let restarts = self.restarts;
        writeln!(
            f,
            "{restarts} workers were restarted in all but dropped pools"
        )?;
        for (manner, (count, longest)) in &self.ends {
            writeln!(
                f,
                "{count:>11}  pools ended: {manner:?}, in {longest:.1?} at most"
            )?;
        }
        let (first, last) = self.memory.unwrap_or_default();
        writeln!(f, "memory after the first act: {first}")?;
        writeln!(f, "memory after the last act:  {last}")
    }
}
