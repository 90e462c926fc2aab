//! The bridge to `tracing` (feature `tracing`): a span for each task. The builders of pools call it.

#[cfg(feature = "tracing")]
pub(crate) mod task_spans;
