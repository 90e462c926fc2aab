//! The parent's thread behind each worker process: starts it, hands it tasks, replaces it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::{Error, ProcessEnd};
use crate::pool::backlog::Work;
use crate::pool::{Next, Post, Tenure};
use crate::process::host::child::Starter;
use crate::process::host::connection::{Broken, Link, Notice};
use crate::process::host::handshake::{Failure, Launch};
use crate::process::host::in_flight::{Ledger, Legacy};
use crate::process::host::pipeline::{Conversation, Death, Talked};
use crate::process::host::process_table::Desks;
use crate::task::request::Encoded;
use crate::transport::work::Requests;

/// The attendant's life: one worker process after the other, as long as there is need.
pub(crate) fn attend(
    post: &Post<Requests>,
    launch: &Arc<Launch>,
    desks: &Arc<Desks>,
    ledger: Option<&Ledger>,
) {
    let mut attendant = Attendant {
        post,
        launch,
        desks,
        standby: None,
        leaving: VecDeque::new(),
    };
    loop {
        let next = match attendant.next_worker() {
            Ok(link) => match ledger {
                Some(ledger) => attendant.stand_by(link, ledger),
                None => attendant.serve(link),
            },
            Err(failure) => attendant.see_to_failure(failure),
        };
        if next == Next::Leave {
            break;
        }
    }
    attendant.leave();
}

/// An attendant at work.
struct Attendant<'a> {
    /// Its place in the crew.
    post: &'a Post<Requests>,
    /// How its workers are started.
    launch: &'a Arc<Launch>,
    /// Where they sit.
    desks: &'a Arc<Desks>,
    /// The next worker, where the current one is about to have run as many tasks as it may.
    standby: Option<Standby>,
    /// Workers that were told to leave, the oldest first.
    leaving: VecDeque<Leaver>,
}

/// How many workers may be leaving at a time beside the one that serves: the next waits for the oldest.
const MAX_LEAVING: usize = 8;

