//! What travels over a link: bytes in, bytes out, no I/O.
//!
//! Every message is a frame: a fixed header, then a body whose length the header tells. Only the
//! payloads inside the bodies are serde's; the rest is encoded here by hand, so that no byte from
//! the other side is trusted further than its own bounds check.

use crate::remote::function::FunctionRef;
use crate::unwind::Panic;

/// Version of what this file describes.
pub(crate) const PROTOCOL: u32 = 5;

/// Bodies other than payloads are never longer than this.
pub(crate) const MAX_CONTROL: u64 = 1 << 20;

/// Texts inside such bodies are cut at this many bytes.
const MAX_TEXT: usize = 64 << 10;

/// Marks the start of each frame.
const MAGIC: u32 = u32::from_le_bytes(*b"cf:1");

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// What the body is.
    pub(crate) kind: Kind,
    /// Which task it speaks of; 0 where it speaks of none.
    pub(crate) task: u64,
    /// Bytes of the body.
    pub(crate) length: u64,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To the worker: a [`Welcome`].
    Welcome = 1,
    /// To the worker: a [`FunctionRef`] and an encoded argument.
    Task = 2,
    /// To the worker: it is told no more here, and goes back to the board.
    Resume = 3,
    /// To the worker: a [`FunctionRef`], and where its encoded argument is in the depot.
    StoredTask = 4,
    /// From the worker: a [`Hello`].
    Hello = 16,
    /// From the worker, after its initializer: nothing, or a [`Fault`] of the initializer.
    Ready = 17,
    /// From the worker: an encoded result.
    Value = 18,
    /// From the worker: a [`Fault`] of a task.
    Fault = 19,
    /// From the worker: it has claimed a ticket on the board, at the place that stands for the task.
    Claim = 20,
    /// From the worker: an encoded result of the task at that place, too large for the board.
    LargeValue = 21,
    /// From the worker: such a [`Fault`].
    LargeFault = 22,
    /// From the worker: where an encoded result is in the depot.
    StoredValue = 23,
    /// From the worker: the next result brings shared memory. Descriptors of it come with this, and its
    /// ids are the body.
    Memory = 24,
    /// From the worker: what it finds in shared memory is not what it, or the program, wrote there.
    Alarm = 25,
    /// From the worker, of the task that it runs: from now on its time does not count.
    Stop = 26,
    /// From the worker, of the task that it runs: from now on its time counts again.
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

    /// `None`: this is no header.
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

/// A frame without a body, of a task.
pub(crate) fn signal(kind: Kind, task: u64) -> [u8; Header::SIZE] {
    let length = 0;
    Header { kind, task, length }.to_bytes()
}

/// A frame with a body that is made here.
pub(crate) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        task: 0,
        length: body.len() as u64,
    };
    [&header.to_bytes(), body].concat()
}

/// Which program talks, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProtocolVersion {
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The codec's name.
    pub(crate) codec: u8,
    /// Tells this build of the program from every other.
    pub(crate) stamp: Vec<u8>,
}

/// What the parent tells a worker first. Descriptors come with it: stdout, stderr, the memory of the
/// flag, that of the board and that of the depot, if there are such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// Which program the parent is.
    pub(crate) dialect: ProtocolVersion,
    /// The worker's index.
    pub(crate) index: u32,
    /// Bytes that an encoded result may have.
    pub(crate) payload_limit: u64,
    /// Bytes of memory that the worker may have; 0: no limit.
    pub(crate) memory_limit: u64,
    /// Whether there is a flag.
    pub(crate) has_flag: bool,
    /// Slots and workers of the board; none: 0 and 0.
    pub(crate) queue: (u32, u32),
    /// What checksums on the board depend on.
    pub(crate) key: (u64, u64),
    /// Whether there is a depot, for as many workers.
    pub(crate) has_arena: bool,
    /// What the process list calls the worker.
    pub(crate) title: Vec<u8>,
    /// What the worker runs before its first task, and on which encoded argument.
    pub(crate) initializer: Option<(FunctionRef, Vec<u8>)>,
}

/// What a worker tells the parent first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Which program the worker is.
    pub(crate) dialect: ProtocolVersion,
    /// Its process.
    pub(crate) pid: u32,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A panic in user code.
    Panicked(Panic),
    /// The argument could not be decoded.
    Decode(String),
    /// The result could not be encoded.
    Encode(String),
    /// The task was left alone: the flag was raised.
    LeftAlone,
    /// The result is too large.
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
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
        body.push(u8::from(self.has_flag));
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
            has_flag: reader.bool()?,
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

/// Bytes that a [`FunctionRef`] takes at the start of a task's body.
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
    // A length of at most MAX_TEXT fits.
    body.extend((bytes.len() as u32).to_le_bytes());
    body.extend(bytes);
}

fn put_text(body: &mut Vec<u8>, text: Option<&str>) {
    body.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_bytes(body, text.as_bytes());
    }
}

/// Takes a body apart; `None` wherever it is too short.
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

    /// The value, if nothing is left over.
    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests;
