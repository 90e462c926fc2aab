//! [`ErrorReport`]: what an [`Error`] says, in a form that can be stored and sent.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, WorkerDeath};
use crate::task_info::TaskInfo;

/// What an [`Error`] says, in a form that any serde format can store and send: for reports, and for the result of a
/// task that uses a pool itself. Made by [`Error::report`], and by `?` in a function that returns one.
///
/// An [`Error`] itself does not travel: it knows its task by addresses of this process.
///
/// ```
/// use concurrent_futures::{Error, ErrorReport, Executor, ProcessPoolExecutor, ThreadPoolExecutor};
///
/// fn total(shares: Vec<u32>) -> Result<u32, ErrorReport> {
///     let pool = ThreadPoolExecutor::new(2)?;
///     let quotients = pool.map(|share: u32| 100 / share, shares);
///     Ok(quotients.sum::<Result<u32, Error>>()?)
/// }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// assert_eq!(pool.submit(total, vec![10, 20]).result()?, Ok(15));
/// let report = pool.submit(total, vec![10, 0]).result()?.unwrap_err();
/// assert_eq!(report.kind(), "panicked");
/// assert!(report.message().ends_with("attempt to divide by zero"));
/// # Ok(())
/// # }
/// ```
///
/// In formats that name fields, such as JSON, unknown fields are ignored, and all but `kind` and `message` may be
/// missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReport(Box<ReportFields>);

/// The data of an [`ErrorReport`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ReportFields {
    /// The kind of the error.
    kind: String,
    /// What the error says.
    message: String,
    /// The name given to the task, if any.
    task_name: Option<String>,
    /// The name of the task's function; `None`: no task, or no symbols.
    function: Option<String>,
    /// Where the task was submitted; `None`: no task.
    location: Option<String>,
    /// The number of the signal that ended the worker; `None`: none did.
    signal: Option<i32>,
    /// The exit code of the worker that died; `None`: none did, or by a signal.
    exit_code: Option<i32>,
    /// How often the task was begun; `None`: it neither panicked nor did its worker die.
    attempts: Option<u32>,
}

impl ErrorReport {
    /// The kind of the error, as [`Error::kind`] names it.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// What the error says: its `Display` form.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The name given to the task, if any.
    #[must_use]
    pub fn task_name(&self) -> Option<&str> {
        self.0.task_name.as_deref()
    }

    /// The name of the task's function, if it is an error of a task, and the program has symbols.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        self.0.function.as_deref()
    }

    /// Where the task was submitted, as `file:line`; `None` if it is no error of a task.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    /// The number of the signal that ended the worker, if a signal did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.0.signal
    }

    /// The exit code of the worker that died, if it exited.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.0.exit_code
    }

    /// How often the task was begun, this time included, if it panicked, was late, or its worker died.
    #[must_use]
    pub fn attempts(&self) -> Option<u32> {
        self.0.attempts
    }
}

impl From<&Error> for ErrorReport {
    fn from(error: &Error) -> Self {
        let task = error.task();
        let death = match error {
            Error::WorkerDied(death) => Some(death),
            _ => None,
        };
        Self(Box::new(ReportFields {
            kind: error.kind().to_owned(),
            message: error.to_string(),
            task_name: task.and_then(TaskInfo::name).map(str::to_owned),
            function: task.and_then(TaskInfo::function),
            location: task.map(|task| {
                let place = task.location();
                format!("{}:{}", place.file(), place.line())
            }),
            signal: death.and_then(WorkerDeath::signal),
            exit_code: death.and_then(WorkerDeath::exit_code),
            attempts: error.attempts(),
        }))
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl std::error::Error for ErrorReport {}

/// The message.
impl fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// The fields, in the order in which they are written.
const FIELDS: &[&str] = &[
    "kind",
    "message",
    "task_name",
    "function",
    "location",
    "signal",
    "exit_code",
    "attempts",
];

/// All fields are written, also those without a value: most formats of tasks read fields by their position.
impl Serialize for ErrorReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ErrorReport", FIELDS.len())?;
        fields.serialize_field("kind", &self.0.kind)?;
        fields.serialize_field("message", &self.0.message)?;
        fields.serialize_field("task_name", &self.0.task_name)?;
        fields.serialize_field("function", &self.0.function)?;
        fields.serialize_field("location", &self.0.location)?;
        fields.serialize_field("signal", &self.0.signal)?;
        fields.serialize_field("exit_code", &self.0.exit_code)?;
        fields.serialize_field("attempts", &self.0.attempts)?;
        fields.end()
    }
}

impl<'de> Deserialize<'de> for ErrorReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("ErrorReport", FIELDS, ReportVisitor)
    }
}

/// Reads a report, with fields by position or by name.
struct ReportVisitor;

impl<'de> Visitor<'de> for ReportVisitor {
    type Value = ErrorReport;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the report of an error")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<ErrorReport, A::Error> {
        Ok(ErrorReport(Box::new(ReportFields {
            kind: next(&mut fields)?,
            message: next(&mut fields)?,
            task_name: next(&mut fields)?,
            function: next(&mut fields)?,
            location: next(&mut fields)?,
            signal: next(&mut fields)?,
            exit_code: next(&mut fields)?,
            attempts: next(&mut fields)?,
        })))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ErrorReport, A::Error> {
        let mut report = ReportFields::default();
        let (mut kind, mut message) = (None, None);
        while let Some(FieldName(name)) = fields.next_key()? {
            match name {
                "kind" => kind = Some(fields.next_value()?),
                "message" => message = Some(fields.next_value()?),
                "task_name" => report.task_name = fields.next_value()?,
                "function" => report.function = fields.next_value()?,
                "location" => report.location = fields.next_value()?,
                "signal" => report.signal = fields.next_value()?,
                "exit_code" => report.exit_code = fields.next_value()?,
                "attempts" => report.attempts = fields.next_value()?,
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        report.kind = kind.ok_or_else(|| de::Error::missing_field("kind"))?;
        report.message = message.ok_or_else(|| de::Error::missing_field("message"))?;
        Ok(ErrorReport(Box::new(report)))
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(fields: &mut A) -> Result<T, A::Error> {
    let missing = || de::Error::custom("the report of an error is cut short");
    fields.next_element()?.ok_or_else(missing)
}

/// One of [`FIELDS`]; an empty name: another field.
struct FieldName(&'static str);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = FieldName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<FieldName, E> {
                let known = FIELDS.iter().find(|field| **field == name);
                Ok(FieldName(known.copied().unwrap_or_default()))
            }

            fn visit_bytes<E: de::Error>(self, name: &[u8]) -> Result<FieldName, E> {
                self.visit_str(std::str::from_utf8(name).unwrap_or_default())
            }

            fn visit_u64<E: de::Error>(self, position: u64) -> Result<FieldName, E> {
                let known = usize::try_from(position).ok().and_then(|at| FIELDS.get(at));
                Ok(FieldName(known.copied().unwrap_or_default()))
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}
