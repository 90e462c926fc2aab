//! How tasks are carried: frames, messages, and what waits for a worker process.

pub(crate) mod work;
pub(crate) mod wire;
pub(crate) mod framed;
