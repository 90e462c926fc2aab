//! How the workers of a pool are started, and the limits that hold for them.
//!
//! The builders fill in a [`WorkerConfig`]; `spawn` starts workers by it, `handshake` sends the welcome that
//! it makes, and supervisors and the `pipeline` read its limits.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::pool::Limits;
use crate::process::host::environment::Environment;
use crate::process::host::lines::LineFunction;
use crate::process::host::stdio::WorkerStdio;
use crate::process::reexec;
use crate::process::shm::arena::Arena;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::layout::{QueueFile, QueueGeometry};
use crate::process::shm::signals::SharedSignals;
use crate::shared::attachments::Attachments;
use crate::sys;
use crate::sys::image;
use crate::trace::Forwarding;
use crate::transport::messages::{StartCall, Welcome, protocol_version};

/// How the workers of a pool are started, and the limits that hold for them.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    /// Changes to the environment that workers inherit.
    pub(crate) environment: Environment,
    /// The directory that they start in; `None`: the program's own.
    pub(crate) current_dir: Option<PathBuf>,
    /// How long a worker may take until it has said hello and done what it does before its first task.
    pub(crate) start_timeout: Duration,
    /// How many bytes an encoded argument or result may have.
    pub(crate) payload_limit: u64,
    /// How many bytes of memory a worker may have; `None`: no limit.
    pub(crate) memory_limit: Option<u64>,
    /// How many tasks a worker runs before it is replaced; `None`: any number.
    pub(crate) max_tasks_per_child: Option<u64>,
    /// How long tasks may run that have no limit of their own; `None`: any time.
    pub(crate) task_timeout: Option<Duration>,
    /// A command in front of the program, and the command's arguments; empty: none.
    pub(crate) launcher: Vec<OsString>,
    /// The standard input of workers; `None`: it is empty.
    pub(crate) input: Option<Arc<File>>,
    /// Where the workers' standard output goes.
    pub(crate) stdout: WorkerStdio,
    /// Where the workers' standard error goes.
    pub(crate) stderr: WorkerStdio,
    /// The functions that are told of each line of the standard output and error, in place of where these would
    /// go; `None`: that stream is not told.
    pub(crate) lines: [Option<LineFunction>; 2],
    /// How the workers' events reach the program's subscriber; `None`: they do not.
    pub(crate) forwarding: Option<Forwarding>,
    /// The function that a worker runs first; `None`: none.
    pub(crate) initializer: Option<StartCall>,
    /// The function that makes the state of a worker, after the initializer; `None`: it has no state.
    pub(crate) state: Option<StartCall>,
    /// The shared memory that the arguments of these two refer to.
    pub(crate) given: Attachments,
    /// The shared-memory queue from which workers claim tasks by themselves: its file, its geometry, and the
    /// key of its checksums. `None`: they are told over their connections what to do.
    pub(crate) queue: Option<(Arc<QueueFile>, QueueGeometry, Key)>,
    /// The arena of big arguments and results; `None`: there is none.
    pub(crate) arena: Option<Arc<Arena>>,
}

impl WorkerConfig {
    pub(crate) fn new() -> Self {
        Self {
            environment: Environment::default(),
            current_dir: None,
            start_timeout: Duration::from_secs(10),
            payload_limit: DEFAULT_PAYLOAD_LIMIT,
            memory_limit: None,
            max_tasks_per_child: None,
            task_timeout: None,
            launcher: Vec::new(),
            input: None,
            stdout: WorkerStdio::Inherit,
            stderr: WorkerStdio::Inherit,
            lines: [None, None],
            forwarding: None,
            initializer: None,
            state: None,
            given: Attachments::default(),
            queue: None,
            arena: None,
        }
    }

    /// Checks whether workers can be started, as far as that can be told before.
    ///
    /// # Errors
    /// `NotInitialized` and `Unsupported`.
    pub(crate) fn check(&self) -> Result<(), Error> {
        reexec::check()?;
        // With a launcher in between, the launcher's rights are what counts.
        if self.launcher.is_empty() && sys::rights::would_gain_rights(image::program()) {
            let words = "a worker would have more rights than the user of this process, and so would \
                         not obey it";
            return Err(Error::Unsupported(words.into()));
        }
        Ok(())
    }

    /// Whether workers may claim tasks from the queue by themselves. The program then does not learn of a
    /// task as it begins, and cannot act on it before it ends; output of tasks, a bound on pending tasks or
    /// idle time, a number of tasks per child, and a time limit need that.
    pub(crate) fn suits_queue(&self, limits: Limits) -> bool {
        let captures = [self.stdout, self.stderr].contains(&WorkerStdio::Capture)
            || self.lines.iter().any(Option::is_some)
            || self.forwarding.is_some();
        let is_bounded = limits.max_pending.is_some() || limits.idle_timeout.is_some();
        let counts = self.max_tasks_per_child.is_some() || self.task_timeout.is_some();
        !captures && !is_bounded && !counts
    }

    /// What a worker runs before its first task, in this order.
    pub(super) fn preparations(&self) -> impl Iterator<Item = &StartCall> {
        self.initializer.iter().chain(&self.state)
    }

    /// The welcome of worker `index`, with the level up to which the program wants its events.
    pub(super) fn welcome(
        &self,
        index: usize,
        signals: Option<&SharedSignals>,
        event_level: u8,
    ) -> Welcome {
        Welcome {
            version: protocol_version(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
            payload_limit: self.payload_limit,
            memory_limit: self.memory_limit.unwrap_or(0),
            has_input: self.input.is_some(),
            has_signals: signals.is_some(),
            key: self
                .queue
                .as_ref()
                .map_or((0, 0), |(.., key)| key.to_numbers()),
            queue: self.queue.as_ref().map_or((0, 0), |(_, geometry, _)| {
                // Both are bounded by `MAX_WORKERS`.
                (geometry.slots as u32, geometry.workers as u32)
            }),
            has_arena: self.arena.is_some(),
            event_level,
            title: title(index),
            preparations: self.preparations().cloned().collect(),
        }
    }
}

/// 16 GiB: more than a message should have, less than a mistake can make.
pub(crate) const DEFAULT_PAYLOAD_LIMIT: u64 = 16 << 30;

/// The process title `PROGRAM:worker-N`, with the program's name cut so that the rest fits into what the
/// kernel keeps of a title.
fn title(index: usize) -> Vec<u8> {
    const KEPT: usize = 15;
    let arg0 = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&arg0).file_name().unwrap_or(OsStr::new(""));
    let suffix = format!(":worker-{index}");
    let mut title = name.as_encoded_bytes().to_vec();
    title.truncate(KEPT.saturating_sub(suffix.len()));
    title.extend(suffix.as_bytes());
    title
}
