//! Linux.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, StatVfsMountFlags, getxattr_query, statvfs};
use rustix::process::{getegid, geteuid, getgid, getuid};
use rustix::thread::no_new_privs;

use crate::sys::call::checked;

/// Whether the executable file gave this process rights that its real user may not have: by a setuid or
/// setgid bit, or by capabilities. False for real root, which had all rights before.
pub(crate) fn has_gained_rights() -> bool {
    // SAFETY: reads the auxiliary vector that the kernel gave to this process.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure && real_user() != 0
}

/// Whether this process would gain rights, as defined at [`has_gained_rights`], if it executed the file
/// `program`.
pub(crate) fn would_gain_rights(program: &Path) -> bool {
    let (user, group) = (real_user(), real_group());
    let Ok(facts) = std::fs::metadata(program) else {
        return false; // it cannot be executed either
    };
    let Ok(program) = CString::new(program.as_os_str().as_bytes()) else {
        return false; // a path with a NUL byte cannot be executed either
    };
    let do_files_count = do_files_give_rights(&program);
    let mode = Mode::from_raw_mode(facts.mode());
    let gives = |bits: Mode| do_files_count && mode.contains(bits);
    let next_user = match gives(Mode::SUID) {
        true => facts.uid(),
        false => effective_user(),
    };
    let next_group = match gives(Mode::SGID | Mode::XGRP) {
        true => facts.gid(),
        false => effective_group(),
    };
    let has_others = next_user != user || next_group != group;
    user != 0 && (has_others || (do_files_count && has_capabilities(&program)))
}

/// Whether the file `program` can give rights to the process that executes it: not after
/// `PR_SET_NO_NEW_PRIVS`, and not on a file system mounted `nosuid`.
fn do_files_give_rights(program: &CStr) -> bool {
    let no_new_rights = no_new_privs().unwrap_or(false);
    let is_nosuid =
        statvfs(program).is_ok_and(|facts| facts.f_flag.contains(StatVfsMountFlags::NOSUID));
    !no_new_rights && !is_nosuid
}

/// Whether the file `program` gives capabilities to the process that executes it.
fn has_capabilities(program: &CStr) -> bool {
    getxattr_query(program, c"security.capability").is_ok()
}

/// The real user id of this process.
pub(crate) fn real_user() -> u32 {
    getuid().as_raw()
}

/// The effective user id of this process.
pub(crate) fn effective_user() -> u32 {
    geteuid().as_raw()
}

fn real_group() -> u32 {
    getgid().as_raw()
}

fn effective_group() -> u32 {
    getegid().as_raw()
}

/// The effective user id of the process that made the pair of which this socket is one, at that time
/// (`SO_PEERCRED`).
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // Of the C library: rustix's type has no place for the id 0, which stands for a process outside of this
    // one's PID namespace.
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of_val(&peer) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let place = (&raw mut peer).cast();
    // SAFETY: the buffer is as large as said, and outlives the call.
    let answer =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, place, &raw mut size) };
    checked(answer).map(|_| peer.uid)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_tells_who_made_it() {
        let (one, other) = UnixStream::pair().unwrap();
        for end in [one, other] {
            assert_eq!(peer_user(end.as_fd()).unwrap(), effective_user());
        }
        assert!(peer_user(File::open("/dev/null").unwrap().as_fd()).is_err());
    }

    #[test]
    fn tests_have_no_more_rights_than_their_user() {
        assert!(!has_gained_rights() && !would_gain_rights(Path::new("/proc/self/exe")));
    }
}
