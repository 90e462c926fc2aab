//! What travels between a program and its worker processes: values and functions as bytes. No I/O, no
//! transport, no pool.
//!
//! Called by `executor`, `task`, `transport` and `process`. Relies on `shared` (memory that a message names),
//! and on `sys`. `lease` has the traits that the arena implements.

pub(crate) mod fields;
pub(crate) mod lease;
pub(crate) mod encoded;
pub(crate) mod pod;
pub(crate) mod length_delimited;
pub(crate) mod codec;
pub(crate) mod payload;
#[cfg(feature = "messagepack")]
pub(crate) mod message_pack;
pub(crate) mod context;
pub(crate) mod item_cursor;
pub(crate) mod function;
pub(crate) mod stub;
pub(crate) mod callee;

#[cfg(test)]
mod tests;
