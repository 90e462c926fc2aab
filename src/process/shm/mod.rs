//! Memory that the program and its workers share: the queue of small tasks, the arena of large values, signals.

pub(crate) mod checksum;
pub(crate) mod event_count;
pub(crate) mod queue;
pub(crate) mod arena;
pub(crate) mod item_results;
pub(crate) mod signals;
