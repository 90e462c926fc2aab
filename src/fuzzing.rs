//! The fuzz targets. The fuzzer (`.ci/fuzz`) feeds them generated inputs, and `cargo test` the inputs that
//! the fuzzer found and that are kept in `tests/corpus/`. An input is bytes as a worker might send them or
//! write them into shared memory. A target panics if the crate does something wrong with them.

mod script;
mod tasks;
mod worker;
mod queue;

use std::io::Write;
use std::net::Shutdown;

use crate::process::host::child::ChildProcess;
use crate::process::host::config::{DEFAULT_PAYLOAD_LIMIT, WorkerConfig};
use crate::process::host::connection::{Connection, Response};
use crate::process::host::handshake::StartError;
use crate::process::host::stdio::WorkerStdio;
use crate::remote::codec;
use crate::remote::fields::FieldReader;
use crate::remote::function::FunctionRef;
use crate::sync::deadline::Deadline;
use crate::sys::stream::Stream;
use crate::transport::fault::Fault;
use crate::transport::framed::FramedStream;
use crate::transport::messages::{Hello, Welcome, protocol_version};
use crate::transport::wire::{Header, Kind, frame};

pub use queue::queue;

/// The most bytes of one input that are used: a socket takes them at once, and no text of that length is
/// truncated, whatever it becomes in decoding.
const MOST: usize = 16 << 10;

/// Checks that whatever decodes as a part of a frame encodes to the same bytes again.
pub fn frames(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MOST)];
    if let Some(first) = bytes.first_chunk() {
        if let Some(header) = Header::from_bytes(first) {
            assert_eq!(header.to_bytes(), *first);
        }
    }
    if let Some(call) = FunctionRef::read(&mut FieldReader::new(bytes)) {
        assert_eq!(call.to_bytes(), bytes[..FunctionRef::SIZE]);
    }
    if let Some(welcome) = Welcome::from_body(bytes) {
        assert_eq!(welcome.to_body(), bytes);
    }
    if let Some(hello) = Hello::from_body(bytes) {
        assert_eq!(hello.to_body(), bytes);
    }
    if let Some(fault) = Fault::from_body(bytes) {
        let body = fault.to_body();
        assert_eq!(Fault::from_body(&body), Some(fault));
        // Text that is not valid UTF-8 is kept except for its invalid parts.
        let mut threes = body.windows(3);
        assert!(body == bytes || threes.any(|three| three == "\u{FFFD}".as_bytes()));
    }
}

/// Feeds what a worker sends until it is ready or is given up. The first byte of the input decides how much
/// valid data (the hello) comes before the rest.
pub fn greeting(bytes: &[u8]) {
    let Some((politeness, rest)) = bytes.split_first() else {
        return;
    };
    let rest = &rest[..rest.len().min(MOST)];
    let mut said = Vec::new();
    if politeness & 1 == 1 {
        let (version, pid) = (protocol_version(), ChildProcess::ended().pid());
        said = frame(Kind::Hello, &Hello { version, pid }.to_body());
    }
    said.extend(rest);
    let (ours, _theirs) = worker_that_says(&said);
    let mut worker_config = WorkerConfig::new();
    (worker_config.stdout, worker_config.stderr) = (WorkerStdio::Null, WorkerStdio::Null);
    match worker_config.greet(ours) {
        Ok(connection) => assert_eq!((politeness & 1, connection.received()), (1, 0)),
        Err(StartError::Start(_) | StartError::Initializer(_) | StartError::Interrupted(_)) => {}
    }
}

/// Feeds a worker's answers to tasks, up to the one for which the worker is killed. The first byte of the
/// input decides how many bytes are added at the end, so that short inputs can have long bodies.
pub fn replies(bytes: &[u8]) {
    let Some((&more, rest)) = bytes.split_first() else {
        return;
    };
    let mut said = rest[..rest.len().min(MOST)].to_vec();
    said.resize(said.len() + 512 * usize::from(more), more);
    let (ours, _theirs) = worker_that_says(&said);
    let mut connection = Connection::new(
        FramedStream::new(ours.into()),
        ChildProcess::ended(),
        None,
        DEFAULT_PAYLOAD_LIMIT,
    );
    let mut told = 0;
    loop {
        told += match connection.receive(Deadline::never()) {
            Ok(Response::Value(value)) => {
                // Any result is right: what a value means is the user's affair.
                let _ = codec::decode::<(u8, Vec<String>, Option<u64>)>(&value);
                Header::SIZE + value.len()
            }
            Ok(Response::Stored(location)) => Header::SIZE + location.len(),
            Ok(Response::Fault(_)) => Header::SIZE,
            Err(_) => break,
        };
        assert!(told <= said.len());
    }
    // A vector doubles when it grows; it does not jump to what a header announces.
    assert!(connection.kept() <= 2 * said.len() + 1024);
}

/// Returns the program's end of a connection, and the worker's end, which has sent these bytes and sends no
/// more.
fn worker_that_says(bytes: &[u8]) -> (Stream, Stream) {
    let (ours, theirs) = Stream::pair().expect("a socketpair");
    theirs.set_nonblocking(true).expect("a mode");
    (&theirs).write_all(bytes).expect("room in the socket");
    theirs.shutdown(Shutdown::Write).expect("a hang-up");
    (ours, theirs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Feeds `target` with all inputs that are kept for it.
    fn replay(name: &str, target: fn(&[u8])) {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let inputs = fs::read_dir(kept.join(name)).unwrap();
        let mut count = 0;
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display()); // shown if it panics
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 10, "{count} inputs are kept for {name}");
    }

    #[test]
    fn frames_stay_what_they_are() {
        replay("frames", super::frames);
    }

    #[test]
    fn a_worker_may_write_what_it_likes() {
        replay("queue", super::queue);
    }

    #[test]
    fn a_worker_may_greet_as_it_likes() {
        replay("greeting", super::greeting);
    }

    #[test]
    fn a_worker_may_reply_as_it_likes() {
        replay("replies", super::replies);
    }
}
