//! A ping-pong between two processes over ipc-channel, made by hand: no pool, no queue.

use std::process::Child;

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender,
};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::children::Role;
use crate::pools::{Call, Echo};

pub struct IpcPong {
    /// Our end; `None` only while this is dropped.
    lines: Option<Lines>,
    /// The child that has the other ends.
    child: Child,
}

/// One end of the channels between the two: numbers by serde, bytes as they are.
#[derive(Serialize, Deserialize)]
struct Lines {
    /// Numbers to the other end.
    number_out: IpcSender<u64>,
    /// Numbers from it.
    number_in: IpcReceiver<u64>,
    /// Bytes to the other end.
    bytes_out: IpcBytesSender,
    /// Bytes from it.
    bytes_in: IpcBytesReceiver,
}

impl IpcPong {
    pub const NAME: &str = "ipc-channel by hand";

    /// A child that returns numbers.
    pub fn numbers() -> Outcome<Self> {
        Self::start(Role::IpcNumbers)
    }

    /// A child that returns bytes.
    pub fn bytes() -> Outcome<Self> {
        Self::start(Role::IpcBytes)
    }

    fn start(role: Role) -> Outcome<Self> {
        let (server, token) = IpcOneShotServer::<Lines>::new()?;
        let child = role.command().arg(token).spawn()?;
        let (_, lines) = server.accept()?;
        Ok(Self {
            lines: Some(lines),
            child,
        })
    }

    fn lines(&self) -> Outcome<&Lines> {
        Ok(self.lines.as_ref().ok_or("the channels are closed")?)
    }
}

impl Call for IpcPong {
    fn call(&mut self, number: u64) -> Outcome<u64> {
        let lines = self.lines()?;
        lines.number_out.send(number)?;
        Ok(lines.number_in.recv()?)
    }
}

impl Echo for IpcPong {
    fn echo(&mut self, bytes: Vec<u8>) -> Outcome<Vec<u8>> {
        let lines = self.lines()?;
        lines.bytes_out.send(&bytes)?;
        Ok(lines.bytes_in.recv()?)
    }
}

impl Drop for IpcPong {
    fn drop(&mut self) {
        // The child ends when no process can send to it any more.
        self.lines = None;
        self.child.wait().ok();
    }
}

/// Makes the channels, and sends the parent its end.
fn connect(token: String) -> Outcome<Lines> {
    let (to_parent, numbers_of_child) = ipc::channel()?;
    let (to_child, numbers_of_parent) = ipc::channel()?;
    let (bytes_to_parent, bytes_of_child) = ipc::bytes_channel()?;
    let (bytes_to_child, bytes_of_parent) = ipc::bytes_channel()?;
    let parents = Lines {
        number_out: to_child,
        number_in: numbers_of_child,
        bytes_out: bytes_to_child,
        bytes_in: bytes_of_child,
    };
    IpcSender::connect(token)?.send(parents)?;
    Ok(Lines {
        number_out: to_parent,
        number_in: numbers_of_parent,
        bytes_out: bytes_to_parent,
        bytes_in: bytes_of_parent,
    })
}

/// The child that returns numbers.
pub fn pong_numbers(token: String) -> Outcome<()> {
    let lines = connect(token)?;
    while let Ok(number) = lines.number_in.recv() {
        lines.number_out.send(number)?;
    }
    Ok(())
}

/// The child that returns bytes.
pub fn pong_bytes(token: String) -> Outcome<()> {
    let lines = connect(token)?;
    while let Ok(bytes) = lines.bytes_in.recv() {
        lines.bytes_out.send(&bytes)?;
    }
    Ok(())
}
