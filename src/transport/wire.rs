//! The messages between the program and a worker process: bytes in, bytes out, no I/O. Used on both sides of
//! a connection (`process/host/`, `process/worker/`), over [`framed`](crate::transport::framed).
//!
//! Every message is a frame: a fixed header, then a body whose length the header gives. Only the payloads
//! inside the bodies are encoded by serde. Everything else is encoded here by hand, so that no byte from the
//! other side is trusted further than its own bounds check.

use crate::remote::codec;
use crate::remote::function::FunctionRef;
use crate::sys::image;
use crate::unwind::Panic;

/// The version of the protocol that this file describes.
pub(crate) const PROTOCOL: u32 = 5;

/// The maximum length of a body that is no payload, in bytes.
pub(crate) const MAX_CONTROL: u64 = 1 << 20;

/// The maximum length of a text or byte string inside such a body, in bytes; the rest is cut off.
const MAX_TEXT: usize = 64 << 10;

/// The first four bytes of each frame.
const MAGIC: u32 = u32::from_le_bytes(*b"cf:1");

/// The fixed part of a frame, before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The kind of the body.
    pub(crate) kind: Kind,
    /// The task that the frame is about, as a number: its id, or its slot reference in the shared-memory
    /// queue; 0: no task.
    pub(crate) task: u64,
    /// The length of the body, in bytes.
    pub(crate) length: u64,
}

/// The kind of a frame: what its body holds, and in which direction it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To the worker: a [`Welcome`].
    Welcome = 1,
    /// To the worker: a [`FunctionRef`] and an encoded argument.
    Task = 2,
    /// To the worker: no more tasks come over this connection; it goes back to the shared-memory queue.
    Resume = 3,
    /// To the worker: a [`FunctionRef`], and the block reference of its encoded argument in the arena.
    StoredTask = 4,
    /// From the worker: a [`Hello`].
    Hello = 16,
    /// From the worker, after its initializer: an empty body, or a [`Fault`] of the initializer.
    Ready = 17,
    /// From the worker: an encoded result.
    Value = 18,
    /// From the worker: a [`Fault`] of a task.
    Fault = 19,
    /// From the worker: it has claimed a rendezvous slot of the shared-memory queue (the slot reference
    /// stands for the task), and asks for the message.
    Claim = 20,
    /// From the worker: an encoded result, too large for the shared-memory queue, of the task in the given
    /// slot.
    LargeValue = 21,
    /// From the worker: a [`Fault`], too large for the shared-memory queue, of the task in the given slot.
    LargeFault = 22,
    /// From the worker: the block reference of an encoded result in the arena.
    StoredValue = 23,
    /// From the worker: the next result has shared memory attached. The descriptors come with this frame, and
    /// the body holds the ids of the regions.
    Memory = 24,
    /// From the worker: shared memory does not hold what the worker, or the program, wrote there.
    Alarm = 25,
    /// From the worker, about the task that it runs: the clock of its time limit stops.
    Stop = 26,
    /// From the worker, about the task that it runs: the clock of its time limit runs again.
    GoOn = 27,
}

impl Header {
    pub(crate) const SIZE: usize = 24;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[8..16].copy_from_slice(&self.task.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Decodes a header; `None`: the bytes are no valid header.
    pub(crate) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let mut reader = FieldReader(bytes);
        let sound = reader.u32()? == MAGIC;
        let kind = Kind::from_byte(reader.u8()?)?;
        let padding = reader.take(3)?;
        let (task, length) = (reader.u64()?, reader.u64()?);
        (sound && padding == [0; 3]).then_some(Self { kind, task, length })
    }
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Welcome,
            Self::Task,
            Self::Resume,
            Self::Hello,
            Self::Ready,
            Self::Value,
            Self::Fault,
            Self::Claim,
            Self::LargeValue,
            Self::LargeFault,
            Self::StoredTask,
            Self::StoredValue,
            Self::Memory,
            Self::Alarm,
            Self::Stop,
            Self::GoOn,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A frame about a task, without a body.
pub(crate) fn signal(kind: Kind, task: u64) -> [u8; Header::SIZE] {
    let length = 0;
    Header { kind, task, length }.to_bytes()
}

/// A frame that is about no task, with this body.
pub(crate) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        task: 0,
        length: body.len() as u64,
    };
    [&header.to_bytes(), body].concat()
}

/// The protocol, codec and build of one side; both sides must have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProtocolVersion {
    /// The protocol version: [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The number of the codec.
    pub(crate) codec: u8,
    /// The build id: differs between any two builds of the program.
    pub(crate) stamp: Vec<u8>,
}

/// The protocol, codec and build of this program, which a worker's must equal.
pub(crate) fn dialect() -> ProtocolVersion {
    ProtocolVersion {
        protocol: PROTOCOL,
        codec: codec::ID,
        stamp: image::current().stamp(),
    }
}

/// The first message from the parent to a worker. These descriptors come with it: stdout, stderr, and those
/// of the shared signals, the shared-memory queue and the arena, if these exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// The protocol, codec and build of the parent.
    pub(crate) dialect: ProtocolVersion,
    /// The worker's index in the pool.
    pub(crate) index: u32,
    /// The maximum length of an encoded result, in bytes.
    pub(crate) payload_limit: u64,
    /// The maximum memory of the worker, in bytes; 0: no limit.
    pub(crate) memory_limit: u64,
    /// Whether the descriptor of the shared signals comes along.
    pub(crate) has_signals: bool,
    /// The numbers of slots and of workers of the shared-memory queue; (0, 0): there is no queue.
    pub(crate) queue: (u32, u32),
    /// The key of the checksums in the shared-memory queue.
    pub(crate) key: (u64, u64),
    /// Whether there is an arena, for the same number of workers as the queue.
    pub(crate) has_arena: bool,
    /// The worker's name in the process list.
    pub(crate) title: Vec<u8>,
    /// The function that the worker runs before its first task, and its encoded argument.
    pub(crate) initializer: Option<(FunctionRef, Vec<u8>)>,
}

