//! How a thread with nothing to do waits: how long it looks before it sleeps, and on which core.

pub(crate) mod coalesce;
pub(crate) mod core_hint;
pub(crate) mod hysteresis;
pub(crate) mod placement;
