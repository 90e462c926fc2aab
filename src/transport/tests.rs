//! Encoded messages are decoded to what they were; all other bytes are refused, whatever they claim to be.

use proptest::prelude::*;

use super::fault::Fault;
use super::messages::{Hello, ProtocolVersion, StartCall, Welcome};
use super::wire::{Header, Kind};
use crate::preparation::Duty;
use crate::remote::fields::FieldReader;
use crate::remote::function::FunctionRef;
use crate::unwind::Panic;

fn protocol_version() -> impl Strategy<Value = ProtocolVersion> {
    let stamp = proptest::collection::vec(any::<u8>(), 0..64);
    (any::<u32>(), any::<u8>(), stamp).prop_map(|(protocol, codec, stamp)| ProtocolVersion {
        protocol,
        codec,
        stamp,
    })
}

fn call() -> impl Strategy<Value = FunctionRef> {
    (any::<i64>(), any::<i64>(), any::<u64>()).prop_map(|(entry, function, fingerprint)| {
        FunctionRef {
            entry,
            function,
            fingerprint,
        }
    })
}

fn start_call() -> impl Strategy<Value = StartCall> {
    let argument = proptest::collection::vec(any::<u8>(), 0..64);
    let duty = prop_oneof![Just(Duty::Initializer), Just(Duty::State)];
    (duty, call(), argument).prop_map(|(duty, call, argument)| StartCall {
        duty,
        call,
        argument,
    })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let title = proptest::collection::vec(any::<u8>(), 0..16);
    let preparations = proptest::collection::vec(start_call(), 0..3);
    let limits = (any::<u64>(), any::<u64>());
    let queue = (any::<(u32, u32)>(), any::<(u64, u64)>());
    let numbers = (any::<u32>(), any::<[bool; 3]>(), queue);
    (protocol_version(), numbers, limits, title, preparations).prop_map(
        |(
            version,
            (index, [has_input, has_signals, has_arena], (queue, key)),
            (payload_limit, memory_limit),
            title,
            preparations,
        )| {
            Welcome {
                has_input,
                has_signals,
                queue,
                key,
                has_arena,
                event_level: u8::from(has_arena),
                version,
                index,
                payload_limit,
                memory_limit,
                title,
                preparations,
            }
        },
    )
}

fn fault() -> impl Strategy<Value = Fault> {
    let optional = || proptest::option::of(any::<String>());
    prop_oneof![
        (any::<String>(), optional(), optional()).prop_map(|(message, location, backtrace)| {
            Fault::Panicked(Panic {
                message,
                location,
                backtrace,
            })
        }),
        Just(Fault::LeftAlone),
        any::<String>().prop_map(Fault::Decode),
        any::<String>().prop_map(Fault::Encode),
        (any::<String>(), any::<u64>(), any::<u64>())
            .prop_map(|(value, size, limit)| Fault::TooLarge { value, size, limit }),
        any::<String>().prop_map(Fault::Refused),
        any::<String>().prop_map(Fault::NoState),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Welcome,
        Kind::Task,
        Kind::Hello,
        Kind::Ready,
        Kind::Value,
        Kind::Fault,
        Kind::Memory,
        Kind::Stop,
        Kind::GoOn,
    ])
}

proptest! {
    #[test]
    fn headers_come_back(kind in kind(), task: u64, length: u64) {
        let header = Header { kind, task, length };
        prop_assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
    }

    #[test]
    fn a_header_with_one_wrong_bit_is_refused_or_says_something_else(
        kind in kind(), task: u64, length: u64, bit in 0..Header::SIZE * 8,
    ) {
        let header = Header { kind, task, length };
        let mut bytes = header.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(Header::from_bytes(&bytes), Some(header));
    }

    #[test]
    fn calls_come_back(call in call()) {
        prop_assert_eq!(FunctionRef::read(&mut FieldReader::new(&call.to_bytes())), Some(call));
    }

    #[test]
    fn welcomes_come_back(welcome in welcome()) {
        prop_assert_eq!(Welcome::from_body(&welcome.to_body()), Some(welcome));
    }

    #[test]
    fn hellos_come_back(version in protocol_version(), pid: u32) {
        let hello = Hello { version, pid };
        prop_assert_eq!(Hello::from_body(&hello.to_body()), Some(hello));
    }

    #[test]
    fn faults_come_back(fault in fault()) {
        prop_assert_eq!(Fault::from_body(&fault.to_body()), Some(fault));
    }

    #[test]
    fn cut_bodies_are_refused(fault in fault(), version in protocol_version(), cut: prop::sample::Index) {
        let body = fault.to_body();
        prop_assert_eq!(Fault::from_body(&body[..cut.index(body.len())]), None);
        let body = Hello { version, pid: 1 }.to_body();
        prop_assert_eq!(Hello::from_body(&body[..cut.index(body.len())]), None);
    }

    #[test]
    fn bodies_with_leftovers_are_refused(fault in fault(), version in protocol_version(), more: u8) {
        let mut body = fault.to_body();
        body.push(more);
        prop_assert_eq!(Fault::from_body(&body), None);
        let mut body = Hello { version, pid: 1 }.to_body();
        body.push(more);
        prop_assert_eq!(Hello::from_body(&body), None);
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Welcome::from_body(&bytes);
        let _ = Hello::from_body(&bytes);
        let _ = Fault::from_body(&bytes);
        if let Some(header) = bytes.first_chunk() {
            let _ = Header::from_bytes(header);
        }
    }
}

#[test]
fn long_texts_are_cut() {
    let fault = Fault::Decode("x".repeat(1 << 20));
    assert!(fault.to_body().len() < 70_000);
    assert!(Fault::from_body(&fault.to_body()).is_some());
}

#[test]
fn a_length_beyond_the_body_is_refused() {
    let mut body = Fault::Decode("x".into()).to_body();
    body[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Fault::from_body(&body), None);
}
