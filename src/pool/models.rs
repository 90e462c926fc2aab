//! Loom models of the worker pool: kills, deaths, ends and shutdowns that meet, in every order in which
//! threads may be interrupted a few times each. Compiled only with `--cfg loom`.

use std::sync::{Arc, Mutex as Plain};

use loom::sync::atomic::Ordering;
use loom::thread;

use super::*;
use crate::sync::{LIVING, ROOM};
use crate::task::run::WorkerHooks;
use crate::task::work_item::Withdrawn;

// ---- tasks -------------------------------------------------------------------------------------

/// The outcome of each task, in the order in which they came.
#[derive(Default)]
struct Fates {
    /// Task id and outcome; never locked across a step of the model.
    so_far: Plain<Vec<(u64, Fate)>>,
    /// Run when a task fails; `None`: nothing is.
    callback: Plain<Option<ModelCallback>>,
}

type ModelCallback = Arc<dyn Fn() + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ran,
    Killed,
    Failed,
}

impl Fates {
    fn note(&self, task: u64, fate: Fate) {
        self.so_far.lock().unwrap().push((task, fate));
    }

    /// The outcomes so far, sorted by task id.
    fn so_far(&self) -> Vec<(u64, Fate)> {
        let mut fates = self.so_far.lock().unwrap().clone();
        fates.sort_by_key(|(task, _)| *task);
        fates
    }
}

/// A task that is nothing but its id and the record of outcomes.
struct Job(u64, Arc<Fates>);

impl WorkItem for Job {
    fn id(&self) -> FutureId {
        FutureId::from_number(self.0)
    }
    fn last(&self) -> FutureId {
        self.id()
    }
    fn len(&self) -> usize {
        1
    }
    fn contains(&self, id: FutureId) -> bool {
        self.id() == id
    }
    fn remove(&mut self, _: FutureId) -> Option<Box<dyn Withdrawn>> {
        None
    }
    fn put_back(&self) {}
    fn fail(self, _: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.1.note(self.0, Fate::Failed);
        let callback = self.1.callback.lock().unwrap().clone();
        if let Some(callback) = callback {
            callback();
        }
        settled(Verdict::Failed);
    }
}

// ---- worker threads ----------------------------------------------------------------------------

/// A pool, and the outcomes of its tasks.
#[derive(Clone)]
struct PoolScene {
    pool: Arc<WorkerPool<Job>>,
    fates: Arc<Fates>,
}

impl PoolScene {
    fn new(
        max_workers: usize,
        worker_main: impl Fn(&WorkerContext<Job>, &Fates) + Send + Sync + 'static,
    ) -> Self {
        let limits = Limits {
            max_workers,
            max_pending: None,
            idle_timeout: None,
        };
        let fates = Arc::new(Fates::default());
        let its_fates = Arc::clone(&fates);
        let worker_main =
            Box::new(move |context: &WorkerContext<Job>| worker_main(context, &its_fates));
        let threads = Threads {
            name_prefix: "worker".into(),
            stack_size: None,
        };
        let pool = WorkerPool::new(limits, threads, None, None, worker_main);
        Self { pool, fates }
    }

    /// Submits a task; whether it was accepted.
    fn submit(&self, task: u64) -> bool {
        match self.pool.admit(OnFull::Block) {
            Admit::Admitted => {}
            Admit::Full => panic!("there is no limit"),
            Admit::Refused(_) => return false,
        }
        let job = Job(task, Arc::clone(&self.fates));
        matches!(self.pool.submit(job), Submit::Accepted)
    }

    /// Shuts the pool down, and returns the outcome of every task.
    fn shut_down(&self) -> Vec<(u64, Fate)> {
        assert!(self.pool.shutdown(Shutdown::wait(), Deadline::never()));
        assert_eq!(LIVING.load(Ordering::SeqCst), 0, "threads are joined");
        assert_eq!(self.pool.stats().workers, 0);
        self.fates.so_far()
    }
}

/// Runs the task that was taken, as a worker thread does.
fn run(context: &WorkerContext<Job>, job: &Job, fates: &Fates) {
    context.task_starting(job.id());
    assert_eq!(context.try_finish(), Conclusion::Accepted);
    fates.note(job.0, Fate::Ran);
    context.task_done(Verdict::Completed, None);
}

/// Explores all orders in which a thread that could have gone on is interrupted at most `interruptions`
/// times.
fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(interruptions);
    explorer.check(model);
}

// ---- kills -------------------------------------------------------------------------------------

/// A stand-in for a worker process.
#[derive(Default)]
struct ModelProcess {
    /// The id of the last task that it was given; `None`: it was given none.
    given: Option<u64>,
    /// Whether the process was killed.
    dead: bool,
}

