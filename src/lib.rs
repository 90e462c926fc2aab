// Its programs are doctests of `tests/pages`.
#![cfg_attr(not(doctest), doc = include_str!("../README.md"))]

mod sys;
mod sync;
mod service_thread;
mod clock;
mod unwind;
mod task_name;
mod task_info;
mod error;
mod options;
mod current_worker;
mod user_state;
mod preparation;
mod idle;
mod future;
mod shared;
mod remote;
mod channel;
mod task;
mod executor;
mod pool;
mod trace;
mod thread;
mod transport;
mod process;
#[cfg(all(any(test, fuzzing), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;

/// Types for which any bytes are a valid value: the types that [`Shared`] can hold. Use it as a bound of
/// functions that take a `Shared<T>` of any such type.
pub use bytemuck::Pod;
pub use channel::channel;
pub use channel::receiver::{Receiver, ReceiverIntoIter, ReceiverIter, RecvError};
pub use channel::sender::{SendError, Sender};
pub use current_worker::{WorkerInfo, current_worker};
pub use error::{
    Error, ErrorReport, LargeValue, MemoryCorruption, PanicInfo, Reason, TimeLimit, WorkerDeath,
};
pub use executor::Executor;
pub use executor::closed::Closed;
pub use executor::map::{Map, MapUnordered};
pub use executor::map_keyed::MapKeyed;
#[cfg(feature = "stream")]
pub use executor::map_stream::MapStream;
pub use executor::scope::{Scope, ScopedFuture, ScopedMap};
pub use executor::serial::SerialExecutor;
pub use executor::stats::Stats;
pub use executor::submit_async::{RoomWaiter, SubmitAsync};
pub use future::Future;
pub use future::cancel_on_drop::CancelOnDrop;
pub use future::id::FutureId;
#[cfg(feature = "stream")]
pub use future::wait::stream::{CompletedKeyedStream, CompletedStream};
pub use future::wait::{
    AsCompleted, AsCompletedKeyed, ReturnWhen, Waited, as_completed, as_completed_keyed, wait,
};
pub use options::{MapOptions, Shutdown, TaskOptions};
pub use pool::observer::{Observer, SubmitEvent, TaskEvent, TaskOutcome, WorkerEnd, WorkerEvent};
pub use process::single::{Process, RunningProcess};
pub use process::{
    OutputStream, ProcessPoolBuilder, ProcessPoolExecutor, WorkerLine, WorkerStdio, init,
};
#[cfg(feature = "messagepack")]
pub use remote::message_pack::MessagePack;
pub use remote::payload::Payload;
pub use shared::Shared;
pub use task::Task;
pub use task::retry::Retry;
pub use task_info::TaskInfo;
pub use thread::{ThreadPoolBuilder, ThreadPoolExecutor};

/// The programs that must not compile are doctests.
#[cfg(doctest)]
#[doc = include_str!("../tests/compile_fail.md")]
struct CompileFail;
