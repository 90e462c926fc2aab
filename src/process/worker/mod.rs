//! The worker process: everything from [`init`] to the end of the process.
//!
//! [`init`] decides whether this process is a worker (`process/reexec.rs`). A [`Worker`] takes its connection
//! to the program from stdin, exchanges hello and welcome (`transport/wire.rs`), maps the pool's shared
//! memory and runs the initializer. Then it runs tasks: those that come as frames over the connection
//! ([`Worker::run_tasks`]), and those that it claims from the shared-memory queue ([`QueueConsumer`]). The
//! program's side of both is in `process/host/`. Relies on `process/shm/` for the queue and the arena, and on
//! `remote/function.rs` to decode, call and encode.

use std::cell::Cell;
use std::io::{self, Write};
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Clock};
use crate::current_worker::{Progress, WorkerInfo};
use crate::error::Error;
use crate::idle::placement::CorePlacement;
use crate::process::reexec::{self, Role};
use crate::process::shm::arena::worker::{ResultPlacement, StoredClaim, WorkerArena};
use crate::process::shm::checksum::Key;
use crate::process::shm::item_results::{ItemOutcome, ItemWriter};
use crate::process::shm::queue::layout::{MappedQueue, QueueGeometry};
use crate::process::shm::queue::{Claim, Finish, ItemRun, ShmQueue, SlotKind, SlotRef, Transition};
use crate::process::shm::signals::SharedSignals;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::{BlockRef, EAGER_LIMIT, Lease, NoStore, PayloadStore};
use crate::remote::length_delimited::LengthDelimited;
use crate::remote::stub::Argument;
use crate::shared::attachments::Attachments;
use crate::shared::registry;
use crate::sync::spin_then_yield;
use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::{AsHandle, OwnedHandle};
use crate::sys::image;
use crate::sys::stream::Stream;
use crate::transport::framed::{self, FramedStream, Received};
use crate::transport::wire::{self, CALL_SIZE, Fault, Header, Hello, Kind, Welcome, dialect};
use crate::unwind::{self, Panic};

/// A worker that waits for a frame from the program for this long unmaps shared memory that it keeps for
/// later tasks, and gives back the memory of its result blocks.
const KEPT_IDLE: Duration = Duration::from_secs(1);

/// How long a worker waits for its own death when its task was killed. The program kills it within
/// microseconds; if no signal comes, the mark was made by a stray write, and the worker exits by itself.
const KILLED: Duration = Duration::from_secs(1);

/// Exit code of a worker that cannot serve.
pub(crate) const UNFIT: i32 = 70; // EX_SOFTWARE of sysexits.h

/// Makes this program one that can run as a worker: the first statement of `main`.
///
/// In a worker it serves the pool and never returns; in any other process it notes that it was
/// called, and returns. It plays the part of Python's `if __name__ == "__main__":` guard: a
/// program that never calls it gets [`Error::NotInitialized`] from process pools, and starts no
/// child.
///
/// A process that has more rights than the user that started it (by a setuid or setgid bit, or by
/// capabilities of its file) never becomes a worker, whatever its environment says, and starts none: process
/// pools return [`Error::Unsupported`] there. A program that first takes on the user and the group with whose
/// rights it acts, by `setresgid` and `setresuid`, can use process pools.
///
/// Process pools also return [`Error::Unsupported`] in a library that another kind of program has loaded, for
/// example an extension of Python: a new process of that program would not reach this call.
///
/// ```no_run
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     // arguments, logging, threads, pools: all that comes after
///     Ok(())
/// }
/// ```
///
/// With tokio, call it before the runtime starts, as [the guide](crate#where-init-goes) does. Inside a
/// runtime it works too, but workers then run their tasks inside that runtime.
///
/// In tests of libtest and nextest, and in doctests, it is the first statement of each test that
/// uses process pools; with `harness = false`, of `main`.
#[inline]
pub fn init() {
    init_from((here as *const ()).addr());
}

