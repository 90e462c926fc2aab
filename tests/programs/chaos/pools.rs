//! The pools that are put to the test. All that is set on them is set here.
//!
//! How tasks travel depends on it: if nothing has to be told when each task begins, or limits it,
//! workers claim small tasks from shared memory; otherwise all go over the workers' connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concurrent_futures::{
    Observer, ProcessPoolBuilder, ProcessPoolExecutor, WorkerEnd, WorkerEvent, WorkerStdio,
};

/// A kind of pool, and what is to be known of it to judge what its tasks come to.
#[derive(Debug)]
pub struct Settings {
    /// Of the kind.
    pub name: &'static str,
    /// `max_workers`.
    pub workers: usize,
    /// `task_timeout`.
    pub task_timeout: Option<Duration>,
    /// `memory_limit`.
    pub memory_limit: Option<u64>,
    /// Whether an `observer` counts the workers.
    pub observed: bool,
    /// Whether some tasks overwrite memory that is shared with the program: others may be hit.
    pub scribbles: bool,
    /// How many items a map has at most: where each of them takes a process, they are few.
    pub longest_map: usize,
    /// What else is set.
    configure: fn(ProcessPoolBuilder) -> ProcessPoolBuilder,
}

/// The largest argument, and the largest result, that a worker may be sent or send.
pub const PAYLOAD_LIMIT: u64 = 6 << 20;

/// Between SIGTERM and SIGKILL.
pub const TERMINATE_GRACE: Duration = Duration::from_millis(100);

const PLAIN: Settings = Settings {
    name: "plain",
    workers: 2,
    task_timeout: None,
    memory_limit: None,
    observed: false,
    scribbles: false,
    longest_map: 3000,
    configure: |builder| builder,
};

/// The kinds of pools.
pub const POOLS: [Settings; 13] = [
    PLAIN,
    Settings {
        name: "wild",
        workers: 3,
        scribbles: true,
        ..PLAIN
    },
    Settings {
        name: "alone",
        workers: 1,
        ..PLAIN
    },
    Settings {
        name: "many",
        workers: 7,
        ..PLAIN
    },
    Settings {
        name: "small",
        memory_limit: Some(128 << 20),
        ..PLAIN
    },
    Settings {
        name: "observed",
        workers: 3,
        observed: true,
        ..PLAIN
    },
    Settings {
        name: "bounded",
        configure: |builder| builder.max_pending(30),
        ..PLAIN
    },
    Settings {
        name: "hurried",
        workers: 3,
        task_timeout: Some(Duration::from_millis(150)),
        ..PLAIN
    },
    Settings {
        name: "recycled",
        workers: 3,
        observed: true,
        configure: |builder| builder.max_tasks_per_child(25),
        ..PLAIN
    },
    Settings {
        name: "used once",
        workers: 2,
        longest_map: 100,
        configure: |builder| builder.max_tasks_per_child(1),
        ..PLAIN
    },
    Settings {
        name: "fleeting",
        workers: 4,
        configure: |builder| builder.idle_timeout(Duration::from_millis(3)),
        ..PLAIN
    },
    Settings {
        name: "confined",
        workers: 2,
        memory_limit: Some(128 << 20),
        observed: true,
        configure: |builder| {
            builder
                .stdout(WorkerStdio::Capture)
                .stderr(WorkerStdio::Capture)
        },
        ..PLAIN
    },
    Settings {
        name: "everything",
        workers: 3,
        task_timeout: Some(Duration::from_millis(400)),
        memory_limit: Some(256 << 20),
        observed: true,
        configure: |builder| {
            let builder = builder.max_tasks_per_child(60).max_pending(200);
            builder.idle_timeout(Duration::from_millis(20))
        },
        ..PLAIN
    },
];

impl Settings {
    /// A new pool of the kind.
    pub fn build(&self, workers: &Arc<Workers>) -> ProcessPoolExecutor {
        let mut builder = ProcessPoolExecutor::builder()
            .max_workers(self.workers)
            .payload_limit(PAYLOAD_LIMIT)
            .terminate_grace(TERMINATE_GRACE)
            // Panics on purpose, by the thousand.
            .stderr(WorkerStdio::Null);
        if self.observed {
            builder = builder.observer(Arc::clone(workers));
        }
        if let Some(limit) = self.task_timeout {
            builder = builder.task_timeout(limit);
        }
        if let Some(bytes) = self.memory_limit {
            builder = builder.memory_limit(bytes);
        }
        let builder = (self.configure)(builder);
        builder.build().expect("the settings make sense")
    }
}

/// What an observer was told of the workers of a pool.
#[derive(Debug, Default)]
pub struct Workers {
    /// Those that were ready for tasks.
    pub started: AtomicU64,
    /// Those that were let go.
    pub left: AtomicU64,
    /// Those that died.
    pub lost: AtomicU64,
}

impl Observer for Workers {
    fn worker_started(&self, _: &WorkerEvent) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    fn worker_ended(&self, _: &WorkerEvent, reason: WorkerEnd) {
        let counter = match reason {
            WorkerEnd::Left => &self.left,
            _ => &self.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
