//! Tasks that are run again after a failure: [`Retry`], which says when, and the plan that a task has of it.
//!
//! A worker thread decides here, after each attempt ([`run_attempt`]), and a supervisor of a process in
//! `process/host/pipeline.rs`; the pool then holds the task for the length of the pause (`pool/delayed.rs`). So
//! all attempts are one task, with one future.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::promise::{Body, Promise, Verdict};
use crate::future::state::{Outcome, Start};
use crate::options::{AttemptFailure, RetryRule, TaskOptions};
use crate::remote::callee::Callee;
use crate::task::portable::PortableTask;
use crate::task::run::{WorkerHooks, begin, call_in_time, panicked, report};
use crate::task::{ErasedTask, Task, Work};
use crate::unwind::{self, discard};

/// When a task is run again after a failure, how often, and after which pauses:
/// [`Executor::submit_retrying`](crate::Executor::submit_retrying). (the retry loop that is written by hand
/// around `Future.result()`)
///
/// A new one names no failure; each method adds one.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Executor, Retry, TaskOptions, ThreadPoolExecutor};
///
/// fn fetch(url: String) -> Result<String, String> {
///     Err(format!("{url} does not answer"))
/// }
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let retry = Retry::new(3)
///     .after_err()
///     .after_panic()
///     .backoff(Duration::from_millis(1), Duration::from_secs(1))
///     .task(TaskOptions::new().name("fetch"));
/// let page = pool.submit_retrying(retry, fetch, "example.com".to_owned());
/// assert!(page.result()?.is_err()); // of the fourth attempt
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub struct Retry<R> {
    /// How often the task is run again.
    times: u32,
    /// After which failures, and after which pauses.
    rule: RetryRule,
    /// The other options of the task.
    task: TaskOptions,
    /// Whether the task is run again after it has returned this value; `None`: after none.
    when: Option<fn(&R) -> bool>,
}

impl<R> Retry<R> {
    /// At most `times` more attempts after the first one, after the failures that are named.
    pub const fn new(times: u32) -> Self {
        Self {
            times,
            rule: RetryRule::AFTER_NOTHING,
            task: TaskOptions::new(),
            when: None,
        }
    }

    /// After a panic of the task.
    pub const fn after_panic(mut self) -> Self {
        self.rule.after_panic = true;
        self
    }

    /// After the [time limit](TaskOptions::timeout) of the task, which each attempt has anew. A thread cannot be
    /// stopped: there the next attempt waits until the late one has returned, which is
    /// [asked](crate::WorkerInfo::cancel_requested) to.
    pub const fn after_timeout(mut self) -> Self {
        self.rule.after_timeout = true;
        self
    }

    /// After the death of the worker process.
    pub const fn after_death(mut self) -> Self {
        self.rule.after_death = true;
        self
    }

    /// After each failure of the task that is no value: a panic, the time limit, the death of its worker.
    pub const fn after_failure(self) -> Self {
        self.after_panic().after_timeout().after_death()
    }

    /// After a value for which `is_unwanted` returns `true`. It is called in the program, on the thread that has
    /// run the task, or that has received the value from the worker. If it panics, that is the outcome of the
    /// task.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, Retry, SerialExecutor};
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    /// let retry = Retry::new(5).when(|length: &usize| *length < 3);
    /// let grow = |()| 1 + ATTEMPTS.fetch_add(1, Ordering::Relaxed) as usize;
    /// assert_eq!(SerialExecutor::new().submit_retrying(retry, grow, ()).result()?, 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub const fn when(mut self, is_unwanted: fn(&R) -> bool) -> Self {
        self.when = Some(is_unwanted);
        self
    }

    /// The pause before the next attempt: `first` after the first one, then twice as long each time, and never
    /// longer than `longest`. A random part of it, at most half, is left out, so that tasks that failed together
    /// do not come back together. Not given: no pause.
    ///
    /// A task that pauses takes no worker, and can be cancelled. It does not pause in a pool that is being shut
    /// down.
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.rule.first_pause = first;
        self.rule.longest_pause = longest;
        self
    }

    /// The other options of the task: name, time limit, grace. Their [`retries`](TaskOptions::retries) do not
    /// count.
    pub const fn task(mut self, options: TaskOptions) -> Self {
        self.task = options;
        self
    }

    /// The options of the task, which say when it is run again, except after which values.
    pub(super) const fn options(&self) -> TaskOptions {
        self.task.retried(self.times, self.rule)
    }
}

impl<T, E> Retry<Result<T, E>> {
    /// After an `Err` that the task has returned: [`when`](Self::when) for all of them.
    pub const fn after_err(self) -> Self {
        self.when(Result::is_err)
    }
}

impl<R> Clone for Retry<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Retry<R> {}

impl<R> fmt::Debug for Retry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("times", &self.times)
            .field("rule", &self.rule)
            .field("task", &self.task)
            .field("when", &self.when.is_some())
            .finish()
    }
}