/// Marks the code that calls `init`: an inline function is compiled again in each crate that calls `init`, so
/// that its address lies in the caller's image.
#[inline]
fn here() {}

/// Does the work of [`init`]; `caller` is an address in the code that called it.
fn init_from(caller: usize) {
    if reexec::is_known() {
        return;
    }
    let stdin = io::stdin();
    match Role::find(stdin.as_handle()) {
        Role::Program => {
            image::note_file();
            reexec::note(caller);
        }
        Role::Mistrustful(why) => {
            reexec::note_mistrust();
            eprintln!("concurrent-futures: this process {why}, and is no worker");
        }
        Role::Unfit(why) => {
            eprintln!("concurrent-futures: this process was started as a worker, and {why}");
            exit(UNFIT);
        }
        Role::Worker(mark) => {
            image::note_file();
            reexec::note_mark(&mark);
            match Worker::set_up() {
                Ok(mut server) => server.serve(),
                Err(error) => {
                    eprintln!("concurrent-futures: this worker cannot serve: {error}");
                    exit(UNFIT);
                }
            }
        }
    }
}

/// The state of this worker process.
struct Worker {
    /// Frames to and from the program.
    stream: FramedStream,
    /// The program's welcome: the settings of this worker.
    welcome: Welcome,
    /// Two words that the program writes: whether the rest of the current chunk is cancelled, and how many
    /// regions of shared memory were released. `None` if the program sent none.
    signals: Option<SharedSignals>,
    /// The shared-memory queue from which it claims tasks; `None` if the pool has none.
    queue: Option<ShmQueue>,
    /// The memory of large arguments and results; `None` if the pool has none.
    worker_arena: Option<Arc<WorkerArena>>,
    /// The program's count of released regions of shared memory, as this worker read it last.
    release_epoch: Cell<u32>,
    /// What tasks can ask about their worker (`current_worker`).
    progress: Arc<Progress>,
    /// Tells this process from a copy that a task has forked.
    fork_epoch: ForkEpoch,
    /// The standard output of user code; kept because a new handle for each flush takes time.
    stdout: io::Stdout,
}

