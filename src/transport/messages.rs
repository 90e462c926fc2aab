//! The messages that open a connection between the program and a worker: the hello, the welcome, and the
//! version of all that they speak. Bytes in, bytes out, no I/O.
//!
//! Sent and answered by `process/host/handshake.rs` and `process/worker/set_up.rs`. The frames that carry
//! them are in `wire`, the encoding of their fields in `remote/fields.rs`.

use crate::preparation::Duty;
use crate::remote::codec;
use crate::remote::fields::{FieldReader, FieldWriter};
use crate::remote::function::FunctionRef;
use crate::sys::image;

/// The version of the protocol that this room describes: the frames, and what is in them.
pub(crate) const PROTOCOL: u32 = 7;

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
pub(crate) fn protocol_version() -> ProtocolVersion {
    ProtocolVersion {
        protocol: PROTOCOL,
        codec: codec::ID,
        stamp: image::current().stamp(),
    }
}

/// The first message from the parent to a worker. These descriptors come with it: stdout, stderr, and those
/// of stdin, the shared signals, the shared-memory queue, the arena and the pipe for events, if these exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// The protocol, codec and build of the parent.
    pub(crate) version: ProtocolVersion,
    /// The worker's index in the pool.
    pub(crate) index: u32,
    /// The maximum length of an encoded result, in bytes.
    pub(crate) payload_limit: u64,
    /// The maximum memory of the worker, in bytes; 0: no limit.
    pub(crate) memory_limit: u64,
    /// Whether a descriptor for stdin comes along; without it, stdin is empty.
    pub(crate) has_input: bool,
    /// Whether the descriptor of the shared signals comes along.
    pub(crate) has_signals: bool,
    /// The numbers of slots and of workers of the shared-memory queue; (0, 0): there is no queue.
    pub(crate) queue: (u32, u32),
    /// The key of the checksums in the shared-memory queue.
    pub(crate) key: (u64, u64),
    /// Whether there is an arena, for the same number of workers as the queue.
    pub(crate) has_arena: bool,
    /// The level up to which the worker tells of its events, through the pipe for them; 0: there is no pipe.
    pub(crate) event_level: u8,
    /// The worker's name in the process list.
    pub(crate) title: Vec<u8>,
    /// What the worker runs before its first task, in this order.
    pub(crate) preparations: Vec<StartCall>,
}

/// A function that a worker runs before its first task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartCall {
    /// What the function is there for.
    pub(crate) duty: Duty,
    /// The function.
    pub(crate) call: FunctionRef,
    /// Its encoded argument.
    pub(crate) argument: Vec<u8>,
}

/// The first message from a worker to the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The protocol, codec and build of the worker.
    pub(crate) version: ProtocolVersion,
    /// The id of the worker's process.
    pub(crate) pid: u32,
}

impl ProtocolVersion {
    fn put(&self, body: &mut Vec<u8>) {
        body.put_u32(self.protocol);
        body.put_u8(self.codec);
        body.put_bytes(&self.stamp);
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
        self.version.put(&mut body);
        body.put_u32(self.index);
        body.put_u64(self.payload_limit);
        body.put_u64(self.memory_limit);
        body.put_bool(self.has_input);
        body.put_bool(self.has_signals);
        body.put_u32(self.queue.0);
        body.put_u32(self.queue.1);
        body.put_u64(self.key.0);
        body.put_u64(self.key.1);
        body.put_bool(self.has_arena);
        body.put_u8(self.event_level);
        body.put_bytes(&self.title);
        for preparation in &self.preparations {
            preparation.put(&mut body);
        }
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader::new(body);
        let mut welcome = Self {
            version: ProtocolVersion::get(&mut reader)?,
            index: reader.u32()?,
            payload_limit: reader.u64()?,
            memory_limit: reader.u64()?,
            has_input: reader.bool()?,
            has_signals: reader.bool()?,
            queue: (reader.u32()?, reader.u32()?),
            key: (reader.u64()?, reader.u64()?),
            has_arena: reader.bool()?,
            event_level: reader.u8()?,
            title: reader.bytes()?.to_vec(),
            preparations: Vec::new(),
        };
        while !reader.rest().is_empty() {
            welcome.preparations.push(StartCall::get(&mut reader)?);
        }
        Some(welcome)
    }
}

impl StartCall {
    fn put(&self, body: &mut Vec<u8>) {
        body.put_u8(byte_of(self.duty));
        body.put(&self.call.to_bytes());
        body.put_u64(self.argument.len() as u64);
        body.put(&self.argument);
    }

    fn get(reader: &mut FieldReader<'_>) -> Option<Self> {
        let (duty, call) = (duty_of(reader.u8()?)?, FunctionRef::read(reader)?);
        let length = usize::try_from(reader.u64()?).ok()?;
        Some(Self {
            duty,
            call,
            argument: reader.take(length)?.to_vec(),
        })
    }
}

/// The byte that stands for a duty, also in the worker's report on it ([`Kind::Ready`](super::wire::Kind)).
pub(crate) fn byte_of(duty: Duty) -> u8 {
    match duty {
        Duty::Initializer => 0,
        Duty::State => 1,
    }
}

/// The duty that a byte stands for.
pub(crate) fn duty_of(byte: u8) -> Option<Duty> {
    match byte {
        0 => Some(Duty::Initializer),
        1 => Some(Duty::State),
        _ => None,
    }
}

impl Hello {
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.version.put(&mut body);
        body.put_u32(self.pid);
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader::new(body);
        let hello = Self {
            version: ProtocolVersion::get(&mut reader)?,
            pid: reader.u32()?,
        };
        reader.end(hello)
    }
}
