//! The callback thread runs user code for outcomes that another thread has collected and must not run it
//! itself: callbacks, wakers, and the `Drop` of values. A user's thread that waits must not, because that
//! code may itself wait for an outcome that only this user's thread can collect. `in_flight` sends the
//! messages.

use std::any::Any;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_channel::{SendError, Sender, unbounded};

use crate::future::promise::DeferredCallbacks;
use crate::service_thread::{Service, ServiceThread};
use crate::sync::deadline::Deadline;
use crate::task::results::ResultSink;
use crate::unwind;

/// A thread, from the first message on, on which user code runs: callbacks, wakers, and the `Drop` of values.
pub(crate) struct CallbackThread(
    /// The thread. Its orders are where its messages go: `None` before the first, and after the last.
    ServiceThread<Option<Sender<Message>>>,
);

/// What the thread is to do.
enum Message {
    /// Decode this future's outcome and run its callbacks.
    Open(Arc<dyn DeferredCallbacks>),
    /// Wake this async task.
    Wake(Waker),
    /// Drop these values of users.
    Discard(Arc<dyn Any + Send + Sync>),
    /// Drop these results of a map's chunk.
    DiscardSink(Arc<dyn ResultSink>),
}

impl CallbackThread {
    pub(crate) fn new() -> Self {
        Self(ServiceThread::new(None))
    }

    /// Has the thread open a future with callbacks that wait for that.
    pub(crate) fn open(&self, future: Arc<dyn DeferredCallbacks>) {
        self.send(Message::Open(future));
    }

    pub(crate) fn wake(&self, waker: Waker) {
        self.send(Message::Wake(waker));
    }

    /// Has the thread drop values of users.
    pub(crate) fn discard(&self, values: Arc<dyn Any + Send + Sync>) {
        self.send(Message::Discard(values));
    }

    /// Releases the results of a chunk. The thread drops them if no thread is to read them any more, or if
    /// the caller has the last reference: the calling thread must not drop user values.
    pub(crate) fn discard_sink(&self, sink: Arc<dyn ResultSink>) {
        if sink.is_abandoned() || Arc::strong_count(&sink) == 1 {
            self.send(Message::DiscardSink(sink));
        }
    }

    fn send(&self, message: Message) {
        let mut service = self.0.lock();
        if service.may_start() {
            self.start(&mut service);
        }
        let refused = match &service.orders {
            Some(sender) => sender.send(message).err().map(SendError::into_inner),
            None => Some(message),
        };
        drop(service);
        // Without a thread (the system has no more, or the pool has ended), the calling thread does it now.
        if let Some(message) = refused {
            message.deliver();
        }
    }

    fn start(&self, service: &mut Service<Option<Sender<Message>>>) {
        let (sender, messages) = unbounded();
        let serve = move |_: &_| messages.iter().for_each(Message::deliver);
        if self.0.start(service, "cf-callbacks", serve).is_ok() {
            service.orders = Some(sender);
        }
    }

    /// Has the thread leave once it has handled the messages sent so far.
    pub(crate) fn end(&self) {
        self.0.end();
        drop(self.0.lock().orders.take());
    }

    /// Whether the caller runs on the thread, in a callback or a waker.
    pub(crate) fn is_caller(&self) -> bool {
        self.0.is_caller()
    }

    /// Waits until the thread has left; `false`: the deadline has passed before.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        self.0.join(deadline)
    }
}

impl Message {
    fn deliver(self) {
        match self {
            Self::Open(future) => {
                // User code does not panic through here. A bug of this crate costs this future, and no other
                // message.
                unwind::call(|| future.open());
                // A detached value is dropped here, and its `Drop` is user code.
                unwind::discard(future);
            }
            Self::Wake(waker) => unwind::call(|| waker.wake()),
            Self::Discard(values) => unwind::discard(values),
            Self::DiscardSink(sink) => unwind::discard(sink),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A future that fails to open, which no real one does.
    struct Faulty(mpsc::Sender<()>);

    impl DeferredCallbacks for Faulty {
        fn open(&self) {
            let _ = self.0.send(());
            panic!("on purpose");
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn it_leaves_and_nothing_is_lost_whatever_a_future_does() {
        let callbacks = CallbackThread::new();
        let (tell, told) = mpsc::channel();
        for _ in 0..3 {
            callbacks.open(Arc::new(Faulty(tell.clone())));
        }
        callbacks.end();
        assert!(callbacks.join(soon()), "it has left");
        assert_eq!(told.try_iter().count(), 3);
    }

    #[test]
    fn after_its_end_the_sender_delivers_and_no_thread_starts() {
        let callbacks = CallbackThread::new();
        callbacks.end();
        let (tell, told) = mpsc::channel();
        callbacks.open(Arc::new(Faulty(tell)));
        assert_eq!(told.try_iter().count(), 1, "it was delivered here");
        assert!(callbacks.join(Deadline::never()), "there is none");
    }
}
