//! What a worker does before its first task: it runs the initializer, then the function that makes its state, as
//! the pool's builder says. Thread pools run them on the worker's thread (`thread/`), worker processes through
//! stubs (`remote/stub.rs`).

use std::fmt;

use crate::error::{Error, PanicInfo};
use crate::unwind;
use crate::user_state;

/// What a function that a worker runs before its first task is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It prepares the process or the thread, and leaves nothing to the tasks.
    Initializer,
    /// It makes the state of the worker.
    State,
}

/// The name in the error of a pool that the function has broken.
impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initializer => f.write_str("the initializer"),
            Self::State => f.write_str("the function that makes the state"),
        }
    }
}

/// A function that a worker of this process runs before its first task, on its own thread.
pub(crate) struct Preparation {
    /// What it is there for.
    duty: Duty,
    /// Runs it; what it fails with is the text of its error.
    run: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Preparation {
    pub(crate) fn new(
        duty: Duty,
        run: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let run = Box::new(run);
        Self { duty, run }
    }

    /// Runs the function on the thread of worker number `index`.
    ///
    /// # Errors
    /// `BrokenPool`, if it fails or panics.
    pub(crate) fn run(&self, index: usize) -> Result<(), Error> {
        let duty = self.duty;
        let reason = match unwind::catch(&self.run) {
            Ok(Ok(())) => {
                unwind::chain_hook(); // it may have set a panic hook
                return Ok(());
            }
            Ok(Err(words)) => format!("{duty} failed: {words}"),
            Err(panic) => format!("{duty} {}", PanicInfo::new(panic, None, Some(index))),
        };
        Err(Error::BrokenPool(reason.into()))
    }
}

/// What becomes of the value that such a function returns. A type for each way to keep it.
pub(crate) trait Keep<T>: 'static {
    /// Keeps the value for the worker that the calling thread runs.
    ///
    /// # Errors
    /// The text of the error, if the function has failed.
    fn keep(made: T) -> Result<(), String>;
}

/// Keeps nothing: the function has either succeeded or failed.
pub(crate) enum Checked {}

impl<E: fmt::Display> Keep<Result<(), E>> for Checked {
    fn keep(made: Result<(), E>) -> Result<(), String> {
        made.map_err(|error| error.to_string())
    }
}

/// Keeps the value as the state of the worker.
pub(crate) enum AsState {}

impl<S: 'static> Keep<S> for AsState {
    fn keep(made: S) -> Result<(), String> {
        user_state::keep(made);
        Ok(())
    }
}

/// Keeps the value as the state of the worker, if the function has succeeded.
pub(crate) enum AsCheckedState {}

impl<S: 'static, E: fmt::Display> Keep<Result<S, E>> for AsCheckedState {
    fn keep(made: Result<S, E>) -> Result<(), String> {
        made.map(user_state::keep)
            .map_err(|error| error.to_string())
    }
}
