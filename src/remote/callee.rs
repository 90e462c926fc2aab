//! What a portable task calls. Called or sent by `task`. Relies on `function` (the reference that travels).

use crate::error::Error;
use crate::remote::function::{self, FunctionRef};
use crate::remote::payload::Payload;

/// A function that a portable task calls.
pub(crate) trait Callee: Copy + Send + Sync + 'static {
    /// The task's argument.
    type Argument: Payload;
    /// The task's result.
    type Output: Payload;

    /// Calls the function on this thread.
    ///
    /// # Errors
    /// Why the function could not be called.
    fn call(self, argument: Self::Argument) -> Result<Self::Output, Error>;

    /// The reference that travels in place of the function.
    ///
    /// # Errors
    /// `Unsupported` if the function lies outside the program's own image.
    fn to_ref(self) -> Result<FunctionRef, Error>;

    /// The function's address, by which errors name it.
    fn address(self) -> usize;
}

impl<A: Payload, R: Payload> Callee for fn(A) -> R {
    type Argument = A;
    type Output = R;

    #[inline]
    fn call(self, argument: A) -> Result<R, Error> {
        Ok(self(argument))
    }

    #[inline]
    fn to_ref(self) -> Result<FunctionRef, Error> {
        function::function_ref(self)
    }

    #[inline]
    fn address(self) -> usize {
        (self as *const ()).addr()
    }
}
