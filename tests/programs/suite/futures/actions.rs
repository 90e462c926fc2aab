//! A table: every action on a future, at every point of its task's way.

use std::sync::mpsc;
use std::thread;

use concurrent_futures::{Error, Future};
use libtest_mimic::Trial;

use super::scene::{End, Scene, Stand, end_of};
use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::{Kind, LONG, NO_TIME, Processes, trial};

type Action<K> = fn(Scene<K>, Future<u32>);

fn actions<K: Kind>() -> [(&'static str, Action<K>); 13] {
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
        ("kill_on_drop", kill_on_drop),
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

fn kill_on_drop<K: Kind>(scene: Scene<K>, future: Future<u32>) {
    let guarded = future.kill_on_drop();
    assert_eq!(guarded.done(), scene.is_settled());
    drop(guarded);
    let is_killed = K::NAME == Processes::NAME && scene.stand == Stand::Running;
    let has_run = matches!(
        scene.stand,
        Stand::Running | Stand::Finished | Stand::Failed
    );
    scene.close(has_run && !is_killed);
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
