//! [`ProcessPoolExecutor`]: tasks in processes that re-execute the program.
//!
//! ```text
//!  the program                                            a worker: the program, re-executed
//!
//!  submit ─► task.rs ─► request.rs ─► ledger.rs           init ─► child.rs ─► entry.rs
//!             encode      promise        │  ▲                      │  ▲        decode, call, encode
//!                                        ▼  │                      │  │
//!                              ═════ board: shared memory ═════════╧══╛   small tasks
//!                                           │
//!                     waiters, tender.rs ◄──┘
//!
//!                    attendant.rs ── link.rs ═══ socket ═══ channel.rs    the rest
//!                         │
//!            launch.rs ◄──┴──► subprocess.rs
//!             start, hello      watch, kill, reap
//! ```

pub(crate) mod sys;
pub(crate) mod shared_memory;
pub(crate) mod checksum;
pub(crate) mod depot;
pub(crate) mod memory;
pub(crate) mod bytes;
pub(crate) mod plain;
pub(crate) mod items;
pub(crate) mod codec;
pub(crate) mod context;
pub(crate) mod image;
pub(crate) mod tray;
pub(crate) mod entry;
pub(crate) mod request;
pub(crate) mod errand;
pub(crate) mod parcel;
pub(crate) mod requests;
pub(crate) mod board;
pub(crate) mod slip;
pub(crate) mod wire;
pub(crate) mod reentry;
pub(crate) mod channel;
pub(crate) mod flag;
pub(crate) mod handle;
pub(crate) mod subprocess;
pub(crate) mod output;
pub(crate) mod link;
pub(crate) mod launch;
pub(crate) mod child;
pub(crate) mod desks;
pub(crate) mod conversation;
pub(crate) mod pieces;
pub(crate) mod tender;
pub(crate) mod herald;
pub(crate) mod ledger;
pub(crate) mod attendant;
mod pool;
mod builder;

pub use builder::ProcessPoolBuilder;
pub use child::init;
pub use output::WorkerStdio;
pub use pool::ProcessPoolExecutor;

#[cfg(all(test, not(loom)))]
#[path = "way_tests.rs"]
mod way;