/// The current process of the one worker: the process table.
type CurrentProcess = Arc<Mutex<Arc<Mutex<ModelProcess>>>>;

/// Gives one process after the other its tasks, as a supervisor does.
fn attend(
    process_entry: &CurrentProcess,
) -> impl Fn(&WorkerContext<Job>, &Fates) + Send + Sync + 'static {
    let process_entry = Arc::clone(process_entry);
    move |context, fates| {
        loop {
            context.ready(1);
            let process = Arc::clone(&lock(&*process_entry));
            if serve(context, fates, &process) == AfterLoss::Stop {
                return;
            }
            *lock(&*process_entry) = Arc::default();
        }
    }
}

fn serve(context: &WorkerContext<Job>, fates: &Fates, process: &Mutex<ModelProcess>) -> AfterLoss {
    while !lock(process).dead {
        let Some(job) = context.take() else {
            break;
        };
        context.task_starting(job.id());
        lock(process).given = Some(job.0);
        if context.try_finish() == Conclusion::Killed {
            lock(process).dead = true; // if it is not yet dead
            fates.note(job.0, Fate::Killed);
            context.end_of_lost(Verdict::Cancelled, None);
            return context.lost(Tenure::Productive);
        }
        fates.note(job.0, Fate::Ran);
        context.task_done(Verdict::Completed, None);
    }
    if lock(process).dead {
        context.lost(Tenure::Productive)
    } else {
        AfterLoss::Stop
    }
}

#[test]
fn a_kill_meets_the_end_of_its_task_and_the_beginning_of_the_next() {
    explore(3, || {
        let process_entry = CurrentProcess::default();
        let scene = PoolScene::new(1, attend(&process_entry));
        assert!(scene.submit(1) && scene.submit(2));
        let killed = scene.pool.mark_killed(FutureId::from_number(1), |_| {
            Arc::clone(&lock(&*process_entry))
        });
        if let Some(process) = &killed {
            let mut process = lock(&**process);
            assert_eq!(process.given.unwrap_or(1), 1, "the next task is not hit");
            process.dead = true;
        }
        let first = if killed.is_some() {
            Fate::Killed
        } else {
            Fate::Ran
        };
        assert_eq!(scene.shut_down(), [(1, first), (2, Fate::Ran)]);
    });
}

#[test]
fn two_kills_meet_and_hit_one_task() {
    explore(2, || {
        let process_entry = CurrentProcess::default();
        let scene = PoolScene::new(1, attend(&process_entry));
        assert!(scene.submit(1) && scene.submit(2));
        let kill = |scene: &PoolScene| scene.pool.mark_killed(FutureId::from_number(1), |_| ());
        let its = scene.clone();
        let other = thread::spawn(move || kill(&its).is_some());
        let killed = kill(&scene).is_some() | other.join().unwrap();
        let first = if killed { Fate::Killed } else { Fate::Ran };
        assert_eq!(scene.shut_down(), [(1, first), (2, Fate::Ran)]);
    });
}

#[test]
fn a_process_dies_as_its_worker_falls_idle_and_is_not_kept() {
    explore(3, || {
        let process_entry = CurrentProcess::default();
        let scene = PoolScene::new(1, attend(&process_entry));
        assert!(scene.submit(1));
        let process = Arc::clone(&lock(&*process_entry));
        lock(&*process).dead = true;
        scene.pool.on_process_exit(0);
        let is_kept = || Arc::ptr_eq(&lock(&*process_entry), &process);
        let mut state = scene.pool.lock();
        while state.entries.len() > 0 && is_kept() {
            state = sleep(&scene.pool.change, state);
        }
        drop(state);
        assert_eq!(scene.shut_down(), [(1, Fate::Ran)]);
    });
}

#[test]
fn a_process_dies_as_a_task_comes_and_it_runs() {
    explore(3, || {
        let process_entry = CurrentProcess::default();
        let scene = PoolScene::new(1, attend(&process_entry));
        assert!(scene.submit(1));
        let (its, process) = (scene.clone(), Arc::clone(&lock(&*process_entry)));
        let reaper = thread::spawn(move || {
            lock(&*process).dead = true;
            its.pool.on_process_exit(0);
        });
        assert!(scene.submit(2));
        reaper.join().unwrap();
        assert_eq!(scene.shut_down(), [(1, Fate::Ran), (2, Fate::Ran)]);
    });
}

// ---- wake-ups ----------------------------------------------------------------------------------

