//! What came of a map's items, as a worker has laid it down on the board.

use crate::error::Error;
use crate::process::host::pipeline::error_of;
use crate::process::shm::item_results::{ItemOutcome, head};
use crate::remote::encoded::Encoded;
use crate::task::results::{EncodedRun, ResultSink};
use crate::transport::wire::Fault;

/// Outcomes of some items, in order.
pub(crate) enum Piece {
    /// Results of neighbours.
    Run(EncodedRun),
    /// The result of the item of that index, alone.
    Value(usize, Encoded),
    /// Why the item of that index has none.
    Error(usize, Error),
}

/// What a worker has laid down for some items.
pub(crate) struct Pieces {
    /// It.
    pub(crate) item_outcomes: Vec<Piece>,
    /// For how many of the items there is something.
    pub(crate) items: usize,
    /// How many bytes that is.
    pub(crate) bytes: usize,
}

/// Takes apart what a worker has laid down for `count` items, the first of that index. `worker` is who
/// reports.
pub(crate) fn item_outcomes_of(
    bytes: &[u8],
    first: usize,
    count: usize,
    worker: usize,
    sink: &dyn ResultSink,
) -> Pieces {
    let mut item_outcomes = Vec::with_capacity(1);
    let mut run = Gathering::new(first);
    let mut read = 0;
    for at in 0..count {
        let Some((length, kind)) = head(bytes, read) else {
            item_outcomes.extend(run.end(bytes, read, first + at));
            return Pieces {
                item_outcomes,
                items: at,
                bytes: read,
            };
        };
        if kind == ItemOutcome::Fault {
            item_outcomes.extend(run.end(bytes, read, first + at));
            let fault = &bytes[read + 2..read + 2 + length];
            item_outcomes.push(Piece::Error(first + at, error(fault, worker, sink)));
            run = Gathering {
                first: first + at + 1,
                from: read + 2 + length,
            };
        }
        read += 2 + length;
    }
    item_outcomes.extend(run.end(bytes, read, first + count));
    Pieces {
        item_outcomes,
        items: count,
        bytes: read,
    }
}

fn error(fault: &[u8], worker: usize, sink: &dyn ResultSink) -> Error {
    match Fault::from_body(fault) {
        Some(fault) => error_of(fault, sink.info(), worker, None),
        None => Error::Decode("the worker's report on the task is garbled".into()),
    }
}

/// Results of neighbours.
struct Gathering {
    /// Index of the first.
    first: usize,
    /// Where it stands.
    from: usize,
}

impl Gathering {
    fn new(first: usize) -> Self {
        Self { first, from: 0 }
    }

    /// Those up to there.
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
    /// What came over the link of the item of that index.
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

    /// How many values, and how many errors.
    pub(crate) fn counts(&self) -> (u64, u64) {
        match self {
            Self::Run(run) => (run.count as u64, 0),
            Self::Value(..) => (1, 0),
            Self::Error(..) => (0, 1),
        }
    }

    /// Brings it to where it was asked for.
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
