//! [`Sender`]: the end of a channel that travels with a task.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use crate::channel::socket::{SendFailure, SenderSocket};
use crate::channel::state::Channel;
use crate::error::Error;
use crate::remote::payload::Payload;

/// The end of a [`channel`](crate::channel()) into which tasks send. It is a [`Payload`]: an argument of a task,
/// or a part of one. A clone sends into the same channel.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Sender, channel};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Job { name: String, log: Sender<String> }
///
/// fn work(job: Job) {
///     job.log.send(format!("{} has begun", job.name)).ok();
/// }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(2)?;
/// let (log, lines) = channel(100);
/// let jobs = ["this", "that"].map(|name| Job { name: name.into(), log: log.clone() });
/// drop(log); // the lines end with the jobs
/// let done = jobs.map(|job| pool.submit(work, job));
/// assert_eq!(lines.iter().count(), 2);
/// # done.into_iter().try_for_each(|it| it.result())
/// # }
/// ```
///
/// # In a worker process
/// Values are encoded, as arguments are. One that cannot be, or that has a [`Shared`](crate::Shared) or a `Sender`
/// inside, is [refused](SendError::Refused); threads send both. A sender that came to a worker process cannot
/// travel on, as an argument or as a result. A copy of the worker that a task has forked cannot send.
///
/// All senders of a channel in one worker share one socket. It is asked for when a task brings the first of them,
/// which takes some 50 us, and closed with the last of them. Where many small tasks send, let a map bring the
/// sender as its context ([`map_with_context`](crate::Executor::map_with_context)): then each worker asks
/// once. Items of a map that one worker takes together ask once for all, too.
///
/// # Serialisation
/// It can be serialised only as an argument of a process pool, of [`Process`](crate::Process), or of an
/// initializer. Anywhere else it is an error.
pub struct Sender<T>(
    /// Where it sends.
    pub(super) SenderKind<T>,
);

/// Where a sender sends.
pub(super) enum SenderKind<T> {
    /// Into a channel of this process. All clones share this.
    Local(Arc<LocalSender<T>>),
    /// Over a socket, into a channel of the program whose worker this process is.
    Remote(Arc<SenderSocket>),
}

/// All senders of a channel in the process that has made it: dropping this closes the channel for them.
pub(super) struct LocalSender<T>(
    /// The channel.
    pub(super) Arc<Channel<T>>,
);

/// Why a value was not sent. It gives the value back.
///
/// It does not travel: a task that ends with `sender.send(x)` drops what that returns, by a `;` or `drop`, or returns it
/// as words.
///
/// ```
/// use concurrent_futures::{Executor, ProcessPoolExecutor, SendError, Sender, channel};
///
/// fn count(to: Sender<u64>) -> Result<(), String> {
///     for n in 0.. {
///         to.send(n).map_err(|error| error.to_string())?; // ends once nobody listens
///     }
///     Ok(())
/// }
///
/// # fn main() -> Result<(), concurrent_futures::Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let (sender, numbers) = channel(10);
/// let counted = pool.submit(count, sender);
/// assert!(numbers.iter().take(3).map(Result::unwrap).eq(0..3));
/// drop(numbers);
/// assert_eq!(counted.result()?, Err(SendError::Disconnected(0).to_string()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The receiver is gone, or, in a worker, the program is.
    Disconnected(T),
    /// There is no room. Only [`try_send`](Sender::try_send) returns this.
    Full(T),
    /// The value cannot be encoded, or is too large: [`Error::Encode`], [`Error::TooLarge`]. Only in worker
    /// processes.
    Refused(T, Error),
}

impl<T: Payload> Sender<T> {
    /// Sends a value. Blocks until there is room. (`Queue.put`)
    ///
    /// A task that has nothing to do without its receiver stops at the error; one that only reports ignores it.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if the receiver is gone, [`SendError::Refused`] if the value cannot be
    /// encoded.
    ///
    /// # Panics
    /// If the `Serialize` implementation of the value panics, in a worker process.
    ///
    /// ```
    /// # use concurrent_futures::{SendError, channel};
    /// let (sender, receiver) = channel(1);
    /// sender.send(7)?;
    /// drop(receiver);
    /// assert_eq!(sender.send(8), Err(SendError::Disconnected(8)));
    /// # Ok::<(), SendError<u8>>(())
    /// ```
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match &self.0 {
            SenderKind::Local(local) => local.0.send(value),
            SenderKind::Remote(socket) => {
                let sent = socket.send(&value);
                sent.map_err(|failure| failure.of(value))
            }
        }
    }

    /// Sends a value if there is room. (`Queue.put_nowait`)
    ///
    /// In a worker process there is room as long as the socket takes more. A value of more than some 100 KB may
    /// wait all the same until the program has read it.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`SendError::Full`].
    ///
    /// # Panics
    /// As [`send`](Self::send) does.
    ///
    /// ```
    /// # use concurrent_futures::{SendError, channel};
    /// let (sender, _receiver) = channel(1);
    /// sender.try_send("a".to_owned())?;
    /// let refused = sender.try_send("b".to_owned()).unwrap_err();
    /// assert_eq!(refused, SendError::Full("b".to_owned()));
    /// assert_eq!(refused.into_inner(), "b");
    /// # Ok::<(), SendError<String>>(())
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        match &self.0 {
            SenderKind::Local(local) => local.0.try_send(value),
            SenderKind::Remote(socket) => {
                let sent = socket.try_send(&value);
                sent.map_err(|failure| failure.of(value))
            }
        }
    }
}

impl<T> Sender<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self(SenderKind::Local(Arc::new(LocalSender(channel))))
    }
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(value) | Self::Full(value) | Self::Refused(value, _) => value,
        }
    }
}

impl SendFailure {
    /// The error, with the value that was not sent.
    fn of<T>(self, value: T) -> SendError<T> {
        match self {
            Self::Disconnected => SendError::Disconnected(value),
            Self::Full => SendError::Full(value),
            Self::Refused(error) => SendError::Refused(value, error),
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            SenderKind::Local(local) => SenderKind::Local(Arc::clone(local)),
            SenderKind::Remote(socket) => SenderKind::Remote(Arc::clone(socket)),
        })
    }
}

impl<T> Drop for LocalSender<T> {
    fn drop(&mut self) {
        self.0.senders_gone();
    }
}

impl<T> fmt::Debug for Sender<T> {
    /// Shows the type of the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender<{}>", type_name::<T>())
    }
}

impl<T> fmt::Debug for SendError<T> {
    /// Does not show the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Refused(_, error) => write!(f, "Refused(.., {error:?})"),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("the receiver of the channel is gone"),
            Self::Full(_) => f.write_str("the channel is full"),
            Self::Refused(_, error) => write!(f, "the value cannot be sent: {error}"),
        }
    }
}

impl<T> std::error::Error for SendError<T> {}
