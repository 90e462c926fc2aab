//! What the program makes of a worker's answers.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::shared::region::Region;

/// How many bytes a result may have here.
const LIMIT: u64 = 100;

/// A connection to a worker that has sent `sent`, and the worker's end of it.
fn connection(sent: &[u8]) -> (Connection, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(sent).unwrap();
    let stream = FramedStream::new(Arc::new(ours));
    (
        Connection::new(stream, ChildProcess::ended(), None, LIMIT),
        theirs,
    )
}

fn head_of(kind: Kind, task: u64, length: u64) -> [u8; Header::SIZE] {
    Header { kind, task, length }.to_bytes()
}

fn answer(kind: Kind, task: u64, body: &[u8]) -> Vec<u8> {
    [&head_of(kind, task, body.len() as u64)[..], body].concat()
}

/// The reason for which the program stops talking to a worker that has sent `sent` instead of an answer, and
/// then closed its end.
fn complaint(sent: &[u8]) -> Disconnect {
    let (mut connection, theirs) = connection(sent);
    drop(theirs);
    match connection.receive(Deadline::never()) {
        Ok(_) => panic!("it is an answer"),
        Err(broken) => broken,
    }
}

fn value_of(response: Result<Response<'_>, Disconnect>) -> Encoded {
    match response {
        Ok(Response::Value(value)) => value,
        Ok(_) => panic!("it is no value"),
        Err(broken) => panic!("{broken:?}"),
    }
}

#[test]
fn values_and_faults_come_in_the_order_of_their_tasks() {
    let fault = Fault::Decode("seven".into());
    let sent = [
        answer(Kind::Value, 0, b"zero"),
        answer(Kind::Fault, 1, &fault.to_body()),
        answer(Kind::Value, 2, b""),
    ];
    let (mut connection, _theirs) = connection(&sent.concat());
    assert!(
        matches!(connection.receive(Deadline::never()), Ok(Response::Value(value)) if *value == *b"zero")
    );
    assert!(
        matches!(connection.receive(Deadline::never()), Ok(Response::Fault(told)) if told == fault)
    );
    assert!(
        matches!(connection.receive(Deadline::never()), Ok(Response::Value(value)) if *value == *b"")
    );
    assert_eq!(connection.received(), 3);
}

#[test]
fn an_answer_to_a_task_that_is_not_its_turn_is_a_violation() {
    let violation = Disconnect::ProtocolViolation("it answered a task that it was not given");
    for task in [1, 2, u64::MAX] {
        assert_eq!(complaint(&answer(Kind::Value, task, b"x")), violation);
        assert_eq!(complaint(&answer(Kind::Fault, task, &[4])), violation);
    }
    // Nor may one task be answered twice.
    let first = answer(Kind::Value, 0, b"x");
    let (mut connection, _theirs) = connection(&[&first[..], &first[..]].concat());
    assert!(connection.receive(Deadline::never()).is_ok());
    assert_eq!(connection.receive(Deadline::never()).err(), Some(violation));
    assert_eq!(connection.received(), 1);
}

#[test]
fn what_only_comes_before_tasks_is_a_violation() {
    for kind in [Kind::Welcome, Kind::Task, Kind::Hello, Kind::Ready] {
        let violation = Disconnect::ProtocolViolation("it sent what only comes before tasks");
        assert_eq!(complaint(&answer(kind, 0, b"")), violation);
    }
}

#[test]
fn an_answer_over_the_limit_is_refused_by_its_head() {
    let violation = Disconnect::ProtocolViolation("it announced more bytes than it may send");
    assert_eq!(complaint(&head_of(Kind::Value, 0, LIMIT + 1)), violation);
    let control = wire::MAX_CONTROL;
    assert_eq!(complaint(&head_of(Kind::Fault, 0, control + 1)), violation);
    let longest = answer(Kind::Value, 0, &[7; LIMIT as usize]);
    let (mut connection, _theirs) = connection(&longest);
    assert!(
        matches!(connection.receive(Deadline::never()), Ok(Response::Value(value)) if value.len() == 100)
    );
}

