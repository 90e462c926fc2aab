//! Attributes of serde: what they leave out is an error, what reads as it writes travels, and what needs a
//! self-describing format gets an error that says so.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Payload, Process, RunningProcess};
#[cfg(feature = "messagepack")]
use concurrent_futures::{MessagePack, Shared};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::{Kind, Processes, Serial, Threads, assert_works, trials};

/// All of them.
pub fn trials() -> Vec<Trial> {
    let groups = [
        everywhere::<Serial>(),
        everywhere::<Threads>(),
        everywhere::<Processes>(),
        in_memory::<Serial>(),
        in_memory::<Threads>(),
        processes(),
    ];
    groups.into_iter().flatten().collect()
}

/// Values of sound types arrive as they were sent.
fn everywhere<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME; what_is_read_as_it_is_written_travels::<K>];
    own.into_iter().chain(described::<K>()).collect()
}

/// Values in a format that describes itself.
#[cfg(feature = "messagepack")]
fn described<K: Kind>() -> Vec<Trial> {
    trials![K::NAME; everything_travels_in_a_format_that_describes_itself::<K>]
}

/// The format is a feature of the crate.
#[cfg(not(feature = "messagepack"))]
fn described<K: Kind>() -> Vec<Trial> {
    Vec::new()
}

/// Executors that encode nothing.
fn in_memory<K: Kind>() -> Vec<Trial> {
    trials![K::NAME; attributes_change_nothing_in_memory::<K>]
}

/// Executors that encode.
fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        a_field_that_a_condition_leaves_out_is_an_error,
        a_field_that_is_only_read_is_an_error,
        a_field_that_is_only_written_is_an_error,
        a_value_that_is_read_by_looking_ahead_is_an_error,
        a_flattened_value_is_an_error,
        a_value_that_refuses_to_be_read_is_named,
        an_initializer_and_a_context_are_named_in_errors,
    ]
}

// ---- the types -------------------------------------------------------------------------------

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Arrives as another one where what is left out is not noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order<R> {
    row: R,
    discount: Option<u8>,
}

