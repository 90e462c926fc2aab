//! The program as the source of what this worker cannot open by itself: shared memory, and sockets of channels.
//! Set in `serve`, called by `shared/registry.rs` and `channel/socket.rs` while an argument is decoded; answered by
//! `process/host/connection.rs`.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use crate::channel::registry::ChannelId;
use crate::channel::socket::SocketSource;
use crate::shared::region::RegionId;
use crate::shared::registry::RegionSource;
use crate::sys::handle::OwnedHandle;
use crate::transport::framed::{FramedStream, Received};
use crate::transport::wire::{self, Kind};

/// Asks the program over the worker's connection.
pub(super) struct ProgramSource {
    /// The worker's connection, which is not in use while the worker decodes an argument.
    pub(super) stream: Rc<RefCell<FramedStream>>,
    /// The maximum length of an encoded value, in bytes.
    pub(super) payload_limit: u64,
}

impl ProgramSource {
    /// Sends a request, and receives the descriptor that answers it. Tasks that the program has sent ahead come
    /// before the answer; they are set aside.
    fn ask(&self, request: Kind, body: &[u8], answer: Kind) -> io::Result<Option<OwnedHandle>> {
        let mut stream = self.stream.borrow_mut();
        stream.send(&[&wire::frame(request, body)])?;
        match stream.receive_first(answer)? {
            Received::Some(_) => Ok(stream.take_passed().pop()),
            Received::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl RegionSource for ProgramSource {
    fn request(&self, region_id: RegionId) -> io::Result<Option<OwnedHandle>> {
        self.ask(Kind::RegionRequest, &region_id.to_bytes(), Kind::Region)
    }
}

impl SocketSource for ProgramSource {
    fn request(&self, channel_id: ChannelId) -> io::Result<Option<OwnedHandle>> {
        self.ask(Kind::ChannelRequest, &channel_id.to_bytes(), Kind::Channel)
    }

    fn limit(&self) -> u64 {
        self.payload_limit
    }
}
