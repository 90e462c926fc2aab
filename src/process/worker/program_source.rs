//! The program as the source of shared memory that this worker cannot open by itself. Set in `serve`, called
//! by `shared/registry.rs` while an argument is decoded; answered by `process/host/connection.rs`.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::shared::region::RegionId;
use crate::shared::registry::RegionSource;
use crate::sys::handle::OwnedHandle;
use crate::transport::framed::{FramedStream, Received};
use crate::transport::wire::{self, Kind};

/// Asks the program over the worker's connection.
pub(super) struct ProgramRegions(
    /// The worker's connection, which is not in use while the worker decodes an argument.
    pub(super) Rc<RefCell<FramedStream>>,
);

impl RegionSource for ProgramRegions {
    /// Tasks that the program has sent ahead come before the answer; they are set aside.
    fn request(&self, region_id: RegionId) -> io::Result<Option<OwnedHandle>> {
        let mut stream = self.0.borrow_mut();
        stream.send(&[&wire::frame(Kind::RegionRequest, &region_id.to_bytes())])?;
        match stream.receive_first(Kind::Region)? {
            Received::Some(_) => Ok(stream.take_passed().pop()),
            Received::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
