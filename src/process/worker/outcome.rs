//! The outcome of user code in a worker: it is run, and its outcome becomes bytes and their kind. What the
//! user gets of a fault is in `transport/fault.rs`.

use crate::process::shm::queue::SlotKind;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::lease::PayloadStore;
use crate::remote::stub::Argument;
use crate::transport::fault::{Fault, fault_of};
use crate::unwind;

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
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Fault> {
    fault_of(unwind::catch(|| {
        function::invoke(call, argument, limit, payload_store)
    }))
}