impl Worker {
    /// Moves the connection away from stdin, sets the process up as a worker, and exchanges hello and
    /// welcome.
    fn set_up() -> io::Result<Self> {
        let stdin = io::stdin();
        let link = Stream::from(sys::descriptors::copy_high(stdin.as_handle())?);
        let mut stream = FramedStream::new(Arc::new(link));
        // Hello first: the program sends nothing before it, and this process has enough to do until the
        // answer comes.
        say_hello(&stream);
        sys::stdio::empty_input()?;
        sys::worker::die_with_parent();
        if sys::stream::is_hung_up(stream.stream().as_handle()) {
            exit(0); // the program ended before the line above
        }
        sys::worker::heed_signals();
        sys::worker::stand_aside_from_terminal();

        let welcome = receive_welcome(&mut stream)?;
        if welcome.dialect != dialect() {
            let words = "the parent is another build of the program";
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        let mut passed = stream.take_passed().into_iter();
        for number in [sys::stdio::OUTPUT, sys::stdio::ERROR] {
            sys::stdio::redirect(next(&mut passed)?.as_handle(), number)?;
        }
        let flag = match welcome.has_signals {
            true => Some(SharedSignals::map(next(&mut passed)?)?),
            false => None,
        };
        let (workers, index) = (welcome.queue.1 as usize, welcome.index as usize);
        let queue = match QueueGeometry::of_numbers(welcome.queue) {
            Some(plan) => {
                let memory = MappedQueue::map(next(&mut passed)?, plan, index)?;
                let queue = ShmQueue::new(memory, Key::from_numbers(welcome.key));
                queue.arrive(index);
                Some(queue)
            }
            None => None,
        };
        let worker_arena = match welcome.has_arena {
            true => Some(WorkerArena::map(next(&mut passed)?, workers, index)?),
            false => None,
        };
        if welcome.memory_limit > 0 {
            sys::worker::limit_memory(welcome.memory_limit)?;
        }
        if let Ok(title) = std::ffi::CString::new(welcome.title.clone()) {
            sys::thread::set_title(&title);
        }
        Ok(Self {
            stream,
            welcome,
            signals: flag,
            queue,
            worker_arena,
            release_epoch: Cell::new(0),
            progress: Arc::default(),
            fork_epoch: ForkEpoch::here(),
            stdout: io::stdout(),
        })
    }

    fn serve(&mut self) -> ! {
        let index = self.welcome.index as usize;
        let _guard = WorkerInfo::here(index, Arc::clone(&self.progress)).enter();
        // The program sends the worker to the queue (`Resume`): by then the pool knows that it is ready.
        let outcome = self.initialize().and_then(|()| self.run_tasks());
        let outcome = outcome.and_then(|told| match (told, self.queue.take()) {
            (Directive::Resume, Some(queue)) => {
                QueueConsumer::new(&Arc::new(queue), index, self).run_tasks()
            }
            (told, _) => Ok(told),
        });
        let code = outcome.map(|told| match told {
            Directive::Close(code) => code,
            Directive::Resume => 0,
        });
        self.flush();
        match code {
            Ok(code) => exit(code),
            // The program has ended, or sends frames that make no sense: nothing can be reported.
            Err(_) => exit(UNFIT),
        }
    }

    fn initialize(&mut self) -> io::Result<()> {
        let mut report = Vec::new();
        if let Some((call, mut argument)) = self.welcome.initializer.take() {
            let argument = Argument::Kept(&mut argument);
            if let Err(fault) = run(call, argument, u64::MAX, &NoStore) {
                report = fault.to_body();
            }
            unwind::chain_hook(); // the initializer may have set a hook
        }
        self.flush();
        self.stream.send(&[&wire::frame(Kind::Ready, &report)])?;
        // Only after the initializer: what needs a process with one thread can be done there. After the
        // report, for which the program waits; a connection that is hung up by then ends the worker all the
        // same. If the thread cannot be started, only the signal at the program's end (`die_with_parent`)
        // ends this worker.
        let _ = sys::worker::end_when_hung_up(self.stream.stream().as_handle());
        Ok(())
    }

    /// Runs the tasks that come over the connection, until the program closes its end or sends the worker
    /// back to the queue.
    fn run_tasks(&mut self) -> io::Result<Directive> {
        let mut code = 0;
        let mut body = Vec::new();
        while let Received::Some(header) = self.next_header()? {
            if header.kind == Kind::Resume {
                return Ok(Directive::Resume);
            }
            let call = self.receive_task(header, &mut body)?;
            if self.signals.as_ref().is_some_and(SharedSignals::is_raised) {
                self.tell(header.task, Err(Fault::LeftAlone))?;
                continue;
            }
            let clock = ClockAfar {
                link: Arc::clone(self.stream.stream()),
                task: header.task,
                fork_epoch: self.fork_epoch,
            };
            let outcome = clock::measured(Rc::new(clock), || match header.kind {
                Kind::StoredTask => self.run_stored(call, &body, WorkerArena::argument),
                _ => self.run(call, Argument::Kept(&mut body)),
            });
            // Python's `Process` exits with 1 if its function raised.
            code = i32::from(matches!(outcome, Err(Fault::Panicked(_))));
            self.tell(header.task, outcome)?;
        }
        Ok(Directive::Close(code))
    }

    /// Runs a task, and flushes what it has printed before its outcome is sent.
    fn run(&self, call: FunctionRef, argument: Argument<'_>) -> Result<Encoded, Fault> {
        self.release_stale();
        self.shield();
        self.progress.begin_task();
        let worker_arena = self.worker_arena.as_ref();
        let outcome = run(
            call,
            argument,
            self.welcome.payload_limit,
            &ResultPlacement { worker_arena },
        );
        self.finish_task();
        outcome
    }

    /// Flushes what user code has printed.
    fn flush(&self) {
        // If user code has closed stdout, the error is its own affair.
        let _ = (&self.stdout).flush();
        sys::stdio::flush_c_output();
    }

    /// Called when a task has ended, before its outcome is sent.
    fn finish_task(&self) {
        if self.fork_epoch.is_forked_copy() {
            sys::worker::exit_forked_copy(); // a copy that the task forked: only the original sends the outcome
        }
        self.flush();
    }

    /// Runs a task whose argument lies in a block of the arena. `location` is the encoded block reference;
    /// `lease` makes a lease of that block.
    fn run_stored(
        &self,
        call: FunctionRef,
        location: &[u8],
        lease: impl FnOnce(&Arc<WorkerArena>, BlockRef) -> Option<Lease>,
    ) -> Result<Encoded, Fault> {
        let place = self
            .worker_arena
            .as_ref()
            .zip(BlockRef::from_bytes(location));
        match place.and_then(|(worker_arena, location)| lease(worker_arena, location)) {
            Some(lease) => self.run(call, Argument::Leased(lease)),
            None => Err(Fault::Decode("there is no such argument".to_owned())),
        }
    }

    /// Receives the next header. If none comes for [`KEPT_IDLE`], unmaps shared memory, because the program
    /// cannot wake a worker that waits here to tell it that a region was released, and gives back the memory
    /// of results.
    fn next_header(&mut self) -> io::Result<Received<Header>> {
        let is_warm = |worker_arena: &Arc<WorkerArena>| worker_arena.is_warm();
        if registry::keeps_any() || self.worker_arena.as_ref().is_some_and(is_warm) {
            self.stream
                .give_up_at(Instant::now().checked_add(KEPT_IDLE));
            let received = self.stream.receive_header();
            self.stream.give_up_at(None);
            match received {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    registry::forget_all();
                    self.purge();
                }
                received => return received,
            }
        }
        self.stream.receive_header()
    }

