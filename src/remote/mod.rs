//! What travels: values and functions as bytes. No I/O, no transport, no pool.

pub(crate) mod lease;
pub(crate) mod encoded;
pub(crate) mod pod;
pub(crate) mod length_delimited;
pub(crate) mod codec;
pub(crate) mod payload;
pub(crate) mod context;
pub(crate) mod item_cursor;
pub(crate) mod function;
