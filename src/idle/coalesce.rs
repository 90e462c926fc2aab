//! Coalescing: a short pause of a worker that has run out of tasks, before it checks the queue again (compare
//! interrupt coalescing, `ethtool rx-usecs`).
//!
//! If tasks come one after the other and are shorter than submitting one takes, a worker that checks at once
//! finds one task each time, and hinders the submitter of the next one. A short pause lets several tasks
//! gather. If the submitter waits for each task before it submits the next, a pause would only delay it. So
//! the worker pauses only after several tasks in a row, and longer after more tasks.

use std::time::{Duration, Instant};

/// Computes and executes the pauses of one worker.
#[derive(Debug, Default)]
pub(crate) struct Coalescing {
    /// Number of tasks taken since the last call of `pause`.
    steps: u32,
}

/// The pause per task beyond the first: about the time that submitting one task takes.
const A_TASK: Duration = Duration::from_nanos(250);
/// The longest pause: a fraction of the time that waking a thread takes.
const LONGEST: Duration = Duration::from_micros(4);

impl Coalescing {
    /// The worker took a task.
    pub(crate) fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// The worker has run out of tasks: if it took several since the last call, spins until new ones may have
    /// gathered. Returns whether it paused.
    pub(crate) fn pause(&mut self) -> bool {
        let beyond = std::mem::take(&mut self.steps).saturating_sub(1);
        let pause = A_TASK.saturating_mul(beyond).min(LONGEST);
        if pause.is_zero() {
            return false;
        }
        let begun = Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_after_several_tasks_is_there_a_pause() {
        let mut coalescing = Coalescing::default();
        assert!(!coalescing.pause(), "it has had none");
        coalescing.step();
        assert!(!coalescing.pause(), "somebody may wait for this one");
        coalescing.step();
        coalescing.step();
        assert!(coalescing.pause());
        assert!(!coalescing.pause(), "nothing has gathered");
    }
}