    /// Write-protects results of this worker that the program has not read yet.
    #[inline]
    fn shield(&self) {
        if let Some(worker_arena) = &self.worker_arena {
            worker_arena.shield();
        }
    }

    /// Gives the memory of free result blocks back to the system.
    fn purge(&self) {
        if let Some(worker_arena) = &self.worker_arena {
            worker_arena.purge();
        }
    }

    /// When to give back the memory of results; `None` if there is nothing to give back.
    fn purge_at(&self) -> Option<Instant> {
        let worker_arena = self
            .worker_arena
            .as_ref()
            .filter(|worker_arena| worker_arena.is_warm());
        worker_arena.and_then(|_| Instant::now().checked_add(KEPT_IDLE))
    }

    /// Whether the program has released shared memory that may still be mapped here.
    fn has_stale(&self) -> bool {
        let release_epoch = self
            .signals
            .as_ref()
            .map_or(0, SharedSignals::release_epoch);
        release_epoch != self.release_epoch.get()
    }

    /// Unmaps the shared memory that the program has released.
    fn release_stale(&self) {
        if self.has_stale() {
            // The count is read before the unmapping, not after it: a region released meanwhile is seen next
            // time.
            self.release_epoch.set(
                self.signals
                    .as_ref()
                    .map_or(0, SharedSignals::release_epoch),
            );
            registry::forget_closed();
        }
    }

    fn receive_task(&mut self, header: Header, argument: &mut Vec<u8>) -> io::Result<FunctionRef> {
        let size = header.length.checked_sub(CALL_SIZE as u64);
        let (Kind::Task | Kind::StoredTask, Some(size)) = (header.kind, size) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        self.stream.receive_body(CALL_SIZE as u64, argument)?;
        let Some(call) = argument.first_chunk() else {
            unreachable!("receive_body gives what was asked for")
        };
        let call = wire::call_from_bytes(call);
        self.stream.receive_body(size, argument)?;
        Ok(call)
    }

