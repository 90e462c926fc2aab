//! The state of a channel: the values that wait, what keeps it open, and the threads and tasks that wait for
//! either. Used by `sender.rs`, `receiver.rs` and `reader.rs`.
//!
//! Its lock may be taken under any other, since a message may be dropped under any ([`MessageHold`]); nothing is
//! called under it but the condition variables and the event. Wakers are woken, and values dropped, without it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use crate::channel::inline;
use crate::channel::receiver::RecvError;
use crate::channel::registry::{self, ChannelId};
use crate::channel::sender::SendError;
use crate::channel::stream::WorkerStream;
use crate::service_thread::ServiceThread;
use crate::shared::attachments::OpenChannel;
use crate::sync::deadline::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, sleep_until};
use crate::sys::event::Event;
use crate::sys::fork::ForkEpoch;
use crate::unwind;

/// A channel. Its receiver owns it, and so do its senders in this process and messages that have such senders
/// inside.
pub(super) struct Channel<T> {
    /// The id by which workers ask for it.
    channel_id: ChannelId,
    /// How many values may wait, at least 1.
    capacity: usize,
    /// The values, and what keeps the channel open.
    state: Mutex<ChannelState<T>>,
    /// Notified when a value has come, and when none comes any more.
    arrival: Condvar,
    /// Notified when there is room, and when the receiver is gone.
    room: Condvar,
    /// The thread that reads what workers send, from the first message that has a sender inside.
    reader: ServiceThread<()>,
    /// Tells that thread to look at the state; empty until there is such a thread.
    event: OnceLock<Event>,
    /// The process that has made the channel.
    fork_epoch: ForkEpoch,
}

/// What the lock of a channel guards.
pub(super) struct ChannelState<T> {
    /// The values that wait, in the order in which they came.
    pub(super) values: VecDeque<QueuedValue<T>>,
    /// Whether the receiver exists.
    pub(super) has_receiver: bool,
    /// What keeps the channel open.
    pub(super) openings: Openings,
    /// Streams that the reader's thread has not taken yet.
    pub(super) new_streams: Vec<WorkerStream>,
    /// How many values are to be taken until the reader's thread, which has found no room, looks again; `None`: it
    /// has found room. Not one: the thread would be woken for each value. Not until there are few: senders in
    /// this process might always take the room first.
    pub(super) reader_looks_after: Option<usize>,
    /// To be woken when a value has come, and when none comes any more.
    pub(super) wakers: Vec<Waker>,
    /// The hold of the messages that have a sender inside, if there are any: one for all.
    hold: Weak<MessageHold<T>>,
}

/// What keeps a channel open: what can still send into it. It is closed once there is nothing of that.
#[derive(Default)]
pub(super) struct Openings {
    /// Whether there is a sender in this process.
    has_senders: bool,
    /// How many holds of messages there are.
    holds: usize,
    /// How many workers have a socket.
    pub(super) streams: usize,
}

/// A value that waits to be received.
pub(super) enum QueuedValue<T> {
    /// As a sender in this process has sent it.
    Plain(T),
    /// Encoded, from a worker.
    Encoded(Vec<u8>),
    /// A worker has sent something that is no value.
    Garbage,
}

/// Keeps a channel open for messages that have a sender inside.
struct MessageHold<T>(
    /// The channel.
    Arc<Channel<T>>,
);

