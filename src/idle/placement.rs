//! On which core workers stand: on another than who waits for them, or floods them.
//!
//! Kernels, virtual machines' above all, may leave two threads on one core that take turns at looking for
//! each other's doings, since each is never seen to wait; the other core is idle, and a round trip takes
//! three times as long. Who waits says where he looks for outcomes. A worker that has answered it many
//! times in a row from that same core moves to another, and is free to be moved back.
//!
//! Who is woken for a flood of tasks on the core of who submits them waits there for some milliseconds, and
//! then finds little to do. So he goes elsewhere, and from then on sleeps, and is woken, elsewhere. A worker
//! does so only where tasks are so short that it takes as long to submit them: others are worth a core each.
//! For items of a map the same is true while it runs them.

use std::time::{Duration, Instant};

use crate::idle::hysteresis::Hysteresis;
use crate::sys::{self, AffinityGuard};

/// What a worker knows of where it stands.
#[derive(Debug)]
pub(crate) struct CorePlacement {
    /// When it had run out of tasks last.
    last: Option<Instant>,
    /// Whether it leaves the core of who waits.
    from_waiter: Hysteresis,
    /// Whether it leaves the core of who sends items of maps.
    from_sender: Hysteresis,
    /// Since when it is awake; `None`: it is not.
    awake_since: Option<Instant>,
    /// How many tasks it has run since it was judged last.
    steps: u32,
    /// How long it was awake for those, without the time since then.
    awake: Duration,
    /// Whether those that it was judged by were short.
    is_hasty: bool,
    /// For how many times it is to be kept off the submitter's core while it sleeps.
    keep_off: u32,
    /// Kept while it sleeps, if it is.
    away: Option<AffinityGuard>,
}

/// Rounds that take longer than this gain nothing by it.
const QUICK: Duration = Duration::from_micros(30);

/// Tasks that take less than this are short.
const SHORT: Duration = Duration::from_micros(2);

/// Items that take less than this are short: who sends them, and reads what comes of them, needs a core for
/// about a quarter of the time.
const SHORT_ITEM: Duration = Duration::from_nanos(150);

/// Staying off a core takes some system calls each time: it ends after so many, until it is needed again.
const MANY_SLEEPS: u32 = 256;

/// Fewer tasks than this tell little.
const SEVERAL: u32 = 64;

impl CorePlacement {
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            from_waiter: Hysteresis::new(),
            from_sender: Hysteresis::new(),
            awake_since: None,
            steps: 0,
            awake: Duration::ZERO,
            is_hasty: false,
            keep_off: 0,
            away: None,
        }
    }

    /// The worker is through with so many tasks.
    pub(crate) fn record_tasks(&mut self, tasks: usize) {
        let tasks = u32::try_from(tasks).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(tasks);
    }

    /// The worker is about to sleep; a task was submitted last on that core, if any was. If it was woken there
    /// lately, for short tasks, it sleeps elsewhere, where it is woken, too.
    pub(crate) fn before_sleep(&mut self, submitted_from: Option<u32>) {
        if let Some(since) = self.awake_since.take() {
            self.awake += since.elapsed();
        }
        if self.steps >= SEVERAL {
            self.is_hasty = self.awake / self.steps < SHORT;
            (self.steps, self.awake) = (0, Duration::ZERO);
        }
        if self.keep_off > 0 {
            self.keep_off -= 1;
            self.away = submitted_from.and_then(sys::stay_off);
        }
    }

    /// The worker's own core, if to look for short tasks there would keep who submits them from it, and he the
    /// worker: he is on the same, and does not wait.
    pub(crate) fn contended_core(
        &self,
        watched_from: Option<u32>,
        submitted_from: Option<u32>,
    ) -> Option<u32> {
        let core = submitted_from.filter(|_| self.is_hasty && watched_from.is_none())?;
        (sys::current_core() == Some(core)).then_some(core)
    }

    /// The worker is up, whether it has slept or not; somebody looks for outcomes, and a task was submitted
    /// last, on these cores, if any was. From now on it may be moved anywhere.
    pub(crate) fn after_wake(&mut self, watched_from: Option<u32>, submitted_from: Option<u32>) {
        if self.awake_since.is_some() {
            return;
        }
        self.away = None;
        if let Some(core) = self.contended_core(watched_from, submitted_from) {
            self.keep_off = MANY_SLEEPS;
            sys::leave_core(core);
        }
        self.awake_since = Some(Instant::now());
    }

    /// The worker has run items of a map, which took so long, each; they were submitted on that core.
    pub(crate) fn run_items(&mut self, each: Duration, submitted_from: Option<u32>) {
        if let Some(core) = submitted_from.filter(|_| each < SHORT_ITEM) {
            yield_core(&mut self.from_sender, core);
        }
    }

    /// The worker has run out of tasks; somebody looks for outcomes on that core, if anybody does.
    pub(crate) fn on_idle(&mut self, watched_from: Option<u32>) {
        match (self.is_quick(), watched_from) {
            (true, Some(core)) => yield_core(&mut self.from_waiter, core),
            _ => self.from_waiter.forget(),
        }
    }

    /// Whether it had run out of tasks a moment ago, too.
    fn is_quick(&mut self) -> bool {
        let now = Instant::now();
        let last = self.last.replace(now);
        last.is_some_and(|last| now.duration_since(last) < QUICK)
    }
}

/// There was a round, while somebody else needed that core: leaves it, if it is the caller's own, and restraint
/// is over.
fn yield_core(hysteresis: &mut Hysteresis, core: u32) {
    if sys::current_core() != Some(core) {
        hysteresis.gain();
    } else if hysteresis.is_over() {
        sys::leave_core(core);
    }
}
