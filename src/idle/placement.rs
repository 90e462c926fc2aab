//! Core placement (CPU affinity, `sched_setaffinity(2)`): keeps workers off the core of a thread that waits
//! for them or floods them with tasks. Workers of `pool/`, worker processes and the completion driver call
//! it.
//!
//! *Waiter.* Kernels, above all those of virtual machines, may leave two threads on one core that spin in
//! turn for each other's results, since neither is ever seen to sleep. Another core is idle meanwhile, and a
//! round trip takes three times as long. A waiter publishes its core (`waiter_core`). A worker that has
//! answered it many times in a row from that same core moves to another; the kernel may move it back.
//!
//! *Submitter.* A worker woken on the submitter's core for a flood of tasks has to wait for a time slice
//! there (milliseconds), and by then most tasks are gone. So it moves to another core, and from then on
//! sleeps with the submitter's core excluded from its affinity mask, so that it is woken elsewhere. A worker
//! does so only if tasks are so short that submitting one takes as long; longer tasks are worth a core each.
//! While it runs items of a map, the same applies to the thread that sends them.

use std::time::{Duration, Instant};

use crate::idle::hysteresis::Hysteresis;
use crate::sys;
use crate::sys::affinity::AffinityGuard;

/// The placement state of one worker thread; only that thread uses it.
#[derive(Debug)]
pub(crate) struct CorePlacement {
    /// When the worker last ran out of tasks; `None`: never.
    last: Option<Instant>,
    /// Decides when to leave the waiter's core.
    from_waiter: Hysteresis,
    /// Decides when to leave the core of the thread that sends items of maps.
    from_sender: Hysteresis,
    /// When the worker woke; `None`: it sleeps.
    awake_since: Option<Instant>,
    /// Number of tasks run since `is_hasty` was last computed.
    steps: u32,
    /// How long the worker was awake for those tasks, without the time since `awake_since`.
    awake: Duration,
    /// Whether the tasks of the last measurement were short.
    is_hasty: bool,
    /// For how many more sleeps the worker excludes the submitter's core.
    keep_off: u32,
    /// Excludes the submitter's core while the worker sleeps; `None`: nothing is excluded.
    away: Option<AffinityGuard>,
}

/// The longest round trip that counts: longer ones gain nothing from another core.
const QUICK: Duration = Duration::from_micros(30);

/// Tasks that take less time than this are short.
const SHORT: Duration = Duration::from_micros(2);

/// Items that take less time than this are short: the thread that sends them and reads their results needs a
/// core for about a quarter of the time.
const SHORT_ITEM: Duration = Duration::from_nanos(150);

/// Number of sleeps for which the submitter's core is excluded: each costs some system calls, so the
/// exclusion ends after this number, until it is needed again.
const MANY_SLEEPS: u32 = 256;

/// The smallest number of tasks from which `is_hasty` is computed; fewer tell little.
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

    /// The worker has finished the given number of tasks.
    pub(crate) fn record_tasks(&mut self, tasks: usize) {
        let tasks = u32::try_from(tasks).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(tasks);
    }

    /// The worker is about to sleep. `submitter_core`: the core on which a task was last submitted; `None`:
    /// not known. If the worker was recently woken there for short tasks, this excludes that core until
    /// [`after_wake`](Self::after_wake): the worker sleeps, and is woken, on another core.
    pub(crate) fn before_sleep(&mut self, submitter_core: Option<u32>) {
        if let Some(since) = self.awake_since.take() {
            self.awake += since.elapsed();
        }
        if self.steps >= SEVERAL {
            self.is_hasty = self.awake / self.steps < SHORT;
            (self.steps, self.awake) = (0, Duration::ZERO);
        }
        if self.keep_off > 0 {
            self.keep_off -= 1;
            self.away = submitter_core.and_then(sys::affinity::stay_off);
        }
    }

    /// Returns the current core if spinning there would compete with the submitter: both run on it, tasks are
    /// short, and no thread is blocked waiting for a result (`waiter_core` is `None`).
    pub(crate) fn contended_core(
        &self,
        waiter_core: Option<u32>,
        submitter_core: Option<u32>,
    ) -> Option<u32> {
        let core = submitter_core.filter(|_| self.is_hasty && waiter_core.is_none())?;
        (sys::affinity::current_core() == Some(core)).then_some(core)
    }

    /// The worker goes on, whether it has slept or not. `waiter_core`: the core of a waiter; `None`: no
    /// thread waits. `submitter_core`: the core on which a task was last submitted. From now on the kernel
    /// may move the worker to any core that it was allowed before.
    pub(crate) fn after_wake(&mut self, waiter_core: Option<u32>, submitter_core: Option<u32>) {
        if self.awake_since.is_some() {
            return;
        }
        self.away = None;
        if let Some(core) = self.contended_core(waiter_core, submitter_core) {
            self.keep_off = MANY_SLEEPS;
            sys::affinity::leave_core(core);
        }
        self.awake_since = Some(Instant::now());
    }

    /// The worker has run items of a map; `each`: the average time per item, `submitter_core`: the core of
    /// the thread that sent them, if known.
    pub(crate) fn run_items(&mut self, each: Duration, submitter_core: Option<u32>) {
        if let Some(core) = submitter_core.filter(|_| each < SHORT_ITEM) {
            yield_core(&mut self.from_sender, core);
        }
    }

    /// The worker has run out of tasks. `waiter_core`: the core of a waiter; `None`: no thread waits.
    pub(crate) fn on_idle(&mut self, waiter_core: Option<u32>) {
        match (self.is_quick(), waiter_core) {
            (true, Some(core)) => yield_core(&mut self.from_waiter, core),
            _ => self.from_waiter.forget(),
        }
    }

    /// Whether the worker ran out of tasks at most [`QUICK`] ago, too.
    fn is_quick(&mut self) -> bool {
        let now = Instant::now();
        let last = self.last.replace(now);
        last.is_some_and(|last| now.duration_since(last) < QUICK)
    }
}

/// Records a round while another thread needs `core`. Leaves `core` if the caller runs on it and `hysteresis`
/// allows it.
fn yield_core(hysteresis: &mut Hysteresis, core: u32) {
    if sys::affinity::current_core() != Some(core) {
        hysteresis.gain();
    } else if hysteresis.is_over() {
        sys::affinity::leave_core(core);
    }
}
