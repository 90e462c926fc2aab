//! What a chunk's results tell their reader, in whatever order outcomes arrive.

use std::panic::Location;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::remote::codec;
use crate::task_info::Function;

/// The results of `len` items of type `u8`; decoding 9 by `all` panics.
fn chunk_results(len: usize, listener: Option<Listener>) -> Arc<ChunkResults<u8>> {
    fn one(source: Source<'_>) -> Result<u8, Error> {
        codec::unpack(source)
    }
    fn all(values: &mut LengthDelimited<'_>, to: &mut Vec<Result<u8, Error>>) {
        for value in values {
            assert_ne!(value, [9], "nine");
            to.push(codec::unpack(Source::Borrowed(value)));
        }
    }
    let info = TaskInfo::new(None, Location::caller(), Function::Address(0));
    let decode = Some(Decode { one, all });
    ChunkResults::new(len, info, decode, &Arc::default(), listener)
}

/// A run of encoded results of neighbours: one byte each.
fn run(first: usize, values: &[u8]) -> EncodedRun {
    let bytes = values.iter().flat_map(|value| [1, 0, *value]).collect();
    EncodedRun {
        first,
        count: values.len(),
        bytes,
    }
}

fn values(outcomes: impl IntoIterator<Item = Outcome<u8>>) -> Vec<u8> {
    outcomes.into_iter().map(|it| it.unwrap_or(0)).collect()
}

#[test]
fn outcomes_are_read_in_order_whatever_comes_first() {
    let chunk_results = chunk_results(6, None);
    chunk_results.arrive(run(3, &[4, 5]));
    assert!(
        !chunk_results.has(0)
            && chunk_results.has(3)
            && chunk_results.has(4)
            && !chunk_results.has(5)
    );
    assert!(values(chunk_results.take_from(0).outcomes).is_empty());
    chunk_results.settle(0, Ok(1), |_| ());
    chunk_results.arrive_alone(1, codec::encode(&2_u8, 9).unwrap(), &mut completed);
    assert_eq!(values(chunk_results.take_from(0).outcomes), [1, 2]);
    chunk_results.fail(2, Error::Cancelled, &mut |_| ());
    assert_eq!(values(chunk_results.take_from(2).outcomes), [0]);
    assert_eq!(values(chunk_results.take_from(3).outcomes), [4, 5]);
    chunk_results.settle(5, Ok(6), |_| ());
    assert_eq!(chunk_results.take_all().outcomes.len(), 1);
}

#[test]
fn who_watches_an_item_hears_of_it_after_all_others() {
    let chunk_results = chunk_results(3, None);
    let heard = Arc::new(AtomicUsize::new(0));
    let wait = WaitingForItem {
        chunk_results: &chunk_results,
        index: 1,
    };
    let ear = Arc::clone(&heard);
    let watcher = move || {
        ear.fetch_add(1, Ordering::Relaxed);
    };
    assert!(wait.watch(WatchKey::fresh(), Box::new(watcher)));
    chunk_results.arrive(run(2, &[3]));
    chunk_results.settle(0, Ok(1), |_| ());
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    chunk_results.settle(1, Ok(2), |_| ());
    chunk_results.settle(1, Ok(7), |verdict| assert_eq!(verdict, Verdict::Late));
    assert_eq!(heard.load(Ordering::Relaxed), 1);
}

#[test]
fn a_result_that_panics_in_decoding_costs_itself() {
    let chunk_results = chunk_results(4, None);
    chunk_results.arrive(run(0, &[1, 9, 9, 2]));
    let outcomes = chunk_results.take_from(0).outcomes;
    let panics = outcomes
        .iter()
        .map(|it| matches!(it, Err(Error::Panicked(_))));
    assert!(panics.eq([false, true, true, false]));
    assert_eq!(values(outcomes), [1, 0, 0, 2]);
}

#[test]
fn a_listener_hears_each_time() {
    let heard = Arc::new(AtomicUsize::new(0));
    let ear = Arc::clone(&heard);
    let listener: Listener = Box::new(move || {
        ear.fetch_add(1, Ordering::Relaxed);
        None
    });
    let chunk_results = chunk_results(3, Some(listener));
    assert!(chunk_results.has_listeners());
    chunk_results.arrive(run(1, &[2, 3]));
    chunk_results.settle(0, Ok(1), |_| ());
    assert_eq!(heard.load(Ordering::Relaxed), 2);
    assert_eq!(chunk_results.take_all().outcomes.len(), 3);
}

/// A map bounds its unread results by these counts.
#[test]
fn results_are_counted_as_they_arrive_and_as_they_are_taken() {
    let chunk_results = chunk_results(5, None);
    assert_eq!(
        (
            chunk_results.timing().arrived(),
            chunk_results.timing().result_size()
        ),
        (0, None)
    );
    chunk_results.arrive(run(0, &[1, 2]));
    assert_eq!(
        (
            chunk_results.timing().arrived(),
            chunk_results.timing().result_size()
        ),
        (6, Some(3))
    );
    let big = || Encoded::copy(&[7; TOGETHER as usize]);
    chunk_results.arrive_alone(2, big(), &mut completed);
    chunk_results.arrive_alone(2, big(), &mut late);
    chunk_results.arrive_alone(3, big(), &mut completed);
    chunk_results.fail(4, Error::Cancelled, &mut |_| ());
    assert_eq!(chunk_results.timing().arrived(), 6 + 2 * TOGETHER);
    assert_eq!(chunk_results.timing().result_size(), Some(TOGETHER));
    chunk_results.timing().note_results(8, 8);
    assert_eq!(
        chunk_results.timing().result_size(),
        Some(TOGETHER - TOGETHER / 8)
    );
    assert_eq!(chunk_results.take_from(0).bytes, 6);
    let one = chunk_results.take_from(2);
    assert_eq!((one.outcomes.len(), one.bytes), (1, TOGETHER));
    let rest = chunk_results.take_all();
    assert_eq!((rest.outcomes.len(), rest.bytes), (2, TOGETHER));
}