fn order<R>(row: R) -> Order<R> {
    let discount = Some(0);
    Order { row, discount }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Conditional {
    #[serde(default, skip_serializing_if = "is_false")]
    urgent: bool,
    paid: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Paid {
        #[serde(default, skip_serializing_if = "is_false")]
        urgent: bool,
        paid: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OnlyRead {
    #[serde(default, skip_serializing)]
    urgent: bool,
    paid: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum OnlyReadVariant {
    Paid {
        #[serde(default, skip_serializing)]
        urgent: bool,
        paid: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OnlyReadTuple(#[serde(skip_serializing)] bool, bool);

/// All that it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OnlyReadAlone {
    #[serde(default, skip_serializing)]
    secret: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OnlyWritten {
    #[serde(skip_deserializing)]
    urgent: bool,
    paid: bool,
}

/// Its tag is written, and not read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t")]
struct Tagged {
    first: u8,
    rest: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Internally {
    Add { n: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacently {
    Add { n: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    #[serde(flatten)]
    more: BTreeMap<String, u8>,
}

// ---- errors ----------------------------------------------------------------------------------

fn same<T>(value: T) -> T {
    value
}

/// Takes a value, and gives nothing back.
fn take<T>(_: T) {}

/// Is given nothing, and makes a value.
fn make<T: Sample>(_: ()) -> T {
    T::sample()
}

/// Types with a value to try.
trait Sample: Payload + Clone + Debug + PartialEq {
    fn sample() -> Self;
}

/// The error of a value as the argument and as the result, of a task, an item and a process.
fn errors_of<T: Sample>() -> (Vec<Error>, Vec<Error>) {
    let pool = Processes::pool(1);
    let argument = vec![
        pool.submit(take::<T>, T::sample()).result().unwrap_err(),
        pool.map(take::<T>, [T::sample(), T::sample()])
            .last()
            .unwrap()
            .unwrap_err(),
        Process::new(take::<T>, T::sample())
            .start()
            .and_then(RunningProcess::join)
            .unwrap_err(),
    ];
    let result = vec![
        pool.submit(make::<T>, ()).result().unwrap_err(),
        pool.map(make::<T>, [(), ()]).last().unwrap().unwrap_err(),
        Process::new(make::<T>, ())
            .start()
            .and_then(RunningProcess::join)
            .unwrap_err(),
    ];
    assert_works(&pool);
    (argument, result)
}

/// A value is refused on both ways, in words that name its type and the side, and these.
fn assert_refused<T: Sample>(is_meant: fn(&Error) -> bool, words: &[&str]) {
    let (argument, result) = errors_of::<T>();
    for (errors, side) in [(argument, "the argument"), (result, "the result")] {
        for error in errors {
            assert!(is_meant(&error), "{error:?}");
            let text = error.to_string();
            let task = error.task().expect("it says which task");
            assert!(task.location().file().ends_with("attributes.rs"), "{text}");
            assert!(text.contains("attributes.rs:"), "{text}");
            for word in [side, std::any::type_name::<T>()].iter().chain(words) {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
        }
    }
}

fn is_encode(error: &Error) -> bool {
    matches!(error, Error::Encode(_))
}

fn is_decode(error: &Error) -> bool {
    matches!(error, Error::Decode(_))
}

fn a_field_that_a_condition_leaves_out_is_an_error() {
    let words = ["`urgent`", "skip_serializing_if"];
    assert_refused::<Order<Conditional>>(is_encode, &words);
    assert_refused::<Order<Conditional>>(is_encode, &["`Conditional`"]);
    assert_refused::<Order<Event>>(is_encode, &words);
    assert_refused::<Order<Event>>(is_encode, &["`Event::Paid`"]);
    assert_refused::<Vec<Option<Conditional>>>(is_encode, &words);
    // A value of which nothing is left out travels.
    let urgent = order(Conditional {
        urgent: true,
        paid: true,
    });
    let pool = Processes::pool(1);
    let back = pool.submit(same::<Order<Conditional>>, urgent.clone());
    assert_eq!(back.result().unwrap(), urgent);
}

fn a_field_that_is_only_read_is_an_error() {
    let words = ["skip_serializing", "skip_deserializing"];
    assert_refused::<Order<OnlyRead>>(is_decode, &words);
    assert_refused::<Order<OnlyReadVariant>>(is_decode, &words);
    assert_refused::<Order<OnlyReadTuple>>(is_decode, &words);
    assert_refused::<(OnlyReadAlone, Option<u8>)>(is_decode, &[]);
    assert_refused::<Vec<OnlyRead>>(is_decode, &[]);
}

fn a_field_that_is_only_written_is_an_error() {
    let words = ["skip_serializing", "skip_deserializing"];
    assert_refused::<(OnlyWritten, Option<Option<u8>>)>(is_decode, &words);
    assert_refused::<Tagged>(is_decode, &words);
}

fn a_value_that_is_read_by_looking_ahead_is_an_error() {
    let words = ["untagged", "tag", "`MessagePack`"];
    assert_refused::<Internally>(is_decode, &words);
    assert_refused::<Adjacently>(is_decode, &words);
    assert_refused::<Untagged>(is_decode, &words);
    assert_refused::<Vec<serde_json::Value>>(is_decode, &words);
}

fn a_flattened_value_is_an_error() {
    assert_refused::<Flattened>(is_encode, &["flatten", "`MessagePack`"]);
}

/// The value comes back from a task, an item, and as a context and a part.
#[cfg(feature = "messagepack")]
fn assert_travels<K: Kind, T: Payload + Clone + Debug + PartialEq + Sync>(value: &T) {
    let pool = K::pool(1);
    let packed = || MessagePack(value.clone());
    let back = pool.submit(same::<MessagePack<T>>, packed());
    assert_eq!(back.result().unwrap(), packed());
    let back = pool.submit(same::<Order<MessagePack<T>>>, order(packed()));
    assert_eq!(back.result().unwrap(), order(packed()));
    for back in pool.map(same::<MessagePack<T>>, [packed(), packed()]) {
        assert_eq!(back.unwrap(), packed());
    }
    let lend = |context: &MessagePack<T>, n: u8| (context.clone(), n);
    for (n, lent) in (0..).zip(pool.map_with_context(lend, packed(), 0..2)) {
        assert_eq!(lent.unwrap(), (packed(), n));
    }
}

#[cfg(feature = "messagepack")]
fn everything_travels_in_a_format_that_describes_itself<K: Kind>() {
    assert_travels::<K, _>(&Conditional {
        urgent: false,
        paid: true,
    });
    assert_travels::<K, _>(&Event::Paid {
        urgent: false,
        paid: true,
    });
    assert_travels::<K, _>(&Internally::Add { n: 7 });
    assert_travels::<K, _>(&Adjacently::Add { n: 7 });
    assert_travels::<K, _>(&Untagged::Number(7));
    assert_travels::<K, _>(&Tagged {
        first: 1,
        rest: vec![2, 3],
    });
    assert_travels::<K, _>(&Flattened {
        more: BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]),
    });
    let text = r#"{"a": [1, -2, 3.5, null, true, "x"], "b": {"c": 18446744073709551615}}"#;
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_travels::<K, _>(&json);
    assert_travels::<K, _>(&vec![json; 1000]);
    // Shared memory goes by name in it, too.
    let pool = K::pool(1);
    let numbers = MessagePack(vec![Shared::from_vec(vec![7_u64; 1 << 12])]);
    let sum = |numbers: MessagePack<Vec<Shared<u64>>>| numbers[0].iter().sum::<u64>();
    assert_eq!(pool.submit(sum, numbers).result().unwrap(), 7 << 12);
}

fn a_value_that_refuses_to_be_read_is_named() {
    assert_refused::<Digit>(is_decode, &["10 is no digit"]);
}

fn an_initializer_and_a_context_are_named_in_errors() {
    let builder = concurrent_futures::ProcessPoolExecutor::builder();
    let conditional = order(Conditional::sample());
    let outcome = builder.initializer(take, conditional.clone()).build();
    let text = outcome.map(drop).unwrap_err().to_string();
    assert!(
        text.contains("the argument") && text.contains("`urgent`"),
        "{text}"
    );
    let pool = Processes::pool(1);
    let map = pool.map_with_context(|_: &Order<Conditional>, n: u8| n, conditional, [1, 2]);
    for outcome in map {
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.contains("the context") && text.contains("`urgent`"),
            "{text}"
        );
    }
    let map = pool.map_with_context(|_: &Internally, n: u8| n, Internally::sample(), [1, 2]);
    for outcome in map {
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.contains("the context") && text.contains("untagged"),
            "{text}"
        );
    }
    assert_works(&pool);
}

fn attributes_change_nothing_in_memory<K: Kind>() {
    fn comes_back<T: Sample>(pool: &impl Executor) {
        let back = pool.submit(same::<T>, T::sample());
        assert_eq!(back.result().unwrap(), T::sample());
    }
    let pool = K::pool(1);
    comes_back::<Order<Conditional>>(&pool);
    comes_back::<Order<OnlyRead>>(&pool);
    comes_back::<Internally>(&pool);
    comes_back::<Flattened>(&pool);
    comes_back::<Vec<serde_json::Value>>(&pool);
}

// ---- sound types -----------------------------------------------------------------------------

/// Every attribute that leaves both sides alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Alike<T> {
    #[serde(alias = "one", alias = "eins")]
    first_of_all: u16,
    #[serde(skip)]
    cache: Option<u8>,
    #[serde(rename(serialize = "out", deserialize = "in"))]
    renamed: T,
    unit: (),
    marker: PhantomData<u8>,
    point: Point,
    nested: Option<Box<Alike<T>>>,
}

/// Written as a tuple, and read as a struct.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "(f64, f64)")]
struct Point {
    x: f64,
    y: f64,
}

impl From<Point> for (f64, f64) {
    fn from(point: Point) -> Self {
        (point.x, point.y)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Empty {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    inner: Wrapped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Half(#[serde(skip)] u8, u16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Digit(u8);

impl From<Digit> for u8 {
    fn from(digit: Digit) -> Self {
        digit.0
    }
}

impl TryFrom<u8> for Digit {
    type Error = String;

    fn try_from(digit: u8) -> Result<Self, String> {
        match digit {
            0..=9 => Ok(Self(digit)),
            _ => Err(format!("{digit} is no digit")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape<T> {
    Unit,
    One(T),
    Two(T, #[serde(skip)] u8, u8),
    Named {
        #[serde(skip)]
        cache: u8,
        radius: T,
        name: String,
    },
    Nothing {},
    Nested(Vec<Shape<T>>),
}

fn what_is_read_as_it_is_written_travels<K: Kind>() {
    fn comes_back<T: Payload + Clone + Debug + PartialEq>(pool: &impl Executor, value: T) {
        let back = pool.submit(same::<T>, value.clone()).result();
        assert_eq!(back.unwrap(), value);
        let items = [value.clone(), value.clone()];
        for back in pool.map(same::<T>, items) {
            assert_eq!(back.unwrap(), value);
        }
    }
    let pool = K::pool(1);
    let alike = Alike {
        first_of_all: 7,
        renamed: "x".to_owned(),
        ..Alike::default()
    };
    let nested = Some(Box::new(alike.clone()));
    comes_back(&pool, Alike { nested, ..alike });
    comes_back(&pool, (Empty {}, Wrapped(7), Half(0, 7), Digit(7)));
    comes_back(&pool, Transparent { inner: Wrapped(7) });
    comes_back(
        &pool,
        vec![
            Shape::Unit,
            Shape::One([1_u8; 3]),
            Shape::Two([2; 3], 0, 7),
            Shape::Named {
                cache: 0,
                radius: [3; 3],
                name: "x".to_owned(),
            },
            Shape::Nothing {},
            Shape::Nested(vec![Shape::Unit, Shape::One([4; 3])]),
        ],
    );
    let times = (
        Duration::from_millis(1500),
        std::time::SystemTime::UNIX_EPOCH,
    );
    comes_back(&pool, (times, Range { start: 1, end: 9 }, 'x', true));
    let local: IpAddr = [127, 0, 0, 1].into();
    comes_back(&pool, (local, SocketAddr::new(local, 80), -7_i128));
    let outcomes: Vec<Result<u8, String>> = vec![Ok(7), Err("seven".to_owned())];
    comes_back(&pool, outcomes);
    comes_back(
        &pool,
        HashMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]),
    );
    comes_back(&pool, vec![Some(Digit(1)); 70_000]);
}

// ---- samples ---------------------------------------------------------------------------------

impl<T: Sample> Sample for Order<T> {
    fn sample() -> Self {
        order(T::sample())
    }
}

impl Sample for Conditional {
    fn sample() -> Self {
        let (urgent, paid) = (false, true);
        Self { urgent, paid }
    }
}

impl Sample for Event {
    fn sample() -> Self {
        let (urgent, paid) = (false, true);
        Self::Paid { urgent, paid }
    }
}

impl Sample for Vec<Option<Conditional>> {
    fn sample() -> Self {
        vec![None, Some(Conditional::sample())]
    }
}

impl Sample for OnlyRead {
    fn sample() -> Self {
        let (urgent, paid) = (false, true);
        Self { urgent, paid }
    }
}

impl Sample for OnlyReadVariant {
    fn sample() -> Self {
        let (urgent, paid) = (false, true);
        Self::Paid { urgent, paid }
    }
}

impl Sample for OnlyReadTuple {
    fn sample() -> Self {
        Self(false, true)
    }
}

impl Sample for (OnlyReadAlone, Option<u8>) {
    fn sample() -> Self {
        (OnlyReadAlone { secret: None }, Some(0))
    }
}

impl Sample for Vec<OnlyRead> {
    fn sample() -> Self {
        vec![OnlyRead::sample(); 2]
    }
}

impl Sample for (OnlyWritten, Option<Option<u8>>) {
    fn sample() -> Self {
        let (urgent, paid) = (true, true);
        (OnlyWritten { urgent, paid }, None)
    }
}

impl Sample for Tagged {
    fn sample() -> Self {
        let (first, rest) = (0, Vec::new());
        Self { first, rest }
    }
}

impl Sample for Internally {
    fn sample() -> Self {
        Self::Add { n: 7 }
    }
}

impl Sample for Adjacently {
    fn sample() -> Self {
        Self::Add { n: 7 }
    }
}

impl Sample for Untagged {
    fn sample() -> Self {
        Self::Number(7)
    }
}

impl Sample for Flattened {
    fn sample() -> Self {
        let more = BTreeMap::from([("a".to_owned(), 1)]);
        Self { more }
    }
}

impl Sample for Digit {
    fn sample() -> Self {
        Self(10)
    }
}

impl Sample for Vec<serde_json::Value> {
    fn sample() -> Self {
        vec![serde_json::Value::from(7)]
    }
}
