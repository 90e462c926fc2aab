//! Executors in async code: room that is awaited, an end that is, and streams (feature `stream`), in the
//! files below.

mod closed;
mod room;
#[cfg(feature = "stream")]
mod streams;

use libtest_mimic::Trial;

use crate::limits::Bounded;
use crate::support::Kind;

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    let parts = [
        room::everywhere::<K>(),
        closed::everywhere::<K>(),
        streams::everywhere::<K>(),
    ];
    parts.into_iter().flatten().collect()
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    let parts = [
        room::pools::<K>(),
        closed::pools::<K>(),
        streams::pools::<K>(),
    ];
    parts.into_iter().flatten().collect()
}

/// What only threads do.
pub fn threads() -> Vec<Trial> {
    room::threads()
}

/// Without the feature there are no streams.
#[cfg(not(feature = "stream"))]
mod streams {
    use super::{Kind, Trial};

    pub fn everywhere<K: Kind>() -> Vec<Trial> {
        Vec::new()
    }

    pub fn pools<K: Kind>() -> Vec<Trial> {
        Vec::new()
    }
}
