//! The set-up of a worker process, between `init` and the initializer: the connection is moved away from
//! stdin, hello and welcome are exchanged (`transport/messages.rs`), and the pool's shared memory is mapped.
//!
//! Called by `init_from`. The program's side is `process/host/handshake.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;

use crate::current_worker::Progress;
use crate::process::shm::arena::worker::WorkerArena;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::ShmQueue;
use crate::process::shm::queue::layout::{MappedQueue, QueueGeometry};
use crate::process::shm::signals::SharedSignals;
use crate::process::worker::context::Worker;
use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::{AsHandle, OwnedHandle};
use crate::sys::stream::Stream;
use crate::trace;
use crate::transport::framed::{FramedStream, Received};
use crate::transport::messages::{Hello, Welcome, protocol_version};
use crate::transport::wire::{self, Kind};

impl Worker {
    /// Moves the connection away from stdin, sets the process up as a worker, and exchanges hello and
    /// welcome.
    pub(super) fn set_up() -> io::Result<Self> {
        let stdin = io::stdin();
        let connection = Stream::from(sys::descriptors::copy_high(stdin.as_handle())?);
        let mut stream = FramedStream::new(Arc::new(connection));
        // Hello first: the program sends nothing before it, and this process has enough to do until the
        // answer comes.
        say_hello(&stream);
        sys::stdio::empty_input()?;
        sys::worker::die_with_parent();
        if sys::stream::is_hung_up(stream.stream().as_handle()) {
            exit(0); // the program ended before the line above
        }
        sys::worker::heed_signals();
        sys::worker::stand_aside_from_terminal();

        let welcome = receive_welcome(&mut stream)?;
        if welcome.version != protocol_version() {
            let words = "the parent is another build of the program";
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        let mut passed = stream.take_passed().into_iter();
        for number in [sys::stdio::OUTPUT, sys::stdio::ERROR] {
            sys::stdio::redirect(next(&mut passed)?.as_handle(), number)?;
        }
        if welcome.has_input {
            sys::stdio::redirect(next(&mut passed)?.as_handle(), sys::stdio::INPUT)?;
        }
        let signals = match welcome.has_signals {
            true => Some(SharedSignals::map(next(&mut passed)?)?),
            false => None,
        };
        let (workers, index) = (welcome.queue.1 as usize, welcome.index as usize);
        let queue = match QueueGeometry::of_numbers(welcome.queue) {
            Some(geometry) => {
                let memory = MappedQueue::map(next(&mut passed)?, geometry, index)?;
                let queue = ShmQueue::new(memory, Key::from_numbers(welcome.key));
                queue.arrive(index);
                Some(queue)
            }
            None => None,
        };
        let worker_arena = match welcome.has_arena {
            true => Some(WorkerArena::map(next(&mut passed)?, workers, index)?),
            false => None,
        };
        if welcome.event_level > 0 {
            trace::send_events(next(&mut passed)?.into(), welcome.event_level);
        }
        if welcome.memory_limit > 0 {
            sys::worker::limit_memory(welcome.memory_limit)?;
        }
        if let Ok(title) = std::ffi::CString::new(welcome.title.clone()) {
            sys::thread::set_title(&title);
        }
        let progress: Arc<Progress> = Arc::default();
        progress.keep_connection(stream.stream());
        Ok(Self {
            stream: Rc::new(RefCell::new(stream)),
            welcome,
            signals,
            queue,
            worker_arena,
            release_epoch: Cell::new(0),
            progress,
            fork_epoch: ForkEpoch::here(),
            stdout: io::stdout(),
        })
    }
}

/// Sends the hello: this process is a worker, and which build of which program it is.
fn say_hello(stream: &FramedStream) {
    let hello = Hello {
        version: protocol_version(),
        pid: std::process::id(),
    };
    let frame = wire::frame(Kind::Hello, &hello.to_body());
    if stream.send(&[&frame]).is_err() {
        exit(0) // the program has ended, or does not need this worker any more
    }
}

fn receive_welcome(stream: &mut FramedStream) -> io::Result<Welcome> {
    let garbled = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the parent's welcome is garbled",
        )
    };
    let Received::Some(header) = stream.receive_header()? else {
        exit(0) // the program has ended, or does not need this worker any more
    };
    if header.kind != Kind::Welcome {
        return Err(garbled());
    }
    let mut body = Vec::new();
    stream.receive_body(header.length, &mut body)?;
    Welcome::from_body(&body).ok_or_else(garbled)
}

/// Takes the next descriptor that came with the welcome.
fn next(passed: &mut impl Iterator<Item = OwnedHandle>) -> io::Result<OwnedHandle> {
    let words = "the parent's welcome lacks descriptors";
    let missing = || io::Error::new(io::ErrorKind::InvalidData, words);
    passed.next().ok_or_else(missing)
}
