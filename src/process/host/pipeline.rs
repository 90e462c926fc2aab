//! Runs one chunk on one worker over its connection: which tasks are sent ahead, how outcomes settle, and
//! what happens to the chunk when the worker is lost.
//!
//! Supervisors call it, for chunks from the backlog and for those that a worker asked for (rendezvous). It
//! relies on [`Connection`] for frames and on the [`WorkerContext`] for the worker's state in the pool.
//!
//! Time limits in processes are enforced here: the supervisor waits for an outcome until the limit at most
//! ([`Pipeline::deadline`]), then ends the worker: it kills it, or first asks a task with a grace to stop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{DeathReport, Error, WorkerDeath};
use crate::future::dyn_promise::DynPromise;
use crate::future::promise::Verdict;
use crate::future::state::Start;
use crate::options::AttemptFailure;
use crate::pool::{AfterLoss, Conclusion, Tenure, WorkerContext};
use crate::process::host::child::Peak;
use crate::process::host::config::WorkerConfig;
use crate::process::host::connection::{self, Connection, Disconnect};
use crate::process::host::stdio::Captured;
use crate::process::shm::signals::SharedSignals;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::lease::PayloadStore;
use crate::sync::deadline::Deadline;
use crate::sys::child::ProcessEnd;
use crate::task::item_timing::ItemTiming;
use crate::task::request::{RemoteTask, Request};
use crate::task::run::WorkerHooks;
use crate::task::work_item::WorkItem;
use crate::task_info::TaskInfo;
use crate::transport::fault::{Fault, error_of};
use crate::transport::work::{RemoteChunk, RemoteWork};
use crate::unwind::discard;

/// One chunk on its way through one worker.
pub(crate) struct Pipeline<'a> {
    /// The worker's context in the pool; this is its supervisor thread.
    context: &'a WorkerContext<RemoteWork>,
    /// The connection to the worker.
    connection: &'a mut Connection,
    /// The tasks that were sent and have no outcome so far. The worker runs the first of them.
    in_flight: VecDeque<Request>,
    /// The tasks that were not sent.
    pending: VecDeque<Request>,
    /// How many more tasks the worker may begin.
    allowance: u64,
    /// Whether a task of the chunk was begun.
    has_begun: bool,
    /// How many tasks may be in flight.
    window: usize,
    /// Whether tasks are sent ahead: not where output is kept or told task by task, nor where a task has a
    /// grace, since a worker that was asked to stop would still run what it was sent.
    may_send_ahead: bool,
    /// The settings that hold for all tasks and workers of the pool.
    worker_config: &'a WorkerConfig,
    /// When the worker began the task that it runs now.
    begun: Instant,
}

/// Tasks for about this time are sent ahead.
const AHEAD: Duration = Duration::from_millis(5);
/// At most this many tasks are in flight.
const MAX_AHEAD: usize = 64;
/// At most this many bytes are in flight: what a socket takes without waiting for its reader, because the
/// worker may itself be waiting for this thread to read.
const MAX_AHEAD_BYTES: usize = connection::SEND_BUFFER;

/// How a pipeline ended.
#[must_use]
pub(crate) enum PipelineEnd {
    /// Every task has settled.
    Drained,
    /// The worker has run as many tasks as it may; these are left.
    Exhausted(RemoteWork),
    /// The worker was lost, and the tasks that it left were settled or returned.
    Lost(AfterLoss),
}

impl<'a> Pipeline<'a> {
    /// Makes a pipeline to a worker that may run `allowance` more tasks.
    pub(crate) fn new(
        context: &'a WorkerContext<RemoteWork>,
        worker_config: &'a WorkerConfig,
        connection: &'a mut Connection,
        allowance: u64,
    ) -> Self {
        Self {
            context,
            connection,
            worker_config,
            allowance,
            in_flight: VecDeque::new(),
            pending: VecDeque::new(),
            has_begun: false,
            window: 1,
            may_send_ahead: true,
            begun: Instant::now(),
        }
    }

