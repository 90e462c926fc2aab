//! How tasks travel to worker processes: work items (`work.rs`), messages (`wire.rs`), and frames over a
//! socket (`framed.rs`). Used by `process/`, on both sides of a connection.

pub(crate) mod work;
pub(crate) mod wire;
pub(crate) mod framed;