    /// Sends a frame about the task in this slot of the queue.
    fn say(&self, kind: Kind, place: SlotRef, body: &Encoded) -> io::Result<()> {
        let (task, length) = (place.to_number(), body.len() as u64);
        let header = Header { kind, task, length };
        self.stream.send_bringing(header, body)
    }

    /// Asks the program to audit the shared memory.
    fn raise_alarm(&self) -> io::Result<()> {
        self.stream.send(&[&wire::frame(Kind::Alarm, &[])])
    }

    /// Continues after a task, or ends the process if the task was taken away from this worker.
    fn go_on(&self, finish: Finish) -> io::Result<()> {
        match finish {
            Finish::Told => Ok(()),
            Finish::Killed => {
                sys::worker::park_until_killed(KILLED);
                exit(UNFIT)
            }
            Finish::Displaced => {
                // The outcome is in this worker's own part of the queue: the program finds it there.
                self.raise_alarm()?;
                self.flush();
                exit(UNFIT)
            }
        }
    }

    fn tell(&self, task: u64, outcome: Result<Encoded, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let kind = match form {
            SlotKind::StoredValue => Kind::StoredValue,
            SlotKind::Fault => Kind::Fault,
            _ => Kind::Value,
        };
        let length = body.len() as u64;
        let header = Header { kind, task, length };
        self.stream.send_bringing(header, &body)
    }
}

/// Converts a task's outcome to what a worker sends: the kind of the bytes, and the bytes. For a result in a
/// block of the arena, the bytes are the block's reference.
#[inline]
pub(crate) fn body_of(outcome: Result<Encoded, Fault>) -> (SlotKind, Encoded) {
    match outcome.map(Encoded::into_lease) {
        Ok(Ok(lease)) => {
            let location = lease.hand_over().to_bytes();
            (SlotKind::StoredValue, Encoded::copy(&location))
        }
        Ok(Err(value)) => (SlotKind::Value, value),
        Err(fault) => (SlotKind::Fault, fault.to_body().into()),
    }
}

/// Stops and starts the program's clock of a task that came over the connection, by frames.
struct ClockAfar {
    /// The connection to the program.
    link: Arc<Stream>,
    /// The task's number in frames.
    task: u64,
    /// Tells the worker process from a copy that the task has forked.
    fork_epoch: ForkEpoch,
}

impl ClockAfar {
    fn tell(&self, kind: Kind) {
        if !self.fork_epoch.is_forked_copy() {
            // Fails only if the program has ended.
            let _ = framed::send_signal(&self.link, &wire::signal(kind, self.task));
        }
    }
}

impl Clock for ClockAfar {
    fn stop(&self) {
        self.tell(Kind::Stop);
    }

    fn go_on(&self) {
        self.tell(Kind::GoOn);
    }
}

/// Why a worker stops taking tasks from one source.
enum Directive {
    /// There are no more tasks: exit with this code.
    Close(i32),
    /// Take tasks from the queue again.
    Resume,
}

/// Whether a worker has called the function of the task that it claimed.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Called {
    /// It called the function, and published the outcome.
    Task,
    /// It called nothing, because the claim did not hold any more.
    Nothing,
}

/// Claims tasks from the shared-memory queue, and runs them.
struct QueueConsumer<'a> {
    /// The queue.
    queue: &'a Arc<ShmQueue>,
    /// The worker's index.
    me: usize,
    /// The worker process.
    server: &'a mut Worker,
    /// The encoded argument of the current task; the buffer is reused for the next one.
    argument: Vec<u8>,
    /// Encoded outcomes of the current items, as they lie in the queue.
    results: Vec<u8>,
    /// Length of the last item's outcome in bytes: the next one is expected to be as large.
    last_result: usize,
    /// Decides on which core the worker runs and sleeps.
    placement: CorePlacement,
}

impl<'a> QueueConsumer<'a> {
    fn new(queue: &'a Arc<ShmQueue>, me: usize, server: &'a mut Worker) -> Self {
        Self {
            queue,
            me,
            server,
            argument: Vec::new(),
            results: Vec::new(),
            last_result: 0,
            placement: CorePlacement::new(),
        }
    }

