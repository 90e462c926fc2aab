//! One chunk on its way through one worker: what is sent, what comes back, and what is left behind
//! when the worker is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{DeathReport, Error, PanicInfo, ProcessEnd, WorkerDeath};
use crate::future::Verdict;
use crate::future::dyn_promise::Pledge;
use crate::future::state::Start;
use crate::pool::backlog::Work;
use crate::pool::{Conclude, Next, Post, Tenure};
use crate::process::host::child::Peak;
use crate::process::host::connection::{self, Broken, Link};
use crate::process::host::handshake::Launch;
use crate::process::host::stdio::Captured;
use crate::process::shm::signals::Flag;
use crate::remote::codec::Source;
use crate::remote::encoded::Bytes;
use crate::remote::lease::Room;
use crate::task::request::{Reply, Request};
use crate::task::results::Pace;
use crate::task_info::TaskInfo;
use crate::transport::wire::Fault;
use crate::transport::work::{Chunk, Requests};
use crate::unwind::discard;

/// One chunk on its way through one worker.
pub(crate) struct Conversation<'a> {
    /// The attendant.
    post: &'a Post<Requests>,
    /// To the worker.
    link: &'a mut Link,
    /// Sent, without an outcome so far. The worker runs the first of them.
    ahead: VecDeque<Request>,
    /// Not sent.
    rest: VecDeque<Request>,
    /// How many more the worker may begin.
    allowance: u64,
    /// Whether a task of the chunk was begun.
    has_begun: bool,
    /// How many may be ahead.
    window: usize,
    /// What goes for all tasks and workers of the pool.
    launch: &'a Launch,
    /// When the worker began what it runs now.
    begun: Instant,
}

/// Tasks are sent ahead for about this long.
const AHEAD: Duration = Duration::from_millis(5);
/// No more than so many.
const MAX_AHEAD: usize = 64;
/// And no more bytes than a socket takes without waiting for its reader, who may himself wait for
/// us to read.
const MAX_AHEAD_BYTES: usize = connection::ROOM;

/// How a conversation ended.
#[must_use]
pub(crate) enum Talked {
    /// Every task has settled.
    Out,
    /// The worker has run as many tasks as it may; these are left.
    Spent(Requests),
    /// The worker was lost, and what it left behind has been seen to.
    Lost(Next),
}

impl<'a> Conversation<'a> {
    /// With a worker that may run so many tasks.
    pub(crate) fn new(
        post: &'a Post<Requests>,
        launch: &'a Launch,
        link: &'a mut Link,
        allowance: u64,
    ) -> Self {
        Self {
            post,
            link,
            launch,
            allowance,
            ahead: VecDeque::new(),
            rest: VecDeque::new(),
            has_begun: false,
            window: 1,
            begun: Instant::now(),
        }
    }

    /// Has the worker run a chunk.
    pub(crate) fn talk_over(mut self, requests: Requests) -> Talked {
        // A map that is dropped from here on raises it for this chunk.
        if let Some(flag) = self.link.process().flag() {
            flag.lower();
        }
        let begun = Instant::now();
        let (waiting, pace) = requests.into_parts();
        let count = waiting.len();
        self.rest = waiting;
        match self.carry_out() {
            Ok(()) if self.rest.is_empty() => {
                if let Some(pace) = &pace {
                    pace.note(count, begun.elapsed());
                }
                Talked::Out
            }
            Ok(()) => {
                let waiting = self.rest;
                Talked::Spent(Requests::Chunk(Box::new(Chunk { waiting, pace })))
            }
            Err(broken) => Talked::Lost(self.break_off(broken, pace)),
        }
    }

    /// Sends every task and settles every outcome, as far as the worker's allowance goes.
    fn carry_out(&mut self) -> Result<(), Broken> {
        loop {
            self.send_ahead();
            if self.ahead.is_empty() {
                return Ok(());
            }
            let begun = self.begun;
            self.settle_next()?;
            self.widen(begun.elapsed());
        }
    }

    /// Sends what the window has room for. Only here does a task of a process begin.
    fn send_ahead(&mut self) {
        if self.ahead.len() > self.window / 2 {
            return;
        }
        let first_new = self.ahead.len();
        let mut bytes: usize = self.ahead.iter().map(connection::length).sum();
        self.drop_what_was_cancelled();
        while let Some(request) = self.rest.front_mut() {
            if self.allowance == 0 {
                break;
            }
            store(self.launch, request);
            let room = self.ahead.is_empty()
                || (self.ahead.len() < self.window
                    && bytes + connection::length(request) <= MAX_AHEAD_BYTES);
            if !room {
                break;
            }
            let Some(request) = self.rest.pop_front() else {
                break;
            };
            bytes += connection::length(&request);
            self.begin(request);
        }
        let new: Vec<_> = self.ahead.iter().skip(first_new).collect();
        if new.is_empty() {
            return;
        }
        let limit = self.limit();
        self.link.send_within(limit, &new);
        if first_new == 0 {
            self.begun = Instant::now();
        }
    }

