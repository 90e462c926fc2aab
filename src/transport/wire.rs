//! The frames between the program and a worker process: bytes in, bytes out, no I/O. Used on both sides of a
//! connection (`process/host/`, `process/worker/`), over [`framed`](crate::transport::framed).
//!
//! Every message is a frame: a fixed header, then a body whose length the header gives. Only the payloads
//! inside the bodies are encoded by serde. Everything else consists of fields (`remote/fields.rs`), here and in
//! `messages` and `fault`, so that no byte from the other side is trusted further than its own bounds check.

use crate::remote::fields::{FieldReader, FieldWriter};

/// The maximum length of a body that is no payload, in bytes.
pub(crate) const MAX_CONTROL: u64 = 1 << 20;

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
    /// To the worker: a [`Welcome`](super::messages::Welcome).
    Welcome = 1,
    /// To the worker: a [`FunctionRef`](crate::remote::function::FunctionRef) and an encoded argument.
    Task = 2,
    /// To the worker: no more tasks come over this connection; it goes back to the shared-memory queue.
    Resume = 3,
    /// To the worker: a [`FunctionRef`](crate::remote::function::FunctionRef), and the block reference of its encoded argument in the arena.
    StoredTask = 4,
    /// To the worker: the answer to a `RegionRequest`. The descriptor comes with this frame, unless the program
    /// does not have the region any more.
    Region = 5,
    /// To the worker: the answer to a `ChannelRequest`. The socket comes with this frame, unless the program has
    /// not made the channel.
    Channel = 6,
    /// From the worker: a [`Hello`](super::messages::Hello).
    Hello = 16,
    /// From the worker, once it is prepared: an empty body, or the duty that it could not do, one byte, and the
    /// [`Fault`](super::fault::Fault) of that function.
    Ready = 17,
    /// From the worker: an encoded result.
    Value = 18,
    /// From the worker: a [`Fault`](super::fault::Fault) of a task.
    Fault = 19,
    /// From the worker: it has claimed a rendezvous slot of the shared-memory queue (the slot reference
    /// stands for the task), and asks for the message.
    Claim = 20,
    /// From the worker: an encoded result, too large for the shared-memory queue, of the task in the given
    /// slot.
    LargeValue = 21,
    /// From the worker: a [`Fault`](super::fault::Fault), too large for the shared-memory queue, of the task in
    /// the given slot.
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
    /// From the worker: the id of a region of shared memory that it cannot open by itself.
    RegionRequest = 28,
    /// From the worker: the id of a channel into which a task is to send.
    ChannelRequest = 29,
}

impl Header {
    pub(crate) const SIZE: usize = 24;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut fields = &mut bytes[..];
        fields.put_u32(MAGIC);
        fields.put_u8(self.kind as u8);
        fields.put(&[0; 3]);
        fields.put_u64(self.task);
        fields.put_u64(self.length);
        bytes
    }

    /// Decodes a header; `None`: the bytes are no valid header.
    pub(crate) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let mut reader = FieldReader::new(bytes);
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
            Self::Region,
            Self::RegionRequest,
            Self::Channel,
            Self::ChannelRequest,
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
