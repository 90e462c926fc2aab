//! A child that other code reaps, so that its process id goes to a stranger.

use super::*;

/// A process that waits for a signal, and is no `ChildProcess`.
struct Stranger(libc::pid_t);

impl Stranger {
    /// Starts a leader of a process group with this process id, which is free. `None`: the test may not
    /// choose ids.
    fn numbered(pid: u32) -> Option<Self> {
        let wanted = pid as libc::pid_t;
        // SAFETY: clone_args is numbers, for which zero is valid.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.exit_signal = libc::SIGCHLD as u64;
        arguments.set_tid = (&raw const wanted).addr() as u64;
        arguments.set_tid_size = 1;
        let size = size_of_val(&arguments);
        // SAFETY: the arguments outlive the call. The copy has one thread, which does no more than wait.
        let made = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
        if made == 0 {
            loop {
                // SAFETY: no memory is touched.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: no memory is touched.
        let leads = made > 0 && unsafe { libc::setpgid(wanted, wanted) } == 0;
        leads.then_some(Self(wanted))
    }

    /// Ends it by a signal. Returns the signal that it was ended by.
    fn end(&self, signal: i32) -> i32 {
        // SAFETY: no memory is touched.
        unsafe { libc::kill(self.0, signal) };
        libc::WTERMSIG(reap(self.0))
    }
}

/// Reaps a child, as other code does. Returns its status.
fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the buffer outlives the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid, "{}", io::Error::last_os_error());
    status
}

#[test]
fn a_stranger_with_the_number_of_a_child_is_left_alone() {
    let (ours, _theirs) = Stream::pair().unwrap();
    let ours = Arc::new(ours);
    let (process, ..) = ChildProcess::spawn(Command::new("true"), &ours).unwrap();
    reap(process.pid as libc::pid_t);
    let Some(stranger) = Stranger::numbered(process.pid) else {
        return; // choosing a process id takes rights
    };
    process.terminate();
    process.kill();
    assert_eq!(stranger.end(libc::SIGUSR1), libc::SIGUSR1);
    process.reap_at_end(&ours, 0);
    assert_eq!(process.end(), Some(ProcessEnd::Unknown));
}
