//! A task that sends its program frames of its own, as if they were its worker's.

use std::time::Duration;

use concurrent_futures::TaskOptions;
use serde::{Deserialize, Serialize};

use super::connections::write_everywhere;
use crate::support::{LONG, os};

/// What is sent in place of an answer, and what is done then.
#[derive(Clone, Serialize, Deserialize)]
pub struct Lie {
    /// The bytes; few, so that they fit into a slot where a worker claims tasks by itself.
    pub bytes: Vec<u8>,
    /// So many zeros after them.
    pub zeros: usize,
    /// What follows.
    pub then: Then,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Then {
    /// The process exits.
    Exit,
    /// Nothing.
    Stay,
    /// The task returns.
    Return,
    /// The same again and again, without haste.
    Repeat,
    /// The same again and again, as fast as it goes.
    Flood,
}

pub fn lie(Lie { bytes, zeros, then }: Lie) {
    write_everywhere(&bytes);
    write_everywhere(&vec![0; zeros]);
    match then {
        Then::Exit => os::exit_now(3),
        Then::Return => {}
        Then::Stay => loop {
            std::thread::park();
        },
        Then::Repeat => loop {
            std::thread::park_timeout(Duration::from_millis(1));
            write_everywhere(&bytes);
        },
        Then::Flood => loop {
            write_everywhere(&bytes);
        },
    }
}

impl Lie {
    pub fn new(bytes: Vec<u8>, then: Then) -> Self {
        let zeros = 0;
        Self { bytes, zeros, then }
    }
}

/// Frames as they stand in `src/transport/wire.rs`.
#[derive(Clone, Copy)]
pub struct Frame {
    /// What the body is.
    pub kind: u8,
    /// Which task it speaks of.
    pub task: u64,
    /// Bytes of the body.
    pub length: u64,
}

pub const HELLO: u8 = 16;
pub const VALUE: u8 = 18;
pub const FAULT: u8 = 19;
pub const CLAIM: u8 = 20;
pub const LARGE_VALUE: u8 = 21;
pub const LARGE_FAULT: u8 = 22;
pub const STORED_VALUE: u8 = 23;
pub const MEMORY: u8 = 24;
pub const GO_ON: u8 = 27;
pub const REGION_REQUEST: u8 = 28;

impl Frame {
    pub fn header(self) -> Vec<u8> {
        let start = [b'c', b'f', b':', b'1', self.kind, 0, 0, 0];
        [start, self.task.to_le_bytes(), self.length.to_le_bytes()].concat()
    }

    pub fn with(self, body: &[u8]) -> Vec<u8> {
        [&self.header(), body].concat()
    }
}

/// How a task came to its worker; this decides what the program expects to receive about it.
#[derive(Clone, Copy)]
pub enum Way {
    /// The worker took it by itself.
    Taken,
    /// Over the connection, as tasks with a time limit come.
    Told,
}

impl Way {
    pub fn options(self) -> TaskOptions {
        match self {
            Self::Taken => TaskOptions::new(),
            Self::Told => TaskOptions::new().timeout(LONG),
        }
    }

    /// An answer of `length` bytes to the first task that the worker was sent, or to one that it
    /// has claimed.
    pub fn value(self, length: u64) -> Frame {
        let (task, kind) = match self {
            Self::Taken => (0, LARGE_VALUE),
            Self::Told => (0, VALUE),
        };
        Frame { kind, task, length }
    }

    /// As [`value`](Self::value), a report of why there is none.
    pub fn fault(self, length: u64) -> Frame {
        let kind = match self {
            Self::Taken => LARGE_FAULT,
            Self::Told => FAULT,
        };
        let task = 0;
        Frame { kind, task, length }
    }
}
