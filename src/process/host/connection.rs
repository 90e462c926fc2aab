//! The program's end of the connection to one worker: tasks go out, outcomes come in, and the process behind
//! it is ended when the connection is dropped.
//!
//! Made by `spawn`; used by supervisors, by `pipeline` for chunks, and by `Process`. It relies on
//! [`FramedStream`] for frames and on [`ChildProcess`] for the process. What a worker sends is never trusted:
//! whatever is out of turn, too long or garbled is a [`Disconnect::ProtocolViolation`].

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::channel::{self, registry::ChannelId};
use crate::clock::Pauses;
use crate::process::host::child::{ChildProcess, Signal, WaitThread};
use crate::process::host::lines::WorkerLines;
use crate::process::host::stdio::{Captured, Pipe};
use crate::process::shm::queue::SlotRef;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::BlockRef;
use crate::shared::attachments::Attachments;
use crate::shared::region::RegionId;
use crate::shared::registry;
use crate::sync::deadline::Deadline;
use crate::sys;
use crate::sys::child::ProcessEnd;
use crate::sys::handle::{AsHandle, BorrowedHandle};
use crate::task::request::Request;
use crate::transport::fault::Fault;
use crate::transport::framed::{FramedStream, Received};
use crate::transport::wire::{self, Header, Kind};

/// The program's end of the connection to one worker. Dropping it kills the worker and reaps it.
pub(crate) struct Connection {
    /// Frames to and from the worker.
    stream: FramedStream,
    /// The worker's process.
    child: Arc<ChildProcess>,
    /// The thread that waits for the process; `None` once the process has ended and this thread was joined,
    /// or was left to itself.
    wait_thread: Option<WaitThread>,
    /// How many tasks were sent. Their numbers, from 0, identify them in frames.
    sent: u64,
    /// How many outcomes were received.
    received: u64,
    /// The number of the first task that was not delivered whole, because the worker was gone; `None`: all
    /// were.
    undelivered: Option<u64>,
    /// Whether the worker has left a task unread for as long as it may run.
    unread: bool,
    /// The body of the last outcome, if that was not taken out; kept to receive the next one.
    body: Vec<u8>,
    /// The shared memory that came with the last outcome.
    brought: Attachments,
    /// How many bytes a result may have.
    payload_limit: u64,
    /// What the worker prints, where that is captured.
    output: Option<Captured>,
    /// What the worker prints, where that is told line by line.
    lines: Option<WorkerLines>,
}

/// The outcome of a task, as the worker reports it.
pub(crate) enum Response<'a> {
    /// The encoded result, together with the shared memory that came with it.
    Value(Encoded),
    /// The encoded reference to the block of the result, as the worker says.
    Stored(&'a [u8]),
    /// Why there is no result.
    Fault(Fault),
}

/// What a worker sends that claims tasks by itself.
pub(crate) enum WorkerMessage {
    /// It has claimed a rendezvous in that slot, and asks for the work.
    Claim(SlotRef),
    /// The outcome of the task in that slot: its encoded result, or why there is none.
    Outcome(SlotRef, Result<Encoded, Fault>),
    /// It has found something in shared memory that makes no sense.
    Alarm,
}

/// Why the program stops talking to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disconnect {
    /// The worker, or its end of the connection, is gone.
    Gone,
    /// The worker is gone, and never read the one task that was sent.
    Unread,
    /// The task ran into its time limit.
    Late,
    /// The task was killed.
    Killed,
    /// All workers are being ended.
    Stopped,
    /// The worker did something that it must not do; what that was.
    ProtocolViolation(&'static str),
}

/// How long a worker that was told to leave may take.
pub(crate) const LEAVING: Duration = Duration::from_secs(10);

/// How many bytes a socket takes without waiting for its reader.
pub(crate) const SEND_BUFFER: usize = 32 << 10;

/// A buffer for results that has more bytes than this is not kept for the next.
const KEPT: usize = 1 << 20;

