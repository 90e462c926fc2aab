//! The program's side of its worker processes: it starts them, hands them work, collects outcomes, and
//! replaces or ends them. The pool (`process/pool.rs`) and `Process` (`process/single.rs`) call it; shared
//! memory lies below it (`process/shm/`), and frames (`transport/`).
//!
//! One supervisor thread for each worker (`supervisor`) starts the child as its `config` and `environment` say
//! (`spawn`, `handshake`, `child`, `stdio`, `lines`), enters it into the `process_table`, and talks to it over a
//! `connection`, one chunk at a time (`pipeline`). Work in the shared-memory queue is in the `in_flight` table;
//! waiters or the completion `driver` collect its outcomes (`item_outcomes` takes those of maps apart), and a
//! `callback_thread` runs user code for them.

pub(crate) mod child;
pub(crate) mod stdio;
pub(crate) mod lines;
pub(crate) mod connection;
pub(crate) mod config;
pub(crate) mod environment;
pub(crate) mod handshake;
pub(crate) mod spawn;
pub(crate) mod process_table;
pub(crate) mod pipeline;
pub(crate) mod item_outcomes;
pub(crate) mod driver;
pub(crate) mod callback_thread;
pub(crate) mod in_flight;
pub(crate) mod supervisor;
