//! The program's side of its workers.

pub(crate) mod child;
pub(crate) mod stdio;
pub(crate) mod connection;
pub(crate) mod handshake;
pub(crate) mod process_table;
pub(crate) mod pipeline;
pub(crate) mod item_outcomes;
pub(crate) mod driver;
pub(crate) mod callback_thread;
pub(crate) mod in_flight;
pub(crate) mod supervisor;
