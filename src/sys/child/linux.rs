//! Linux.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

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
        let sent = self.signal(libc::SIGKILL);
        self.kill_group();
        sent
    }

    /// Asks the child to end (SIGTERM).
    ///
    /// # Errors
    /// Those of [`signal`](Self::signal).
    pub(crate) fn terminate(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Sends a signal to the child. The child is not known to be reaped. It is no error if the child has
    /// ended.
    ///
    /// # Errors
    /// `EPERM` if the child has rights that the program has dropped; the error of a system call filter that
    /// refuses signals.
    fn signal(&self, signal: i32) -> io::Result<()> {
        let sent = match self {
            Self::Descriptor { descriptor, .. } => signal_by(descriptor.as_fd(), signal),
            Self::Number(pid) => self::signal(*pid, signal),
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
                if is_unknown && signal_by(descriptor, 0).is_ok() {
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
            Self::Number(pid) => Ok(Child::Number(*pid)),
            Self::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }
}

/// The child that a call waits for.
#[derive(Debug, Clone, Copy)]
enum Child<'a> {
    /// The child with this process id.
    Number(u32),
    /// The child that a pidfd refers to; since Linux 5.4.
    Descriptor(BorrowedFd<'a>),
}

/// Opens a pidfd: a descriptor that always refers to this process, even after its id was reused. Since
/// Linux 5.3.
fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let descriptor = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel made this descriptor for this process, close-on-exec; no other code owns it.
    above_standard(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Checks that a child can be waited for; does not block.
///
/// # Errors
/// `ECHILD` if it is no child, or was reaped; `EINVAL` if the system cannot wait by a pidfd.
fn look_after(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG).map(|_| ())
}

/// Blocks until the child has ended, and does not reap it.
fn wait_for_end(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT).map(|_| ())
}

/// Calls `waitid(2)`. Returns what has happened to the child, and its resource usage.
fn wait_id(child: Child<'_>, flags: libc::c_int) -> io::Result<(libc::siginfo_t, libc::rusage)> {
    let (kind, id) = match child {
        Child::Number(pid) => (libc::P_PID, pid),
        Child::Descriptor(descriptor) => (libc::P_PIDFD, descriptor.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: a siginfo_t is numbers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let (told, used) = (&raw mut info, &raw mut usage);
    retried(|| {
        // SAFETY: both buffers outlive the call. The kernel's `waitid` fills in the usage; the C library's
        // does not.
        checked(unsafe { libc::syscall(libc::SYS_waitid, kind, id, told, flags, used) })
    })?;
    Ok((info, usage))
}

/// Reaps a child that has ended. Returns how it ended, and its peak memory in bytes.
fn reap(child: Child<'_>) -> io::Result<(ProcessEnd, u64)> {
    let (info, usage) = wait_id(child, libc::WEXITED)?;
    // SAFETY: the kernel has filled `info` in, for a child that has ended.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => ProcessEnd::Exited(status),
        _ => ProcessEnd::Signalled(status),
    };
    Ok((end, wide(usage.ru_maxrss.unsigned_abs()) * 1024))
}

/// Sends SIGKILL to the process group that a child leads or led. The child must not have been reaped.
fn kill_group(pid: u32) {
    // SAFETY: no memory is touched. The group's id is the child's id, which is not reused until the child is
    // reaped. Failure means that no process is left in the group.
    unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
}

/// Sends a signal to a child, by its id. The child must not have been reaped.
fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::kill(pid as libc::pid_t, signal) }).map(|_| ())
}

/// Sends a signal to the process that a pidfd refers to.
///
/// # Errors
/// `ESRCH` if the process was reaped.
fn signal_by(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    signal_with(process, signal, 0)
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
            handle.signal(libc::SIGTERM).unwrap();
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