    /// Runs tasks until the queue is closed and empty, or the program closes the connection.
    fn run_tasks(mut self) -> io::Result<Directive> {
        let mut has_waited = false;
        loop {
            let is_closing = self.queue.is_closing();
            let claim = self.queue.claim(self.me, &mut self.argument);
            if std::mem::take(&mut has_waited) {
                // Publishers rely on a searching worker to see what they published during its search.
                self.queue.pass_on();
            }
            match claim {
                Claim::Task(place, call) => self.run(place, call)?,
                Claim::Items(place, call, count) => self.run_items(place, call, count)?,
                Claim::Stored(place, call) => {
                    // The ring has passed the task: the worker finds another one, or waits.
                    if self.run_stored(place, call)? == Called::Nothing {
                        self.server.raise_alarm()?;
                    }
                }
                Claim::Rendezvous(place) => match self.ask_for(place)? {
                    Directive::Resume => {}
                    close => return Ok(close),
                },
                Claim::Corrupt => {
                    self.wait_for_mending()?;
                    has_waited = true;
                }
                Claim::Empty if is_closing => return Ok(Directive::Close(0)),
                Claim::Empty => {
                    self.wait();
                    has_waited = true;
                }
            }
        }
    }

    fn run(&mut self, place: SlotRef, call: FunctionRef) -> io::Result<()> {
        self.placement.record_tasks(1);
        let outcome = self.server.run(call, Argument::Kept(&mut self.argument));
        self.finish(place, outcome)
    }

    /// Called when something in shared memory makes no sense: raises an alarm, then sleeps until the program
    /// has repaired it or there is something else to do.
    fn wait_for_mending(&mut self) -> io::Result<()> {
        self.server.raise_alarm()?;
        let has_stale = || self.server.has_stale();
        self.queue.sleep(self.me, self.server.purge_at(), has_stale);
        Ok(())
    }

    /// Runs a task whose argument lies in a block of the arena, unless the claim does not hold any more after
    /// the argument was read.
    fn run_stored(&mut self, place: SlotRef, call: FunctionRef) -> io::Result<Called> {
        let claim = StoredClaim::new(self.queue, place, self.me);
        let lease = |arena: &Arc<WorkerArena>, location| arena.claimed_argument(location, &claim);
        let outcome = self.server.run_stored(call, &self.argument, lease);
        if claim.is_lost() {
            self.queue.leave_claim(self.me);
            return Ok(Called::Nothing);
        }
        self.finish(place, outcome)?;
        Ok(Called::Task)
    }

    /// Publishes a task's outcome: in its slot if it is small and brings no shared memory, otherwise over the
    /// connection.
    fn finish(&mut self, place: SlotRef, outcome: Result<Encoded, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let finish = if body.len() <= EAGER_LIMIT && body.attachments().is_empty() {
            self.queue.finish(place, self.me, form, &body)
        } else {
            let kind = match form {
                SlotKind::Fault => Kind::LargeFault,
                _ => Kind::LargeValue,
            };
            self.server.say(kind, place, &body)?;
            self.queue.finish(place, self.me, SlotKind::OutOfBand, &[])
        };
        self.server.go_on(finish)
    }

    /// Runs items of a map, one after the other, as long as they may begin and their outcomes fit.
    fn run_items(&mut self, place: SlotRef, call: FunctionRef, count: usize) -> io::Result<()> {
        let begun = Instant::now();
        self.server.release_stale();
        self.server.shield();
        self.results.clear();
        let Some(run) = self.queue.begin_run(place, self.me) else {
            return self.server.go_on(Finish::Displaced);
        };
        let mut items = BatchRunner {
            server: &*self.server,
            place,
            arguments: LengthDelimited::new(&self.argument),
            count,
            run,
            results: &mut self.results,
            last_result: self.last_result,
            batch_state: BatchState::Ready,
        };
        items.run_all(call);
        self.last_result = items.last_result;
        let form = match items.batch_state {
            BatchState::Ready => SlotKind::Items,
            BatchState::Told => SlotKind::ItemsOutOfBand,
            BatchState::Broken(error) => return Err(error),
        };
        let (took, run) = (begun.elapsed(), items.run);
        let items = run.done();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let finish = run.finish(form, nanos);
        self.server.go_on(finish)?;
        self.placement.record_tasks(items);
        let each = took.checked_div(items as u32).unwrap_or(took);
        let submitter_core = self.queue.submitter_core();
        self.placement.run_items(each, submitter_core);
        Ok(())
    }