impl<T> Channel<T> {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            channel_id: ChannelId::fresh(),
            capacity,
            state: Mutex::new(ChannelState {
                values: VecDeque::new(),
                has_receiver: true,
                openings: Openings {
                    has_senders: true,
                    ..Openings::default()
                },
                new_streams: Vec::new(),
                reader_looks_after: None,
                wakers: Vec::new(),
                hold: Weak::new(),
            }),
            arrival: Condvar::new(),
            room: Condvar::new(),
            reader: ServiceThread::new(()),
            event: OnceLock::new(),
            fork_epoch: ForkEpoch::here(),
        })
    }

    pub(super) fn id(&self) -> ChannelId {
        self.channel_id
    }

    // ---- senders -----------------------------------------------------------------------------

    /// Puts a value in, once there is room.
    pub(super) fn send(&self, value: T) -> Result<(), SendError<T>> {
        let Some(mut state) = self.lock() else {
            return Err(SendError::Disconnected(value));
        };
        while state.has_receiver && !self.admits(&state) {
            state = sleep_until(&self.room, state, Deadline::never());
        }
        self.put(state, value)
    }

    /// Puts a value in, if there is room.
    pub(super) fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let Some(state) = self.lock() else {
            return Err(SendError::Disconnected(value));
        };
        if state.has_receiver && !self.admits(&state) {
            return Err(SendError::Full(value));
        }
        self.put(state, value)
    }

    /// Whether a sender in this process may put a value in.
    fn admits(&self, state: &ChannelState<T>) -> bool {
        self.room_in(state) > 0 || inline::is_entered()
    }

    fn put(
        &self,
        mut state: MutexGuard<'_, ChannelState<T>>,
        value: T,
    ) -> Result<(), SendError<T>> {
        if !state.has_receiver {
            return Err(SendError::Disconnected(value));
        }
        state.values.push_back(QueuedValue::Plain(value));
        self.arrival.notify_one();
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wake_all(wakers);
        Ok(())
    }

    /// Notes that no sender is left in this process.
    pub(super) fn senders_gone(&self) {
        let Some(mut state) = self.lock() else {
            return;
        };
        state.openings.has_senders = false;
        let wakers = self.note_closing(&mut state);
        drop(state);
        wake_all(wakers);
    }

    /// If the channel is closed, says so to the threads that wait; returns the wakers, for the caller to wake
    /// once it has given up the lock.
    pub(super) fn note_closing(&self, state: &mut ChannelState<T>) -> Vec<Waker> {
        if state.openings.any() {
            return Vec::new();
        }
        self.arrival.notify_all();
        self.ring();
        std::mem::take(&mut state.wakers)
    }

    // ---- the receiver ------------------------------------------------------------------------

    /// Takes the next value; waits for one at most until the deadline.
    pub(super) fn receive(&self, deadline: Deadline) -> Result<QueuedValue<T>, RecvError> {
        let mut state = self.lock().ok_or(RecvError::Disconnected)?;
        loop {
            if let Some(next) = self.take_next(&mut state) {
                return next;
            }
            if deadline.has_passed() {
                return Err(RecvError::Empty);
            }
            state = sleep_until(&self.arrival, state, deadline);
        }
    }

    /// Takes the next value; if none is there, has the task of `context` woken when one is.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Result<QueuedValue<T>, RecvError>> {
        if let Poll::Ready(next) = self.look() {
            return Poll::Ready(next);
        }
        let waker = context.waker().clone(); // user code
        let Some(mut state) = self.lock() else {
            return Poll::Ready(Err(RecvError::Disconnected));
        };
        if let Some(next) = self.take_next(&mut state) {
            drop(state); // before the waker
            return Poll::Ready(next);
        }
        if state.wakers.iter().any(|known| known.will_wake(&waker)) {
            drop(state); // before the waker
            return Poll::Pending;
        }
        state.wakers.push(waker);
        Poll::Pending
    }

    /// Takes the next value, if one is there, or the channel is at its end.
    fn look(&self) -> Poll<Result<QueuedValue<T>, RecvError>> {
        let Some(mut state) = self.lock() else {
            return Poll::Ready(Err(RecvError::Disconnected));
        };
        self.take_next(&mut state)
            .map_or(Poll::Pending, Poll::Ready)
    }

    /// The next value, or the end; `None`: there is neither.
    fn take_next(&self, state: &mut ChannelState<T>) -> Option<Result<QueuedValue<T>, RecvError>> {
        let Some(value) = state.values.pop_front() else {
            return (!state.openings.any()).then_some(Err(RecvError::Disconnected));
        };
        if self.room_in(state) > 0 {
            self.room.notify_one();
        }
        state.reader_looks_after = match state.reader_looks_after {
            Some(0 | 1) => {
                self.ring();
                None
            }
            count => count.map(|count| count - 1),
        };
        Some(Ok(value))
    }

    /// Closes the channel for its receiver, which is gone: drops what waits, and refuses what comes. Joins the
    /// reader's thread.
    pub(super) fn close(&self) {
        let Some(mut state) = self.lock() else {
            return;
        };
        state.has_receiver = false;
        let values = std::mem::take(&mut state.values);
        let wakers = std::mem::take(&mut state.wakers);
        let new_streams = std::mem::take(&mut state.new_streams);
        self.room.notify_all();
        drop(state);
        registry::leave(self.channel_id);
        self.reader.end();
        self.ring();
        self.reader.join(Deadline::never());
        drop(new_streams);
        for value in values {
            unwind::discard(value);
        }
        for waker in wakers {
            unwind::discard(waker);
        }
    }

    // ---- for all -----------------------------------------------------------------------------

    /// How many values are taken while the reader's thread, which has found no room, does not look again.
    pub(super) fn half(&self) -> usize {
        self.capacity.div_ceil(2)
    }

    /// How many more values may be put in.
    pub(super) fn room_in(&self, state: &ChannelState<T>) -> usize {
        self.capacity.saturating_sub(state.values.len())
    }

    /// The state, locked; `None` in a forked copy of the process, where the lock may be held for ever.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, ChannelState<T>>> {
        (!self.fork_epoch.is_forked_copy()).then(|| lock(&self.state))
    }

    /// Notifies threads that wait for a value.
    pub(super) fn announce(&self) {
        self.arrival.notify_all();
    }

    /// The event of the reader's thread; `None`: there is no such thread.
    pub(super) fn event(&self) -> Option<&Event> {
        self.event.get()
    }

    /// Has the reader's thread, if there is one, look at the state.
    pub(super) fn ring(&self) {
        if let Some(event) = self.event() {
            event.set();
        }
    }
}

