//! Runs the callbacks of futures whose outcomes were brought in by somebody who must not.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::batch::Answers;
use crate::future::Open;
use crate::unwind;

/// A thread, from the first message on, on which user code runs: callbacks and wakers.
pub(crate) struct Herald {
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
    Open(Arc<dyn Open>),
    /// Wake this task.
    Wake(Waker),
    /// Drop these.
    Discard(Arc<dyn Any + Send + Sync>),
    /// Drop these.
    DiscardAnswers(Arc<dyn Answers>),
}

impl Herald {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            change: Condvar::new(),
        })
    }

    /// Has a future looked at, whose callbacks wait for that.
    pub(crate) fn open(self: &Arc<Self>, future: Arc<dyn Open>) {
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
    pub(crate) fn discard_answers(self: &Arc<Self>, answers: Arc<dyn Answers>) {
        if answers.is_abandoned() || Arc::strong_count(&answers) == 1 {
            self.send(Message::DiscardAnswers(answers));
        }
    }

    fn send(self: &Arc<Self>, message: Message) {
        let mut state = self.lock();
        if state.id.is_none() {
            self.start(&mut state);
        }
        match &state.sender {
            // The thread receives until the sender is gone.
            Some(sender) => drop(sender.send(message)),
            None => {
                drop(state);
                // Without a thread (the system has no more, or the pool has ended): here and now.
                message.deliver();
            }
        }
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        let (sender, messages) = unbounded();
        let me = Arc::clone(self);
        let name = "callback herald".to_owned();
        if let Ok(thread) = thread::Builder::new()
            .name(name)
            .spawn(move || me.serve(&messages))
        {
            state.id = Some(thread.thread().id());
            state.thread = Some(thread);
            state.sender = Some(sender);
        }
    }

    fn serve(&self, messages: &Receiver<Message>) {
        messages.iter().for_each(Message::deliver);
        self.lock().has_left = true;
        self.change.notify_all();
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

impl Message {
    fn deliver(self) {
        match self {
            Self::Open(future) => {
                future.open();
                // A detached value is dropped here, and its `Drop` is user code.
                unwind::discard(future);
            }
            Self::Wake(waker) => unwind::call(|| waker.wake()),
            Self::Discard(values) => unwind::discard(values),
            Self::DiscardAnswers(answers) => unwind::discard(answers),
        }
    }
}