    /// Asks the program for the task in this slot, and runs what it sends over the connection (a rendezvous).
    fn ask_for(&mut self, place: SlotRef) -> io::Result<Directive> {
        self.server.say(Kind::Claim, place, &Encoded::copy(&[]))?;
        self.server.run_tasks()
    }

    /// Waits until there may be something to do: first spins for a while, unless another worker does so or
    /// spinning here would be in the way; then sleeps.
    fn wait(&mut self) {
        let waiter_core = self.queue.waiter_core();
        let submitter_core = self.queue.submitter_core();
        let in_the_way = self.placement.contended_core(waiter_core, submitter_core);
        if in_the_way.is_none() && self.queue.begin_search(self.me) == Transition::Taken {
            self.placement.on_idle(waiter_core);
            spin_then_yield(|| self.queue.has_ready() || self.queue.is_closing());
            self.queue.end_search();
            if self.queue.has_ready() {
                return self.server.release_stale();
            }
        }
        self.server.shield();
        self.placement.before_sleep(submitter_core);
        let purge_at = self.server.purge_at();
        self.queue
            .sleep(self.me, purge_at, || self.server.has_stale());
        if purge_at.is_some_and(|due| due <= Instant::now()) {
            self.server.purge();
        }
        let waiter_core = self.queue.waiter_core();
        self.placement
            .after_wake(waiter_core, self.queue.submitter_core());
        self.server.release_stale();
    }
}

/// Runs a batch: items of a map that a worker has claimed with one slot.
struct BatchRunner<'a> {
    /// The worker process.
    server: &'a Worker,
    /// The slot that holds the items.
    place: SlotRef,
    /// Encoded arguments of the items that have not begun.
    arguments: LengthDelimited<'a>,
    /// How many items there are.
    count: usize,
    /// The published progress of this run.
    run: ItemRun<'a>,
    /// Encoded outcomes of the finished items, as they lie in the queue; behind them that of the running
    /// item.
    results: &'a mut Vec<u8>,
    /// Length of the last outcome in bytes: the next one is expected to be as large.
    last_result: usize,
    /// Whether another item may begin.
    batch_state: BatchState,
}

/// Whether another item of a batch may begin.
enum BatchState {
    /// Yes, if one is left.
    Ready,
    /// No: the outcome of the last item was sent over the connection.
    Told,
    /// No: the connection is broken.
    Broken(io::Error),
}

impl BatchRunner<'_> {
    /// Runs the items in order, until none is left or none may begin.
    fn run_all(&mut self, call: FunctionRef) {
        let function = match function::resolve(call) {
            Ok(function) => function,
            Err(error) => {
                while self.begin().is_some() {
                    self.end(Err(error.clone()));
                }
                return;
            }
        };
        let limit = self.server.welcome.payload_limit;
        while let Err(panic) = unwind::catch(|| function.call_each(limit, self)) {
            self.server.finish_task();
            self.lay_down(Err(Fault::Panicked(panic)));
        }
    }

    /// Publishes the outcome of the item that has ended: in the queue, or over the connection if the queue
    /// has no room or the outcome brings shared memory.
    fn lay_down(&mut self, outcome: Result<Attachments, Fault>) {
        let mut item_writer = ItemWriter::of(self.results, self.run.filled());
        let brought = outcome.unwrap_or_else(|fault| {
            item_writer.replace(&fault.to_body());
            item_writer.mark_as_fault();
            Attachments::default()
        });
        item_writer.end();
        self.last_result = item_writer.len().min(EAGER_LIMIT);
        if let (Some(results), true) = (item_writer.fitting(), brought.is_empty()) {
            return self.run.end(results);
        }
        let kind = match item_writer.kind() {
            ItemOutcome::Value => Kind::LargeValue,
            ItemOutcome::Fault => Kind::LargeFault,
        };
        let body = Encoded::copy(item_writer.body()).naming(brought);
        self.batch_state = match self.server.say(kind, self.place, &body) {
            Ok(()) => BatchState::Told,
            Err(error) => BatchState::Broken(error),
        };
    }
}

