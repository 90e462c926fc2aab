//! Two tables: every action on a future at every point of its task's way; every way of waiting
//! ended in every way.

use std::sync::mpsc;
use std::thread;

use concurrent_futures::{Error, Executor, Future, ReturnWhen, Shutdown, as_completed, wait};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::{Kind, LONG, NO_TIME, Processes, assert_works, trial};

/// Where a task stands when something is done to its future.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Pending,
    Running,
    Finished,
    Failed,
    Cancelled,
}

/// What a task comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Value,
    Panic,
    Cancelled,
}

/// A future at some point of its task's way.
struct Scene<K: Kind> {
    /// Where the task stands.
    stand: Stand,
    /// Keeps the task, or the one before it, until released.
    held: Hold,
    /// Lit when the task has run.
    ran: Beacon,
    /// The one before it.
    before: Option<Future<u32>>,
    /// The pool, of one worker.
    pool: K::Pool,
}

/// The argument of [`work`].
#[derive(Serialize, Deserialize)]
struct Work {
    /// Where to wait first.
    held: Option<Held>,
    /// To be lit then.
    ran: Lamp,
    /// Whether to panic.
    fails: bool,
}

fn work(work: Work) -> u32 {
    if let Some(held) = work.held {
        hold(held);
    }
    work.ran.light();
    assert!(!work.fails, "on purpose: it fails");
    7
}

impl<K: Kind> Scene<K> {
    /// A task that stands there. It fails if its end is to be a panic.
    fn set(stand: Stand) -> (Self, Future<u32>) {
        let fails = stand == Stand::Failed;
        Self::set_with(stand, fails)
    }

    fn set_with(stand: Stand, fails: bool) -> (Self, Future<u32>) {
        let mut scene = Self {
            stand,
            held: Hold::new(),
            ran: Beacon::new(),
            before: None,
            pool: K::pool(1),
        };
        let future = scene.submit(fails);
        match stand {
            Stand::Pending => {}
            Stand::Running => assert!(future.running()),
            Stand::Finished | Stand::Failed => {
                future.wait();
                scene.ran.await_lit();
            }
            Stand::Cancelled => assert!(future.cancel()),
        }
        (scene, future)
    }

    fn submit(&mut self, fails: bool) -> Future<u32> {
        let waits_behind = matches!(self.stand, Stand::Pending | Stand::Cancelled);
        if waits_behind {
            self.before = Some(self.pool.submit(hold, self.held.argument()));
            self.held.await_begun();
        }
        let held = (self.stand == Stand::Running).then(|| self.held.argument());
        let waits_inside = held.is_some();
        let ran = self.ran.lamp();
        let future = self.pool.submit(work, Work { held, ran, fails });
        if waits_inside {
            self.held.await_begun();
        }
        future
    }

    /// Does what may block, and lets the task go meanwhile.
    fn while_released<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let blocked = scope.spawn(f);
            self.held.release();
            blocked.join().unwrap()
        })
    }

    fn is_settled(&self) -> bool {
        !matches!(self.stand, Stand::Pending | Stand::Running)
    }

    /// What the task comes to if nothing is done to it.
    fn end(&self) -> End {
        match self.stand {
            Stand::Pending | Stand::Running | Stand::Finished => End::Value,
            Stand::Failed => End::Panic,
            Stand::Cancelled => End::Cancelled,
        }
    }

    /// Lets everything end, and checks that the task has run or not, and that the pool goes on.
    fn close(self, has_run: bool) {
        self.held.release();
        assert!(self.before.is_none_or(|before| before.result().is_ok()));
        assert_works(&self.pool);
        drop(self.pool);
        let seen_before = matches!(self.stand, Stand::Finished | Stand::Failed);
        assert_eq!(self.ran.is_lit() || seen_before, has_run);
    }
}

fn end_of(outcome: &Result<u32, Error>) -> End {
    match outcome {
        Ok(7) => End::Value,
        Err(Error::Panicked(_)) => End::Panic,
        Err(Error::Cancelled) => End::Cancelled,
        other => panic!("{other:?}"),
    }
}

// ---- every action at every point ------------------------------------------------------------

type Action<K> = fn(Scene<K>, Future<u32>);

