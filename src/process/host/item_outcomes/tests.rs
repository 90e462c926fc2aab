//! What a worker lays down, and what a program makes of it, whatever it is.

use std::panic::Location;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::process::shm::item_results::Slip;
use crate::task::results::Batch;
use crate::task_info::{Function, TaskInfo};

fn answers(len: usize) -> Arc<Batch<u8>> {
    let info = TaskInfo::new(None, Location::caller(), Function::Address(0));
    Batch::new(len, info, None, &Arc::default(), None)
}

/// As a worker lays them down.
fn laid_down(outcomes: &[Result<Vec<u8>, Fault>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for outcome in outcomes {
        let start = bytes.len();
        Slip::begin(&mut bytes);
        let mut slip = Slip::of(&mut bytes, start);
        match outcome {
            Ok(value) => slip.replace(value),
            Err(fault) => {
                slip.replace(&fault.to_body());
                slip.mark_as_fault();
            }
        }
        slip.end();
        assert!(slip.fitting().is_some());
    }
    bytes
}

/// The indexes that the pieces speak of, and of which of them they have a value.
fn told(pieces: &[Piece]) -> Vec<(usize, bool)> {
    let each = pieces.iter().flat_map(|piece| match piece {
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
        let found = pieces_of(&bytes, first, outcomes.len(), 0, &*answers(99));
        prop_assert_eq!((found.items, found.bytes), (outcomes.len(), bytes.len()));
        let expected = (first..).zip(outcomes.iter().map(Result::is_ok));
        prop_assert!(told(&found.pieces).into_iter().eq(expected));
    }

    #[test]
    fn whatever_is_laid_down_is_told_no_further_than_it_goes(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0..60_usize,
    ) {
        let found = pieces_of(&bytes, 3, count, 0, &*answers(99));
        prop_assert!(found.items <= count && found.bytes <= bytes.len());
        let indexes = told(&found.pieces).into_iter().map(|(index, _)| index);
        prop_assert!(indexes.eq(3..3 + found.items));
    }
}
