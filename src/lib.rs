// Its programs are doctests of `tests/pages`.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]

#[cfg(not(target_os = "linux"))]
compile_error!("concurrent-futures runs on Linux only, so far");

mod sync;
mod fork;
mod stack;
mod clock;
mod unwind;
mod label;
mod error;
mod options;
mod state;
mod future_id;
mod owner;
mod directory;
mod future;
mod deadlock;
mod timer;
mod wait;
mod worker;
mod bit_set;
mod batch;
mod process;
mod shared;
mod task;
mod map;
mod executor;
mod serial;
mod observer;
mod backlog;
mod duty;
mod gait;
mod core_hint;
mod restraint;
mod footing;
mod payload;
mod pledge;
mod holding;
mod roster;
mod crew;
mod thread;
mod job;
#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;

/// Types of which any bytes are a value: what [`Shared`] can hold. For bounds, where one writes
/// functions that take a `Shared<T>` of whatever type.
pub use bytemuck::Pod;
pub use error::{Error, MemoryCorruption, PanicInfo, Reason, WorkerDeath};
pub use executor::{Executor, Stats};
pub use future::{CancelOnDrop, Future};
pub use future_id::FutureId;
pub use job::{Process, RunningProcess};
pub use label::TaskInfo;
pub use map::{Map, MapUnordered};
pub use observer::{Observer, TaskEvent, TaskOutcome, WorkerEnd, WorkerEvent};
pub use options::{MapOptions, Shutdown, TaskOptions};
pub use payload::Payload;
pub use process::{ProcessPoolBuilder, ProcessPoolExecutor, WorkerStdio, init};
pub use serial::SerialExecutor;
pub use shared::Shared;
pub use task::Task;
pub use thread::{ThreadPoolBuilder, ThreadPoolExecutor};
pub use wait::{AsCompleted, ReturnWhen, Waited, as_completed, wait};
pub use worker::{WorkerInfo, current_worker};

/// The programs that must not compile are doctests.
#[cfg(doctest)]
#[doc = include_str!("../tests/compile_fail.md")]
struct CompileFail;
