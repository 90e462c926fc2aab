//! [`Payload`]: the values that can travel to a worker process.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that can travel to a worker process: it is encoded by serde, contains no borrows, and may be sent
/// from thread to thread.
///
/// Implemented for every such type that owns its data (`String`, not `&str`); do not implement it by hand.
///
/// serde's own limits apply. The formats do not describe themselves. So the following can travel only as a
/// `MessagePack` (feature `messagepack`): else such a task ends as [`Error::Encode`](crate::Error::Encode) or
/// [`Error::Decode`](crate::Error::Decode), which name the type:
/// - `serde_json::Value`, `#[serde(tag = "…")]` with or without `content`, `#[serde(untagged)]`,
///   `#[serde(flatten)]`;
/// - a value of which `#[serde(skip_serializing_if)]` leaves a field out, and types with a field that has
///   `skip_serializing` or `skip_deserializing` alone. `#[serde(skip)]` is allowed.
///
/// An error that serde does not know, such as `io::Error` or `Box<dyn Error>`, travels as its words: a task that wants
/// `?` calls a function that returns it, and maps it to `error.to_string()`. Of an [`Error`](crate::Error) of this crate
/// its [`report`](crate::Error::report) travels.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Point { x: f64, y: f64 }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let distance = pool.submit(|p: Point| p.x.hypot(p.y), Point { x: 3.0, y: 4.0 });
/// assert_eq!(distance.result()?, 5.0);
///
/// fn size(path: String) -> Result<u64, String> {
///     size_of_file(&path).map_err(|error| format!("{path}: {error}"))
/// }
/// fn size_of_file(path: &str) -> std::io::Result<u64> {
///     Ok(std::fs::File::open(path)?.metadata()?.len())
/// }
/// let words = pool.submit(size, "/nowhere".into()).result()?.unwrap_err();
/// assert!(words.starts_with("/nowhere: No such file"));
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to a worker process",
    label = "this argument or result would have to travel",
    note = "derive serde's `Serialize` and `Deserialize` for it, and let it own its data: `String`, not `&str`",
    note = "an error that serde does not know, such as `io::Error`, can travel as its words: `error.to_string()`",
    note = "it must also be `Send`; what a process needs and cannot be sent, it can make as its `state`, or in an `initializer`"
)]
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}