/// Runs the given number of tasks on the given number of workers, without anything else that might wake a
/// worker.
fn all_tasks_run(max_workers: usize, tasks: u64) {
    let ran = Arc::new((Mutex::new(0), Condvar::new()));
    let its_ran = Arc::clone(&ran);
    let scene = PoolScene::new(max_workers, move |context, fates| {
        context.ready(1);
        while let Some(job) = context.take() {
            run(context, &job, fates);
            *lock(&its_ran.0) += 1;
            its_ran.1.notify_all();
        }
    });
    for task in 1..=tasks {
        assert!(scene.submit(task));
    }
    let mut count = lock(&ran.0);
    while *count < tasks {
        count = sleep(&ran.1, count);
    }
    drop(count);
    assert_eq!(scene.shut_down().len(), usize::try_from(tasks).unwrap());
}

#[test]
fn a_task_comes_as_its_worker_lies_down_and_runs() {
    explore(3, || all_tasks_run(1, 2));
}

#[test]
fn a_task_comes_as_two_workers_sleep_and_runs() {
    explore(2, || all_tasks_run(2, 2));
}

// ---- shutdowns ---------------------------------------------------------------------------------

#[test]
fn shutdown_meets_submit_and_workers_that_leave() {
    explore(3, || {
        // Each worker leaves after one task: the next task starts the next worker.
        let scene = PoolScene::new(1, |context, fates| {
            context.ready(1);
            if let Some(job) = context.take() {
                run(context, &job, fates);
            }
        });
        assert!(scene.submit(1));
        let its = scene.clone();
        let submitter = thread::spawn(move || its.submit(2));
        let fates = scene.shut_down();
        let both = [(1, Fate::Ran), (2, Fate::Ran)];
        let accepted = submitter.join().unwrap();
        assert_eq!(fates, both[..1 + usize::from(accepted)]);
    });
}

#[test]
fn shutdown_that_cancels_meets_the_beginning_of_a_task() {
    explore(3, || {
        let scene = PoolScene::new(1, |context, fates| {
            context.ready(1);
            while let Some(job) = context.take() {
                run(context, &job, fates);
            }
        });
        assert!(scene.submit(1) && scene.submit(2));
        let how = Shutdown::wait().cancel_futures();
        assert!(scene.pool.shutdown(how, Deadline::never()));
        let fates: Vec<_> = scene.shut_down().iter().map(|(_, fate)| *fate).collect();
        let (ran, failed) = (Fate::Ran, Fate::Failed);
        assert!([[ran, ran], [ran, failed], [failed, failed]].contains(&[fates[0], fates[1]]));
    });
}

#[test]
fn two_shutdowns_meet_and_both_see_everybody_gone() {
    explore(3, || {
        let scene = PoolScene::new(1, |context, fates| {
            context.ready(1);
            while let Some(job) = context.take() {
                run(context, &job, fates);
            }
        });
        assert!(scene.submit(1));
        let its = scene.clone();
        let other = thread::spawn(move || its.shut_down());
        assert_eq!(scene.shut_down(), [(1, Fate::Ran)]);
        assert_eq!(other.join().unwrap(), [(1, Fate::Ran)]);
    });
}

#[test]
fn workers_that_shut_down_do_not_wait_for_each_other() {
    explore(2, || {
        let scene = PoolScene::new(2, |context, fates| {
            context.ready(1);
            while let Some(job) = context.take() {
                assert!(
                    context
                        .worker_pool()
                        .shutdown(Shutdown::wait(), Deadline::never())
                );
                run(context, &job, fates);
            }
        });
        assert!(scene.submit(1));
        let accepted = scene.submit(2);
        let both = [(1, Fate::Ran), (2, Fate::Ran)];
        assert_eq!(scene.shut_down(), both[..1 + usize::from(accepted)]);
    });
}

#[test]
fn a_worker_that_leaves_without_a_successor_may_shut_down_in_a_callback() {
    explore(3, || {
        // Each worker leaves after one task, and while it lives there is no room for the next.
        let scene = PoolScene::new(1, |context, fates| {
            context.ready(1);
            if let Some(job) = context.take() {
                run(context, &job, fates);
            }
        });
        ROOM.store(1, Ordering::SeqCst);
        let pool = Arc::downgrade(&scene.pool);
        let shut_down: ModelCallback = Arc::new(move || {
            let pool = pool.upgrade().unwrap();
            assert!(pool.shutdown(Shutdown::wait(), Deadline::never()));
        });
        *scene.fates.callback.lock().unwrap() = Some(shut_down);
        assert!(scene.submit(1));
        let accepted = scene.submit(2);
        let fates = scene.shut_down();
        assert_eq!(fates[0], (1, Fate::Ran));
        assert_eq!(fates.len(), 1 + usize::from(accepted));
    });
}
