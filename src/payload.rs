//! What can travel to a process.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What travels to a process: encoded by serde, without borrows, sent from thread to thread.
///
/// Implemented for every such type that owns its data (`String`, not `&str`), never by hand.
/// serde's own limits apply: the formats are not self-describing, so `serde_json::Value`, `#[serde(untagged)]`, `#[serde(flatten)]` and
/// `#[serde(skip_serializing_if)]` do not pass through them.
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
/// # Ok(())
/// # }
/// ```
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}
