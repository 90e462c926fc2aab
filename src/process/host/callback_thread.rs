//! Runs the callbacks of futures whose outcomes were brought in by somebody who must not.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, SendError, Sender, unbounded};

use crate::future::DeferredCallbacks;
use crate::sys::stack;
use crate::task::results::ResultSink;
use crate::unwind;

/// A thread, from the first message on, on which user code runs: callbacks and wakers.
pub(crate) struct CallbackThread {
    /// How far it has come.
    state: Mutex<State>,
    /// Notified when it has left.
    change: Condvar,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    /// Where its messages go; `None` before the first, and after the last.
    sender: Option<Sender<Message>>,
    /// The thread.
    thread: Option<JoinHandle<()>>,
    /// Which it is; known for longer.
    id: Option<ThreadId>,
    /// Whether it has left.
    has_left: bool,
}

/// What is to be done.
enum Message {
    /// Look at this future.
    Open(Arc<dyn DeferredCallbacks>),
    /// Wake this task.
    Wake(Waker),
    /// Drop these.
    Discard(Arc<dyn Any + Send + Sync>),
    /// Drop these.
    DiscardAnswers(Arc<dyn ResultSink>),
}

impl CallbackThread {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            change: Condvar::new(),
        })
    }

    /// Has a future looked at, whose callbacks wait for that.
    pub(crate) fn open(self: &Arc<Self>, future: Arc<dyn DeferredCallbacks>) {
        self.send(Message::Open(future));
    }

    pub(crate) fn wake(self: &Arc<Self>, waker: Waker) {
        self.send(Message::Wake(waker));
    }

    /// Has values of users dropped.
    pub(crate) fn discard(self: &Arc<Self>, values: Arc<dyn Any + Send + Sync>) {
        self.send(Message::Discard(values));
    }

    /// Lets go of outcomes; if nobody is to read them any more, not on the calling thread, which may be
    /// the last that has them.
    pub(crate) fn discard_sink(self: &Arc<Self>, sink: Arc<dyn ResultSink>) {
        if sink.is_abandoned() || Arc::strong_count(&sink) == 1 {
            self.send(Message::DiscardAnswers(sink));
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
        // Without a thread (the system has no more, or the pool has ended): here and now.
        if let Some(message) = refused {
            message.deliver();
        }
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        let (sender, messages) = unbounded();
        let me = Arc::clone(self);
        let name = "callback herald".to_owned();
        let builder = thread::Builder::new().name(name);
        let builder = builder.stack_size(stack::size());
        if let Ok(thread) = builder.spawn(move || me.serve(&messages)) {
            state.id = Some(thread.thread().id());
            state.thread = Some(thread);
            state.sender = Some(sender);
        }
    }

    fn serve(&self, messages: &Receiver<Message>) {
        let _leaving = Leaving(self);
        messages.iter().for_each(Message::deliver);
    }

    /// Has it leave after what it was told.
    pub(crate) fn end(&self) {
        drop(self.lock().sender.take());
    }

    /// Waits until it has left; `false` at the deadline. It does not wait for itself.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        if state.id == Some(thread::current().id()) {
            return true;
        }
        while state.id.is_some() && !state.has_left {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                None => {
                    let slept = self.change.wait(state);
                    slept.unwrap_or_else(PoisonError::into_inner)
                }
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    let slept = self.change.wait_timeout(state, left);
                    slept.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if let Some(thread) = state.thread.take() {
            drop(state);
            // What user code panics with is caught.
            let _ = thread.join();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's stay. Dropping it, also in a panic, says that the thread has left: `join` waits for that.
struct Leaving<'a>(
    /// The thread's herald.
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
                // No user code panics here; a bug of ours costs this future, and no other message.
                unwind::call(|| future.open());
                // A detached value is dropped here, and its `Drop` is user code.
                unwind::discard(future);
            }
            Self::Wake(waker) => unwind::call(|| waker.wake()),
            Self::Discard(values) => unwind::discard(values),
            Self::DiscardAnswers(sink) => unwind::discard(sink),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// What fails to open, which no future does.
    struct Faulty(mpsc::Sender<()>);

    impl DeferredCallbacks for Faulty {
        fn open(&self) {
            let _ = self.0.send(());
            panic!("on purpose");
        }
    }

    fn soon() -> Option<Instant> {
        Instant::now().checked_add(Duration::from_secs(10))
    }

    #[test]
    fn it_has_left_also_by_a_panic() {
        let callbacks = CallbackThread::new();
        callbacks.lock().id = Some(thread::spawn(|| ()).thread().id());
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