fn actions<K: Kind>() -> [(&'static str, Action<K>); 12] {
    [
        ("cancel", cancel),
        ("kill", kill),
        ("result", result),
        ("result_timeout", result_timeout),
        ("exception", exception),
        ("wait", waiting),
        ("wait_timeout", wait_timeout),
        ("callback", callback),
        ("await", awaiting),
        ("drop", dropped),
        ("cancel_on_drop", cancel_on_drop),
        ("looks", looks),
    ]
}

/// Actions on futures that are done.
pub fn settled<K: Kind>() -> Vec<Trial> {
    table::<K>(&[("finished", Stand::Finished), ("failed", Stand::Failed)])
}

/// Actions on futures that are not, or were not when they were cancelled.
pub fn unsettled<K: Kind>() -> Vec<Trial> {
    table::<K>(&[
        ("pending", Stand::Pending),
        ("running", Stand::Running),
        ("cancelled", Stand::Cancelled),
    ])
}

fn table<K: Kind>(stands: &[(&str, Stand)]) -> Vec<Trial> {
    let cell = |(what, action): (&str, Action<K>), &(when, stand): &(&str, Stand)| {
        trial(format!("{}::{what}_when_{when}", K::NAME), move || {
            let (scene, future) = Scene::set(stand);
            action(scene, future);
        })
    };
    let row = |action| stands.iter().map(move |stand| cell(action, stand));
    actions::<K>().into_iter().flat_map(row).collect()
}

fn cancel<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let succeeds = matches!(scene.stand, Stand::Pending | Stand::Cancelled);
    assert_eq!(future.cancel(), succeeds);
    assert_eq!(future.cancel(), succeeds, "also when asked again");
    assert_eq!(future.cancelled(), succeeds);
    let end = if succeeds {
        End::Cancelled
    } else {
        scene.end()
    };
    scene.held.release();
    assert_eq!(end_of(&future.result()), end);
    scene.close(!succeeds);
}

fn kill<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let stops_running = K::NAME == Processes::NAME && scene.stand == Stand::Running;
    let succeeds = stops_running || matches!(scene.stand, Stand::Pending | Stand::Cancelled);
    assert_eq!(future.kill(), succeeds);
    let end = if succeeds {
        End::Cancelled
    } else {
        scene.end()
    };
    if !stops_running {
        scene.held.release();
    }
    future.wait();
    assert_eq!(future.kill(), succeeds, "also when asked again");
    assert_eq!(future.cancelled(), succeeds);
    assert_eq!(end_of(&future.result()), end);
    scene.close(!succeeds);
}

