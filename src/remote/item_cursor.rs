//! Items of a map that a worker runs one after the other, as the code of their types sees them.

use crate::error::Error;
use crate::shared::attachments::Attachments;

/// Items of a map that a worker runs one after the other.
pub(crate) trait ItemCursor {
    /// The next item begins: its encoded argument, and where its encoded result is to be appended, behind
    /// what stands there. `None`: no item begins any more.
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)>;
    /// The item that has begun has come to an end, and its result, which brings nothing else, was appended.
    fn end_well(&mut self);
    /// The item that has begun has come to an end: what shared memory its result brings, or why it has none.
    fn end(&mut self, outcome: Result<Attachments, Error>);
}