impl Attendant<'_> {
    /// A worker that is ready: the one that stands by, or a new one.
    fn next_worker(&mut self) -> Result<Link, Failure> {
        let index = self.post.index();
        let started = match self.standby.take() {
            Some(standby) => standby.step_in(),
            None => self.start(),
        };
        match started {
            Ok(link) => {
                self.desks.make_ready(index, link.process());
                Ok(link)
            }
            Err(failure) => {
                self.desks.vacate(index);
                Err(failure)
            }
        }
    }

    fn start(&self) -> Result<Link, Failure> {
        // This thread lives longer than the workers that it starts.
        start(self.post, self.launch, self.desks, Starter::Caller)()
    }

    /// Hands tasks to one worker process, until it is lost, has run as many as it may, or there
    /// are no more.
    fn serve(&mut self, mut link: Link) -> Next {
        self.post.ready(link.process().pid());
        while link.process().end().is_none() {
            let left = self.allowance(&link);
            if left == 0 {
                return self.replace(link);
            }
            let Some(requests) = self.post.take() else {
                break;
            };
            if requests.len() as u64 >= left {
                self.have_standby();
            }
            match Conversation::new(self.post, self.launch, &mut link, left).talk_over(requests) {
                Talked::Out => {}
                Talked::Spent(rest) => self.post.give_back(rest),
                Talked::Lost(next) => {
                    self.desks.bereave(self.post.index());
                    return next;
                }
            }
        }
        self.desks.bereave(self.post.index());
        if link.process().end().is_some() {
            link.end_now();
            // What it had taken and not begun returns a few times at most.
            self.post.lost(Tenure::Productive)
        } else {
            link.close();
            Next::Leave
        }
    }

    /// Stands by a worker that takes tasks by itself, until it is lost or leaves: tells it what does
    /// not fit on the board, and hears of it.
    fn stand_by(&mut self, mut link: Link, ledger: &Ledger) -> Next {
        if let Err(error) = ledger.enlist(self.post.index()) {
            link.end_now();
            self.desks.vacate(self.post.index());
            let words = format!("no shared memory for worker {}: {error}", self.post.index());
            return self.post.start_failed(&Error::BrokenPool(words.into()));
        }
        self.post.ready(link.process().pid());
        link.resume();
        let broken = loop {
            match link.hear() {
                Ok(Notice::Outcome(place, outcome)) => {
                    ledger.tell(place, outcome, self.post.index());
                }
                Ok(Notice::Claim(place)) => {
                    let Some(requests) = ledger.redeem(place, self.post.index()) else {
                        break Broken::Offence("it claimed what is not there");
                    };
                    match self.tell(&mut link, requests) {
                        Talked::Lost(next) => {
                            // It ran what it was told: what it has left on the board besides, a stray
                            // write says, and that is seen to all the same.
                            self.bury(&mut link, ledger, Broken::Gone);
                            return next;
                        }
                        Talked::Out | Talked::Spent(_) => {
                            ledger.resume(self.post.index());
                            link.resume();
                        }
                    }
                }
                Ok(Notice::Alarm) => ledger.alarm(),
                Err(broken) => break broken,
            }
        };
        self.lose(link, ledger, broken)
    }

    /// Tells a worker what it has claimed.
    fn tell(&self, link: &mut Link, requests: Requests) -> Talked {
        if requests.is_empty() {
            return Talked::Out; // cancelled since
        }
        self.post.accept(&requests);
        let talked = Conversation::new(self.post, self.launch, link, u64::MAX).talk_over(requests);
        if let Talked::Out = talked {
            self.post.rest();
        }
        talked
    }

    /// Sees to the end of a worker that took tasks by itself.
    fn lose(&mut self, mut link: Link, ledger: &Ledger, broken: Broken) -> Next {
        let tenure = match ledger.has_claimed(self.post.index()) {
            true => Tenure::Productive,
            false => Tenure::Barren,
        };
        let (death, legacies) = self.bury(&mut link, ledger, broken);
        let may_have_left = matches!(death.end, ProcessEnd::Exited(0) | ProcessEnd::Unknown);
        match legacies {
            Legacies::None if may_have_left && ledger.is_closing() => Next::Leave,
            _ => self.post.lost(tenure),
        }
    }

    /// Sees to what a worker leaves behind that was given up for this reason.
    fn bury(&self, link: &mut Link, ledger: &Ledger, broken: Broken) -> (Death, Legacies) {
        let index = self.post.index();
        let death = Death::of_worker(index, link, self.launch);
        self.desks.vacate(index);
        let legacies = ledger.bury(index, death.pid, death.end);
        if legacies.is_empty() {
            return (death, Legacies::None);
        }
        let stopping = self.post.stopping();
        for legacy in legacies {
            match legacy {
                Legacy::Untouched(requests) if requests.is_empty() => {}
                Legacy::Untouched(requests) if requests.is_abandoned() => {
                    let crew = self.post.crew();
                    requests.fail(&Error::Cancelled, &mut |verdict| crew.count(verdict));
                }
                Legacy::Untouched(requests) => self.post.give_back(requests),
                Legacy::Killed(reply) => ledger.hand_over(reply, Encoded::Killed),
                Legacy::Ran(reply) => {
                    let error = match stopping {
                        true => Error::ShutDown,
                        false => death.of(reply.info(), 1, broken, None),
                    };
                    ledger.hand_over(reply, Encoded::Error(error));
                }
            }
        }
        (death, Legacies::Some)
    }

    /// How many more tasks a worker may run.
    fn allowance(&self, link: &Link) -> u64 {
        match self.launch.max_tasks_per_child {
            Some(limit) => limit.saturating_sub(link.received()),
            None => u64::MAX,
        }
    }

    /// Has the next worker get ready while the current one runs its last task.
    fn have_standby(&mut self) {
        if self.standby.is_none() {
            // Without a thread for it, it is started when its turn comes.
            let start = start(self.post, self.launch, self.desks, Starter::Watcher);
            self.standby = Standby::start(start);
        }
    }

    /// Lets a worker leave that has run as many tasks as it may. It is waited for beside the next one: what is
    /// queued does not wait for a worker that hangs in its exit.
    fn replace(&mut self, link: Link) -> Next {
        link.let_go();
        self.post.let_go();
        let (gone, there): (VecDeque<_>, _) = self.leaving.drain(..).partition(Leaver::is_gone);
        self.leaving = there;
        let is_full = self.leaving.len() >= MAX_LEAVING;
        let oldest = is_full.then(|| self.leaving.pop_front()).flatten();
        for leaver in gone.into_iter().chain(oldest) {
            leaver.join();
        }
        self.leaving.extend(Leaver::start(link));
        Next::Restart
    }

    fn see_to_failure(&self, failure: Failure) -> Next {
        match failure {
            Failure::Start(error) => self.post.start_failed(&error),
            Failure::Interrupted(error) => self.post.start_interrupted(&error),
            Failure::Initializer(error) => {
                self.post.crew().break_down(&error);
                Next::Leave
            }
        }
    }

    /// Ends who stands by, and waits for those that leave.
    fn leave(mut self) {
        if let Some(Ok(link)) = self.standby.take().map(Standby::step_in) {
            link.close();
        }
        for leaver in self.leaving {
            leaver.join();
        }
        self.desks.vacate(self.post.index());
    }
}

