//! The callback thread runs user code for outcomes that another thread has collected and must not run it
//! itself: callbacks, wakers, and the `Drop` of values. A user's thread that waits must not, because that
//! code may itself wait for an outcome that only this user's thread can collect. `in_flight` sends the
//! messages.

use std::any::Any;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_channel::{Receiver, SendError, Sender, unbounded};

use crate::future::promise::DeferredCallbacks;
use crate::sync::deadline::Deadline;
use crate::sync::{
    Condvar, JoinHandle, Mutex, MutexGuard, ThreadId, lock, sleep_until, spawn, this_thread,
};
use crate::sys::stack;
use crate::task::results::ResultSink;
use crate::unwind;

/// A thread, from the first message on, on which user code runs: callbacks, wakers, and the `Drop` of values.
pub(crate) struct CallbackThread {
    /// The thread, and where its messages go.
    state: Mutex<State>,
    /// Notified when the thread has left.
    change: Condvar,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    /// Where the thread's messages go; `None` before the first, and after the last.
    sender: Option<Sender<Message>>,
    /// The thread, from its start until it is joined.
    thread: Option<JoinHandle<()>>,
    /// The thread's id, which is kept also after `thread` was taken to be joined.
    id: Option<ThreadId>,
    /// Whether the thread has left.
    has_left: bool,
}

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
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            change: Condvar::new(),
        })
    }

    /// Has the thread open a future with callbacks that wait for that.
    pub(crate) fn open(self: &Arc<Self>, future: Arc<dyn DeferredCallbacks>) {
        self.send(Message::Open(future));
    }

    pub(crate) fn wake(self: &Arc<Self>, waker: Waker) {
        self.send(Message::Wake(waker));
    }

    /// Has the thread drop values of users.
    pub(crate) fn discard(self: &Arc<Self>, values: Arc<dyn Any + Send + Sync>) {
        self.send(Message::Discard(values));
    }

    /// Releases the results of a chunk. The thread drops them if no thread is to read them any more, or if
    /// the caller has the last reference: the calling thread must not drop user values.
    pub(crate) fn discard_sink(self: &Arc<Self>, sink: Arc<dyn ResultSink>) {
        if sink.is_abandoned() || Arc::strong_count(&sink) == 1 {
            self.send(Message::DiscardSink(sink));
        }
    }

    fn send(self: &Arc<Self>, message: Message) {
        let mut state = self.lock();
        if state.id.is_none() {
            self.start(&mut state);
        }
        let refused = match &state.sender {
            Some(sender) => sender.send(message).err().map(SendError::into_inner),
            None => Some(message),
        };
        drop(state);
        // Without a thread (the system has no more, or the pool has ended), the calling thread does it now.
        if let Some(message) = refused {
            message.deliver();
        }
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        let (sender, messages) = unbounded();
        let me = Arc::clone(self);
        let name = "cf-callbacks".to_owned();
        if let Ok(thread) = spawn(name, Some(stack::size()), move || me.serve(&messages)) {
            state.id = Some(thread.thread().id());
            state.thread = Some(thread);
            state.sender = Some(sender);
        }
    }

    fn serve(&self, messages: &Receiver<Message>) {
        let _leaving = Leaving(self);
        messages.iter().for_each(Message::deliver);
    }

    /// Has the thread leave once it has handled the messages sent so far.
    pub(crate) fn end(&self) {
        drop(self.lock().sender.take());
    }

    /// Waits until the thread has left; `false` at the deadline. The thread does not wait for itself.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        let mut state = self.lock();
        if state.id == Some(this_thread()) {
            return true;
        }
        while state.id.is_some() && !state.has_left {
            if deadline.has_passed() {
                return false;
            }
            state = sleep_until(&self.change, state, deadline);
        }
        if let Some(thread) = state.thread.take() {
            drop(state);
            // Panics of user code are caught.
            let _ = thread.join();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Held by the thread as long as it runs. Dropping it, also after a panic, notes that the thread has left:
/// `join` waits for that.
struct Leaving<'a>(
    /// The callback thread that leaves.
    &'a CallbackThread,
);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.lock().has_left = true;
        self.0.change.notify_all();
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
    fn it_has_left_also_by_a_panic() {
        let callbacks = CallbackThread::new();
        callbacks.lock().id = spawn(String::new(), None, || ())
            .ok()
            .map(|thread| thread.thread().id());
        let left = unwind::catch(|| {
            let _leaving = Leaving(&callbacks);
            panic!("on purpose");
        });
        assert!(left.is_err());
        assert!(callbacks.join(soon()), "it has left");
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
}
