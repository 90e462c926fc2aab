//! Channels: tasks send values to the program while they run.
//!
//! ```text
//!  the program                                         a worker
//!
//!  Sender ──────► ChannelState ───► Receiver           Sender (of the argument)
//!  (threads)        ▲  values        decodes               │ encodes
//!                   │                                      ▼
//!            reader's thread ◄─── WorkerStream ◄═══════ SenderSocket
//!                   ▲
//!  MessageHold ─────╯ rings: no message is left
//! ```
//!
//! A sender in the program's own process puts values into the [state](state) as they are. One that travels is
//! encoded as the [id](registry::ChannelId) of its channel (`serde.rs`). The worker that decodes it asks the
//! program, over its connection, for a socket (`socket.rs`), one for each channel of which it has senders. The
//! program keeps the other end (`stream.rs`): a thread of the channel reads from all of them (`reader.rs`), as
//! long as there is room, so that a worker's `send` blocks when there is none. Values stay encoded until the
//! receiver takes them, so that no user code runs on that thread.
//!
//! A channel is open as long as there is one of these: a sender in this process; a message that has such a sender
//! inside and may still come to a worker (`MessageHold`, which the message's
//! [`Attachments`](crate::shared::attachments) own); a socket that a worker has open. The kernel closes the
//! last, whatever ends the worker, and gives out what was sent before that. The message is let go of after its
//! task has ended, so after the worker has had its socket: in between, the channel is open all the time.
//!
//! `executor/serial.rs` marks tasks that run in the caller ([`inline`]), `process/worker/` and
//! `process/host/connection.rs` ask and answer for sockets.

pub(crate) mod inline;
pub(crate) mod receiver;
pub(crate) mod registry;
pub(crate) mod sender;
pub(crate) mod socket;
mod serde;
mod state;
mod reader;
mod stream;
#[cfg(all(test, loom))]
mod models;

use std::sync::Arc;

use crate::remote::payload::Payload;

use receiver::Receiver;
use sender::Sender;
use state::Channel;

/// Makes a channel, into which tasks can send values while they run: how far they are, lines of a log, results as
/// they are found. (`multiprocessing.Queue`, `SimpleQueue`, `Manager().Queue()`)
///
/// The [`Sender`] goes along in the argument of a task, by itself or as a part of it, or in the context of a
/// map; it can be cloned, and there may be many. The values come out of the [`Receiver`], from each sender in the
/// order in which it has sent them. It works alike on threads, in processes and in the caller.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Sender, channel};
///
/// fn count((to, progress): (u64, Sender<u64>)) -> u64 {
///     (0..to).inspect(|n| { progress.send(*n).ok(); }).sum()
/// }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let (sender, progress) = channel(16);
/// let total = pool.submit(count, (100, sender));
/// for (at, n) in progress.into_iter().enumerate() {
///     assert_eq!(n?, at as u64); // while the task runs
/// }
/// assert_eq!(total.result()?, 4950);
/// # Ok(())
/// # }
/// ```
///
/// # Room
/// At most `capacity` values wait to be received (0 counts as 1; `usize::MAX` is no bound). Then
/// [`send`](Sender::send) blocks until there is room. So receive while the tasks run: a program that first waits
/// for a task's result waits for ever if the task waits for room. What a worker process sends waits in its
/// socket, too, which holds some 200 KB. A task that runs in the caller, of a
/// [`SerialExecutor`](crate::SerialExecutor), does not wait for room, since nothing could make it.
///
/// # The end
/// The receiver ends once no sender is left and all values were received. Senders are those that the program
/// holds, those in arguments of tasks that have not ended, and those that a task has stored in its worker. When a
/// worker dies, its senders are gone, and what they had sent before is received. So hand the last sender out, or
/// drop it, before you wait for the end. Also hold in mind that a map owns its items, and its context, until it was
/// read to its end or dropped: receive on another thread than the one that reads the map. What an initializer was
/// given is kept as long as its pool.
#[must_use]
pub fn channel<T: Payload>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Channel::new(capacity.max(1));
    registry::enter(&channel);
    (Sender::new(Arc::clone(&channel)), Receiver::new(channel))
}