    /// Has the worker run a chunk.
    pub(crate) fn run(mut self, requests: RemoteWork) -> PipelineEnd {
        // A map that is dropped from here on raises the flag for this chunk.
        if let Some(signals) = self.connection.process().signals() {
            signals.lower();
        }
        let begun = Instant::now();
        let (waiting, timing) = requests.into_parts();
        // All items of a map have the same options.
        let grace = waiting
            .front()
            .and_then(|first| first.options.given_grace());
        self.connection.process().grant(grace);
        let keeps_output = self.connection.output().is_some() || self.connection.lines().is_some();
        self.may_send_ahead = grace.is_none() && !keeps_output;
        let count = waiting.len();
        self.pending = waiting;
        match self.carry_out() {
            Ok(()) if self.pending.is_empty() => {
                if let Some(timing) = &timing {
                    timing.note(count, begun.elapsed());
                }
                PipelineEnd::Drained
            }
            Ok(()) => {
                let waiting = self.pending;
                PipelineEnd::Exhausted(RemoteWork::Chunk(Box::new(RemoteChunk { waiting, timing })))
            }
            Err(broken) => PipelineEnd::Lost(self.abort(broken, timing)),
        }
    }

    /// Sends every task and settles every outcome, as far as the worker's allowance goes.
    fn carry_out(&mut self) -> Result<(), Disconnect> {
        loop {
            self.send_ahead();
            if self.in_flight.is_empty() {
                return Ok(());
            }
            let begun = self.begun;
            self.settle_next()?;
            self.widen(begun.elapsed());
        }
    }

    /// Sends as many tasks as the window has room for. Only here do tasks begin that a pool sends over a
    /// connection.
    fn send_ahead(&mut self) {
        if self.in_flight.len() > self.window / 2 {
            return;
        }
        let first_new = self.in_flight.len();
        let mut bytes: usize = self.in_flight.iter().map(connection::length).sum();
        self.drop_what_was_cancelled();
        while let Some(request) = self.pending.front_mut() {
            if self.allowance == 0 {
                break;
            }
            store(self.worker_config, request);
            let room = self.in_flight.is_empty()
                || (self.in_flight.len() < self.window
                    && bytes + connection::length(request) <= MAX_AHEAD_BYTES);
            if !room {
                break;
            }
            let Some(request) = self.pending.pop_front() else {
                break;
            };
            bytes += connection::length(&request);
            self.begin(request);
        }
        let new: Vec<_> = self.in_flight.iter().skip(first_new).collect();
        if new.is_empty() {
            return;
        }
        let limit = self.limit();
        self.connection.send_within(limit, &new);
        if first_new == 0 {
            self.begun = Instant::now();
        }
    }

    /// When the task that runs now has run for too long.
    fn deadline(&self) -> Deadline {
        let begun = Deadline::at(self.begun);
        self.limit()
            .map_or(Deadline::never(), |limit| begun.later_by(limit))
    }

    /// How long the task that runs now may run; `None`: it has no limit.
    fn limit(&self) -> Option<Duration> {
        let own = self.in_flight.front()?.options.given_timeout();
        own.or(self.worker_config.task_timeout)
    }

    /// Begins a task and counts it as in flight, unless it was cancelled.
    fn begin(&mut self, mut request: Request) {
        request.attempts += 1;
        let is_next = self.in_flight.is_empty();
        if is_next {
            self.context.task_starting(request.promise.id());
        }
        match (request.promise.start(), is_next) {
            (Start::Begun, _) => {
                if is_next {
                    self.task_started(&request);
                }
                self.allowance -= 1;
                self.has_begun = true;
                self.in_flight.push_back(request);
            }
            (Start::Cancelled, true) => {
                self.context.task_cancelled(request.promise.id());
                discard(request);
            }
            (Start::Cancelled, false) => {
                let (id, error) = (request.promise.id(), Error::Cancelled);
                self.context.worker_pool().settled(id, Some(&error));
                discard(request);
            }
        }
    }

    /// Reports that the worker begins this task.
    fn task_started(&self, request: &Request) {
        let id = request.promise.id();
        if let Some(lines) = self.connection.lines() {
            lines.begin_task(id, request.promise.info());
        }
        self.context.task_started(id);
    }

