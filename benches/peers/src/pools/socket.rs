//! The least that two processes need: 64 bytes there and back over a socketpair.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;

use crate::Outcome;
use crate::children::Role;
use crate::pools::Call;

pub struct SocketPair {
    /// Our end.
    stream: UnixStream,
    /// The child that has the other end.
    child: Child,
}

/// Bytes of a message, of which the number is the first eight.
const MESSAGE: usize = 64;

impl SocketPair {
    pub const NAME: &str = "bare socketpair";

    pub fn new() -> Outcome<Self> {
        let (stream, childs) = UnixStream::pair()?;
        let child = Role::SocketPong
            .command()
            .stdin(OwnedFd::from(childs))
            .spawn()?;
        Ok(Self { stream, child })
    }
}

impl Call for SocketPair {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&number.to_le_bytes());
        self.stream.write_all(&message)?;
        self.stream.read_exact(&mut message)?;
        Ok(u64::from_le_bytes(message[..8].try_into()?))
    }
}

impl Drop for SocketPair {
    fn drop(&mut self) {
        // The child ends with the stream, whatever state that is in.
        self.stream.shutdown(Shutdown::Both).ok();
        self.child.wait().ok();
    }
}

/// The child: its standard input is the socket.
pub fn pong() -> Outcome<()> {
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}
