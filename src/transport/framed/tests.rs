//! Frames and descriptors over a socket, however the bytes are cut on their way.

use std::io::Write;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::transport::wire::{Kind, frame};

fn stream() -> (FramedStream, Stream) {
    let (ours, theirs) = Stream::pair().unwrap();
    (FramedStream::new(Arc::new(ours)), theirs)
}

/// The body of the next frame.
fn receive(stream: &mut FramedStream) -> Vec<u8> {
    let Received::Some(header) = stream.receive_header().unwrap() else {
        panic!("closed")
    };
    assert_eq!(header.kind, Kind::Value);
    let mut body = vec![99; 3]; // old contents, to be replaced
    stream.receive_body(header.length, &mut body).unwrap();
    body
}

/// Sends all bytes, `at_a_time` of them at a time, from another thread: a socket's buffer is limited.
fn send_cut(mut socket: Stream, bytes: Vec<u8>, at_a_time: usize) {
    std::thread::spawn(move || {
        for piece in bytes.chunks(at_a_time) {
            socket.write_all(piece).unwrap();
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_come_back_whole(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        long in proptest::option::of(0..3 * BUFFER),
        at_a_time in prop_oneof![1_usize..50, 1000..2 * BUFFER],
    ) {
        let mut bodies = bodies;
        bodies.extend(long.map(|length| vec![7; length]));
        bodies.push(b"last".to_vec());
        let bytes = bodies.iter().flat_map(|body| frame(Kind::Value, body)).collect();
        let (mut stream, theirs) = stream();
        send_cut(theirs, bytes, at_a_time);
        for body in bodies {
            prop_assert!(receive(&mut stream) == body);
        }
        prop_assert!(matches!(stream.receive_header(), Ok(Received::Closed)));
        prop_assert!(!stream.has_buffered());
    }

    #[test]
    fn a_frame_that_is_cut_short_is_an_error(
        body in proptest::collection::vec(any::<u8>(), 1..2000),
        cut: prop::sample::Index,
    ) {
        let whole = frame(Kind::Value, &body);
        let (mut stream, mut theirs) = stream();
        theirs.write_all(&whole[..1 + cut.index(whole.len() - 1)]).unwrap();
        drop(theirs);
        let error = match stream.receive_header() {
            Ok(Received::Some(header)) => stream.receive_body(header.length, &mut Vec::new()).err(),
            Ok(Received::Closed) => None,
            Err(error) => Some(error),
        };
        prop_assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::UnexpectedEof));
    }
}

#[test]
fn what_was_announced_takes_no_memory_before_it_comes() {
    let (mut stream, mut theirs) = stream();
    theirs.write_all(b"so much").unwrap();
    drop(theirs);
    let mut body = Vec::new();
    assert!(stream.receive_body(u64::MAX, &mut body).is_err());
    assert_eq!(body, b"so much");
    assert!(body.capacity() < 1 << 10, "{}", body.capacity());
}

#[test]
fn more_parts_than_a_call_takes_are_sent_in_order_and_counted() {
    let (stream, theirs) = stream();
    let mut other = FramedStream::new(Arc::new(theirs));
    let whole = frame(Kind::Value, &[1, 2, 3, 4].repeat(1000));
    let mut parts: Vec<&[u8]> = whole.chunks(3).collect();
    parts.insert(7, b"");
    let mut count = 0;
    stream.send_counting(&parts, &[], &mut count).unwrap();
    assert_eq!(count, whole.len());
    assert_eq!(receive(&mut other), whole[Header::SIZE..]);
}

#[test]
fn descriptors_come_along() {
    let (stream, theirs) = stream();
    let mut other = FramedStream::new(Arc::new(theirs));
    let (carried, far) = Stream::pair().unwrap();
    let sent = [carried.as_handle(), stream.stream().as_handle()];
    stream
        .send_with(&[&frame(Kind::Value, b"abc")], &sent)
        .unwrap();
    assert_eq!(receive(&mut other), b"abc");
    let mut passed = other.take_passed();
    assert_eq!((passed.len(), other.take_passed().len()), (2, 0));
    let copy = Stream::from(passed.swap_remove(0));
    (&copy).write_all(b"through").unwrap();
    drop((copy, carried));
    assert_eq!(io::read_to_string(far).unwrap(), "through");
}

#[test]
fn descriptors_that_nobody_asks_for_are_closed() {
    let (stream, theirs) = stream();
    let mut other = FramedStream::new(Arc::new(theirs));
    let frame = frame(Kind::Value, b"abc");
    let mut earlier: Option<Stream> = None;
    for _ in 0..10 {
        let (carried, far) = Stream::pair().unwrap();
        let carried = vec![carried.as_handle(); sys::stream::MAX_PASSED];
        stream.send_with(&[&frame], &carried).unwrap();
        assert_eq!(receive(&mut other), b"abc");
        assert!(earlier.is_none_or(|far| sys::stream::is_hung_up(far.as_handle())));
        earlier = Some(far);
    }
    assert_eq!(other.take_passed().len(), sys::stream::MAX_PASSED);
}

#[test]
fn frames_before_one_that_is_needed_first_are_received_afterwards() {
    let (mut stream, mut theirs) = stream();
    let large = vec![7; 3 * BUFFER];
    let mut bytes = Vec::new();
    for body in [&b"one"[..], b"", &large] {
        bytes.extend(frame(Kind::Value, body));
    }
    bytes.extend(frame(Kind::Region, b""));
    bytes.extend(frame(Kind::Value, b"behind"));
    let sender = std::thread::spawn(move || theirs.write_all(&bytes).map(|()| theirs));
    let first = stream.receive_first(Kind::Region).unwrap();
    assert!(matches!(first, Received::Some(header) if header.kind == Kind::Region));
    assert!(stream.has_buffered());
    for body in [&b"one"[..], b"", &large, b"behind"] {
        assert!(receive(&mut stream) == body);
    }
    drop(sender.join().unwrap());
    assert!(matches!(
        stream.receive_first(Kind::Region),
        Ok(Received::Closed)
    ));
}

#[test]
fn a_body_that_is_still_coming_at_the_deadline_is_late() {
    let (mut stream, mut theirs) = stream();
    let whole = frame(Kind::Value, b"in two parts");
    let (head, body) = whole.split_at(Header::SIZE);
    theirs.write_all(head).unwrap();
    assert!(matches!(stream.receive_header(), Ok(Received::Some(_))));
    theirs.write_all(body).unwrap();
    stream.give_up_at(Deadline::at(Instant::now()));
    let mut taken = Vec::new();
    let late = stream.receive_body(body.len() as u64, &mut taken);
    assert_eq!(late.map_err(|e| e.kind()), Err(io::ErrorKind::TimedOut));
    stream.give_up_at(Deadline::never());
    stream.receive_body(body.len() as u64, &mut taken).unwrap();
    assert_eq!(taken, body);
    // A frame that has been received whole can be read after the deadline, too.
    theirs.write_all(&whole).unwrap();
    stream.give_up_at(Deadline::at(Instant::now()));
    assert_eq!(receive(&mut stream), body);
}