    /// Cancels the tasks that were not sent, if they are not wanted any more: after `shutdown` with
    /// `cancel_futures`, once a task of the chunk has begun, and after their map was dropped.
    fn drop_what_was_cancelled(&mut self) {
        let is_unwanted = |request: &Request| {
            (self.has_begun && self.context.cancels()) || request.promise.is_abandoned()
        };
        if self.pending.front().is_some_and(is_unwanted) {
            let waiting = std::mem::take(&mut self.pending);
            self.context.drop_rest();
            let rest = RemoteWork::Chunk(Box::new(RemoteChunk {
                waiting,
                timing: None,
            }));
            rest.fail(&Error::Cancelled, &mut |v| {
                self.context.worker_pool().count(v)
            });
        }
    }

    /// Receives and settles the outcome of the first task in flight. Only here do outcomes settle that come
    /// over a connection of a pipeline, except for those that a death decides.
    fn settle_next(&mut self) -> Result<(), Disconnect> {
        let deadline = self.deadline();
        let response = self.connection.receive(deadline)?;
        if self.context.try_finish() == Conclusion::Killed {
            return Err(Disconnect::Killed);
        }
        let outcome = match response {
            connection::Response::Value(value) => Ok(value),
            connection::Response::Stored(location) => {
                let value = arrived(self.worker_config, location, self.context.index())?;
                Ok(value.naming(self.connection.take_brought()))
            }
            connection::Response::Fault(fault) => Err(fault),
        };
        let Some(request) = self.in_flight.pop_front() else {
            unreachable!("there is something ahead")
        };
        if let Some(lines) = self.connection.lines() {
            // All that the task has printed was written before its outcome was sent.
            lines.finish();
        }
        match outcome {
            Ok(value) => self.judge_value(request, value),
            Err(fault) => self.settle_fault(request, fault),
        }
        if let Some(output) = self.connection.output() {
            output.clear();
        }
        self.begun = Instant::now();
        if let Some(next) = self.in_flight.front() {
            self.context.task_starting(next.promise.id());
            self.task_started(next);
        }
        Ok(())
    }

    /// Settles a task that has no result, or has it tried again.
    fn settle_fault(&self, request: Request, fault: Fault) {
        let failure = match &fault {
            Fault::LeftAlone => {
                let error = Some(&Error::Cancelled);
                let mut settled = |verdict| self.context.task_done(verdict, error);
                return request.into_promise().killed(&mut settled);
            }
            Fault::Panicked(_) => Some(AttemptFailure::Panic),
            _ => None,
        };
        let attempts = request.attempts;
        let pause = failure.and_then(|it| request.options.pause_after(it, attempts));
        if let Some(pause) = pause {
            return self.try_again(request, pause);
        }
        let promise = request.into_promise();
        let printed = self.connection.output().and_then(Captured::take);
        let info = promise.info();
        let error = error_of(fault, info.clone(), self.context.index(), printed);
        let error = error.after_attempts(attempts, || info);
        let told = error.clone();
        promise.fail(error, &mut |verdict| {
            self.context.task_done(verdict, Some(&told))
        });
    }

    /// Settles a task with its result, or has it tried again because of that.
    fn judge_value(&self, request: Request, value: Encoded) {
        let (options, attempts) = (request.options, request.attempts);
        let may_fail = options.is_retried_after(AttemptFailure::Value, attempts);
        if !may_fail || !request.promise.judges_values() {
            return self.settle_value(request.into_promise(), value);
        }
        let Request {
            promise, argument, ..
        } = request;
        // Given up before the callbacks of the task run, as in `Request::into_promise`.
        let mut argument = Some(argument);
        let mut settled = |verdict, error: Option<&_>| self.context.task_done(verdict, error);
        let value = Source::Owned(value);
        let mut last = || drop(argument.take());
        let again = promise.judge(value, attempts, &mut last, &mut settled);
        if let (Some((promise, pause)), Some(argument)) = (again, argument) {
            let request = Request {
                promise,
                argument,
                ..request
            };
            self.try_again(request, pause);
        }
    }

    /// Queues a task again whose attempt has failed; its worker lives.
    fn try_again(&self, request: Request, pause: Duration) {
        self.context.task_done(Verdict::Retried, None);
        self.context.try_again(pause, single(request));
    }