    /// When the task that runs now has run for too long.
    fn deadline(&self) -> Option<Instant> {
        self.begun.checked_add(self.limit()?)
    }

    /// How long the task that runs now may run.
    fn limit(&self) -> Option<Duration> {
        let own = self.ahead.front()?.options.given_timeout();
        own.or(self.launch.task_timeout)
    }

    /// Puts a task ahead, unless it was cancelled.
    fn begin(&mut self, mut request: Request) {
        request.attempts += 1;
        let is_next = self.ahead.is_empty();
        if is_next {
            self.post.begin(request.reply.id());
        }
        match (request.reply.start(), is_next) {
            (Start::Begun, _) => {
                if is_next {
                    self.post.begun(request.reply.id());
                }
                self.allowance -= 1;
                self.has_begun = true;
                self.ahead.push_back(request);
            }
            (Start::Cancelled, true) => {
                self.post.abandon();
                discard(request);
            }
            (Start::Cancelled, false) => discard(request),
        }
    }

    /// After `shutdown` with `cancel_futures`, and once their map was dropped, what has not begun never
    /// does.
    fn drop_what_was_cancelled(&mut self) {
        let is_unwanted = |request: &Request| {
            (self.has_begun && self.post.cancels()) || request.reply.is_abandoned()
        };
        if self.rest.front().is_some_and(is_unwanted) {
            let waiting = std::mem::take(&mut self.rest);
            self.post.forget();
            let rest = Requests::Chunk(Box::new(Chunk {
                waiting,
                pace: None,
            }));
            rest.fail(&Error::Cancelled, &mut |v| self.post.crew().count(v));
        }
    }

    /// Receives the outcome of the first task ahead. The one place where outcomes that come over a
    /// link settle, but for deaths.
    fn settle_next(&mut self) -> Result<(), Broken> {
        let deadline = self.deadline();
        let reply = self.link.receive(deadline)?;
        if self.post.conclude() == Conclude::Killed {
            return Err(Broken::Killed);
        }
        let outcome = match reply {
            connection::Reply::Value(value) => Ok(value),
            connection::Reply::Stored(location) => {
                let value = arrived(self.launch, location, self.post.index())?;
                Ok(value.naming(self.link.take_brought()))
            }
            connection::Reply::Fault(fault) => Err(fault),
        };
        let Some(request) = self.ahead.pop_front() else {
            unreachable!("there is something ahead")
        };
        let mut settled = |verdict| self.post.end(verdict);
        match outcome {
            Ok(value) => self.settle_value(request.reply, value),
            Err(Fault::LeftAlone) => request.reply.killed(&mut settled),
            Err(fault) => {
                let printed = self.link.output().and_then(Captured::take);
                let error = error_of(fault, request.reply.info(), self.post.index(), printed);
                request.reply.fail(error, &mut settled);
            }
        }
        if let Some(output) = self.link.output() {
            output.clear();
        }
        self.begun = Instant::now();
        if let Some(next) = self.ahead.front() {
            self.post.begin(next.reply.id());
            self.post.begun(next.reply.id());
        }
        Ok(())
    }

    /// Leaves a result to the first thread that looks at it. An observer or a callback is told at once what
    /// came of the task: for these this thread decodes it.
    fn settle_value(&self, reply: Pledge<dyn Reply>, value: Bytes) {
        let (post, id, value) = (self.post, reply.id(), Source::Given(value));
        let mut settled = |verdict| post.end(verdict);
        if post.is_observed() {
            return reply.deliver(value, &mut settled);
        }
        match reply.leave(value, &mut settled) {
            Some(news) if news.opens.is_some() => post.stay_busy(id, || news.deliver()),
            Some(news) => news.deliver(),
            None => {}
        }
    }

    /// Sends further ahead the shorter tasks are.
    fn widen(&mut self, took: Duration) {
        if self.link.output().is_some() {
            return; // what is printed is told task by task
        }
        let fitting = AHEAD.as_nanos() / took.as_nanos().max(1);
        self.window = usize::try_from(fitting)
            .unwrap_or(usize::MAX)
            .min(self.window * 2)
            .clamp(1, MAX_AHEAD);
    }

