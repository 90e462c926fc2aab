//! [`Receiver`]: the end of a channel at which the program receives.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::channel::state::{Channel, QueuedValue};
use crate::error::{Error, PanicInfo};
use crate::remote::codec;
use crate::remote::payload::Payload;
use crate::sync::deadline::Deadline;
use crate::unwind;

/// The end of a [`channel`](crate::channel()) at which the program receives what tasks send. It stays in the
/// process that has made it. Threads may share it: each value goes to one of them.
///
/// It can be iterated, to the end of the channel; it can be awaited and polled by any async runtime. Dropping it
/// drops what was not received; what is sent from then on is an error for the sender, and tasks go on.
///
/// ```
/// # use concurrent_futures::{Executor, Sender, ThreadPoolExecutor, channel};
/// let pool = ThreadPoolExecutor::new(4)?;
/// let (sender, receiver) = channel(8);
/// let square = |(n, sender): (u64, Sender<u64>)| { sender.send(n * n).ok(); };
/// for n in 1..=4 {
///     let _ = pool.submit(square, (n, sender.clone()));
/// }
/// drop(sender);
/// assert_eq!(receiver.into_iter().sum::<Result<u64, _>>()?, 30);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub struct Receiver<T>(
    /// The channel.
    Arc<Channel<T>>,
);

/// Why no value was received.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Executor, RecvError, Sender, ThreadPoolExecutor, channel};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let (sender, answers) = channel(1);
/// let task = pool.submit(|sender: Sender<u32>| sender.send(42).is_ok(), sender);
/// loop {
///     match answers.recv_timeout(Duration::from_millis(50)) {
///         Ok(answer) => assert_eq!(answer, 42),
///         Err(RecvError::Empty) => println!("still waiting"),
///         Err(RecvError::Disconnected) => break, // the task is over
///         Err(error) => println!("one is lost: {error}"),
///     }
/// }
/// assert!(task.result()?);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// The channel is at its end: all values were received, and no sender is left.
    Disconnected,
    /// No value was there in time. [`recv`](Receiver::recv) does not return this.
    Empty,
    /// One value has come from a worker process and cannot be decoded: [`Error::Decode`], or
    /// [`Error::Panicked`] if its `Deserialize` implementation has panicked. More may follow.
    Refused(Error),
}