    /// Leaves a result to the first thread that looks at it, which decodes it. An observer or a callback is
    /// told at once what came of the task: for these, this thread decodes it.
    fn settle_value(&self, promise: DynPromise<dyn RemoteTask>, value: Encoded) {
        let (context, id, value) = (self.context, promise.id(), Source::Owned(value));
        if context.is_observed() {
            let mut settled = |verdict, error: Option<&_>| context.task_done(verdict, error);
            return promise.deliver(value, &mut settled);
        }
        let mut settled = |verdict| context.task_done(verdict, None);
        match promise.leave(value, &mut settled) {
            Some(news) if news.opens.is_some() => context.stay_busy(id, || news.deliver()),
            Some(news) => news.deliver(),
            None => {}
        }
    }

    /// Adapts the window: the shorter tasks are, the more are sent ahead.
    fn widen(&mut self, took: Duration) {
        if !self.may_send_ahead {
            return;
        }
        let fitting = AHEAD.as_nanos() / took.as_nanos().max(1);
        self.window = usize::try_from(fitting)
            .unwrap_or(usize::MAX)
            .min(self.window * 2)
            .clamp(1, MAX_AHEAD);
    }

    /// Settles or returns the tasks of a lost worker. Those that it had not begun, and those to be tried
    /// again, return to the queue; the one that it ran settles after the process was reaped.
    fn abort(mut self, broken: Disconnect, timing: Option<Arc<ItemTiming>>) -> AfterLoss {
        if broken == Disconnect::Late {
            self.connection.await_stop();
        }
        let broken = match self.context.try_finish() {
            Conclusion::Killed => Disconnect::Killed,
            Conclusion::Accepted if self.context.stopping() => Disconnect::Stopped,
            Conclusion::Accepted => broken,
        };
        let limit = self.limit();
        let death =
            WorkerExit::of_worker(self.context.index(), self.connection, self.worker_config);
        let victim = self.in_flight.pop_front();
        for request in self.in_flight.drain(..).rev() {
            self.pending.push_front(untouched(request));
        }
        let mut paused = None;
        let victim = victim.and_then(|mut request| {
            let pause = match (broken, pause_after(&request, broken)) {
                (Disconnect::Unread, _) if request.returns < MAX_RETURNS => {
                    request.attempts -= 1;
                    request.returns += 1;
                    Duration::ZERO
                }
                (_, Some(pause)) => pause,
                _ => return Some(request),
            };
            // Before the task can be cancelled, which is told after this.
            self.context.task_returned();
            if pause.is_zero() {
                request.promise.put_back();
                self.pending.push_front(request);
            } else {
                paused = Some((request, pause));
            }
            None
        });
        let waiting = std::mem::take(&mut self.pending);
        self.requeue(RemoteWork::Chunk(Box::new(RemoteChunk { waiting, timing })));
        if let Some((request, pause)) = paused {
            self.context.try_again(pause, single(request));
        }
        if let Some(victim) = victim {
            let attempts = victim.attempts;
            let promise = victim.into_promise();
            let error = match (broken, limit) {
                (Disconnect::Killed, _) => Error::Cancelled,
                (Disconnect::Stopped, _) => Error::ShutDown,
                (Disconnect::Late, Some(limit)) => {
                    let limit = limit.into();
                    Error::TaskTimeout { limit }
                }
                _ => {
                    let printed = self.connection.output().and_then(Captured::take);
                    death.of(promise.info(), attempts, broken, printed)
                }
            };
            let error = error.after_attempts(attempts, || promise.info());
            let told = error.clone();
            let mut settled = |verdict: Verdict| self.context.end_of_lost(verdict, Some(&told));
            match error {
                Error::Cancelled => promise.killed(&mut settled),
                error => promise.fail(error, &mut settled),
            }
        }
        // The callbacks of the task have run: the worker may be replaced.
        self.context.lost(Tenure::Productive)
    }

    /// Returns what a lost worker had not begun to the queue, or cancels it if its map was dropped.
    fn requeue(&self, unbegun: RemoteWork) {
        if unbegun.is_empty() {
            return;
        }
        if !self
            .connection
            .process()
            .signals()
            .is_some_and(SharedSignals::is_raised)
        {
            return self.context.requeue(unbegun);
        }
        self.context.drop_rest();
        unbegun.fail(&Error::Cancelled, &mut |v| {
            self.context.worker_pool().count(v)
        });
    }
}

