//! Takes apart the outcomes of a map's items as a worker has written them in shared memory
//! (`remote/length_delimited.rs`). Called by `in_flight` when it collects; the worker may have written
//! anything, and nothing here panics for that.

use crate::error::Error;
use crate::executor::counts::Counts;
use crate::remote::encoded::Encoded;
use crate::remote::length_delimited::{ItemKind, LengthDelimited};
use crate::task::results::{EncodedRun, ResultSink};
use crate::transport::fault::{Fault, error_of};

/// Outcomes of some items, in the order of the items.
pub(crate) enum Piece {
    /// The results of neighbouring items.
    Run(EncodedRun),
    /// The result of a single item: its index in the chunk, and the encoded value.
    Value(usize, Encoded),
    /// The error of a single item: its index in the chunk, and why it has no result.
    Error(usize, Error),
}

/// The outcomes that a worker has written for some items.
pub(crate) struct ItemOutcomes {
    /// The outcomes, in the order of the items.
    pub(crate) item_outcomes: Vec<Piece>,
    /// For how many of the items there is an outcome.
    pub(crate) items: usize,
    /// How many bytes the outcomes take.
    pub(crate) bytes: usize,
}

/// Takes apart what worker `worker` has written for `count` items, of which the first has index `first`.
/// Stops before the first outcome that is not whole.
pub(crate) fn item_outcomes_of(
    bytes: &[u8],
    first: usize,
    count: usize,
    worker: usize,
    sink: &dyn ResultSink,
) -> ItemOutcomes {
    let mut outcomes = LengthDelimited::new(bytes);
    let mut item_outcomes = Vec::with_capacity(1);
    let mut run = Gathering { first, from: 0 };
    let (mut items, mut read) = (0, 0);
    while items < count {
        let Some((kind, outcome)) = outcomes.next_of_any_kind() else {
            break;
        };
        let end = bytes.len() - outcomes.left();
        if kind == ItemKind::Fault {
            let index = first + items;
            item_outcomes.extend(run.end(bytes, read, index));
            item_outcomes.push(Piece::Error(index, error(outcome, worker, sink)));
            run = Gathering {
                first: index + 1,
                from: end,
            };
        }
        items += 1;
        read = end;
    }
    item_outcomes.extend(run.end(bytes, read, first + items));
    ItemOutcomes {
        item_outcomes,
        items,
        bytes: read,
    }
}

fn error(fault: &[u8], worker: usize, sink: &dyn ResultSink) -> Error {
    match Fault::from_body(fault) {
        Some(fault) => error_of(fault, sink.info(), worker, None),
        None => Error::Decode("the worker's report on the task is garbled".into()),
    }
}

/// Results of neighbouring items, while they are gathered.
struct Gathering {
    /// The index of the first item.
    first: usize,
    /// Where its outcome starts, in bytes.
    from: usize,
}

impl Gathering {
    /// The results up to the item of index `end`, which starts at byte `to`; `None`: there are none.
    fn end(&self, bytes: &[u8], to: usize, end: usize) -> Option<Piece> {
        (end > self.first).then(|| {
            Piece::Run(EncodedRun {
                first: self.first,
                count: end - self.first,
                bytes: bytes[self.from..to].to_vec(),
            })
        })
    }
}

impl Piece {
    /// The outcome of the item of that index, which came over the worker's connection.
    pub(crate) fn out_of_band(
        index: usize,
        outcome: Result<Encoded, Fault>,
        worker: usize,
        sink: &dyn ResultSink,
    ) -> Self {
        match outcome {
            Ok(value) => Self::Value(index, value),
            Err(fault) => Self::Error(index, error_of(fault, sink.info(), worker, None)),
        }
    }

    /// How the items ended whose outcomes this holds.
    pub(crate) fn counts(&self) -> Counts {
        let (completed, failed) = match self {
            Self::Run(run) => (run.count as u64, 0),
            Self::Value(..) => (1, 0),
            Self::Error(..) => (0, 1),
        };
        Counts {
            completed,
            failed,
            cancelled: 0,
        }
    }

    /// Stores this in the sink of the map's chunk.
    pub(crate) fn arrive(self, sink: &dyn ResultSink) {
        match self {
            Self::Run(run) => sink.arrive(run),
            Self::Value(index, value) => sink.arrive_alone(index, value, &mut |_| ()),
            Self::Error(index, error) => sink.fail(index, error, &mut |_| ()),
        }
    }
}

#[cfg(test)]
mod tests;
