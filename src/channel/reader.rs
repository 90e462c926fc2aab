//! The reader's thread of a channel: moves what workers send from their sockets to the channel, as long as there
//! is room. It runs no user code but wakers: values stay encoded.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use crate::channel::registry::Connect;
use crate::channel::state::{Channel, QueuedValue, wake_all};
use crate::channel::stream::{SentValue, WorkerStream};
use crate::sys::event::Event;
use crate::sys::handle::{AsHandle, BorrowedHandle};
use crate::sys::stream::{poll_any_readable, poll_readable_or_any_hung_up};

/// How many bytes are received at once.
const BUFFER: usize = 64 << 10;

/// What the reader's thread does next.
enum NextStep {
    /// It reads: there is room.
    Read,
    /// It waits for the event: there is no room. It reads what workers have left that have closed their sockets:
    /// however many tasks come and go meanwhile, no descriptors of theirs are kept.
    Wait,
    /// It leaves: the receiver is gone, or no worker can send any more.
    Leave,
}

impl<T: Send + 'static> Channel<T> {
    /// Main loop of the thread.
    pub(super) fn read_streams(&self) {
        let Some(event) = self.event() else {
            return; // it is set before the thread starts
        };
        let mut streams = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let (next_step, wakers) = self.move_values(&mut streams);
            wake_all(wakers);
            match next_step {
                NextStep::Read => read_some(event, &mut streams, &mut buffer, await_bytes),
                NextStep::Wait => read_some(event, &mut streams, &mut buffer, await_ends),
                NextStep::Leave => return,
            }
        }
    }

    /// Moves values that have come whole to the channel, as many as there is room for, one of each worker in
    /// turn. Returns the wakers to be woken, too.
    fn move_values(&self, streams: &mut Vec<WorkerStream>) -> (NextStep, Vec<Waker>) {
        let Some(mut state) = self.lock() else {
            return (NextStep::Leave, Vec::new());
        };
        streams.append(&mut state.new_streams);
        if !state.has_receiver {
            return (NextStep::Leave, Vec::new());
        }
        let before = state.values.len();
        let room = take_turns(streams, self.room_in(&state), &mut state.values);
        let count = streams.len();
        streams.retain(|stream| !stream.is_over());
        state.openings.streams -= count - streams.len();
        let looks_after = state.reader_looks_after.take();
        state.reader_looks_after = (room == 0).then(|| looks_after.unwrap_or(self.half()));
        let mut wakers = self.note_closing(&mut state);
        if state.values.len() > before {
            self.announce();
            wakers.append(&mut state.wakers);
        }
        let next_step = match room {
            _ if !state.openings.any() => NextStep::Leave,
            0 => NextStep::Wait,
            _ => NextStep::Read,
        };
        (next_step, wakers)
    }
}

/// Moves values from the streams to the queue, one of each in turn, at most `room`. Returns how much room is left.
fn take_turns<T>(
    streams: &mut [WorkerStream],
    mut room: usize,
    to: &mut VecDeque<QueuedValue<T>>,
) -> usize {
    loop {
        let before = room;
        for stream in &mut *streams {
            if room == 0 {
                return 0;
            }
            if let Some(value) = stream.next_value() {
                to.push_back(QueuedValue::from(value));
                room -= 1;
            }
        }
        if room == before {
            return room;
        }
    }
}

/// Waits until the event is set, or, as `wait` says, for some of the streams; receives some bytes of these.
fn read_some(
    event: &Event,
    streams: &mut [WorkerStream],
    buffer: &mut [u8],
    wait: impl FnOnce(&Event, &[BorrowedHandle<'_>]) -> io::Result<Vec<bool>>,
) {
    let is_live = |stream: &&mut WorkerStream| stream.descriptor().is_some();
    let live: Vec<_> = streams.iter_mut().filter(is_live).collect();
    let polled: Vec<_> = live.iter().filter_map(|it| it.descriptor()).collect();
    let ready = wait(event, &polled);
    drop(polled);
    let Ok(ready) = ready else {
        // The system refuses to wait for so many: these are given up, the event alone can be waited for.
        return live.into_iter().for_each(WorkerStream::give_up);
    };
    event.clear();
    for (stream, is_ready) in live.into_iter().zip(ready.into_iter().skip(1)) {
        if is_ready {
            stream.receive(buffer);
        }
    }
}

/// Waits until the event is set, or bytes have come, or a stream has ended. Returns which of these, the event first.
fn await_bytes(event: &Event, streams: &[BorrowedHandle<'_>]) -> io::Result<Vec<bool>> {
    let polled: Vec<_> = [event.as_handle()]
        .into_iter()
        .chain(streams.iter().copied())
        .collect();
    poll_any_readable(&polled)
}

/// Waits until the event is set, or a worker has closed its end of a stream. Returns which of these, the event first.
fn await_ends(event: &Event, streams: &[BorrowedHandle<'_>]) -> io::Result<Vec<bool>> {
    poll_readable_or_any_hung_up(event.as_handle(), streams)
}

impl<T: Send + 'static> Connect for Channel<T> {
    fn connect(&self, stream: WorkerStream) {
        let Some(mut state) = self.lock() else {
            return;
        };
        if state.has_receiver && state.openings.any() {
            state.openings.streams += 1;
            state.new_streams.push(stream);
            self.ring();
        }
    }
}

impl<T> From<SentValue> for QueuedValue<T> {
    fn from(value: SentValue) -> Self {
        match value {
            SentValue::Encoded(bytes) => Self::Encoded(bytes),
            SentValue::Garbage => Self::Garbage,
        }
    }
}
