//! Linux.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::sys::call::{checked, retried, wide};
use crate::sys::child::ProcessEnd;
use crate::sys::descriptors::leaves_room;
use crate::sys::descriptors::system::above_standard;

/// Whether this crate starts processes on this system.
pub(crate) const SUPPORTED: bool = true;

/// Whether a process was ended by a signal that others send, rather than by what it did itself.
pub(crate) fn from_outside(end: ProcessEnd) -> bool {
    const OUTSIDE: [i32; 5] = [
        libc::SIGKILL,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
    ];
    matches!(end, ProcessEnd::Signalled(signal) if OUTSIDE.contains(&signal))
}

/// The name of a signal; `None` for one that few know.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

/// Makes a child that `command` starts the leader of a process group of its own.
pub(crate) fn lead_group(command: &mut Command) {
    command.process_group(0);
}

/// Sets the name under which `command` starts its program: the first of the program's arguments (`argv[0]`).
pub(crate) fn start_as(command: &mut Command, name: impl AsRef<OsStr>) {
    command.arg0(name);
}

/// Identifies a child, to wait for it, signal it and reap it.
#[derive(Debug)]
pub(crate) enum Handle {
    /// By a pidfd.
    Descriptor {
        /// The pidfd of the child.
        descriptor: OwnedFd,
        /// The id of the process group that the child leads or led.
        group: u32,
    },
    /// By process id, which belongs to the child until it is reaped.
    Number(u32),
    /// No longer identifiable: the system or other code of the program has reaped the child.
    Gone,
}

impl Handle {
    /// Makes the handle of a child that was just started.
    pub(crate) fn of(pid: u32) -> Self {
        let descriptor = match open_process(pid) {
            Ok(descriptor) if leaves_room(descriptor.as_fd()) => descriptor,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Self::Gone,
            // Before Linux 5.3, under a system call filter, or where few descriptors are left.
            Ok(_) | Err(_) => return Self::Number(pid),
        };
        match look_after(Child::Descriptor(descriptor.as_fd())) {
            Ok(()) => Self::Descriptor {
                descriptor,
                group: pid,
            },
            // The child was reaped; the pidfd may refer to another process with the same id.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Self::Gone,
            // Linux 5.3 cannot wait by a pidfd.
            Err(_) => Self::Number(pid),
        }
    }

    /// Blocks until the child has ended, and does not reap it.
    ///
    /// # Errors
    /// `ECHILD` if the system or other code of the program has reaped it.
    pub(crate) fn wait_for_end(&self) -> io::Result<()> {
        wait_for_end(self.child()?)
    }

    /// Kills the rest of the process group of a child that has ended, and reaps the child. Returns how the
    /// child ended, and its peak memory in bytes. `waited`: the result of
    /// [`wait_for_end`](Self::wait_for_end).
    ///
    /// # Errors
    /// An error if the system or other code of the program has reaped the child.
    pub(crate) fn reap(&self, waited: io::Result<()>) -> io::Result<(ProcessEnd, u64)> {
        if let Self::Descriptor { .. } = self {
            self.kill_group();
        }
        waited?;
        if let Self::Number(_) = self {
            self.kill_group();
        }
        reap(self.child()?)
    }

    /// Sends SIGKILL to the child and to its process group. The child is not known to be reaped.
    ///
    /// # Errors
    /// Those of [`signal`](Self::signal), for the child itself.
    pub(crate) fn kill_tree(&self) -> io::Result<()> {
        let sent = self.signal(Signal::KILL);
        self.kill_group();
        sent
    }

    /// Asks the child to end (SIGTERM).
    ///
    /// # Errors
    /// Those of [`signal`](Self::signal).
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal to the child. The child is not known to be reaped. It is no error if the child has
    /// ended.
    ///
    /// # Errors
    /// `EPERM` if the child has rights that the program has dropped; the error of a system call filter that
    /// refuses signals.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match self {
            Self::Descriptor { descriptor, .. } => signal_by(descriptor.as_fd(), signal),
            Self::Number(pid) => pid_of(*pid).and_then(|pid| Ok(kill_process(pid, signal)?)),
            Self::Gone => Ok(()),
        };
        match sent {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Sends SIGKILL to the process group that the child leads or led.
    fn kill_group(&self) {
        match self {
            Self::Descriptor { descriptor, group } => {
                let descriptor = descriptor.as_fd();
                let sent = kill_group_by(descriptor);
                let is_unknown = sent.is_err_and(|it| it.raw_os_error() == Some(libc::EINVAL));
                // Before Linux 6.9 by the group's id, which is not reused until the child is reaped; signal 0
                // checks that the child was not.
                if is_unknown && check_by(descriptor).is_ok() {
                    kill_group(*group);
                }
            }
            Self::Number(pid) => kill_group(*pid),
            Self::Gone => {}
        }
    }

    fn child(&self) -> io::Result<Child<'_>> {
        match self {
            Self::Descriptor { descriptor, .. } => Ok(Child::Descriptor(descriptor.as_fd())),
            Self::Number(pid) => Ok(Child::Number(pid_of(*pid)?)),
            Self::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }
}

/// The child that a call waits for.
#[derive(Debug, Clone, Copy)]
enum Child<'a> {
    /// The child with this process id.
    Number(Pid),
    /// The child that a pidfd refers to; since Linux 5.4.
    Descriptor(BorrowedFd<'a>),
}

impl<'a> From<Child<'a>> for WaitId<'a> {
    fn from(child: Child<'a>) -> Self {
        match child {
            Child::Number(pid) => Self::Pid(pid),
            Child::Descriptor(descriptor) => Self::PidFd(descriptor),
        }
    }
}

