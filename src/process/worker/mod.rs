//! The worker process: everything from [`init`] to the end of the process.
//!
//! [`init`] decides whether this process is a worker (`process/reexec.rs`). `set_up` makes a [`Worker`]
//! (`context`) of it, which runs the initializer, makes its state, then runs tasks: those that come as frames over
//! the connection (`connection_loop`, `task_clock`), and those that it claims from the shared-memory queue
//! (`queue_loop`, `batch`). The program's side of both is in `process/host/`. Relies on `process/shm/` for the queue and the
//! arena, and on `remote/function.rs` to decode, call and encode (`outcome`). Shared memory that it may not open,
//! and sockets of channels, come from the program (`program_source`).

mod batch;
mod connection_loop;
mod context;
pub(crate) mod outcome;
mod program_source;
mod queue_loop;
mod set_up;
mod task_clock;

use std::io;
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;

use crate::channel::socket;
use crate::current_worker::WorkerInfo;
use crate::process::reexec::{self, Role};
use crate::process::worker::program_source::ProgramSource;
use crate::remote::lease::NoStore;
use crate::remote::stub::Argument;
use crate::shared::registry;
use crate::sys;
use crate::sys::handle::AsHandle;
use crate::sys::image;
use crate::transport::messages::{self, StartCall};
use crate::transport::wire::{self, Kind};
use crate::unwind;
use crate::user_state;

use context::{Directive, Worker};
use outcome::run;
use queue_loop::QueueConsumer;

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
/// On other systems than Linux it does nothing, and process pools return [`Error::Unsupported`].
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
///
/// [`Error::NotInitialized`]: crate::Error::NotInitialized
/// [`Error::Unsupported`]: crate::Error::Unsupported
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
                Ok(mut worker) => worker.serve(),
                Err(error) => {
                    eprintln!("concurrent-futures: this worker cannot serve: {error}");
                    exit(UNFIT);
                }
            }
        }
    }
}

impl Worker {
    fn serve(&mut self) -> ! {
        let index = self.welcome.index as usize;
        let _guard = WorkerInfo::here(index, Arc::clone(&self.progress)).enter();
        let state = user_state::enter_new();
        // The program sends the worker to the queue (`Resume`): by then the pool knows that it is ready.
        let outcome = self.initialize().and_then(|()| self.run_tasks());
        let outcome = outcome.and_then(|directive| match (directive, self.queue.take()) {
            (Directive::Resume, Some(queue)) => {
                QueueConsumer::new(&Arc::new(queue), index, self).run_tasks()
            }
            (directive, _) => Ok(directive),
        });
        let code = outcome.map(|directive| match directive {
            Directive::Close(code) => code,
            Directive::Resume => 0,
        });
        // Its `Drop` may print, and takes part in what the program waits for.
        drop(state);
        self.flush();
        match code {
            Ok(code) => exit(code),
            // The program has ended, or sends frames that make no sense: nothing can be reported.
            Err(_) => exit(UNFIT),
        }
    }

    fn initialize(&mut self) -> io::Result<()> {
        let source = Rc::new(ProgramSource {
            stream: Rc::clone(&self.stream),
            payload_limit: self.welcome.payload_limit,
        });
        registry::set_source(Rc::clone(&source) as _);
        socket::set_source(source);
        let preparations = std::mem::take(&mut self.welcome.preparations);
        let report = preparations
            .into_iter()
            .find_map(prepare)
            .unwrap_or_default();
        self.flush();
        self.stream
            .borrow()
            .send(&[&wire::frame(Kind::Ready, &report)])?;
        // Only after the preparations: what needs a process with one thread can be done there. After the
        // report, for which the program waits; a connection that is hung up by then ends the worker all the
        // same. If the thread cannot be started, only the signal at the program's end (`die_with_parent`)
        // ends this worker.
        let _ = sys::worker::end_when_hung_up(self.stream.borrow().stream().as_handle());
        Ok(())
    }
}

/// Runs a function that is to run before the first task; if it fails, returns the report.
fn prepare(start_call: StartCall) -> Option<Vec<u8>> {
    let StartCall {
        duty,
        call,
        mut argument,
    } = start_call;
    let outcome = run(call, Argument::Kept(&mut argument), u64::MAX, &NoStore);
    unwind::chain_hook(); // the function may have set a hook
    let fault = outcome.err()?;
    let mut report = vec![messages::byte_of(duty)];
    report.extend(fault.to_body());
    Some(report)
}
