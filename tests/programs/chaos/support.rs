//! What is shared with the suite.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails the trial"
)]

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/asynchronous.rs"]
pub mod asynchronous;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/leaks.rs"]
pub mod leaks;
#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "../suite/support/os.rs"]
pub mod os;
#[path = "../suite/support/watchdog.rs"]
pub mod watchdog;
