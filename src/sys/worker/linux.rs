//! Linux.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr;

use rustix::event::epoll;
use rustix::process::{
    Resource, Rlimit, Signal, getpid, kill_process, kill_process_group,
    set_parent_process_death_signal, setrlimit,
};

use crate::sys::call::{answered, checked, retried, wide};
use crate::sys::descriptors::copy_high;
use crate::sys::limits::system::{self as limits, limits_of};
use crate::sys::thread::set_title;

/// The peak memory (maximum resident set size) of this process so far, in bytes.
pub(crate) fn own_peak_memory() -> u64 {
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which cannot fail for RUSAGE_SELF.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    wide(usage.ru_maxrss.unsigned_abs()) * 1024
}

/// Makes the kernel kill this process when the thread that started it ends (`PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent() {
    // Cannot fail for a valid signal.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// Starts a thread that kills this process and its process group once the other end of the socket was closed,
/// whatever other threads do. The parent-death signal ([`die_with_parent`]) is not enough: a process that
/// changes its user or group disarms it, and the kernel refuses to send it if the parent has dropped its
/// rights.
///
/// The thread sleeps in the kernel, blocks all signals, and allocates nothing: so it holds no lock at the
/// moment of a fork.
///
/// # Errors
/// Errors of the system, if no more threads or descriptors are allowed.
pub(crate) fn end_when_hung_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = hang_up_of(socket)?;
    start_guard(epoll.as_fd())?;
    // The thread owns the descriptor, and never ends before the process.
    let _ = epoll.into_raw_fd();
    Ok(())
}

/// Returns an epoll descriptor that becomes ready once the other end of a socket was closed. A thread that
/// waits on it does not keep the socket open, unlike a thread in `poll`: a task may close the socket.
fn hang_up_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    // With a number that programs do not expect.
    let epoll = copy_high(epoll.as_fd())?;
    // epoll always reports a hang-up.
    let mark = epoll::EventData::new_u64(HUNG_UP);
    epoll::add(&epoll, socket, mark, epoll::EventFlags::empty())?;
    Ok(epoll)
}

/// Marks the event that the thread of [`end_when_hung_up`] waits for. A task may close all descriptors, and
/// have opened another epoll descriptor with the same number when a signal interrupts that thread.
const HUNG_UP: u64 = u64::from_le_bytes(*b"hung up!");

/// Starts the thread of [`end_when_hung_up`], with all signals blocked except those that the C library uses
/// itself.
fn start_guard(epoll: BorrowedFd<'_>) -> io::Result<()> {
    let before = SignalMask::full().set();
    let started = start_thread(end_at_hang_up, epoll);
    before.set();
    started
}

/// Starts a detached thread by `pthread_create`, on a small stack. A thread of std allocates, and a second
/// thread that allocates costs a process 64 MiB of address space.
fn start_thread(
    run: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    const STACK: usize = 64 << 10;
    let argument = ptr::without_provenance_mut(descriptor.as_raw_fd().unsigned_abs() as usize);
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the memory is a local variable of the right type.
    answered(unsafe { libc::pthread_attr_init(attributes) })?;
    // SAFETY: the attributes were initialized above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut create = || {
        // SAFETY: the attributes were initialized above; `run` takes a number as its argument, and accesses
        // no memory of this function.
        answered(unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument) })
    };
    let resize = |bytes: usize| {
        // SAFETY: the attributes were initialized above.
        answered(unsafe { libc::pthread_attr_setstacksize(attributes, bytes) })
    };
    let mut start = |stack: usize| resize(stack).and_then(|()| create());
    // If the thread-locals do not fit, the stack is as large as std's default.
    let started = start(STACK.max(libc::PTHREAD_STACK_MIN)).or_else(|_| start(2 << 20));
    // SAFETY: the attributes were initialized above, and are not used any more.
    unsafe { libc::pthread_attr_destroy(attributes) };
    started
}

/// Waits on the epoll descriptor whose number is the argument, then kills the process and its process group.
extern "C" fn end_at_hang_up(epoll: *mut libc::c_void) -> *mut libc::c_void {
    let epoll = epoll.addr() as libc::c_int;
    set_title(c"cf-guard");
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let told = retried(|| {
        // Of the C library, by number: a task may have closed the descriptor, and nothing owns the number then.
        // SAFETY: the event outlives the call.
        checked(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) })
    });
    // Otherwise a task has closed the epoll descriptor, and the thread has nothing to wait on any more.
    let is_own = event.u64 == HUNG_UP;
    if told.is_ok() && is_own {
        end_tree();
    }
    ptr::null_mut()
}

/// Kills this process, and the process group that it leads or led.
fn end_tree() -> ! {
    const KILLED: libc::c_int = 128 + libc::SIGKILL;
    let own = getpid();
    // The group's id is this process's own id.
    let _ = kill_process_group(own, Signal::KILL);
    let _ = kill_process(own, Signal::KILL);
    // For the case that a system call filter refuses even SIGKILL.
    // SAFETY: ends the process; no code of it runs any more.
    unsafe { libc::_exit(KILLED) }
}

/// Makes allocations beyond `bytes` bytes (`RLIMIT_DATA`) fail, in this process and those that it starts.
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    let (_, hard) = limits_of(limits::DATA)?;
    // A lower limit that the process already has is not raised.
    let most = hard.map_or(bytes, |most| most.min(bytes));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(Resource::Data, limit)?)
}

/// Restores the default action of signals that this process ignores: it inherited that from the program, and
/// programs that tasks execute would inherit it in turn. Except SIGPIPE, which every Rust program ignores,
/// and SIGHUP, which `nohup` wants ignored in workers, too.
pub(crate) fn heed_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        if ![libc::SIGPIPE, libc::SIGHUP].contains(&signal) && is_ignored(signal) {
            // SAFETY: SIG_DFL runs no code of this program.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a sigaction is numbers and pointers, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which changes nothing. It fails for signals that the C library
    // reserves for itself.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Leaves the reaction to Ctrl-C to the program, and lets background output through. SIGINT does nothing in
/// this process: by a handler, which unlike SIG_IGN is not inherited by programs that tasks execute. SIGTTOU
/// is the only blocked signal, whatever the program has blocked: a worker that blocked SIGTERM could not be
/// asked to end.
pub(crate) fn stand_aside_from_terminal() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, which is safe at any point.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    SignalMask::of(libc::SIGTTOU).set();
}

/// Signals that are blocked in a thread.
struct SignalMask(
    /// The signals.
    libc::sigset_t,
);

impl SignalMask {
    /// No signal.
    fn empty() -> Self {
        // SAFETY: a sigset_t is numbers, for which zero is valid: the empty set.
        Self(unsafe { std::mem::zeroed() })
    }

    /// All signals but those that the C library uses itself.
    fn full() -> Self {
        let mut mask = Self::empty();
        // SAFETY: the set outlives the call.
        unsafe { libc::sigfillset(&raw mut mask.0) };
        mask
    }

    /// One signal.
    fn of(signal: libc::c_int) -> Self {
        let mut mask = Self::empty();
        // SAFETY: the set outlives the call.
        unsafe { libc::sigaddset(&raw mut mask.0, signal) };
        mask
    }

    /// Blocks these signals in the calling thread, and no others. Returns those that were blocked before.
    fn set(&self) -> Self {
        let mut before = Self::empty();
        // SAFETY: both sets outlive the call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// Ends a forked copy of a worker: runs no exit handlers and flushes nothing.
pub(crate) fn exit_forked_copy() -> ! {
    // SAFETY: ends the process; no code of it runs any more.
    unsafe { libc::_exit(0) }
}
