//! How tasks travel to worker processes: work items (`work.rs`), frames as bytes (`wire.rs`), what the two
//! sides say first (`messages.rs`), why a task has no value (`fault.rs`), and frames over a socket
//! (`framed.rs`). Used by `process/`, on both sides of a connection.

pub(crate) mod work;
pub(crate) mod wire;
pub(crate) mod messages;
pub(crate) mod fault;
pub(crate) mod framed;

#[cfg(test)]
mod tests;