impl Connection {
    /// Makes a connection that refuses results of more than `payload_limit` bytes. If there is no `wait_thread`,
    /// the process has ended.
    pub(crate) fn new(
        stream: FramedStream,
        process: Arc<ChildProcess>,
        wait_thread: impl Into<Option<WaitThread>>,
        payload_limit: u64,
    ) -> Self {
        Self {
            stream,
            child: process,
            wait_thread: wait_thread.into(),
            sent: 0,
            received: 0,
            undelivered: None,
            unread: false,
            body: Vec::new(),
            brought: Attachments::default(),
            payload_limit,
            output: None,
            lines: None,
        }
    }

    /// Keeps the capture of what the worker prints, and what is told of it line by line.
    pub(crate) fn keep_output(&mut self, output: Option<Captured>, lines: Option<WorkerLines>) {
        self.output = output;
        self.lines = lines;
    }

    /// The capture of what the worker prints; `None`: it is not captured.
    pub(crate) fn output(&self) -> Option<&Captured> {
        self.output.as_ref()
    }

    /// What the worker prints and is told line by line; `None`: nothing is.
    pub(crate) fn lines(&self) -> Option<&WorkerLines> {
        self.lines.as_ref()
    }

    /// The descriptors that are readable when the worker has printed what must be read while it prints: that of
    /// the capture, and those that are told line by line.
    pub(super) fn printed(&self) -> [Option<BorrowedHandle<'_>>; 4] {
        let captured = self.output().and_then(Captured::pipe);
        let lines = self.lines().map(WorkerLines::readable);
        let [first, second, third] = lines.unwrap_or_default();
        [captured.and_then(Pipe::readable), first, second, third]
    }

    /// Reads some of what the worker has printed, where that is readable.
    pub(super) fn read_printed(&self, [captured, lines @ ..]: [bool; 4]) {
        if let (true, Some(pipe)) = (captured, self.output().and_then(Captured::pipe)) {
            pipe.read();
        }
        if let Some(of_worker) = self.lines() {
            of_worker.read(lines);
        }
    }

    pub(crate) fn stream(&self) -> &FramedStream {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut FramedStream {
        &mut self.stream
    }

    pub(crate) fn process(&self) -> &Arc<ChildProcess> {
        &self.child
    }

    /// Sends tasks in this order, to a worker that may read nothing for `limit` at most. After that,
    /// `receive` says that it is late. There is no such limit for what fits into the socket's buffer.
    pub(crate) fn send_within(&mut self, limit: Option<Duration>, requests: &[&Request]) {
        let bytes: usize = requests.iter().map(|request| length(request)).sum();
        let limit = limit.filter(|_| bytes > SEND_BUFFER);
        if let Some(limit) = limit {
            // Zero would mean no limit.
            let limit = limit.max(Duration::from_micros(1));
            let _ = self.stream.stream().set_write_timeout(Some(limit));
        }
        self.send(requests);
        if limit.is_some() {
            let _ = self.stream.stream().set_write_timeout(None);
        }
    }

    /// Sends tasks in this order. If the worker is gone, `receive` says so, after it has returned the
    /// outcomes that the worker had finished.
    pub(crate) fn send(&mut self, requests: &[&Request]) {
        let heads: Vec<_> = requests
            .iter()
            .zip(self.sent..)
            .map(|(request, number)| head(request, number))
            .collect();
        let locations: Vec<_> = requests.iter().map(|request| location(request)).collect();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * requests.len());
        for ((head, request), location) in heads.iter().zip(requests).zip(&locations) {
            parts.push(head);
            match location {
                Some(location) => parts.push(location),
                None => parts.push(&request.argument),
            }
        }
        let mut count = 0;
        let first = self.sent;
        self.sent += requests.len() as u64;
        if let Err(error) = self.stream.send_counting(&parts, &[], &mut count) {
            self.unread = is_late(&error);
            // Whole frames may have been read; a frame that was cut short was not.
            let mut whole = 0;
            for (head, request) in heads.iter().zip(requests) {
                match count.checked_sub(head.len() + length(request)) {
                    Some(rest) => count = rest,
                    None => break,
                }
                whole += 1;
            }
            let undelivered = first + whole;
            self.undelivered = Some(self.undelivered.unwrap_or(undelivered));
        }
    }