    /// Sees to what a worker leaves behind that is lost: what it had not begun, and what is to be
    /// tried again, returns to the queue; what it ran settles once it was reaped.
    fn break_off(mut self, broken: Broken, pace: Option<Arc<Pace>>) -> Next {
        let broken = match self.post.conclude() {
            Conclude::Killed => Broken::Killed,
            Conclude::Counts if self.post.stopping() => Broken::Stopped,
            Conclude::Counts => broken,
        };
        let limit = self.limit();
        let death = Death::of_worker(self.post.index(), self.link, self.launch);
        let victim = self.ahead.pop_front();
        for request in self.ahead.drain(..).rev() {
            self.rest.push_front(untouched(request));
        }
        let victim = victim.and_then(|request| {
            let again = match broken {
                Broken::Unread if request.returns < MAX_RETURNS => {
                    let mut request = untouched(request);
                    request.returns += 1;
                    request
                }
                _ if is_tried_again(&request, broken) => {
                    request.reply.put_back();
                    request
                }
                _ => return Some(request),
            };
            self.rest.push_front(again);
            None
        });
        let waiting = std::mem::take(&mut self.rest);
        self.hand_on(Requests::Chunk(Box::new(Chunk { waiting, pace })));
        if let Some(victim) = victim {
            let mut settled = |verdict: Verdict| self.post.end_of_lost(verdict);
            match (broken, limit) {
                (Broken::Killed, _) => victim.reply.killed(&mut settled),
                (Broken::Stopped, _) => victim.reply.fail(Error::ShutDown, &mut settled),
                (Broken::Late, Some(limit)) => {
                    victim
                        .reply
                        .fail(Error::TaskTimeout { limit }, &mut settled);
                }
                _ => {
                    let printed = self.link.output().and_then(Captured::take);
                    let error = death.of(victim.reply.info(), victim.attempts, broken, printed);
                    victim.reply.fail(error, &mut settled);
                }
            }
        }
        // Callbacks of the task are through: the worker is free to be replaced.
        self.post.lost(Tenure::Productive)
    }

    /// Sees to what a lost worker had not begun: it returns to the queue, or is cancelled if its map
    /// was dropped.
    fn hand_on(&self, unbegun: Requests) {
        if unbegun.is_empty() {
            return;
        }
        if !self.link.process().flag().is_some_and(Flag::is_raised) {
            return self.post.give_back(unbegun);
        }
        self.post.forget();
        unbegun.fail(&Error::Cancelled, &mut |v| self.post.crew().count(v));
    }
}

/// Puts a big argument where its worker sees it, if there is such a place, and room.
fn store(launch: &Launch, request: &mut Request) {
    if request.argument.lease().is_some() {
        return;
    }
    let lease = launch
        .depot
        .as_ref()
        .and_then(|depot| depot.store(&request.argument));
    if let Some(lease) = lease {
        request.argument = lease.into();
    }
}

/// A result that is where its worker says.
fn arrived(launch: &Launch, location: &[u8], worker: usize) -> Result<Bytes, Broken> {
    let depot = launch.depot.as_ref().ok_or("there is no such place");
    let lease = depot.and_then(|depot| depot.arrived(location, worker));
    lease
        .map(Bytes::from)
        .map_err(|_| Broken::Offence("its result is not where it may be"))
}

/// How often a task may return because its worker died before it had read all of it: one whose
/// argument is more than the worker has memory for kills worker after worker.
const MAX_RETURNS: u32 = 3;

/// A task that was sent, but not begun, as if it had not been sent.
fn untouched(mut request: Request) -> Request {
    request.reply.put_back();
    request.attempts -= 1;
    request
}

/// Whether a task that was begun, and whose worker was lost, runs again.
fn is_tried_again(request: &Request, broken: Broken) -> bool {
    let died = matches!(broken, Broken::Gone | Broken::Unread | Broken::Offence(_));
    died && request.attempts <= request.options.given_retries()
}

/// The end of a worker.
pub(crate) struct Death {
    /// Its index.
    pub(crate) worker: usize,
    /// Its process.
    pub(crate) pid: u32,
    /// How it ended.
    pub(crate) end: ProcessEnd,
    /// Its memory limit in bytes and the most that it used, where it had a limit.
    pub(crate) memory: Option<(u64, Peak)>,
}

impl Death {
    /// Ends the worker behind a link, unless it has ended, and reaps it.
    pub(crate) fn of_worker(worker: usize, link: &mut Link, launch: &Launch) -> Self {
        Self {
            worker,
            pid: link.process().pid(),
            end: link.end_now(),
            memory: launch.memory_limit.zip(link.process().peak_memory()),
        }
    }

    /// The error of the task that it ran.
    pub(crate) fn of(
        &self,
        task: TaskInfo,
        attempts: u32,
        broken: Broken,
        output: Option<String>,
    ) -> Error {
        Error::WorkerDied(WorkerDeath::new(DeathReport {
            worker: self.worker,
            pid: self.pid,
            end: self.end,
            task,
            attempts,
            note: match (broken, self.memory) {
                (Broken::Offence(what), _) => Some(what.to_owned()),
                (_, Some((limit, peak))) => Some(format!(
                    "memory limit {} MiB, peak used {peak}",
                    limit >> 20
                )),
                _ => None,
            },
            output,
        }))
    }
}

/// What a fault that a worker reports is to the user.
pub(crate) fn error_of(
    fault: Fault,
    task: TaskInfo,
    worker: usize,
    printed: Option<String>,
) -> Error {
    match fault {
        Fault::Panicked(panic) => {
            let info = PanicInfo::with_output(panic, Some(task), Some(worker), printed);
            Error::Panicked(info)
        }
        Fault::Decode(words) => Error::Decode(words.into()),
        Fault::Encode(words) => Error::Encode(words.into()),
        Fault::TooLarge { size, limit } => Error::TooLarge { size, limit },
        Fault::LeftAlone => Error::Cancelled,
    }
}
