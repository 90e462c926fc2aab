//! Streams: pairs of connected sockets between the program and a worker, which carry descriptors along with
//! bytes, and waiting for several of them. `transport/` sends and receives by it.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
pub(super) mod system;

pub(crate) use system::{
    Stream, is_half_closed, is_hung_up, poll_any_readable, poll_readable,
    poll_readable_or_any_hung_up, poll_readable_or_writable, receive, send, socket_number,
    socket_pair,
};

/// The largest number of handles that [`send`] passes with one message.
pub(crate) const MAX_PASSED: usize = 16;