impl<T: Payload> Receiver<T> {
    /// Receives the next value. Blocks until there is one. (`Queue.get`)
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] at the end, [`RecvError::Refused`] for a value that cannot be decoded.
    ///
    /// ```
    /// # use concurrent_futures::{RecvError, SerialExecutor, channel};
    /// let (sender, receiver) = channel(1);
    /// let task = SerialExecutor::new().spawn(move || sender.send('x'));
    /// assert_eq!(receiver.recv(), Ok('x'));
    /// assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
    /// # task.result().unwrap().unwrap();
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(Deadline::never())
    }

    /// Receives the next value if one is there. (`Queue.get_nowait`)
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), and [`RecvError::Empty`].
    ///
    /// ```
    /// # use concurrent_futures::{RecvError, channel};
    /// let (sender, receiver) = channel(1);
    /// assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    /// sender.send(7)?;
    /// assert_eq!(receiver.try_recv(), Ok(7));
    /// # Ok::<(), concurrent_futures::SendError<u8>>(())
    /// ```
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Receives the next value; waits at most for `limit`. (`Queue.get(timeout)`)
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv), and [`RecvError::Empty`] if no value came in time.
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvError> {
        self.recv_until(Deadline::after(limit))
    }

    fn recv_until(&self, deadline: Deadline) -> Result<T, RecvError> {
        decoded(self.0.receive(deadline)?)
    }

    /// Receives the next value without blocking a thread; a future of what [`recv`](Self::recv) returns. Dropping
    /// it loses nothing.
    ///
    /// ```
    /// # use concurrent_futures::{RecvError, channel};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     match std::pin::pin!(future).poll(&mut context) {
    /// #         std::task::Poll::Ready(output) => output,
    /// #         std::task::Poll::Pending => panic!("it is there"),
    /// #     }
    /// # }
    /// # let (sender, receiver) = channel(1);
    /// # sender.send(7).unwrap();
    /// # block_on(async {
    /// assert_eq!(receiver.recv_async().await, Ok(7));
    /// # });
    /// ```
    pub fn recv_async(&self) -> impl Future<Output = Result<T, RecvError>> + Send + '_ {
        std::future::poll_fn(|context| self.poll_recv(context))
    }

    /// Receives the next value, or has the task of `context` woken when there is one, or the end.
    ///
    /// Every task that has polled is woken, and the first that polls again receives the value.
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Result<T, RecvError>> {
        self.0.poll(context).map(|value| decoded(value?))
    }

    /// Iterates over the values, to the end of the channel; blocks for each. An item is an error if the value
    /// cannot be decoded.
    ///
    /// ```
    /// # use concurrent_futures::channel;
    /// let (sender, receiver) = channel(9);
    /// (1..=3).try_for_each(|n| sender.send(n))?;
    /// drop(sender);
    /// assert!(receiver.iter().map(Result::unwrap).eq(1..=3));
    /// # Ok::<(), concurrent_futures::SendError<i32>>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> ReceiverIter<'_, T> {
        ReceiverIter(self)
    }

    /// Iterates over the values that are there; does not block.
    ///
    /// ```
    /// # use concurrent_futures::channel;
    /// let (sender, receiver) = channel(9);
    /// sender.send(5)?;
    /// assert_eq!(receiver.try_iter().count(), 1); // although there is a sender
    /// # Ok::<(), concurrent_futures::SendError<i32>>(())
    /// ```
    pub fn try_iter(&self) -> impl Iterator<Item = Result<T, Error>> + '_ {
        std::iter::from_fn(|| item(self.try_recv()))
    }
}

impl<T> Receiver<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Self {
        Self(channel)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The values of a channel that is only lent, from [`Receiver::iter`].
#[derive(Debug)]
pub struct ReceiverIter<'a, T>(
    /// The receiver.
    &'a Receiver<T>,
);

/// The values of a channel, from [`Receiver::into_iter`](IntoIterator::into_iter).
#[derive(Debug)]
pub struct ReceiverIntoIter<T>(
    /// The receiver.
    Receiver<T>,
);

impl<T: Payload> Iterator for ReceiverIter<'_, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        item(self.0.recv())
    }
}

impl<T: Payload> Iterator for ReceiverIntoIter<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        item(self.0.recv())
    }
}

impl<'a, T: Payload> IntoIterator for &'a Receiver<T> {
    type Item = Result<T, Error>;
    type IntoIter = ReceiverIter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Payload> IntoIterator for Receiver<T> {
    type Item = Result<T, Error>;
    type IntoIter = ReceiverIntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        ReceiverIntoIter(self)
    }
}

/// The item of an iterator; `None`: it ends.
fn item<T>(received: Result<T, RecvError>) -> Option<Result<T, Error>> {
    match received {
        Ok(value) => Some(Ok(value)),
        Err(RecvError::Refused(error)) => Some(Err(error)),
        Err(RecvError::Disconnected | RecvError::Empty) => None,
    }
}

/// Decodes a value, in the thread that receives it.
fn decoded<T: Payload>(value: QueuedValue<T>) -> Result<T, RecvError> {
    let outcome = match value {
        QueuedValue::Plain(value) => return Ok(value),
        QueuedValue::Encoded(bytes) => unwind::catch(|| codec::unpack_sent(bytes))
            .unwrap_or_else(|panic| Err(Error::Panicked(PanicInfo::new(panic, None, None)))),
        QueuedValue::Garbage => Err(Error::Decode(
            "a worker has sent something that is no value into a channel".into(),
        )),
    };
    outcome.map_err(RecvError::Refused)
}

impl<T> fmt::Debug for Receiver<T> {
    /// Shows the type of the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver<{}>", type_name::<T>())
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("no sender of the channel is left"),
            Self::Empty => f.write_str("the channel is empty"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}