/// Puts a big argument into the arena, where the worker sees it, if there is an arena and it has room.
fn store(worker_config: &WorkerConfig, request: &mut Request) {
    if request.argument.lease().is_some() {
        return;
    }
    let lease = worker_config
        .arena
        .as_ref()
        .and_then(|arena| arena.store(&request.argument));
    if let Some(lease) = lease {
        // The channels that the message holds open stay with it.
        let attachments = request.argument.take_attachments();
        request.argument = Encoded::from(lease).naming(attachments);
    }
}

/// The result in the arena block that the worker names; an error where a result cannot lie there.
fn arrived(
    worker_config: &WorkerConfig,
    location: &[u8],
    worker: usize,
) -> Result<Encoded, Disconnect> {
    let arena = worker_config.arena.as_ref().ok_or("there is no such place");
    let lease = arena.and_then(|arena| arena.arrived(location, worker));
    lease
        .map(Encoded::from)
        .map_err(|_| Disconnect::ProtocolViolation("its result is not where it may be"))
}

/// How often a task may return because its worker died before it had read all of it. A task with an argument
/// that needs more memory than a worker has kills worker after worker.
const MAX_RETURNS: u32 = 3;

/// Undoes the start of a task that was sent but not begun.
fn untouched(mut request: Request) -> Request {
    request.promise.put_back();
    request.attempts -= 1;
    request
}

/// After which pause a task that was begun runs again after its worker was lost; `None`: it does not.
fn pause_after(request: &Request, broken: Disconnect) -> Option<Duration> {
    let failure = match broken {
        Disconnect::Gone | Disconnect::Unread | Disconnect::ProtocolViolation(_) => {
            AttemptFailure::Death
        }
        Disconnect::Late => AttemptFailure::Timeout,
        Disconnect::Killed | Disconnect::Stopped => return None,
    };
    request.options.pause_after(failure, request.attempts)
}

/// One task as work.
fn single(request: Request) -> RemoteWork {
    RemoteWork::Chunk(Box::new(RemoteChunk {
        waiting: VecDeque::from([request]),
        timing: None,
    }))
}

/// How a worker ended.
pub(crate) struct WorkerExit {
    /// The worker's index.
    pub(crate) worker: usize,
    /// The id of its process.
    pub(crate) pid: u32,
    /// How the process ended.
    pub(crate) end: ProcessEnd,
    /// Its memory limit and the most that it used, in bytes; `None`: it had no limit.
    pub(crate) memory: Option<(u64, Peak)>,
}

impl WorkerExit {
    /// Ends the worker behind a connection, unless it has ended, and reaps it. If its task was asked to stop,
    /// it has the rest of the task's grace to leave by itself.
    pub(crate) fn of_worker(
        worker: usize,
        connection: &mut Connection,
        worker_config: &WorkerConfig,
    ) -> Self {
        Self {
            worker,
            pid: connection.process().pid(),
            end: connection.end(),
            memory: worker_config
                .memory_limit
                .zip(connection.process().peak_memory()),
        }
    }

    /// The error of the task that the worker ran.
    pub(crate) fn of(
        &self,
        task: TaskInfo,
        attempts: u32,
        broken: Disconnect,
        output: Option<String>,
    ) -> Error {
        Error::WorkerDied(WorkerDeath::new(DeathReport {
            worker: self.worker,
            pid: self.pid,
            end: self.end,
            task,
            attempts,
            note: match broken {
                Disconnect::ProtocolViolation(what) => Some(what.to_owned()),
                _ => self.memory_note(),
            },
            output,
        }))
    }

    /// The memory limit and what was used, if the limit may be the cause: the process used most of it, or
    /// aborted, as Rust does where memory is refused. `None` for other deaths.
    fn memory_note(&self) -> Option<String> {
        let (limit, peak) = self.memory?;
        let (Peak::Exactly(used) | Peak::AtMost(used)) = peak;
        let is_near = used >= limit - limit / 4;
        (is_near || self.end.is_abort())
            .then(|| format!("memory limit {} MiB, peak used {peak}", limit >> 20))
    }
}
