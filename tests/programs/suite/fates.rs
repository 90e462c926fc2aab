//! What happens to which task: the table of fates, a trial for each of its cells.

mod attributes;
mod broken;
pub mod connections;
mod crash;
mod death;
mod frames;
mod grace;
mod kill;
mod leave;
mod lies;
mod meddle;
mod scribble;
mod starts;
mod stop;
mod table;
mod wild;

use concurrent_futures::{Error, Executor, Shutdown};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, assert_error, assert_works, panic_message, trials};

pub use attributes::trials as attributes;
pub use crash::matrix;
pub use grace::threads;
pub use table::trials as table;

/// Fates that threads and processes share.
pub fn pools<K: Kind + broken::Initialised>() -> Vec<Trial> {
    let own = trials![K::NAME;
        a_panic_leaves_the_queue_alone::<K>,
        a_cancelled_task_leaves_the_queue_alone::<K>,
        a_dropped_future_leaves_its_task_alone::<K>,
    ];
    own.into_iter().chain(broken::pools::<K>()).collect()
}

/// Fates of processes.
pub fn processes() -> Vec<Trial> {
    let groups = [
        death::trials(),
        kill::trials(),
        grace::trials(),
        leave::trials(),
        broken::processes(),
        lies::trials(),
        connections::trials(),
        meddle::trials(),
        scribble::trials(),
        starts::trials(),
        stop::trials(),
        wild::trials(),
    ];
    groups.into_iter().flatten().collect()
}

fn a_panic_leaves_the_queue_alone<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    let failing = pool.submit(fail, "in between".into());
    let behind = pool.submit(double, 5);
    held.release();
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 8);
    assert_eq!(panic_message(failing.result()), "on purpose: in between");
    assert_eq!(behind.result().unwrap(), 10);
    assert_eq!(pool.stats().worker_restarts, 0);
}

fn a_cancelled_task_leaves_the_queue_alone<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    let ran = Beacon::new();
    let victim = pool.submit(|lamp: Lamp| lamp.light(), ran.lamp());
    let behind = pool.submit(double, 5);
    assert!(victim.cancel() && victim.done());
    assert!(!running.cancel() && running.running());
    held.release();
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 8);
    assert_error!(victim.result(), Error::Cancelled);
    assert_eq!(behind.result().unwrap(), 10);
    assert!(!ran.is_lit());
}

fn a_dropped_future_leaves_its_task_alone<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    let ran = Beacon::new();
    drop(pool.submit(|lamp: Lamp| lamp.light(), ran.lamp()));
    drop((running, queued));
    held.release();
    ran.await_lit();
    assert_works(&pool);
    pool.shutdown(Shutdown::wait());
    assert_eq!(pool.stats().completed, 4);
}
