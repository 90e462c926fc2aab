//! The outcome of user code in a worker, and the forms in which it travels: a value or a fault, then the
//! bytes and their kind.

use crate::error::Error;
use crate::process::shm::queue::SlotKind;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::lease::PayloadStore;
use crate::remote::stub::Argument;
use crate::transport::wire::Fault;
use crate::unwind::{self, Panic};

/// Converts a task's outcome to what a worker sends: the kind of the bytes, and the bytes. For a result in a
/// block of the arena, the bytes are the block's reference.
#[inline]
pub(crate) fn body_of(outcome: Result<Encoded, Fault>) -> (SlotKind, Encoded) {
    match outcome.map(Encoded::into_lease) {
        Ok(Ok(lease)) => {
            let location = lease.hand_over().to_bytes();
            (SlotKind::StoredValue, Encoded::copy(&location))
        }
        Ok(Err(value)) => (SlotKind::Value, value),
        Err(fault) => (SlotKind::Fault, fault.to_body().into()),
    }
}

/// Runs user code; whatever it does becomes an outcome, unless it ends the process.
pub(super) fn run(
    call: FunctionRef,
    argument: Argument<'_>,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Fault> {
    fault_of(unwind::catch(|| {
        function::invoke(call, argument, limit, room)
    }))
}

/// Converts the outcome of user code to the form in which it travels.
pub(super) fn fault_of<R>(outcome: Result<Result<R, Error>, Panic>) -> Result<R, Fault> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Decode(words))) => Err(Fault::Decode(words.as_str().to_owned())),
        Ok(Err(Error::TooLarge { size, limit })) => Err(Fault::TooLarge { size, limit }),
        Ok(Err(Error::Encode(words))) => Err(Fault::Encode(words.as_str().to_owned())),
        Ok(Err(other)) => Err(Fault::Encode(other.to_string())),
        Err(panic) => Err(Fault::Panicked(panic)),
    }
}