impl ItemCursor for BatchRunner<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        let (index, filled) = (self.run.done(), self.run.filled());
        let is_roomy = filled + self.last_result <= EAGER_LIMIT;
        let may_begin =
            is_roomy && index < self.count && matches!(self.batch_state, BatchState::Ready);
        if !may_begin {
            return None; // the program queues the remaining items again
        }
        let argument = self.arguments.next()?;
        if self.run.begin() == Transition::TooLate {
            return None;
        }
        self.server.progress.begin_task();
        ItemWriter::begin(self.results);
        Some((argument, self.results))
    }

    fn end_well(&mut self) {
        self.server.finish_task();
        let mut item_writer = ItemWriter::of(self.results, self.run.filled());
        item_writer.end();
        let length = item_writer.len();
        match item_writer.fitting() {
            Some(results) => {
                self.last_result = length;
                self.run.end(results);
            }
            None => self.lay_down(Ok(Attachments::default())),
        }
    }

    fn end(&mut self, outcome: Result<Attachments, Error>) {
        self.server.finish_task();
        self.lay_down(fault_of(Ok(outcome)));
    }
}

/// Takes the next descriptor that came with the welcome.
fn next(passed: &mut impl Iterator<Item = OwnedHandle>) -> io::Result<OwnedHandle> {
    let words = "the parent's welcome lacks descriptors";
    let missing = || io::Error::new(io::ErrorKind::InvalidData, words);
    passed.next().ok_or_else(missing)
}

/// Sends the hello: this process is a worker, and which build of which program it is.
fn say_hello(stream: &FramedStream) {
    let hello = Hello {
        dialect: dialect(),
        pid: std::process::id(),
    };
    let frame = wire::frame(Kind::Hello, &hello.to_body());
    if stream.send(&[&frame]).is_err() {
        exit(0) // the program has ended, or does not need this worker any more
    }
}

fn receive_welcome(stream: &mut FramedStream) -> io::Result<Welcome> {
    let garbled = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the parent's welcome is garbled",
        )
    };
    let Received::Some(header) = stream.receive_header()? else {
        exit(0) // the program has ended, or does not need this worker any more
    };
    if header.kind != Kind::Welcome {
        return Err(garbled());
    }
    let mut body = Vec::new();
    stream.receive_body(header.length, &mut body)?;
    Welcome::from_body(&body).ok_or_else(garbled)
}

/// Runs user code; whatever it does becomes an outcome, unless it ends the process.
fn run(
    call: FunctionRef,
    argument: Argument<'_>,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Fault> {
    fault_of(unwind::catch(|| {
        function::invoke(call, argument, limit, room)
    }))
}

/// Converts the outcome of user code to the form in which it travels.
fn fault_of<R>(outcome: Result<Result<R, Error>, Panic>) -> Result<R, Fault> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Decode(words))) => Err(Fault::Decode(words.as_str().to_owned())),
        Ok(Err(Error::TooLarge { size, limit })) => Err(Fault::TooLarge { size, limit }),
        Ok(Err(Error::Encode(words))) => Err(Fault::Encode(words.as_str().to_owned())),
        Ok(Err(other)) => Err(Fault::Encode(other.to_string())),
        Err(panic) => Err(Fault::Panicked(panic)),
    }
}
