//! What a portable task calls: a function of its argument alone, or of the state of its worker, too. Made by
//! `executor`, called or sent by `task`. Relies on `function` (the reference that travels) and on `user_state`.

use crate::error::Error;
use crate::remote::function::{self, FunctionRef};
use crate::remote::payload::Payload;
use crate::user_state;

/// A function that a portable task calls.
pub(crate) trait Callee: Copy + Send + Sync + 'static {
    /// The task's argument.
    type Argument: Payload;
    /// The task's result.
    type Output: Payload;

    /// Calls the function on this thread.
    ///
    /// # Errors
    /// `InvalidConfig` if this thread's worker does not have the state that the function borrows.
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

/// A function that borrows the state of its worker.
pub(crate) struct Stateful<S, A, R>(
    /// The function.
    pub(crate) fn(&mut S, A) -> R,
);

impl<S, A, R> Clone for Stateful<S, A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, A, R> Copy for Stateful<S, A, R> {}

impl<S: 'static, A: Payload, R: Payload> Callee for Stateful<S, A, R> {
    type Argument = A;
    type Output = R;

    fn call(self, argument: A) -> Result<R, Error> {
        user_state::borrow(|state: &mut S| self.0(state, argument))
    }

    fn to_ref(self) -> Result<FunctionRef, Error> {
        function::function_ref_with_state(self.0)
    }

    fn address(self) -> usize {
        (self.0 as *const ()).addr()
    }
}