/// The process with this id, which is not 0.
fn pid_of(number: u32) -> io::Result<Pid> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Errno::SRCH.into())
}

/// Opens a pidfd: a descriptor that always refers to this process, even after its id was reused. Since
/// Linux 5.3.
fn open_process(pid: u32) -> io::Result<OwnedFd> {
    above_standard(pidfd_open(pid_of(pid)?, PidfdFlags::empty())?)
}

/// Checks that a child can be waited for; does not block.
///
/// # Errors
/// `ECHILD` if it is no child, or was reaped; `EINVAL` if the system cannot wait by a pidfd.
fn look_after(child: Child<'_>) -> io::Result<()> {
    wait_for(child, WaitIdOptions::NOHANG)
}

/// Blocks until the child has ended, and does not reap it.
fn wait_for_end(child: Child<'_>) -> io::Result<()> {
    wait_for(child, WaitIdOptions::empty())
}

/// Waits for the end of a child as `how` says, and does not reap it.
fn wait_for(child: Child<'_>, how: WaitIdOptions) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how;
    retry_on_intr(|| waitid(child, options))?;
    Ok(())
}

/// Reaps a child that has ended. Returns how it ended, and its peak memory in bytes. A raw system call: the
/// kernel's `waitid` fills in the usage, which neither the C library's nor rustix's does.
fn reap(child: Child<'_>) -> io::Result<(ProcessEnd, u64)> {
    let (kind, id) = match child {
        Child::Number(pid) => (libc::P_PID, pid.as_raw_pid()),
        Child::Descriptor(descriptor) => (libc::P_PIDFD, descriptor.as_raw_fd()),
    };
    // SAFETY: a siginfo_t is numbers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let (told, used) = (&raw mut info, &raw mut usage);
    retried(|| {
        // SAFETY: both buffers outlive the call.
        checked(unsafe { libc::syscall(libc::SYS_waitid, kind, id, told, libc::WEXITED, used) })
    })?;
    // SAFETY: the kernel has filled `info` in, for a child that has ended.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => ProcessEnd::Exited(status),
        _ => ProcessEnd::Signalled(status),
    };
    Ok((end, wide(usage.ru_maxrss.unsigned_abs()) * 1024))
}

/// Sends SIGKILL to the process group that a child leads or led. The child must not have been reaped: the
/// group's id is the child's id, which is not reused until then.
fn kill_group(pid: u32) {
    if let Ok(pid) = pid_of(pid) {
        // Failure means that no process is left in the group.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Sends a signal to the process that a pidfd refers to.
///
/// # Errors
/// `ESRCH` if the process was reaped.
fn signal_by(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    Ok(pidfd_send_signal(process, signal)?)
}

/// Checks that the process that a pidfd refers to was not reaped.
///
/// # Errors
/// `ESRCH` if it was.
fn check_by(process: BorrowedFd<'_>) -> io::Result<()> {
    signal_with(process, 0, 0)
}

/// Sends SIGKILL to the process group that the process of a pidfd leads or led, even if that process was
/// reaped.
///
/// # Errors
/// `ESRCH` if no process is in the group; `EINVAL` before Linux 6.9.
fn kill_group_by(process: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    signal_with(process, libc::SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP)
}

/// A raw system call: rustix's has neither flags nor the signal 0.
fn signal_with(process: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let (process, facts) = (process.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    let number = libc::SYS_pidfd_send_signal;
    // SAFETY: no memory is touched: with a null pointer the kernel fills in the signal's usual data.
    checked(unsafe { libc::syscall(number, process, signal, facts, flags) }).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::zombie_processes, reason = "handles reap what is started here")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Both ways to identify a child.
    const WAYS: [fn(u32) -> Handle; 2] = [Handle::of, Handle::Number];

    /// Starts a child that exits at once.
    fn exiting(way: fn(u32) -> Handle) -> Handle {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn();
        way(child.unwrap().id())
    }

    #[test]
    fn an_exit_is_told_once() {
        for way in WAYS {
            let handle = exiting(way);
            let waited = handle.wait_for_end();
            let (end, peak) = handle.reap(waited).unwrap();
            assert_eq!(end, ProcessEnd::Exited(7));
            assert!(peak > 0);
            assert!(handle.reap(handle.wait_for_end()).is_err());
        }
    }

    #[test]
    fn a_signal_ends_a_child() {
        for way in WAYS {
            let mut waiting = Command::new("cat");
            let child = waiting.stdin(Stdio::piped()).spawn().unwrap();
            let handle = way(child.id());
            handle.terminate().unwrap();
            let waited = handle.wait_for_end();
            let (end, _) = handle.reap(waited).unwrap();
            assert_eq!(end, ProcessEnd::Signalled(libc::SIGTERM));
        }
    }

    #[test]
    fn what_a_child_has_started_ends_with_it() {
        use std::io::Read;
        use std::os::unix::process::CommandExt;
        for way in WAYS {
            let mut leader = Command::new("sh");
            // The `sleep` that stays has the pipe's write end, too.
            leader.args(["-c", "sleep 1000 & exit 0"]).process_group(0);
            let mut child = leader.stdout(Stdio::piped()).spawn().unwrap();
            let handle = way(child.id());
            let waited = handle.wait_for_end();
            assert_eq!(handle.reap(waited).unwrap().0, ProcessEnd::Exited(0));
            let mut said = Vec::new();
            let mut pipe = child.stdout.take().unwrap();
            assert_eq!(pipe.read_to_end(&mut said).unwrap(), 0);
        }
    }

    #[test]
    fn what_is_no_child_has_no_handle() {
        assert!(matches!(Handle::of(i32::MAX as u32), Handle::Gone));
        assert!(matches!(Handle::of(std::process::id()), Handle::Gone));
    }
}
