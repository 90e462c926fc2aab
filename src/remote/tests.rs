//! How a `Shared` travels, and what is refused.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::remote::codec::{Source, decode, encode, pack_result, unpack_argument};
use crate::remote::encoded::Encoded;
use crate::remote::lease::NoStore;
use crate::shared::Shared;
use crate::shared::attachments::{self, Attachments};
use crate::unwind;

/// Decodes an argument as a worker does.
fn fetch<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<(T, Attachments), Error> {
    unpack_argument(Source::Borrowed(bytes))
}

/// Encodes a result as a worker does, for a task that was given these regions.
fn bring<T: Serialize + 'static>(mut result: T, given: &Attachments) -> Result<Encoded, Error> {
    pack_result(&mut result, 1000, &NoStore, given)
}

/// A message with a `Shared`, as an argument. The memory lives as long as the message.
fn shared_argument() -> Encoded {
    encode(&Shared::from_vec((0..1000_u64).collect()), 1000).unwrap()
}

#[test]
fn a_message_keeps_what_it_names() {
    let message = shared_argument();
    assert_eq!(
        (message.attachments().is_empty(), message.len() < 40),
        (false, true)
    );
    let read = |bytes: &[u8]| decode::<Shared<u64>>(bytes).map(|it| it.iter().sum::<u64>());
    assert_eq!(read(&message).unwrap(), 499_500);
    let (shared, given) = fetch::<Shared<u64>>(&message).unwrap();
    assert!(!given.is_empty());
    let name = message.to_vec();
    drop((message, given));
    assert_eq!(shared.len(), 1000);
    drop(shared);
    let Err(Error::Decode(words)) = read(&name) else {
        panic!("it is gone")
    };
    let gone = "it names shared memory that this process does not have";
    assert!(words.as_str().ends_with(gone), "{words}");
}

#[test]
fn a_result_brings_what_was_not_given() {
    let message = shared_argument();
    let (given, attachments) = fetch::<Shared<u64>>(&message).unwrap();
    let same = bring(given.clone(), &attachments).unwrap();
    assert!(same.attachments().is_empty());
    let new = Shared::bytes([1; 5000]);
    let both = bring((given, [new.clone(), new]), &attachments).unwrap();
    assert_eq!(both.attachments().len(), 1);
    assert_eq!(both.attachments().descriptors().len(), 1);
}

#[test]
fn shared_elements_of_another_type_are_refused() {
    let bytes = encode(&Shared::bytes([1; 5001]), 1000).unwrap();
    let Err(Error::Decode(words)) = decode::<Shared<u64>>(&bytes) else {
        panic!("5001 bytes are no u64s")
    };
    let expected = "5001 bytes of shared memory are no elements of type u64";
    assert!(words.as_str().contains(expected), "{words}");
    let bytes = encode(&Shared::bytes([1; 5]), 1000).unwrap();
    let Err(Error::Decode(words)) = decode::<Shared<u16>>(&bytes) else {
        panic!("5 bytes are no u16s")
    };
    let expected = "5 bytes are no whole number of elements of type u16";
    assert!(words.as_str().ends_with(expected), "{words}");
}

#[test]
fn an_argument_of_a_wrong_name_is_refused_in_words() {
    let shared = Shared::from_vec(vec![1_u8; 5000]);
    let name = (
        std::process::id(),
        1_000_000_u32,
        7_u64,
        7_u64,
        5000_u64,
        OwnRaw(Vec::new()),
    );
    let bytes = encode(&name, 1000).unwrap();
    let Err(Error::Decode(words)) = fetch::<Shared<u8>>(&bytes) else {
        panic!("there is no such descriptor")
    };
    let expected = format!(
        "the shared memory that process {} has named cannot be mapped: its holder has let go of it",
        std::process::id()
    );
    assert!(words.as_str().ends_with(&expected), "{words}");
    drop(shared);
}

/// Bytes in the place of those of an encoded `Shared`.
struct OwnRaw(Vec<u8>);

impl Serialize for OwnRaw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_shared_or_an_error(
        name in (0..3_u32, any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (holder, descriptor, inode, id, size) = name;
        let name = (holder, descriptor, inode, id, size, OwnRaw(bytes.clone()));
        let encoded = encode(&name, 1000).unwrap();
        for message in [&*encoded, &bytes] {
            let found = decode::<Shared<u32>>(message);
            let fetched = fetch::<Shared<u32>>(message).map(|it| it.0);
            for shared in [found, fetched].into_iter().flatten() {
                prop_assert!(size_of_val(&*shared) <= bytes.len());
            }
        }
    }
}

#[cfg(feature = "bincode")]
#[test]
fn outside_of_a_message_nothing_is_shared() {
    for shared in [Shared::bytes([1; 5000]), Shared::bytes([1; 3])] {
        let error = bincode::serialize(&shared).unwrap_err();
        let expected =
            "a Shared is serialised only as an argument or a result of a process pool's task";
        assert_eq!(error.to_string(), expected);
    }
}

#[cfg(feature = "postcard")]
#[test]
fn outside_of_a_message_nothing_is_shared_by_postcard() {
    for shared in [Shared::bytes([1; 5000]), Shared::bytes([1; 3])] {
        assert!(postcard::to_stdvec(&shared).is_err());
    }
}

/// A value that panics when it is encoded.
struct Bad;

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

#[test]
fn after_a_message_that_panicked_nothing_is_shared() {
    let shared = Shared::bytes([1; 5000]);
    let panicked = unwind::catch(|| encode(&(shared.clone(), Bad), 1000));
    assert!(panicked.is_err());
    assert!(!attachments::is_writing());
    let message = encode(&7_u64, 1000).unwrap();
    assert!(message.attachments().is_empty());
}

/// A value that encodes another message while it is encoded.
struct Around(Shared<u8>);

impl Serialize for Around {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = encode(&Shared::bytes([2; 6000]), 1000).unwrap();
        assert_eq!(inner.attachments().len(), 1);
        self.0.serialize(serializer)
    }
}

#[test]
fn messages_are_encoded_inside_of_others() {
    let around = Around(Shared::bytes([1; 5000]));
    let message = encode(&(Shared::bytes([3; 7000]), around), 1000).unwrap();
    let mut named = message.attachments().clone();
    named.leave_out(&Attachments::default());
    assert_eq!(named.len(), 2);
}
