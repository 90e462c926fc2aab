//! What is asked of a task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concurrent_futures::TaskOptions;
use rand::Rng;
use rand::rngs::StdRng;

use crate::pools::{PAYLOAD_LIMIT, Settings};
use crate::tasks::{Deed, Order, Parcel, Trap};

/// One task.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of no other task.
    pub id: u64,
    pub kind: Kind,
    /// Bytes of the argument.
    size: usize,
    /// Bytes of the result.
    size_back: usize,
    /// What the worker does.
    deed: Deed,
    /// `TaskOptions::timeout`.
    pub limit: Option<Duration>,
    /// `TaskOptions::retries`.
    pub retries: u32,
}

/// What sort of task it is: its outcome if nothing interferes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tiny,
    Plain,
    Busy,
    Large,
    Retried,
    Forking,
    AbortsAtTimes,
    Overruns,
    Panics,
    Exits,
    Aborts,
    Segfaults,
    KillsItself,
    Hoards,
    ArgumentNotEncoded,
    ArgumentNotDecoded,
    ArgumentPanics,
    ArgumentTooLarge,
    ResultNotEncoded,
    ResultNotDecoded,
    ResultPanics,
    ResultTooLarge,
    /// Only in pools whose tasks may be hit by that.
    Scribbles,
}

/// How often each kind comes, in a thousand, where all kinds do.
const SHARES: [(Kind, u32); 21] = [
    (Kind::Plain, 450),
    (Kind::Busy, 220),
    (Kind::Large, 12),
    (Kind::Retried, 100),
    (Kind::Forking, 12),
    (Kind::AbortsAtTimes, 12),
    (Kind::Overruns, 10),
    (Kind::Panics, 50),
    (Kind::Exits, 8),
    (Kind::Aborts, 6),
    (Kind::Segfaults, 6),
    (Kind::KillsItself, 6),
    (Kind::Hoards, 6),
    (Kind::ArgumentNotEncoded, 20),
    (Kind::ArgumentNotDecoded, 20),
    (Kind::ArgumentPanics, 10),
    (Kind::ArgumentTooLarge, 1),
    (Kind::ResultNotEncoded, 20),
    (Kind::ResultNotDecoded, 20),
    (Kind::ResultPanics, 10),
    (Kind::ResultTooLarge, 1),
];

impl Plan {
    /// Of the smallest kind.
    pub fn tiny() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            kind: Kind::Tiny,
            size: 8,
            size_back: 8,
            deed: Deed::Nothing,
            limit: None,
            retries: 0,
        }
    }

    /// A plain one.
    pub fn small() -> Self {
        Self {
            kind: Kind::Plain,
            ..Self::tiny()
        }
    }

    /// Of any kind that goes with this pool.
    pub fn any(random: &mut StdRng, pool: &Settings) -> Self {
        let kind = match any_kind(random) {
            Kind::Hoards if pool.memory_limit.is_none() => Kind::Aborts,
            Kind::Plain if pool.scribbles && random.random_bool(0.03) => Kind::Scribbles,
            kind => kind,
        };
        let mut plan = Self {
            kind,
            size: any_size(random),
            size_back: any_size(random),
            ..Self::tiny()
        };
        let over = PAYLOAD_LIMIT as usize + 1;
        let millis = |n| Duration::from_millis(n);
        match kind {
            Kind::Busy if random.random_bool(0.5) => {
                plan.deed = Deed::Sleep(millis(random.random_range(0..5)));
            }
            Kind::Busy => plan.deed = Deed::Compute(millis(random.random_range(0..3))),
            Kind::Large => {
                plan.size = random.random_range(0..4 << 20);
                plan.size_back = random.random_range(0..4 << 20);
            }
            Kind::Retried => plan.retries = random.random_range(1..4),
            Kind::Forking if random.random_bool(0.5) => plan.deed = Deed::Fork,
            Kind::Forking => plan.deed = Deed::ForkAndStay(millis(random.random_range(0..50))),
            Kind::AbortsAtTimes => {
                plan.deed = Deed::AbortAtTimes;
                plan.retries = random.random_range(0..4);
            }
            Kind::Overruns => {
                plan.deed = Deed::Stay;
                plan.limit = Some(millis(random.random_range(1..25)));
            }
            Kind::Panics => plan.deed = Deed::Panic,
            Kind::Exits => plan.deed = Deed::Exit(plan.exit_code()),
            Kind::Scribbles => plan.deed = Deed::Scribble(random.random()),
            Kind::Aborts => plan.deed = Deed::Abort,
            Kind::Segfaults => plan.deed = Deed::Segfault,
            Kind::KillsItself => plan.deed = Deed::KillItself,
            Kind::Hoards => {
                let limit = pool.memory_limit.unwrap_or_default();
                plan.deed = Deed::Hoard(2 * limit as usize);
            }
            Kind::ArgumentTooLarge => plan.size = over,
            Kind::ResultTooLarge => plan.size_back = over,
            _ => {}
        }
        if plan.limit.is_none() && random.random_bool(0.1) {
            plan.limit = Some(millis(random.random_range(50..3000)));
        }
        plan
    }

    /// The argument of [`work`](crate::tasks::work).
    pub fn order(&self) -> Order {
        let (trap, trap_back) = match self.kind {
            Kind::ArgumentNotEncoded => (Trap::ErrorInEncoding, Trap::Nowhere),
            Kind::ArgumentNotDecoded => (Trap::ErrorInDecoding, Trap::Nowhere),
            Kind::ArgumentPanics => (Trap::PanicInEncoding, Trap::Nowhere),
            Kind::ResultNotEncoded => (Trap::Nowhere, Trap::ErrorInEncoding),
            Kind::ResultNotDecoded => (Trap::Nowhere, Trap::ErrorInDecoding),
            Kind::ResultPanics => (Trap::Nowhere, Trap::PanicInDecoding),
            _ => (Trap::Nowhere, Trap::Nowhere),
        };
        Order {
            parcel: Parcel::new(self.id, self.size, trap),
            deed: self.deed,
            size_back: self.size_back,
            trap_back,
        }
    }

    pub fn options(&self) -> TaskOptions {
        let options = TaskOptions::new().retries(self.retries);
        match self.limit {
            Some(limit) => options.timeout(limit),
            None => options,
        }
    }

    /// Whether a value is this task's result.
    pub fn is_result(&self, parcel: &Parcel) -> bool {
        parcel.is_right(self.id) && parcel.size() == self.size_back
    }

    /// Of a kind that exits.
    pub fn exit_code(&self) -> i32 {
        1 + (self.id % 60) as i32
    }
}

fn any_kind(random: &mut StdRng) -> Kind {
    let mut rest = random.random_range(0..SHARES.iter().map(|(_, share)| share).sum());
    for (kind, share) in SHARES {
        if rest < share {
            return kind;
        }
        rest -= share;
    }
    unreachable!("the number is less than the sum")
}

/// Mostly small.
fn any_size(random: &mut StdRng) -> usize {
    match random.random_range(0..100) {
        0..20 => 0,
        20..75 => random.random_range(1..200),
        75..95 => random.random_range(200..10_000),
        95..99 => random.random_range(10_000..100_000),
        _ => random.random_range(100_000..1 << 20),
    }
}