/// What a task needs to be run again: beside its options, what depends on its types.
pub(crate) struct RetryPlan<A, R> {
    /// Copies the argument for an attempt.
    clone: fn(&A) -> A,
    /// Whether the task is run again after it has returned this value.
    when: Option<fn(&R) -> bool>,
    /// How many attempts threads of this process have begun.
    attempts: AtomicU32,
    /// Whether no further attempt is to begin: the task was killed.
    is_given_up: AtomicBool,
}

impl<A: Clone, R> RetryPlan<A, R> {
    pub(super) fn new(retry: &Retry<R>) -> Self {
        Self {
            clone: A::clone,
            when: retry.when,
            attempts: AtomicU32::new(0),
            is_given_up: AtomicBool::new(false),
        }
    }
}

impl<A, R> RetryPlan<A, R> {
    /// Copies the argument: runs user code.
    pub(super) fn copy(&self, argument: &A) -> A {
        (self.clone)(argument)
    }

    /// Whether values decide about further attempts.
    pub(super) fn judges_values(&self) -> bool {
        self.when.is_some()
    }

    /// No further attempt begins.
    pub(super) fn give_up(&self) {
        // ORDERING: Relaxed; a hint for the end of an attempt. For the thread that then puts the task back, the
        // lock of the future's state orders it.
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Whether no further attempt is to begin.
    pub(super) fn is_given_up(&self) -> bool {
        // ORDERING: Relaxed; as in `give_up`.
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Whether the attempt with this outcome has failed; `None`: the outcome is final. Runs user code; if that
    /// panics, the outcome is the panic.
    pub(super) fn judge(
        &self,
        outcome: &mut Outcome<R>,
        panicked: impl FnOnce(unwind::Panic) -> Error,
    ) -> Option<AttemptFailure> {
        if self.is_given_up() {
            return None;
        }
        let value = match outcome {
            Ok(value) => value,
            Err(Error::Panicked(_)) => return Some(AttemptFailure::Panic),
            Err(Error::TaskTimeout { .. }) => return Some(AttemptFailure::Timeout),
            Err(_) => return None,
        };
        let when = self.when?;
        match unwind::catch(|| when(value)) {
            // It may have been killed meanwhile.
            Ok(true) if !self.is_given_up() => Some(AttemptFailure::Value),
            Ok(_) => None,
            Err(panic) => {
                discard(std::mem::replace(outcome, Err(panicked(panic))));
                None
            }
        }
    }

    /// The number of attempts that threads of this process have begun.
    pub(super) fn attempts(&self) -> u32 {
        // ORDERING: Relaxed; for an error of the attempt that runs, which was counted before it could fail.
        self.attempts.load(Ordering::Relaxed)
    }

    /// Counts an attempt that begins; its number, from 1.
    fn count(&self) -> u32 {
        // ORDERING: Relaxed; only the holder of the task's one promise counts.
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A task that is to be run again, and after which pause.
pub(crate) struct Again {
    /// The task, which is [put back](Task::put_back) where it waits.
    pub(crate) task: Task,
    /// The pause.
    pub(crate) pause: Duration,
}

/// Runs one attempt of a task that has a plan, on this thread, unless it was cancelled. Returns it if it is to be
/// run again; otherwise it has settled.
pub(super) fn run_attempt<F: Callee>(
    promise: Promise<F::Output, PortableTask<F>>,
    hooks: &dyn WorkerHooks,
) -> Option<Again> {
    if begin(&promise, hooks) == Start::Cancelled {
        return None;
    }
    let attempts = promise.plan().map_or(1, RetryPlan::count);
    let options = promise.options();
    let info = || promise.info();
    let call = || {
        let argument = match attempts > options.given_retries() {
            // SAFETY: `promise` is the task's one promise.
            true => unsafe { promise.take_argument() },
            // SAFETY: as above.
            false => unsafe { promise.copy_argument() },
        };
        promise.function().call(argument)
    };
    let expiring = || match options.is_retried_after(AttemptFailure::Timeout, attempts) {
        true => promise.asking(),
        false => promise.expiring(),
    };
    let mut outcome = call_in_time(expiring, options, info, hooks, call);
    let pause = promise.plan().and_then(|plan| {
        let failure = plan.judge(&mut outcome, |panic| {
            panicked(panic, info(), hooks.worker_index())
        });
        options.pause_after(failure?, attempts)
    });
    match pause {
        Some(pause) => {
            discard(outcome);
            hooks.task_done(Verdict::Retried, None);
            let job: Arc<dyn ErasedTask> = promise.into_task_cell();
            let task = Task(Work::One(DynPromise::new(job)));
            Some(Again { task, pause })
        }
        None => {
            // SAFETY: `promise` is the task's one promise.
            unsafe { promise.discard() }; // what was kept for another attempt
            let outcome = outcome.map_err(|error| error.after_attempts(attempts, info));
            promise.settle_on_worker(outcome, |verdict, error| {
                report(hooks, verdict, error, options.given_timeout());
            });
            None
        }
    }
}
