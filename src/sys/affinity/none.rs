//! Systems whose cores this crate does not know: no thread moves.

pub(crate) fn current_core() -> Option<u32> {
    None
}

pub(crate) fn leave_core(_: u32) {}

pub(crate) fn stay_off(_: u32) -> Option<AffinityGuard> {
    None
}

/// There is none.
#[derive(Debug)]
pub(crate) struct AffinityGuard(
    /// No value has this type.
    std::convert::Infallible,
);
