//! How items are packed into batches, and what becomes of those that are not delivered.

use std::panic::Location;

use super::*;
use crate::future::promise::Verdict;
use crate::remote::lease::NoStore;
use crate::task_info::Function;

fn chunk_results(len: usize) -> Arc<ChunkResults<u8>> {
    let info = TaskInfo::new(None, Location::caller(), Function::Address(0));
    ChunkResults::new(len, info, None, &Arc::default(), None)
}

const CALL: FunctionRef = FunctionRef {
    entry: 1,
    function: 2,
    fingerprint: 3,
};

/// Packs items of these sizes. An item of size 0 is one that cannot be encoded.
fn pack(chunk_results: &Arc<ChunkResults<u8>>, sizes: &[usize]) -> Vec<BatchPart> {
    let mut batch_builder = BatchBuilder::new(chunk_results, RunOptions::new(), CALL, sizes.len());
    for (index, &size) in sizes.iter().enumerate() {
        let encode = |to: &mut Vec<u8>| {
            to.extend(std::iter::repeat_n(index as u8, size));
            match size {
                0 => Err(Error::Cancelled),
                _ => Ok(Attachments::default()),
            }
        };
        assert_eq!(
            batch_builder.add(index, &NoStore, encode).ok(),
            (size > 0).then_some(size)
        );
    }
    batch_builder.into_parts()
}

/// The index of the first item of each part, and the index behind its last; a large item is a part by itself.
fn items(parts: &mut [BatchPart]) -> Vec<(usize, usize)> {
    let each = parts.iter_mut().map(|part| match part {
        BatchPart::Batch(item_batch) => (item_batch.items().start, item_batch.items().end),
        BatchPart::Item(item) => {
            let index = usize::from(item.take_message().1[0]);
            (index, index + 1)
        }
    });
    each.collect()
}

#[test]
fn any_number_of_items_may_be_expected() {
    let chunk_results = chunk_results(2);
    let mut batch_builder = BatchBuilder::new(&chunk_results, RunOptions::new(), CALL, usize::MAX);
    for index in 0..2 {
        let encode = |to: &mut Vec<u8>| {
            to.extend([7; 5]);
            Ok(Attachments::default())
        };
        batch_builder.add(index, &NoStore, encode).unwrap();
    }
    assert_eq!(items(&mut batch_builder.into_parts()), [(0, 2)]);
}

#[test]
fn items_are_packed_as_far_as_there_is_room() {
    let chunk_results = chunk_results(99);
    assert_eq!(items(&mut pack(&chunk_results, &[5; 9])), [(0, 9)]);
    assert_eq!(
        items(&mut pack(&chunk_results, &[1000, 1000, 1000])),
        [(0, 2), (2, 3)]
    );
    assert_eq!(
        items(&mut pack(&chunk_results, &[9, EAGER_LIMIT - 2, 9])),
        [(0, 1), (1, 2), (2, 3)]
    );
    assert_eq!(
        items(&mut pack(&chunk_results, &[9, EAGER_LIMIT - 1, 9, 9])),
        [(0, 1), (1, 2), (2, 4)]
    );
    assert_eq!(
        items(&mut pack(&chunk_results, &[9, 0, 9, 9])),
        [(0, 1), (2, 4)]
    );
    assert_eq!(items(&mut pack(&chunk_results, &[0, 70_000, 0])), [(1, 2)]);
    assert!(pack(&chunk_results, &[0, 0]).is_empty());
}

#[test]
fn what_is_seen_to_is_left_out() {
    let parts = pack(&chunk_results(9), &[3, 4, 5, 6]);
    let Some(BatchPart::Batch(mut item_batch)) = parts.into_iter().next() else {
        panic!("they are few")
    };
    item_batch.skip(1);
    let popped = item_batch.pop().unwrap();
    assert_eq!((*popped.argument).to_vec(), [1; 4]);
    let rest = item_batch.into_requests();
    let rest: Vec<_> = rest.iter().map(|it| it.argument.to_vec()).collect();
    assert_eq!(rest, [vec![2; 5], vec![3; 6]]);
}

#[test]
fn what_is_dropped_is_cancelled_once() {
    let chunk_results = chunk_results(3);
    let parts = pack(&chunk_results, &[1, 1, 1]);
    let Some(BatchPart::Batch(mut item_batch)) = parts.into_iter().next() else {
        panic!("they are few")
    };
    let first = item_batch.pop().unwrap();
    drop(item_batch);
    let mut verdicts = Vec::new();
    first
        .promise
        .fail(Error::ShutDown, &mut |it| verdicts.push(it));
    assert_eq!(verdicts, [Verdict::Failed]);
    let outcomes = chunk_results.take_all().outcomes;
    assert!(matches!(outcomes[0], (0, Err(Error::ShutDown))));
    assert!(matches!(
        outcomes[1..],
        [(1, Err(Error::Cancelled)), (2, Err(Error::Cancelled))]
    ));
}

#[test]
fn an_item_that_arrives_keeps_its_batch_until_that_was_told() {
    let chunk_results = chunk_results(1);
    let last = Arc::downgrade(&chunk_results);
    let Some(BatchPart::Item(item)) = pack(&chunk_results, &[EAGER_LIMIT + 1]).pop() else {
        panic!("it travels alone")
    };
    let news = item.arrive(RemoteOutcome::Value(Source::Borrowed(&[7]))).1;
    drop(chunk_results);
    assert!(news.is_some() && last.upgrade().is_some());
    drop(news);
    assert!(last.upgrade().is_none(), "nobody knows of it any more");
}
