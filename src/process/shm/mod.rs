//! Memory that the program and its workers share: the queue of small tasks, the arena of large values, the
//! signals; and what they are made of, checksums and eventcounts. `process/host/` calls the program's side, `process/worker/` a worker's side.

pub(crate) mod checksum;
pub(crate) mod event_count;
pub(crate) mod queue;
pub(crate) mod arena;
pub(crate) mod signals;
