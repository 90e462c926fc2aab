//! [`ItemCursor`]: how the generic code that runs items (`stub`) asks a worker for the next item and
//! hands over its result. Implemented by the worker process.

use crate::error::Error;
use crate::shared::attachments::Attachments;

/// A cursor over items of a map that a worker runs one after the other.
pub(crate) trait ItemCursor {
    /// Begins the next item. Returns its encoded argument, and the buffer to which its encoded result is to
    /// be appended, behind what is there. `None`: no further item begins.
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)>;
    /// Ends the current item. Its result was appended, and has no attachments.
    fn end_well(&mut self);
    /// Ends the current item, with the shared memory that is attached to its result, or with the reason why
    /// it has no result.
    fn end(&mut self, outcome: Result<Attachments, Error>);
}