/// Whether a dead worker has left anything that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Legacies {
    /// It has not.
    None,
    /// It has, and that has been seen to.
    Some,
}

/// A worker that is getting ready on a thread of its own.
struct Standby(
    /// Gives it.
    JoinHandle<Result<Link, Failure>>,
);

impl Standby {
    fn start(start: impl FnOnce() -> Result<Link, Failure> + Send + 'static) -> Option<Self> {
        let name = "process starter".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(start);
        thread.ok().map(Self)
    }

    fn step_in(self) -> Result<Link, Failure> {
        self.0.join().unwrap_or_else(|_| {
            let words = "the thread that started a worker has panicked";
            Err(Failure::Start(Error::BrokenPool(words.into())))
        })
    }
}

/// A worker that was told to leave, and a thread of its own that waits for it.
struct Leaver(
    /// Ends once the worker was reaped.
    JoinHandle<()>,
);

impl Leaver {
    /// Waits for a worker; `None`: it is gone.
    fn start(link: Link) -> Option<Self> {
        let (hand_over, receive) = crossbeam_channel::bounded::<Link>(1);
        let name = "process reaper".to_owned();
        let wait = move || {
            if let Ok(link) = receive.recv() {
                link.close();
            }
        };
        match std::thread::Builder::new().name(name).spawn(wait) {
            Ok(thread) => {
                // Received, as the thread waits for it.
                drop(hand_over.send(link));
                Some(Self(thread))
            }
            Err(_) => {
                // Without a thread for it, the next worker waits.
                link.close();
                None
            }
        }
    }

    /// Whether the worker was reaped.
    fn is_gone(&self) -> bool {
        self.0.is_finished()
    }

    /// Blocks until the worker was reaped.
    fn join(self) {
        // It runs no user code, and does not panic.
        let _ = self.0.join();
    }
}

/// What starts a worker, on whatever thread.
fn start(
    post: &Post<Requests>,
    launch: &Arc<Launch>,
    desks: &Arc<Desks>,
    starter: Starter,
) -> impl FnOnce() -> Result<Link, Failure> + Send + 'static + use<> {
    let (crew, index) = (Arc::downgrade(post.crew()), post.index());
    let (launch, desks, seats) = (Arc::clone(launch), Arc::clone(desks), Arc::clone(desks));
    move || {
        let bereave = move |pid| {
            if let (true, Some(crew)) = (seats.is_at(index, pid), crew.upgrade()) {
                crew.bereave(index);
            }
        };
        let sit = |process: &_| desks.occupy(index, process);
        launch.start(index, starter, sit, bereave)
    }
}
