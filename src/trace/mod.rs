//! The bridge to `tracing` (feature `tracing`): a span for each task, and the events of worker processes, which go
//! to the program's subscriber. The builders of pools, `process/host/` and `process/worker/` call it.

#[cfg(feature = "tracing")]
mod event_record;
#[cfg(feature = "tracing")]
mod forward;
#[cfg(not(feature = "tracing"))]
mod none;
#[cfg(feature = "tracing")]
pub(crate) mod task_spans;

#[cfg(feature = "tracing")]
pub(crate) use forward::{Forwarding, PoolTracing, send_events};
#[cfg(not(feature = "tracing"))]
pub(crate) use none::{Forwarding, PoolTracing, send_events};
