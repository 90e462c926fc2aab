//! What a worker writes for items, and what the program makes of it, whatever it is.

use std::panic::Location;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::remote::length_delimited::ItemWriter;
use crate::task::results::ChunkResults;
use crate::task_info::{Function, TaskInfo};

fn sink(len: usize) -> Arc<ChunkResults<u8>> {
    let info = TaskInfo::new(None, Location::caller(), Function::Address(0));
    ChunkResults::new(len, info, None, &Arc::default(), None)
}

/// Writes outcomes as a worker does.
fn laid_down(outcomes: &[Result<Vec<u8>, Fault>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for outcome in outcomes {
        let start = bytes.len();
        ItemWriter::begin(&mut bytes);
        let mut item_writer = ItemWriter::of(&mut bytes, start);
        match outcome {
            Ok(value) => item_writer.replace(value),
            Err(fault) => {
                item_writer.replace(&fault.to_body());
                item_writer.mark_as_fault();
            }
        }
        item_writer.end();
        assert!(item_writer.fitting().is_some());
    }
    bytes
}

/// The indexes of the items that the pieces tell of, and whether each has a value.
fn told(item_outcomes: &[Piece]) -> Vec<(usize, bool)> {
    let each = item_outcomes.iter().flat_map(|piece| match piece {
        Piece::Run(run) => run.range().map(|index| (index, true)).collect(),
        Piece::Value(index, _) => vec![(*index, true)],
        Piece::Error(index, _) => vec![(*index, false)],
    });
    each.collect()
}

fn outcome() -> impl Strategy<Value = Result<Vec<u8>, Fault>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Ok),
        1 => ".{0,9}".prop_map(|words| Err(Fault::Encode(words))),
    ]
}

proptest! {
    #[test]
    fn what_is_laid_down_is_told(outcomes in prop::collection::vec(outcome(), 0..30), first in 0..9_usize) {
        let bytes = laid_down(&outcomes);
        let found = item_outcomes_of(&bytes, first, outcomes.len(), 0, &*sink(99));
        prop_assert_eq!((found.items, found.bytes), (outcomes.len(), bytes.len()));
        let expected = (first..).zip(outcomes.iter().map(Result::is_ok));
        prop_assert!(told(&found.item_outcomes).into_iter().eq(expected));
    }

    #[test]
    fn whatever_is_laid_down_is_told_no_further_than_it_goes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0..60_usize,
    ) {
        let found = item_outcomes_of(&bytes, 3, count, 0, &*sink(99));
        prop_assert!(found.items <= count && found.bytes <= bytes.len());
        let indexes = told(&found.item_outcomes).into_iter().map(|(index, _)| index);
        prop_assert!(indexes.eq(3..3 + found.items));
    }
}
