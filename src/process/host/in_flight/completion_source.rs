//! The in-flight table as the source of the completion driver: waiters and the driver's thread collect
//! outcomes by it, from slots that are done and from batches that a worker is still at.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::InFlight;
use super::table::Taken;
use crate::process::host::driver::{CollectedBy, CompletionDriver, CompletionSource, Demand};
use crate::process::shm::arena::Arena;
use crate::process::shm::queue::ShmQueue;
use crate::process::shm::queue::layout::MappedQueue;
use crate::sync::deadline::Deadline;

/// How long an outcome that no thread waits for may stay uncollected. Until it is collected, the program
/// keeps what its task holds: the block of its argument, and the shared memory that the argument names.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl CompletionSource for InFlight {
    type Memory = MappedQueue;

    fn queue(&self) -> &ShmQueue {
        &self.queue
    }

    fn driver(&self) -> &CompletionDriver<Self> {
        &self.driver
    }

    fn collect(&self, by: CollectedBy) -> usize {
        if !self.queue.has_done() {
            return 0;
        }
        if by == CollectedBy::Users {
            // ORDERING: Relaxed; the count tells the driver, sooner or later, that it is not needed.
            self.helped.fetch_add(1, Ordering::Relaxed);
        }
        let (mut arrivals, mut collected, mut is_any_corrupt) = (Vec::new(), 0, false);
        let mut table = self.lock();
        self.queue.take_done(|slot| {
            collected += 1;
            match self.take_outcome(&mut table, slot) {
                Taken::Arrived(completion) if completion.is_over() => {}
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        });
        drop(table);
        if is_any_corrupt {
            self.suspect();
        }
        self.fetch_more();
        for completion in arrivals {
            self.deliver(completion);
        }
        collected
    }

    fn sweep(&self) -> bool {
        let (mut arrivals, mut is_any_corrupt) = (Vec::new(), false);
        let mut table = self.lock();
        if table.item_batches == 0 {
            return false;
        }
        for slot in 0..table.records.len() {
            match self.take_early(&mut table, slot) {
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        }
        drop(table);
        if is_any_corrupt {
            self.suspect();
        }
        let any = !arrivals.is_empty();
        for completion in arrivals {
            self.deliver(completion);
        }
        any
    }

    fn demand(&self) -> Demand {
        // ORDERING: Relaxed, all; a thread that changes them calls the driver afterwards.
        if self.listening.load(Ordering::Relaxed) > 0
            || self.is_closing.load(Ordering::Relaxed)
            || self.audit_schedule.is_suspicious()
        {
            Demand::Now
        } else if self.is_behind.load(Ordering::Relaxed) {
            Demand::UnlessHelped(self.helped.load(Ordering::Relaxed))
        } else {
            Demand::None
        }
    }

    /// Also collects outcomes that no thread has collected, and has the caller look again as long as work is
    /// published. Pairs with `put_in`: either this thread sees the work, or the publisher sees that no thread
    /// will look, and calls the driver. The lock of the table orders the two.
    fn reclaim(&self) -> Deadline {
        self.collect(CollectedBy::Ours);
        let mut table = self.lock();
        table.is_watched = table.free.len() < table.backed;
        let is_watched = table.is_watched;
        drop(table);
        let look_again = Deadline::after_limit(is_watched.then_some(LOOK_AGAIN));
        let arena = self.arena.as_deref();
        look_again.min(arena.map_or(Deadline::never(), Arena::reclaim))
    }

    fn audit_at(&self) -> Instant {
        self.audit_schedule.due()
    }

    fn audit_if_due(&self) {
        if self.audit_schedule.due() <= Instant::now() {
            self.audit();
        }
    }
}
