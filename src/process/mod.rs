//! [`ProcessPoolExecutor`] and [`single::Process`]: tasks in processes that re-execute the program.
//!
//! `host/` is the program's side, `worker/` the worker's, `shm/` the memory that both map; `reexec.rs` brings
//! a new process back to [`init`]. Relies on `pool/` for the threads behind the workers, on `task/` and
//! `remote/` for what travels, and on `transport/` for frames.
//!
//! ```text
//!  the program                                       a worker: the program, re-executed
//!
//!  submit ─► task ─► host/in_flight                  init ─► worker ─► remote/function.rs
//!           encode     │  ▲                                   │  ▲        decode, call, encode
//!                      ▼  │                                   │  │
//!              ═════ shm: shared memory ══════════════════════╧══╛     small tasks
//!                         │
//!   waiters, host/driver.rs
//!
//!   host/supervisor.rs ── host/connection.rs ═══ socket ═══ transport/framed.rs   the rest
//!          │
//!          ├─► host/spawn.rs         start, hello (host/handshake.rs)
//!          └─► host/child.rs         wait, kill, reap
//! ```

pub(crate) mod shm;
pub(crate) mod reexec;
pub(crate) mod worker;
pub(crate) mod host;
mod pool;
mod builder;
pub(crate) mod single;

pub use builder::ProcessPoolBuilder;
pub use host::lines::{OutputStream, WorkerLine};
pub use host::stdio::WorkerStdio;
pub use pool::ProcessPoolExecutor;
pub use worker::init;

#[cfg(all(test, not(loom)))]
mod way;