#[test]
fn results_that_are_decoded_as_they_come_count_until_some_are_taken() {
    let chunk_results = chunk_results(2, None);
    chunk_results.deliver(1, Source::Borrowed(&[2]), &mut |_, _| ());
    chunk_results.deliver(1, Source::Borrowed(&[2]), &mut |_, _| ()); // arrives too late
    assert_eq!(chunk_results.timing().arrived(), 1);
    assert_eq!(chunk_results.take_from(0).bytes, 0);
    chunk_results.deliver(0, Source::Borrowed(&[1]), &mut |_, _| ());
    let both = chunk_results.take_from(0);
    assert_eq!(both.bytes, 2);
    assert_eq!(values(both.outcomes), [1, 2]);
}

/// A run without the results that it should have.
fn hollow_run(first: usize, count: usize) -> EncodedRun {
    let bytes = Vec::new();
    EncodedRun {
        first,
        count,
        bytes,
    }
}

fn completed(verdict: Verdict) {
    assert_eq!(verdict, Verdict::Completed);
}

fn late(verdict: Verdict) {
    assert_eq!(verdict, Verdict::Late);
}

#[test]
fn an_index_behind_the_end_settles_nothing() {
    let chunk_results = chunk_results(3, None);
    for index in [3, 4, 64, usize::MAX] {
        chunk_results.arrive_alone(index, codec::encode(&7_u8, 9).unwrap(), &mut late);
        chunk_results.settle(index, Ok(7), late);
        chunk_results.fail(index, Error::Cancelled, &mut late);
        chunk_results.arrive(run(index, &[7, 7]));
        assert!(!chunk_results.has(index));
    }
    assert!(chunk_results.take_all().outcomes.is_empty());
    chunk_results.arrive(run(1, &[2, 3, 7]));
    assert!(chunk_results.has(1) && chunk_results.has(2) && !chunk_results.has(3));
    chunk_results.arrive(run(0, &[1]));
    let mut taken = chunk_results.take_all().outcomes;
    taken.sort_by_key(|(index, _)| *index);
    assert!(taken.iter().map(|(index, _)| *index).eq(0..3));
    assert_eq!(values(taken.into_iter().map(|(_, it)| it)), [1, 2, 3]);
}

#[test]
fn an_item_settles_once_whichever_way_it_comes() {
    let chunk_results = chunk_results(200, None);
    chunk_results.arrive(run(100, &[1, 2]));
    chunk_results.settle(102, Ok(3), |_| ());
    for _ in ["before it is taken", "afterwards"] {
        chunk_results.arrive_alone(100, codec::encode(&7_u8, 9).unwrap(), &mut late);
        chunk_results.settle(101, Ok(7), late);
        chunk_results.arrive(run(100, &[7, 7, 7]));
        chunk_results.arrive(run(102, &[7]));
        chunk_results.fail(102, Error::Cancelled, &mut late);
        let mut taken = chunk_results.take_all().outcomes;
        taken.sort_by_key(|(index, _)| *index);
        let expected = if taken.is_empty() { 0..0 } else { 100..103 };
        assert!(taken.iter().map(|(index, _)| *index).eq(expected));
        assert!(
            values(taken.into_iter().map(|(_, it)| it))
                .iter()
                .all(|it| *it < 7)
        );
    }
    assert!(!chunk_results.has(100));
}

#[test]
fn what_overlaps_brings_the_items_that_had_not_come() {
    let chunk_results = chunk_results(70, None);
    chunk_results.settle(63, Ok(1), |_| ());
    chunk_results.arrive(run(62, &[5, 7, 6]));
    let taken = chunk_results.take_all().outcomes;
    let mut taken: Vec<_> = taken.into_iter().map(|(at, it)| (at, it.ok())).collect();
    taken.sort_unstable_by_key(|(index, _)| *index);
    assert_eq!(taken, [(62, Some(5)), (63, Some(1)), (64, Some(6))]);
}

#[test]
fn an_item_whose_result_is_missing_has_an_error() {
    let chunk_results = chunk_results(4, None);
    chunk_results.arrive(hollow_run(0, 2));
    chunk_results.settle(3, Ok(4), |_| ());
    chunk_results.arrive(hollow_run(2, 2));
    let mut taken = chunk_results.take_all().outcomes;
    taken.sort_by_key(|(index, _)| *index);
    assert!(taken.iter().map(|(index, _)| *index).eq(0..4));
    for (index, outcome) in taken {
        assert_eq!(matches!(outcome, Err(Error::Decode(_))), index < 3);
    }
}