#[test]
fn garbage_is_a_violation() {
    let garbled = Disconnect::ProtocolViolation("its report on a task is garbled");
    assert_eq!(complaint(&answer(Kind::Fault, 0, &[99])), garbled);
    assert_eq!(complaint(&answer(Kind::Fault, 0, &[])), garbled);
    let garbage = Disconnect::ProtocolViolation("it sent garbage");
    assert_eq!(complaint(&[0; Header::SIZE]), garbage);
}

#[test]
fn a_worker_that_stops_in_the_middle_is_gone() {
    let whole = answer(Kind::Value, 0, b"value");
    for cut in 0..whole.len() {
        assert_eq!(complaint(&whole[..cut]), Disconnect::Gone, "{cut}");
    }
}

#[test]
fn a_worker_that_says_nothing_is_late_at_the_deadline_and_what_came_before_counts() {
    let sent = [answer(Kind::Value, 0, b"x"), answer(Kind::Value, 1, b"y")];
    let (mut connection, _theirs) = connection(&sent.concat());
    assert!(connection.receive(Deadline::never()).is_ok());
    let passed = Deadline::at(Instant::now());
    assert!(matches!(connection.receive(passed), Ok(Response::Value(value)) if *value == *b"y"));
    assert_eq!(connection.receive(passed).err(), Some(Disconnect::Late));
    let soon = Deadline::after(Duration::from_millis(1));
    assert_eq!(connection.receive(soon).err(), Some(Disconnect::Late));
}

/// A connection to a worker, and the worker's end of it.
fn both_ends() -> (Connection, FramedStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stream = FramedStream::new(Arc::new(ours));
    let connection = Connection::new(stream, ChildProcess::ended(), None, LIMIT);
    (connection, FramedStream::new(Arc::new(theirs)))
}

/// The frame before an outcome that brings shared memory with these ids.
fn memory(ids: &[u64]) -> Vec<u8> {
    let body: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    answer(Kind::Memory, 0, &body)
}

#[test]
fn shared_memory_comes_with_the_next_outcome() {
    let (mut connection, worker) = both_ends();
    let region = Region::copy_of(&[7; 5000]).unwrap();
    let ours = region.descriptor().unwrap();
    let loose = sys::memory::anonymous_file(c"test").unwrap();
    // What is not sealed is left out.
    let parts = [memory(&[1, 2]), answer(Kind::Value, 0, b"x")].concat();
    worker.send_with(&[&parts], &[loose.as_fd(), ours]).unwrap();
    worker.send(&[&answer(Kind::Value, 1, b"y")]).unwrap();
    let value = value_of(connection.receive(Deadline::never()));
    assert_eq!(*value, *b"x");
    assert_eq!(value.attachments().ids(), 2_u64.to_le_bytes());
    let value = value_of(connection.receive(Deadline::never()));
    assert_eq!(*value, *b"y");
    assert!(value.attachments().is_empty());
}

#[test]
fn shared_memory_that_was_announced_and_did_not_come_is_left_out() {
    let (mut connection, worker) = both_ends();
    let parts = [memory(&[1, 2, 3]), answer(Kind::Value, 0, b"x")].concat();
    worker.send(&[&parts]).unwrap();
    let value = value_of(connection.receive(Deadline::never()));
    assert_eq!(*value, *b"x");
    assert!(value.attachments().is_empty());
}

#[test]
fn more_shared_memory_than_a_result_may_bring_is_a_violation() {
    let violation = Disconnect::ProtocolViolation("it sent more shared memory than it may");
    assert_eq!(
        complaint(&memory(&[0; sys::stream::MAX_PASSED + 1])),
        violation
    );
    assert_eq!(complaint(&head_of(Kind::Memory, 0, u64::MAX)), violation);
    let (mut connection, worker) = both_ends();
    let region = Region::copy_of(&[7; 5000]).unwrap();
    let ours = [region.descriptor().unwrap()];
    for _ in 0..2 {
        worker.send_with(&[&memory(&[1])], &ours).unwrap();
    }
    assert_eq!(connection.receive(Deadline::never()).err(), Some(violation));
}
