//! The channels of this process by their ids: a worker that has decoded a [`Sender`](crate::Sender) asks for its
//! channel's socket by the id. Asked by `process/host/connection.rs`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use crate::channel::state::Channel;
use crate::channel::stream::WorkerStream;
use crate::remote::fields::{FieldReader, FieldWriter};
use crate::shared::{invalidation, region};
use crate::sync::lock;
use crate::sys::handle::OwnedHandle;
use crate::sys::stream::socket_pair;

/// The id of a channel, the same in all processes that have senders of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId {
    /// Which process has made the channel: a number that is random in each process.
    pub(crate) process: u64,
    /// Which of its channels: a random number, so that a worker cannot guess the id of a channel of which its tasks
    /// were given no sender.
    pub(crate) number: u64,
}

/// A channel, to which the sockets of workers are connected.
pub(super) trait Connect: Send + Sync {
    /// Reads from the stream from now on. A stream of a channel whose receiver is gone is dropped, which closes
    /// it: the worker's sends fail.
    fn connect(&self, stream: WorkerStream);
}

/// The channels of this process.
static CHANNELS: LazyLock<Mutex<HashMap<ChannelId, Weak<dyn Connect>>>> =
    LazyLock::new(Mutex::default);

/// The number of this process in the ids of its channels.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

impl ChannelId {
    /// Size of the encoded id, in bytes.
    pub(crate) const SIZE: usize = 16;

    /// An id that no channel has.
    pub(super) fn fresh() -> Self {
        Self {
            process: *PROCESS,
            number: region::fresh_id(),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut fields = &mut bytes[..];
        fields.put_u64(self.process);
        fields.put_u64(self.number);
        bytes
    }

    /// Decodes an id; `None` if the number of bytes is not [`SIZE`](Self::SIZE).
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = FieldReader::new(bytes);
        let channel_id = Self {
            process: reader.u64()?,
            number: reader.u64()?,
        };
        reader.end(channel_id)
    }
}

/// Enters a channel, so that workers can be connected to it.
pub(super) fn enter<T: Send + 'static>(channel: &Arc<Channel<T>>) {
    if !invalidation::are_ours() {
        return; // a forked copy of the program has no workers, and the lock may be held for ever
    }
    let entry: Weak<Channel<T>> = Arc::downgrade(channel);
    lock(&*CHANNELS).insert(channel.id(), entry);
}

/// Removes a channel.
pub(super) fn leave(channel_id: ChannelId) {
    if invalidation::are_ours() {
        let gone = lock(&*CHANNELS).remove(&channel_id);
        drop(gone); // without the lock
    }
}

/// Connects a worker to a channel of this process. Returns the worker's end of the socket; `None`: this process
/// has not made the channel. If the channel is closed, so is the socket. `limit` is the maximum length of a
/// value, in bytes.
///
/// # Errors
/// The system's, if it has no socket.
pub(crate) fn connect(channel_id: ChannelId, limit: u64) -> io::Result<Option<OwnedHandle>> {
    if channel_id.process != *PROCESS {
        return Ok(None);
    }
    let (ours, theirs) = socket_pair()?;
    let channel = lock(&*CHANNELS).get(&channel_id).and_then(Weak::upgrade);
    if let Some(channel) = channel {
        channel.connect(WorkerStream::new(ours, limit));
    }
    Ok(Some(theirs.into()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_differ() {
        let id = ChannelId::fresh();
        assert_eq!(ChannelId::from_bytes(&id.to_bytes()), Some(id));
        assert_eq!(ChannelId::from_bytes(&[0; ChannelId::SIZE + 1]), None);
        assert_eq!(ChannelId::from_bytes(&[]), None);
        assert_ne!(ChannelId::fresh(), id);
    }

    #[test]
    fn another_process_s_channel_is_not_connected() {
        let mut id = ChannelId::fresh();
        id.process ^= 1;
        assert!(matches!(connect(id, 100), Ok(None)));
    }
}
