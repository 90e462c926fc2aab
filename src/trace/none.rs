//! Without the feature `tracing`: no pool forwards events.

use std::fs::File;

use crate::future::id::FutureId;
use crate::task_info::TaskInfo;

/// What `tracing` is told of one process pool: nothing.
#[derive(Debug, Default)]
pub(crate) struct PoolTracing {}

impl PoolTracing {
    pub(crate) fn forwarding(&self) -> Option<Forwarding> {
        None
    }
}

/// How the events of a pool's workers reach the program; there is no way.
#[derive(Debug, Clone)]
pub(crate) struct Forwarding;

impl Forwarding {
    pub(crate) fn level(&self) -> u8 {
        0
    }

    pub(crate) fn emit(&self, _: usize, _: Option<&(FutureId, TaskInfo)>, _: &[u8]) {}
}

/// Never called: no program asks for events.
pub(crate) fn send_events(_: File, _: u8) {}
