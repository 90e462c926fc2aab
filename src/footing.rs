//! On which core workers stand: on another than who waits for them, or floods them.
//!
//! Kernels, virtual machines' above all, may leave two threads on one core that take turns at looking for
//! each other's doings, since each is never seen to wait; the other core is idle, and a round trip takes
//! three times as long. Who waits says where he looks for outcomes. A worker that has answered it many
//! times in a row from that same core moves to another, and is free to be moved back.
//!
//! So does who was woken for a flood of tasks on the core of who submits them: there he would wait some
//! milliseconds for his turn, and then find little to do. A worker does so only where tasks are so short
//! that it takes as long to submit them: others are worth a core each.

use std::time::{Duration, Instant};

use crate::process::sys;

/// What a worker knows of where it stands.
#[derive(Debug)]
pub(crate) struct Footing {
    /// When it had run out of tasks last.
    last: Option<Instant>,
    /// How often in a row it did so soon after the time before, on the core of who waited.
    rounds: u32,
    /// After how many of those it moves: more if it has gained little by it the last time, since moving
    /// costs as much as some of them.
    patience: u32,
    /// How many quick rounds there were elsewhere since it has moved last.
    gained: u32,
    /// Since when it is awake.
    awake_since: Option<Instant>,
    /// How many tasks it has run since then.
    steps: u32,
    /// Whether those that it ran before it slept last were short.
    is_hasty: bool,
}

/// Rounds that take longer than this gain nothing by it.
const QUICK: Duration = Duration::from_micros(30);

/// That many of them are no accident.
const SOME_ROUNDS: u32 = 32;

/// Tasks that take less than this are short.
const SHORT: Duration = Duration::from_micros(2);

/// Fewer tasks than this tell little.
const SEVERAL: u32 = 64;

impl Footing {
    pub(crate) const fn new() -> Self {
        Self {
            last: None,
            rounds: 0,
            patience: SOME_ROUNDS,
            gained: SOME_ROUNDS,
            awake_since: None,
            steps: 0,
            is_hasty: false,
        }
    }

    /// The worker runs a task.
    pub(crate) fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// The worker is about to sleep.
    pub(crate) fn lie_down(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        if let (Some(since), SEVERAL..) = (self.awake_since, steps) {
            self.is_hasty = since.elapsed() / steps < SHORT;
        }
    }

    /// The worker has slept; a flood of tasks comes from that core, if there is one.
    pub(crate) fn get_up(&mut self, flooded_from: Option<u32>) {
        if self.is_hasty {
            Self::make_way(flooded_from);
        }
        self.awake_since = Some(Instant::now());
    }

    /// The caller, who needs no core for long, was woken; a flood of tasks comes from that core, if
    /// there is one.
    pub(crate) fn make_way(flooded_from: Option<u32>) {
        if let Some(core) = flooded_from.filter(|core| sys::current_core() == Some(*core)) {
            sys::leave_core(core);
        }
    }

    /// The worker has run out of tasks; somebody looks for outcomes on that core, if anybody does.
    pub(crate) fn pause(&mut self, watched_from: Option<u32>) {
        let is_quick = self.is_quick();
        match watched_from {
            Some(core) if is_quick => {
                if self.is_to_leave(core, sys::current_core()) {
                    sys::leave_core(core);
                }
            }
            _ => self.rounds = 0,
        }
    }

    /// Whether it had run out of tasks a moment ago, too.
    fn is_quick(&mut self) -> bool {
        let now = Instant::now();
        let last = self.last.replace(now);
        last.is_some_and(|last| now.duration_since(last) < QUICK)
    }

    /// There was a quick round, and somebody looks on that core: whether the worker, on its own, is to go
    /// elsewhere.
    fn is_to_leave(&mut self, watched_from: u32, own: Option<u32>) -> bool {
        if own != Some(watched_from) {
            self.rounds = 0;
            self.gained = self.gained.saturating_add(1);
            return false;
        }
        self.rounds += 1;
        if self.rounds < self.patience {
            return false;
        }
        self.rounds = 0;
        self.patience = match std::mem::take(&mut self.gained) {
            SOME_ROUNDS.. => SOME_ROUNDS,
            _ => self.patience.saturating_mul(2),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many rounds it takes on the waiter's core until the worker leaves.
    fn rounds_until_it_leaves(footing: &mut Footing) -> u32 {
        (1..).find(|_| footing.is_to_leave(0, Some(0))).unwrap()
    }

    #[test]
    fn who_gains_nothing_by_leaving_is_more_patient_the_next_time() {
        let mut footing = Footing::new();
        assert_eq!(rounds_until_it_leaves(&mut footing), SOME_ROUNDS);
        assert_eq!(rounds_until_it_leaves(&mut footing), SOME_ROUNDS);
        assert_eq!(rounds_until_it_leaves(&mut footing), 2 * SOME_ROUNDS);
        for _ in 0..SOME_ROUNDS {
            assert!(!footing.is_to_leave(0, Some(1)), "it is elsewhere");
        }
        let _ = rounds_until_it_leaves(&mut footing);
        assert_eq!(footing.patience, SOME_ROUNDS, "it was worth it");
    }
}