    /// The reason for a worker that is gone: it depends on whether the worker can have begun the oldest task
    /// that has no outcome.
    fn gone(&self) -> Disconnect {
        match self.undelivered {
            Some(undelivered) if undelivered <= self.received => Disconnect::Unread,
            _ => Disconnect::Gone,
        }
    }

    /// The reason for a worker that is gone and left unread what was sent last: if that is a single task, it
    /// never began; of several tasks, it may have begun the first.
    fn gone_unread(&self) -> Disconnect {
        if self.sent == self.received + 1 {
            Disconnect::Unread
        } else {
            self.gone()
        }
    }

    /// Blocks for the outcome of the oldest task that has none, at most until the deadline. The deadline is
    /// put off by as long as the worker stops the task's clock.
    pub(crate) fn receive(&mut self, deadline: Deadline) -> Result<Response<'_>, Disconnect> {
        if self.unread {
            return Err(Disconnect::Late);
        }
        let header = self.receive_outcome_s(deadline)?;
        let limit = match header.kind {
            Kind::Value => self.payload_limit,
            Kind::StoredValue => BlockRef::SIZE as u64,
            Kind::Fault => wire::MAX_CONTROL,
            _ => {
                return Err(Disconnect::ProtocolViolation(
                    "it sent what only comes before tasks",
                ));
            }
        };
        if header.length > limit {
            return Err(Disconnect::ProtocolViolation(
                "it announced more bytes than it may send",
            ));
        }
        if self.body.capacity() > KEPT {
            self.body = Vec::new();
        }
        if let Err(error) = self.stream.receive_body(header.length, &mut self.body) {
            return Err(self.broken(&error));
        }
        self.received += 1;
        match header.kind {
            Kind::Value => {
                let value = Encoded::take(&mut self.body);
                Ok(Response::Value(value.naming(self.take_brought())))
            }
            Kind::StoredValue => Ok(Response::Stored(&self.body)),
            _ => match Fault::from_body(&self.body) {
                Some(fault) => Ok(Response::Fault(fault)),
                None => Err(Disconnect::ProtocolViolation(
                    "its report on a task is garbled",
                )),
            },
        }
    }

    /// Receives the header of the outcome of the oldest task that has none.
    fn receive_outcome_s(&mut self, deadline: Deadline) -> Result<Header, Disconnect> {
        let mut pauses = Pauses::default();
        loop {
            let end = deadline.later_by(pauses.delay());
            self.stream.give_up_at(end);
            let header = self.receive_header()?;
            if header.task != self.received {
                return Err(Disconnect::ProtocolViolation(
                    "it answered a task that it was not given",
                ));
            }
            match (header.kind, header.length) {
                (Kind::Stop, 0) => pauses.begin(Instant::now()),
                (Kind::GoOn, 0) => pauses.end(Instant::now()),
                _ => return Ok(header),
            }
            // A worker that never ceases to send such frames is late, too.
            if end.has_passed() {
                return Err(Disconnect::Late);
            }
        }
    }

    /// Blocks for the next message of a worker that claims tasks by itself.
    pub(crate) fn recv_message(&mut self) -> Result<WorkerMessage, Disconnect> {
        self.stream.give_up_at(Deadline::never());
        let header = self.receive_header()?;
        let place = SlotRef::from_number(header.task);
        let limit = match header.kind {
            Kind::Claim | Kind::Alarm => 0,
            Kind::LargeValue => self.payload_limit,
            Kind::LargeFault => wire::MAX_CONTROL,
            _ => {
                return Err(Disconnect::ProtocolViolation(
                    "it sent what only comes when it is asked",
                ));
            }
        };
        if header.length > limit {
            return Err(Disconnect::ProtocolViolation(
                "it announced more bytes than it may send",
            ));
        }
        let mut body = Vec::new();
        if let Err(error) = self.stream.receive_body(header.length, &mut body) {
            return Err(self.broken(&error));
        }
        match header.kind {
            Kind::Claim => Ok(WorkerMessage::Claim(place)),
            Kind::Alarm => Ok(WorkerMessage::Alarm),
            Kind::LargeValue => {
                let value = Encoded::from(body).naming(self.take_brought());
                Ok(WorkerMessage::Outcome(place, Ok(value)))
            }
            _ => match Fault::from_body(&body) {
                Some(fault) => Ok(WorkerMessage::Outcome(place, Err(fault))),
                None => Err(Disconnect::ProtocolViolation(
                    "its report on a task is garbled",
                )),
            },
        }
    }

    /// Receives the next header that is not of shared memory. Shared memory that comes before it is taken in,
    /// and what the worker asks for is sent.
    fn receive_header(&mut self) -> Result<Header, Disconnect> {
        self.brought = Attachments::default();
        loop {
            if let Err(error) = self.read_output() {
                return Err(self.broken(&error));
            }
            let header = match self.stream.receive_header() {
                Ok(Received::Some(header)) => header,
                Ok(Received::Closed) => return Err(self.gone()),
                Err(error) => return Err(self.broken(&error)),
            };
            match header.kind {
                Kind::Memory => self.take_in(header)?,
                Kind::RegionRequest | Kind::ChannelRequest => self.receive_request(header)?,
                _ => return Ok(header),
            }
            // A worker that never ceases to send such frames is late, too.
            if self.stream.deadline().has_passed() {
                return Err(Disconnect::Late);
            }
        }
    }

    /// Reads what the worker prints, until the worker sends a frame: otherwise it would wait for room to
    /// print.
    fn read_output(&self) -> io::Result<()> {
        if self.lines.is_none() && self.output().and_then(Captured::pipe).is_none() {
            return Ok(());
        }
        while !self.stream.has_buffered() {
            let [captured, first, second, third] = self.printed();
            let stream = Some(self.stream.stream().as_handle());
            let polled = [stream, captured, first, second, third];
            match sys::stream::poll_readable(polled, self.stream.deadline().moment())? {
                [true, ..] => break,
                // Also of a worker that never ceases to print: it is late, too.
                _ if self.stream.deadline().has_passed() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                [false, printed @ ..] => self.read_printed(printed),
            }
        }
        Ok(())
    }

    /// Takes in shared memory that the worker passes. A region that is not what it should be, or cannot be
    /// mapped here, is left out: decoding a reference to it fails.
    fn take_in(&mut self, header: Header) -> Result<(), Disconnect> {
        /// The bytes of the longest body.
        const MOST: u64 = (sys::stream::MAX_PASSED * size_of::<u64>()) as u64;

        if header.length > MOST || !self.brought.is_empty() {
            return Err(Disconnect::ProtocolViolation(
                "it sent more shared memory than it may",
            ));
        }
        let passed = self.stream.take_passed();
        let mut ids = Vec::new();
        if let Err(error) = self.stream.receive_body(header.length, &mut ids) {
            return Err(self.broken(&error));
        }
        let ids = ids.chunks_exact(size_of::<u64>());
        for (id, memory) in ids.flat_map(<[u8; 8]>::try_from).zip(passed) {
            if let Some(resident) = registry::take_in(memory, u64::from_le_bytes(id)) {
                self.brought.add(&resident);
            }
        }
        Ok(())
    }

    /// Receives the rest of a request for shared memory, or for a channel, and answers it.
    fn receive_request(&mut self, header: Header) -> Result<(), Disconnect> {
        const { assert!(RegionId::SIZE == ChannelId::SIZE) };
        if header.length != RegionId::SIZE as u64 {
            return Err(Disconnect::ProtocolViolation("its request is garbled"));
        }
        let mut body = Vec::new();
        if let Err(error) = self.stream.receive_body(header.length, &mut body) {
            return Err(self.broken(&error));
        }
        match self.answer(header.kind, &body) {
            Ok(()) => Ok(()),
            Err(error) if is_late(&error) && !self.stream.deadline().has_passed() => Err(
                Disconnect::ProtocolViolation("it did not read what it asked for"),
            ),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Answers a request of that kind, for shared memory or for a channel; `body` is that of the request.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if the worker does not read; `InvalidData` if the body is garbled.
    pub(super) fn answer(&self, request: Kind, body: &[u8]) -> io::Result<()> {
        match request {
            Kind::ChannelRequest => self.send_channel(body),
            _ => self.send_region(body),
        }
    }

    /// Sends the region that a worker asks for, if this process has it.
    fn send_region(&self, body: &[u8]) -> io::Result<()> {
        let id = <[u8; RegionId::SIZE]>::try_from(body);
        let id = id.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let resident = registry::find(RegionId::from_bytes(id));
        let memory = resident.as_ref().and_then(|it| it.region().descriptor());
        self.send_descriptor(Kind::Region, memory)
    }

    /// Sends a socket of the channel that a worker asks for, if this process has made it and has a descriptor.
    fn send_channel(&self, body: &[u8]) -> io::Result<()> {
        let id = ChannelId::from_bytes(body);
        let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let socket = channel::registry::connect(id, self.payload_limit);
        let socket = socket.ok().flatten();
        self.send_descriptor(Kind::Channel, socket.as_ref().map(AsHandle::as_handle))
    }

    /// Sends a descriptor, or that there is none, as an answer of this kind. A worker waits for the answer, so it
    /// reads; one that does not is waited for no longer than until the deadline, or for [`LEAVING`].
    fn send_descriptor(
        &self,
        kind: Kind,
        descriptor: Option<BorrowedHandle<'_>>,
    ) -> io::Result<()> {
        let answer = wire::frame(kind, &[]);
        let left = self
            .stream
            .deadline()
            .left()
            .map_or(LEAVING, |left| left.min(LEAVING));
        // Zero would mean no limit.
        let limit = left.max(Duration::from_micros(1));
        let stream = self.stream.stream();
        stream.set_write_timeout(Some(limit))?;
        let sent = self.stream.send_with(&[&answer], descriptor.as_slice());
        stream.set_write_timeout(None)?;
        sent
    }

    /// Takes out the shared memory that came with the last outcome, for the caller to keep.
    pub(crate) fn take_brought(&mut self) -> Attachments {
        std::mem::take(&mut self.brought)
    }

    /// Sends the worker back to claiming tasks by itself. If it is gone, `recv_message` says so.
    pub(crate) fn resume(&self) {
        let _ = self.stream.send(&[&wire::frame(Kind::Resume, &[])]);
    }

    fn broken(&self, error: &io::Error) -> Disconnect {
        match error.kind() {
            io::ErrorKind::InvalidData => Disconnect::ProtocolViolation("it sent garbage"),
            // Linux reports this when the other side closed with bytes of ours unread.
            io::ErrorKind::ConnectionReset => self.gone_unread(),
            _ if is_late(error) => Disconnect::Late,
            _ => self.gone(),
        }
    }

    /// How many outcomes were received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes of memory are kept for outcomes.
    #[cfg(all(any(test, fuzzing), not(loom)))]
    pub(crate) fn kept(&self) -> usize {
        self.body.capacity()
    }

    /// Lets the worker leave: it finishes nothing more, and exits by itself.
    pub(crate) fn half_close(&self) {
        // Fails only if the worker is gone already.
        let _ = self.stream.stream().shutdown(Shutdown::Write);
    }

    /// Lets the worker leave, and waits until it was reaped. Kills it after [`LEAVING`].
    pub(crate) fn close(mut self) -> ProcessEnd {
        self.half_close();
        // No thread reads what is captured of it from now on: it must not wait for that.
        self.output = None;
        let deadline = Deadline::after(LEAVING);
        self.read_to_end(deadline);
        let end = self.child.wait_or_kill(deadline.left().unwrap_or(LEAVING));
        self.join_wait_thread();
        if let Some(lines) = &self.lines {
            lines.finish();
        }
        end
    }

    /// Reads what a worker prints line by line, and what it sends, while it leaves, until its end of the connection
    /// is closed, or until the deadline: it must not wait for room. What it sends is of no use any more.
    fn read_to_end(&self, deadline: Deadline) {
        let stream = self.stream.stream().as_handle();
        while !deadline.has_passed() {
            let lines = self.lines.as_ref().map(WorkerLines::readable);
            let [first, second, third] = lines.unwrap_or_default();
            let polled = [Some(stream), first, second, third];
            match sys::stream::poll_readable(polled, deadline.moment()) {
                Ok([false, false, false, false]) | Err(_) => return,
                Ok([_, first, second, third]) if first || second || third => {
                    self.read_printed([false, first, second, third]);
                }
                Ok(_) => match sys::stream::receive(stream, &mut [0; 4096]) {
                    Ok((0, _)) | Err(_) => return,
                    Ok(_) => {}
                },
            }
        }
    }

    /// Kills the worker, unless it has ended, and waits until it was reaped. Tells the lines that it has printed.
    pub(crate) fn kill_and_reap(&mut self) -> ProcessEnd {
        self.child.kill();
        let end = self.child.wait();
        self.join_wait_thread();
        if let Some(lines) = &self.lines {
            lines.finish();
        }
        end
    }

    /// At the time limit of the task that the worker runs: asks it to stop, if it has a grace, and waits for
    /// its outcome, which does not count any more, until the end of that.
    pub(crate) fn await_stop(&mut self) {
        if let Some(deadline) = self.child.ask_to_stop() {
            // A worker leaves once its outcome was read.
            let _ = self.receive(deadline);
        }
    }

    /// Ends the worker, unless it has ended: kills it, or lets it leave by itself if its task was asked to
    /// stop, for the rest of the task's grace. Returns once it was reaped.
    pub(crate) fn end(&mut self) -> ProcessEnd {
        if let Some(deadline) = self.child.may_leave_until() {
            // No thread reads what is captured of it from now on: it must not wait for that.
            self.output = None;
            self.read_to_end(deadline);
            self.child.wait_until(deadline);
        }
        self.kill_and_reap()
    }

    /// Kills and reaps a worker that is not ready. Where the system refuses the signal, it may be that
    /// nothing in the worker notices that the connection was shut: then this waits for at most `patience`, and
    /// leaves the worker to itself.
    pub(crate) fn end_or_abandon(&mut self, patience: Duration) -> ProcessEnd {
        let sent = self.child.kill();
        if sent == Signal::Refused && self.child.wait_at_most(patience).is_none() {
            // The wait thread goes on alone: it reaps the process whenever that ends.
            self.wait_thread = None;
            return ProcessEnd::Unknown;
        }
        self.kill_and_reap()
    }

    /// Whether the worker ends by itself within this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        self.child.wait_at_most(limit).is_some()
    }

    fn join_wait_thread(&mut self) {
        if let Some(wait_thread) = self.wait_thread.take() {
            wait_thread.join();
            self.child.join_enforcer();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.wait_thread.is_some() {
            self.kill_and_reap();
        }
    }
}

/// Whether the time for a read or a write was over.
fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// How many bytes a task's argument takes on the connection.
pub(crate) fn length(request: &Request) -> usize {
    match request.argument.lease() {
        Some(_) => BlockRef::SIZE,
        None => request.argument.len(),
    }
}

/// The encoded reference to the block of a task's argument; `None`: it is not in the arena.
fn location(request: &Request) -> Option<[u8; BlockRef::SIZE]> {
    let lease = request.argument.lease()?;
    Some(lease.location().to_bytes())
}

/// The bytes before a task's argument in its frame: the header, and the function to call.
fn head(request: &Request, number: u64) -> [u8; Header::SIZE + FunctionRef::SIZE] {
    let header = Header {
        kind: match request.argument.lease() {
            Some(_) => Kind::StoredTask,
            None => Kind::Task,
        },
        task: number,
        length: (FunctionRef::SIZE + length(request)) as u64,
    };
    let mut head = [0; Header::SIZE + FunctionRef::SIZE];
    head[..Header::SIZE].copy_from_slice(&header.to_bytes());
    head[Header::SIZE..].copy_from_slice(&request.call.to_bytes());
    head
}

#[cfg(test)]
mod tests;
