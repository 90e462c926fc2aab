//! How pools end.

use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, Shutdown};
use rand::Rng;
use rand::rngs::StdRng;

use crate::killer::Killer;

/// How a pool ends.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub manner: Manner,
    /// Whether others still submit.
    pub amid: Amid,
    /// Whether its workers are stopped before.
    frost: Frost,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    Drop,
    DropInCallback,
    Wait,
    WaitCancelling,
    WindDown,
    Impatient,
    Terminate,
    Kill,
}

/// What goes on meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amid {
    /// Nothing is submitted any more.
    Quiet,
    /// Others submit.
    Submissions,
}

/// Whether workers are stopped before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frost {
    /// No.
    No,
    /// For this time.
    For(Duration),
    /// For ever.
    Hard,
}

/// More than it takes to end workers, however they are.
const PROMPT: Duration = Duration::from_secs(5);

impl End {
    pub fn any(random: &mut StdRng) -> Self {
        use Manner::{
            Drop, DropInCallback, Impatient, Kill, Terminate, Wait, WaitCancelling, WindDown,
        };
        const MANNERS: [Manner; 10] = [
            Drop,
            DropInCallback,
            Wait,
            WaitCancelling,
            WindDown,
            Impatient,
            Terminate,
            Kill,
            Terminate,
            Kill,
        ];
        let manner = MANNERS[random.random_range(0..MANNERS.len())];
        let amid = match manner {
            Drop | DropInCallback => Amid::Quiet,
            _ if random.random_bool(0.5) => Amid::Quiet,
            _ => Amid::Submissions,
        };
        let frost = match manner {
            _ if random.random_bool(0.6) => Frost::No,
            Terminate | Kill => Frost::Hard,
            _ => Frost::For(Duration::from_millis(random.random_range(1..500))),
        };
        Self {
            manner,
            amid,
            frost,
        }
    }

    /// Whether it is a drop that ends the pool.
    pub fn drops(self) -> bool {
        matches!(self.manner, Manner::Drop | Manner::DropInCallback)
    }

    /// Whether accepted tasks may be cancelled.
    pub fn cancels(self) -> bool {
        use Manner::{Kill, Terminate, WaitCancelling};
        matches!(self.manner, WaitCancelling | Terminate | Kill)
    }

    /// Whether tasks may end as shut down.
    pub fn refuses(self) -> bool {
        self.stops() || self.amid == Amid::Submissions
    }

    /// Whether tasks that have begun may end as shut down.
    pub fn stops(self) -> bool {
        matches!(self.manner, Manner::Terminate | Manner::Kill)
    }

    /// How long it may take: workers that are stopped do not hold up what ends workers.
    pub fn limit(self) -> Duration {
        match self.manner {
            Manner::Terminate | Manner::Kill => PROMPT,
            _ => Duration::MAX,
        }
    }

    /// Ends the pool, but for a drop; how long that took.
    pub fn carry_out(
        self,
        pool: &ProcessPoolExecutor,
        killer: &Killer,
        random: &mut StdRng,
    ) -> Duration {
        match self.frost {
            Frost::No => {}
            Frost::For(time) => killer.freeze(&pool.worker_pids(), Some(time)),
            Frost::Hard => killer.freeze(&pool.worker_pids(), None),
        }
        let begun = Instant::now();
        let mut moment = || Duration::from_millis(random.random_range(0..20));
        match self.manner {
            Manner::Drop | Manner::DropInCallback => {}
            Manner::Wait => pool.shutdown(Shutdown::wait()),
            Manner::WaitCancelling => pool.shutdown(Shutdown::wait().cancel_futures()),
            Manner::WindDown => {
                pool.shutdown(Shutdown::no_wait());
                std::thread::sleep(moment());
                pool.shutdown(Shutdown::wait());
            }
            Manner::Impatient => while !pool.shutdown_timeout(Shutdown::wait(), moment()) {},
            Manner::Terminate => pool.terminate_workers(),
            Manner::Kill => pool.kill_workers(),
        }
        begun.elapsed()
    }
}
