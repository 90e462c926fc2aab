//! A worker's end of a channel: the socket over which it sends, asked for when a sender is decoded.
//!
//! The worker's side of `stream.rs`. `process/worker/` sets the source of sockets, and says how long they are
//! kept for items of one batch.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, TryLockError, Weak};
use std::time::Instant;

use serde::Serialize;

use crate::channel::registry::ChannelId;
use crate::channel::stream::{HEADER, header_of};
use crate::error::Error;
use crate::remote::codec;
use crate::shared::invalidation;
use crate::sync::lock;
use crate::sys::handle::{AsHandle, OwnedHandle};
use crate::sys::stream::{Stream, poll_readable_or_writable, send};

/// Where a worker gets the sockets of channels: the program.
pub(crate) trait SocketSource {
    /// Asks for a socket of a channel; `None`: the program has not made this channel, or has no descriptor left.
    ///
    /// # Errors
    /// Those of the connection.
    fn request(&self, channel_id: ChannelId) -> io::Result<Option<OwnedHandle>>;
    /// The maximum length of a value, in bytes.
    fn limit(&self) -> u64;
}

/// The socket over which this worker sends into one channel. Dropping it closes it.
pub(super) struct SenderSocket {
    /// The channel.
    channel_id: ChannelId,
    /// The socket.
    stream: Stream,
    /// Held while a value is written, so that it is whole.
    writing: Mutex<()>,
    /// The maximum length of a value, in bytes.
    limit: u64,
}

/// Why a value was not sent.
pub(super) enum SendFailure {
    /// The receiver is gone.
    Disconnected,
    /// There is no room.
    Full,
    /// It cannot be encoded.
    Refused(Error),
}

/// While this exists, the calling thread keeps the sockets of the senders that it decodes, for the next sender
/// of the same channel.
pub(crate) struct KeptSockets(());

thread_local! {
    /// The source of this thread: set in a worker, on the thread that runs tasks.
    static SOURCE: RefCell<Option<Rc<dyn SocketSource>>> = const { RefCell::new(None) };
    /// What the thread keeps, the newest last; `None`: it keeps nothing.
    static KEPT: RefCell<Option<Vec<Arc<SenderSocket>>>> = const { RefCell::new(None) };
}

/// The sockets of this worker that are open.
static SOCKETS: LazyLock<Mutex<HashMap<ChannelId, Weak<SenderSocket>>>> =
    LazyLock::new(Mutex::default);

/// The maximum number of sockets that a thread keeps.
const MOST_KEPT: usize = 16;

/// Sets the source from which this thread gets sockets.
pub(crate) fn set_source(source: Rc<dyn SocketSource>) {
    SOURCE.set(Some(source));
}

/// Has the calling thread keep sockets until the guard is dropped.
pub(crate) fn keep() -> KeptSockets {
    KEPT.set(Some(Vec::new()));
    KeptSockets(())
}

/// The socket of a channel that an argument refers to: the one that is open, or else a new one.
///
/// # Errors
/// The reason why there is none.
pub(super) fn fetch(channel_id: ChannelId) -> Result<Arc<SenderSocket>, String> {
    if !invalidation::are_ours() {
        return Err("a forked copy of the program has no channels".to_owned());
    }
    let open = lock(&*SOCKETS).get(&channel_id).and_then(Weak::upgrade);
    let socket = match open {
        Some(socket) => socket,
        None => request(channel_id)?,
    };
    KEPT.with_borrow_mut(|kept| {
        if let Some(kept) = kept {
            note(kept, &socket);
        }
    });
    Ok(socket)
}

fn request(channel_id: ChannelId) -> Result<Arc<SenderSocket>, String> {
    let source = SOURCE.with_borrow(Option::clone);
    let source = source.ok_or("this thread receives no channels")?;
    let socket = source
        .request(channel_id)
        .map_err(|error| error.to_string())?;
    let socket = socket.ok_or("the program has not made its channel, or has no descriptor left")?;
    let socket = Arc::new(SenderSocket {
        channel_id,
        stream: socket.into(),
        writing: Mutex::new(()),
        limit: source.limit(),
    });
    let gone = lock(&*SOCKETS).insert(channel_id, Arc::downgrade(&socket));
    drop(gone); // without the lock
    Ok(socket)
}

fn note(kept: &mut Vec<Arc<SenderSocket>>, socket: &Arc<SenderSocket>) {
    if kept.iter().any(|it| Arc::ptr_eq(it, socket)) {
        return;
    }
    if kept.len() == MOST_KEPT {
        kept.remove(0);
    }
    kept.push(Arc::clone(socket));
}

impl SenderSocket {
    /// Encodes a value and sends it; blocks until it was taken.
    pub(super) fn send<T: Serialize + 'static>(&self, value: &T) -> Result<(), SendFailure> {
        let message = self.encode(value)?;
        let _writing = lock(&self.writing);
        self.write(&message)
    }

    /// Encodes a value and sends it, if no other thread is about to, and the socket takes more.
    pub(super) fn try_send<T: Serialize + 'static>(&self, value: &T) -> Result<(), SendFailure> {
        let message = self.encode(value)?;
        let _writing = match self.writing.try_lock() {
            Ok(writing) => writing,
            Err(TryLockError::Poisoned(writing)) => writing.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SendFailure::Full),
        };
        let socket = Some(self.stream.as_handle());
        match poll_readable_or_writable([None; 6], socket, Some(Instant::now())) {
            Ok([.., true]) => self.write(&message),
            Ok(_) => Err(SendFailure::Full),
            Err(_) => Err(SendFailure::Disconnected),
        }
    }

    /// A header and the encoded value.
    fn encode<T: Serialize + 'static>(&self, value: &T) -> Result<Vec<u8>, SendFailure> {
        if !invalidation::are_ours() {
            return Err(SendFailure::Disconnected); // what a forked copy sends would mix with the worker's
        }
        let mut message = vec![0; HEADER];
        codec::append_sent(value, self.limit, &mut message).map_err(SendFailure::Refused)?;
        let length = message.len() - HEADER;
        message[..HEADER].copy_from_slice(&header_of(length as u64));
        Ok(message)
    }

    /// Writes the whole message. The caller holds the lock.
    fn write(&self, message: &[u8]) -> Result<(), SendFailure> {
        let mut rest = message;
        while !rest.is_empty() {
            match send(self.stream.as_handle(), &[IoSlice::new(rest)], &[]) {
                Ok(count) => rest = &rest[count..],
                Err(_) => {
                    // A message that was cut short must be the last one. Fails if the other end is gone.
                    let _ = self.stream.shutdown(Shutdown::Both);
                    return Err(SendFailure::Disconnected);
                }
            }
        }
        Ok(())
    }
}

impl Drop for SenderSocket {
    fn drop(&mut self) {
        if !invalidation::are_ours() {
            return; // the lock may be held for ever
        }
        let mut sockets = lock(&*SOCKETS);
        let is_its = |it: &Weak<Self>| std::ptr::eq(it.as_ptr(), self);
        if sockets.get(&self.channel_id).is_some_and(is_its) {
            sockets.remove(&self.channel_id);
        }
    }
}

impl Drop for KeptSockets {
    fn drop(&mut self) {
        drop(KEPT.take());
    }
}
