//! Linux.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

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
    let gives = |bits: libc::mode_t| do_files_count && facts.mode() & bits == bits;
    let next_user = match gives(libc::S_ISUID) {
        true => facts.uid(),
        false => effective_user(),
    };
    let next_group = match gives(libc::S_ISGID | libc::S_IXGRP) {
        true => facts.gid(),
        false => effective_group(),
    };
    let has_others = next_user != user || next_group != group;
    user != 0 && (has_others || (do_files_count && has_capabilities(&program)))
}

/// Whether the file `program` can give rights to the process that executes it: not after
/// `PR_SET_NO_NEW_PRIVS`, and not on a file system mounted `nosuid`.
fn do_files_give_rights(program: &CStr) -> bool {
    const UNUSED: libc::c_ulong = 0;
    let question = libc::PR_GET_NO_NEW_PRIVS;
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::prctl(question, UNUSED, UNUSED, UNUSED, UNUSED) };
    let no_new_rights = answer == 1;
    // SAFETY: a statvfs is numbers, for which zero is valid.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path and the buffer outlive the call.
    let answer = unsafe { libc::statvfs(program.as_ptr(), &raw mut facts) };
    let is_nosuid = answer == 0 && facts.f_flag & libc::ST_NOSUID != 0;
    !no_new_rights && !is_nosuid
}

/// Whether the file `program` gives capabilities to the process that executes it.
fn has_capabilities(program: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: both strings outlive the call, which is given no buffer for the value.
    let size = unsafe { libc::getxattr(program.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) };
    size >= 0
}

/// The real user id of this process.
pub(crate) fn real_user() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getuid() }
}

/// The effective user id of this process.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::geteuid() }
}

fn real_group() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getgid() }
}

fn effective_group() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getegid() }
}

/// The effective user id of the process that made the pair of which this socket is one, at that time
/// (`SO_PEERCRED`).
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
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
