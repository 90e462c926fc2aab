//! Memory that is written once and read by many processes: what stands behind `Shared`.
//!
//! ```text
//!  the program                                           a worker
//!
//!  Region: memfd, written, sealed, mapped ◄────┐
//!     │ encoded: its Name                      │ /proc/PROGRAM/fd/N, checked, mapped once
//!     ▼                                        │
//!  Manifest: what a message names    ═══►   Registry: what is mapped here
//!     │ kept until the outcome is opened       ▲
//!     ▼                                        │ looks when it is rung
//!  the last owner is gone ───► Bells ══════════╛
//! ```
//!
//! A [`Name`](region::Name) says which process has the memory open, as which descriptor. Whoever
//! encodes one keeps the memory until the message was answered, so that the name stays good. A worker
//! keeps what it has mapped, for the next task that names it, until the program rings: then it lets go
//! of what the program has closed. A worker that returns memory that the task was not given sends the
//! descriptor along. Only a worker opens what a name says, and only from its task's argument; the
//! program finds names in its registry, or not at all.

pub(crate) mod region;
pub(crate) mod bells;
pub(crate) mod registry;
pub(crate) mod manifest;
