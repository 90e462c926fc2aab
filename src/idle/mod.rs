//! How an idle thread waits: how long it pauses before it checks for work again (`coalesce`), and on which
//! core it runs and sleeps (`placement`, with `core_hint` and `hysteresis`). Workers of `pool/`, worker
//! processes and the completion driver use it; it relies on `sys` for CPU affinity.

pub(crate) mod coalesce;
pub(crate) mod core_hint;
pub(crate) mod hysteresis;
pub(crate) mod placement;