fn result<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let outcome = scene.while_released(|| future.result());
    assert_eq!(end_of(&outcome), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn result_timeout<K: Kind>(scene: Scene<K>, mut future: Future<u32>) {
    let soon = future.result_timeout(NO_TIME);
    let outcome = if scene.is_settled() {
        soon
    } else {
        assert!(matches!(soon, Err(Error::Timeout)), "{soon:?}");
        scene.while_released(|| future.result_timeout(LONG))
    };
    assert_eq!(end_of(&outcome), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn exception<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let error = scene.while_released(|| future.exception());
    assert_eq!(end_of(&error.map_or(Ok(7), Err)), scene.end());
    assert_eq!(
        end_of(&future.result()),
        scene.end(),
        "the value is still there"
    );
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn waiting<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    scene.while_released(|| future.wait());
    assert!(future.done());
    assert_eq!(end_of(&future.result()), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn wait_timeout<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    assert_eq!(future.wait_timeout(NO_TIME), scene.is_settled());
    assert!(scene.while_released(|| future.wait_timeout(LONG)));
    assert_eq!(end_of(&future.result()), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn callback<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let (sender, called) = mpsc::channel();
    future.add_done_callback(move |outcome| {
        let outcome = outcome.copied().map_err(Error::clone);
        sender
            .send((end_of(&outcome), thread::current().id()))
            .unwrap();
    });
    let at_once = called.try_recv().ok();
    assert_eq!(at_once.is_some(), scene.is_settled());
    scene.held.release();
    let (end, by) = at_once.unwrap_or_else(|| called.recv().unwrap());
    assert_eq!(end, scene.end());
    assert_eq!(by == thread::current().id(), scene.is_settled());
    assert!(called.recv().is_err(), "it is called once, and let go");
    assert_eq!(end_of(&future.result()), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn awaiting<K: Kind>(scene: Scene<K>, mut future: Future<u32>) {
    let wakes = Wakes::new();
    let soon = poll_once(&mut future, &wakes);
    assert_eq!(soon.is_ready(), scene.is_settled());
    scene.held.release();
    let outcome = match soon {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => {
            wakes.await_wake();
            block_on(&mut future)
        }
    };
    assert_eq!(end_of(&outcome), scene.end());
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn dropped<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    drop(future);
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

fn cancel_on_drop<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let guarded = future.cancel_on_drop();
    assert_eq!(
        guarded.done(),
        scene.is_settled(),
        "it derefs to the future"
    );
    drop(guarded);
    let has_run = matches!(
        scene.stand,
        Stand::Running | Stand::Finished | Stand::Failed
    );
    scene.close(has_run);
}

fn looks<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    assert_eq!(future.done(), scene.is_settled());
    assert_eq!(future.running(), scene.stand == Stand::Running);
    assert_eq!(future.cancelled(), scene.stand == Stand::Cancelled);
    scene.held.release();
    future.wait();
    assert!(future.done() && !future.running());
    assert_eq!(future.cancelled(), scene.stand == Stand::Cancelled);
    let has_run = scene.end() != End::Cancelled;
    scene.close(has_run);
}

// ---- every way of waiting, ended in every way -----------------------------------------------

type Waiter = fn(Future<u32>) -> Result<u32, Error>;

/// Ways of waiting for an outcome.
const WAITERS: [(&str, Waiter); 10] = [
    ("result", Future::result),
    ("result_timeout", |mut future| future.result_timeout(LONG)),
    ("exception", |future| match future.exception() {
        Some(error) => Err(error),
        None => future.result(),
    }),
    ("wait", |future| {
        future.wait();
        future.result()
    }),
    ("wait_timeout", |future| {
        assert!(future.wait_timeout(LONG));
        future.result()
    }),
    ("callback", |future| {
        let (sender, called) = mpsc::channel();
        future.add_done_callback(move |outcome| {
            let outcome = outcome.copied().map_err(Error::clone);
            sender.send(outcome).unwrap();
        });
        called.recv().unwrap()
    }),
    ("await", block_on),
    ("guarded", |future| future.cancel_on_drop().result()),
    ("as_completed", |future| {
        as_completed([future]).next().unwrap().result()
    }),
    ("wait_for_many", |future| {
        let mut waited = wait([future], None, ReturnWhen::AllCompleted);
        waited.done.pop().unwrap().result()
    }),
];

/// A way to end a wait: its name, where the task stands at first, whether it fails, what
/// happens, what the waiter is told.
type Ending<K> = (&'static str, Stand, bool, fn(&Scene<K>), End);

fn endings<K: Kind>() -> [Ending<K>; 5] {
    let release = |scene: &Scene<K>| scene.held.release();
    let shut_down = |scene: &Scene<K>| {
        scene.pool.shutdown(Shutdown::no_wait().cancel_futures());
    };
    [
        ("value", Stand::Pending, false, release, End::Value),
        (
            "value_of_a_running_task",
            Stand::Running,
            false,
            release,
            End::Value,
        ),
        ("panic", Stand::Pending, true, release, End::Panic),
        (
            "panic_of_a_running_task",
            Stand::Running,
            true,
            release,
            End::Panic,
        ),
        ("shutdown", Stand::Pending, false, shut_down, End::Cancelled),
    ]
}

/// Every way of waiting, ended in every way.
pub fn waits<K: Kind>() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (waiter_name, waiter) in WAITERS {
        for (name, stand, fails, happens, end) in endings::<K>() {
            let name = format!("{}::{waiter_name}_ends_with_a_{name}", K::NAME);
            trials.push(trial(name, move || {
                let (scene, future) = Scene::<K>::set_with(stand, fails);
                let outcome = thread::scope(|scope| {
                    let waiting = scope.spawn(|| waiter(future));
                    happens(&scene);
                    waiting.join().unwrap()
                });
                assert_eq!(end_of(&outcome), end);
            }));
        }
    }
    trials
}
