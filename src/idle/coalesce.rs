//! How hastily a worker looks for the next task once it has run out of them.
//!
//! Where tasks come one after the other and are shorter than it takes to submit one, a worker that looks at
//! once finds one task each time, and gets into the way of who submits the next. A short pause lets some
//! gather. Where somebody waits for each task before he submits the next, a pause would only delay him. So
//! it pauses only after several tasks, and the longer the more they were.

use std::time::{Duration, Instant};

/// The pause of one worker, and what it depends on.
#[derive(Debug, Default)]
pub(crate) struct Coalescing {
    /// Tasks taken since the last one.
    steps: u32,
}

/// A pause is that long for each task beyond the first: about as long as it takes to submit one.
const A_TASK: Duration = Duration::from_nanos(250);
/// The longest: a fraction of what it takes to wake somebody.
const LONGEST: Duration = Duration::from_micros(4);

impl Coalescing {
    /// The worker took a task.
    pub(crate) fn step(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// The worker has run out of tasks: waits until some may have gathered, if several did lately.
    /// Whether it has waited.
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
