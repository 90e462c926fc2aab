//! A fault: why a task, or the initializer, has no value, in the form in which it travels from a worker to
//! the program.
//!
//! A worker makes one of what user code did (`process/worker/outcome.rs`); the program makes the user's
//! [`Error`] of it (`process/host/`).

use crate::error::{Error, LargeValue, PanicInfo};
use crate::remote::fields::{FieldReader, FieldWriter};
use crate::task_info::TaskInfo;
use crate::unwind::Panic;

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
    /// An encoded value, the result as a rule, is larger than the limit.
    TooLarge {
        /// Which value it is, and its type.
        value: String,
        /// Its length, in bytes.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// What the worker runs before its first task has returned an error; its text.
    Refused(String),
    /// The worker does not have the state that the task borrows.
    NoState(String),
}

impl Fault {
    pub(crate) fn to_body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Panicked(panic) => {
                body.put_u8(0);
                body.put_text(Some(&panic.message));
                body.put_text(panic.location.as_deref());
                body.put_text(panic.backtrace.as_deref());
            }
            Self::Decode(words) => {
                body.put_u8(1);
                body.put_text(Some(words));
            }
            Self::Encode(words) => {
                body.put_u8(2);
                body.put_text(Some(words));
            }
            Self::TooLarge { value, size, limit } => {
                body.put_u8(3);
                body.put_text(Some(value));
                body.put_u64(*size);
                body.put_u64(*limit);
            }
            Self::LeftAlone => body.put_u8(4),
            Self::Refused(words) => {
                body.put_u8(5);
                body.put_text(Some(words));
            }
            Self::NoState(words) => {
                body.put_u8(6);
                body.put_text(Some(words));
            }
        }
        body
    }

    pub(crate) fn from_body(body: &[u8]) -> Option<Self> {
        let mut reader = FieldReader::new(body);
        let fault = match reader.u8()? {
            0 => Self::Panicked(Panic {
                message: reader.text()??,
                location: reader.text()?,
                backtrace: reader.text()?,
            }),
            1 => Self::Decode(reader.text()??),
            2 => Self::Encode(reader.text()??),
            3 => Self::TooLarge {
                value: reader.text()??,
                size: reader.u64()?,
                limit: reader.u64()?,
            },
            4 => Self::LeftAlone,
            5 => Self::Refused(reader.text()??),
            6 => Self::NoState(reader.text()??),
            _ => return None,
        };
        reader.end(fault)
    }
}

/// Converts the outcome of user code to the form in which it travels.
pub(crate) fn fault_of<R>(outcome: Result<Result<R, Error>, Panic>) -> Result<R, Fault> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Decode(words))) => Err(Fault::Decode(words.as_str().to_owned())),
        Ok(Err(Error::TooLarge(large))) => Err(Fault::TooLarge {
            value: large.value().to_owned(),
            size: large.size(),
            limit: large.limit(),
        }),
        Ok(Err(Error::Encode(words))) => Err(Fault::Encode(words.as_str().to_owned())),
        Ok(Err(Error::InvalidConfig(words))) => Err(Fault::NoState(words.as_str().to_owned())),
        Ok(Err(Error::BrokenPool(words))) => Err(Fault::Refused(words.as_str().to_owned())),
        Ok(Err(other)) => Err(Fault::Encode(other.to_string())),
        Err(panic) => Err(Fault::Panicked(panic)),
    }
}

/// The error that a user gets for a fault that a worker reports.
pub(crate) fn error_of(
    fault: Fault,
    task: TaskInfo,
    worker: usize,
    printed: Option<String>,
) -> Error {
    match fault {
        Fault::Panicked(panic) => {
            let info = PanicInfo::with_output(panic, Some(task), Some(worker), printed);
            Error::Panicked(info)
        }
        Fault::Decode(words) => Error::Decode(words.into()),
        Fault::Encode(words) => Error::Encode(words.into()),
        Fault::TooLarge { value, size, limit } => {
            Error::TooLarge(LargeValue::new(value, size, limit))
        }
        Fault::LeftAlone => Error::Cancelled,
        Fault::Refused(words) => Error::BrokenPool(words.into()),
        Fault::NoState(words) => Error::InvalidConfig(words.into()),
    }
}