impl<T: Send + 'static> Channel<T> {
    /// Keeps the channel open for a message that has a sender inside, as long as the hold exists. The caller is
    /// such a sender.
    ///
    /// # Errors
    /// The reason why workers cannot be connected to the channel.
    pub(super) fn hold(self: &Arc<Self>) -> Result<Arc<dyn OpenChannel>, String> {
        let is_ours = !self.fork_epoch.is_forked_copy();
        is_ours.then(|| self.start_reader()).transpose()?;
        self.message_hold()
    }

    /// Makes the hold of messages, or finds it.
    pub(super) fn message_hold(self: &Arc<Self>) -> Result<Arc<dyn OpenChannel>, String> {
        let state = self.lock();
        let mut state = state.ok_or("a forked copy of the program has no workers")?;
        if let Some(hold) = state.hold.upgrade() {
            return Ok(hold);
        }
        let hold = Arc::new(MessageHold(Arc::clone(self)));
        state.openings.holds += 1;
        state.hold = Arc::downgrade(&hold);
        Ok(hold)
    }

    /// Starts the reader's thread, unless it has started, or the receiver is gone.
    fn start_reader(self: &Arc<Self>) -> Result<(), String> {
        let refused = |error| format!("what workers send cannot be received: {error}");
        let mut service = self.reader.lock();
        if !service.may_start() {
            return Ok(());
        }
        if self.event.get().is_none() {
            let event = Event::new().map_err(refused)?;
            // Set under the service's lock alone.
            let _ = self.event.set(event);
        }
        let channel = Arc::clone(self);
        let read = move |_: &_| channel.read_streams();
        self.reader
            .start(&mut service, "cf-channel", read)
            .map_err(refused)
    }
}

impl Openings {
    /// Whether there is any: the channel is open.
    pub(super) fn any(&self) -> bool {
        self.has_senders || self.holds > 0 || self.streams > 0
    }
}

impl<T: Send> OpenChannel for MessageHold<T> {}

impl<T> Drop for MessageHold<T> {
    /// Runs no user code: if this closes the channel, the reader's thread wakes the wakers.
    fn drop(&mut self) {
        let Some(mut state) = self.0.lock() else {
            return;
        };
        state.openings.holds -= 1;
        if !state.openings.any() {
            self.0.announce();
            self.0.ring();
        }
    }
}

/// Wakes tasks that wait for a value.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        unwind::call(|| waker.wake());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_reader_looks_again_although_senders_of_this_process_take_all_room() {
        let channel = Channel::new(4);
        let fill = |n: u8| while channel.try_send(n).is_ok() {};
        fill(0);
        let waits = || channel.lock().unwrap().reader_looks_after.is_some();
        channel.lock().unwrap().reader_looks_after = Some(channel.half());
        assert!(channel.receive(Deadline::never()).is_ok());
        fill(1);
        assert!(waits(), "it would be woken for each value");
        assert!(channel.receive(Deadline::never()).is_ok());
        fill(2);
        assert!(!waits());
    }
}