/// The first message from a worker to the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The protocol, codec and build of the worker.
    pub(crate) dialect: ProtocolVersion,
    /// The id of the worker's process.
    pub(crate) pid: u32,
}

/// Why a task, or the initializer, has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// User code has panicked.
    Panicked(Panic),
    /// The argument could not be decoded.
    Decode(String),
    /// The result could not be encoded.
    Encode(String),
    /// The worker did not begin the task: the shared signals said to begin nothing more of the chunk.
    LeftAlone,
    /// The encoded result is larger than the limit.
    TooLarge {
        /// The result's length, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl ProtocolVersion {
    fn put(&self, body: &mut Vec<u8>) {
        body.extend(self.protocol.to_le_bytes());
        body.push(self.codec);
        put_bytes(body, &self.stamp);
    }

    fn get(reader: &mut FieldReader<'_>) -> Option<Self> {
        Some(Self {
            protocol: reader.u32()?,
            codec: reader.u8()?,
            stamp: reader.bytes()?.to_vec(),
        })
    }
}

impl Welcome {
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.dialect.put(&mut body);
        body.extend(self.index.to_le_bytes());
        body.extend(self.payload_limit.to_le_bytes());
        body.extend(self.memory_limit.to_le_bytes());
        body.push(u8::from(self.has_signals));
        body.extend(self.queue.0.to_le_bytes());
        body.extend(self.queue.1.to_le_bytes());
        body.extend(self.key.0.to_le_bytes());
        body.extend(self.key.1.to_le_bytes());
        body.push(u8::from(self.has_arena));
        put_bytes(&mut body, &self.title);
        if let Some((call, argument)) = &self.initializer {
            body.extend(call_to_bytes(*call));
            body.extend(argument);
        }
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader(body);
        Some(Self {
            dialect: ProtocolVersion::get(&mut reader)?,
            index: reader.u32()?,
            payload_limit: reader.u64()?,
            memory_limit: reader.u64()?,
            has_signals: reader.bool()?,
            queue: (reader.u32()?, reader.u32()?),
            key: (reader.u64()?, reader.u64()?),
            has_arena: reader.bool()?,
            title: reader.bytes()?.to_vec(),
            initializer: match reader.0 {
                [] => None,
                _ => Some((reader.call()?, reader.0.to_vec())),
            },
        })
    }
}

impl Hello {
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.dialect.put(&mut body);
        body.extend(self.pid.to_le_bytes());
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader(body);
        let hello = Self {
            dialect: ProtocolVersion::get(&mut reader)?,
            pid: reader.u32()?,
        };
        reader.end(hello)
    }
}

impl Fault {
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Panicked(panic) => {
                body.push(0);
                put_text(&mut body, Some(&panic.message));
                put_text(&mut body, panic.location.as_deref());
                put_text(&mut body, panic.backtrace.as_deref());
            }
            Self::Decode(words) => {
                body.push(1);
                put_text(&mut body, Some(words));
            }
            Self::Encode(words) => {
                body.push(2);
                put_text(&mut body, Some(words));
            }
            Self::TooLarge { size, limit } => {
                body.push(3);
                body.extend(size.to_le_bytes());
                body.extend(limit.to_le_bytes());
            }
            Self::LeftAlone => body.push(4),
        }
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader(body);
        let fault = match reader.u8()? {
            0 => Self::Panicked(Panic {
                message: reader.text()??,
                location: reader.text()?,
                backtrace: reader.text()?,
            }),
            1 => Self::Decode(reader.text()??),
            2 => Self::Encode(reader.text()??),
            3 => Self::TooLarge {
                size: reader.u64()?,
                limit: reader.u64()?,
            },
            4 => Self::LeftAlone,
            _ => return None,
        };
        reader.end(fault)
    }
}

/// The length of a [`FunctionRef`] at the start of a task's body, in bytes.
pub(crate) const CALL_SIZE: usize = 24;

pub(crate) fn call_to_bytes(call: FunctionRef) -> [u8; CALL_SIZE] {
    let mut bytes = [0; CALL_SIZE];
    bytes[0..8].copy_from_slice(&call.entry.to_le_bytes());
    bytes[8..16].copy_from_slice(&call.function.to_le_bytes());
    bytes[16..24].copy_from_slice(&call.fingerprint.to_le_bytes());
    bytes
}

pub(crate) fn call_from_bytes(bytes: &[u8; CALL_SIZE]) -> FunctionRef {
    match FieldReader(bytes).call() {
        Some(call) => call,
        None => unreachable!("a call takes as many bytes as there are"),
    }
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    // At most MAX_TEXT, so the length fits into 32 bits.
    body.extend((bytes.len() as u32).to_le_bytes());
    body.extend(bytes);
}

fn put_text(body: &mut Vec<u8>, text: Option<&str>) {
    body.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_bytes(body, text.as_bytes());
    }
}

/// Reads the fields of a body, one after the other; `None` wherever the body is too short.
struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn call(&mut self) -> Option<FunctionRef> {
        Some(FunctionRef {
            entry: self.u64()? as i64,
            function: self.u64()? as i64,
            fingerprint: self.u64()?,
        })
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn text(&mut self) -> Option<Option<String>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(String::from_utf8_lossy(self.bytes()?).into_owned())),
            _ => None,
        }
    }

    /// Returns the value if all bytes were read; `None`: some are left over.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests;
