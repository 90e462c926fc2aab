//! The few system calls that trials make themselves.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Sends a signal.
pub fn kill(pid: u32, signal: i32) {
    let sent = try_kill(pid, signal);
    assert!(sent, "kill {pid}: {}", std::io::Error::last_os_error());
}

/// Sends a signal, if there is such a process; whether there is.
pub fn try_kill(pid: u32, signal: i32) -> bool {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: kill touches no memory of ours.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Stops a child; returns when it has stopped.
pub fn stop(pid: u32) {
    kill(pid, libc::SIGSTOP);
    // SAFETY: a siginfo_t is numbers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WSTOPPED | libc::WNOWAIT;
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, flags) };
    assert_eq!(answer, 0, "waitid: {}", std::io::Error::last_os_error());
}

/// Has this process ignore a signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs nothing.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Has this process call a function at a signal.
pub fn handle(signal: i32, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: trials give handlers that may run at any point.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Whether this process ignores a signal, and so do those that it starts.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: a sigaction is numbers and pointers, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    assert_eq!(answer, 0, "sigaction: {}", std::io::Error::last_os_error());
    action.sa_sigaction == libc::SIG_IGN
}

/// Closes a standard descriptor.
pub fn close(number: i32) {
    // SAFETY: no memory is touched; 0, 1 and 2 have no owner.
    let answer = unsafe { libc::close(number) };
    assert_eq!(answer, 0, "close: {}", std::io::Error::last_os_error());
}

/// Whether a descriptor is open.
pub fn is_open(number: i32) -> bool {
    // SAFETY: no memory is touched.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Loads a library, and calls a function of it that takes nothing and gives a number.
pub fn call_in_library(library: &Path, function: &std::ffi::CStr) -> i32 {
    let path = std::ffi::CString::new(library.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path outlives the call; the library is one of our fixtures.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null(), "{}", library.display());
    // SAFETY: the library stays loaded; the name outlives the call.
    let place = unsafe { libc::dlsym(handle, function.as_ptr()) };
    assert!(!place.is_null(), "{function:?}");
    // SAFETY: the fixture's function has this signature.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(place) };
    function()
}

/// How nice this process is to others.
pub fn niceness() -> i32 {
    // SAFETY: reads a number of this process.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Waits until a process that is not our child is gone, or is a zombie that no process reaps.
pub fn wait_until_dead(pid: u32) {
    // SAFETY: no memory is touched.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        return; // gone and reaped
    }
    // SAFETY: the kernel made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd).unwrap()) };
    let mut polled = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the structure outlives the call.
    let ready = unsafe { libc::poll(&raw mut polled, 1, 40_000) };
    assert_eq!(ready, 1, "process {pid} lives on");
}

/// Whether a process of this number exists, be it a zombie.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Ends this process at once.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit ends the process, whatever its state.
    unsafe { libc::_exit(code) }
}

/// Lets any process of this user attach to this one.
pub fn allow_debuggers() {
    // SAFETY: sets an attribute of this process; where it is unknown, the call fails in peace.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
}

/// A real fault: std's handler lets a merely raised SIGSEGV pass.
pub fn segfault() -> ! {
    let nowhere: *mut u8 = std::ptr::without_provenance_mut(8);
    // SAFETY: none; the write faults, which ends the process. That is what the caller wants.
    unsafe { std::ptr::write_volatile(nowhere, 1) };
    unreachable!("the first page is never mapped")
}

/// Makes a named pipe.
pub fn mkfifo(path: &Path) -> std::io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string that outlives the call.
    let answer = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
    match answer {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Forks without exec; `0` in the copy.
pub fn fork() -> i32 {
    // SAFETY: the copies go on in the one thread that calls; what they may do is what the trial
    // is about.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    pid
}

/// Waits for a child of our own making.
pub fn reap(pid: i32) -> ExitStatus {
    await_child(pid, 0)
}

/// Blocks until a child of our own making has ended or was stopped; which. Reaps it if it has
/// ended.
pub fn await_change(pid: u32) -> ExitStatus {
    await_child(i32::try_from(pid).unwrap(), libc::WUNTRACED)
}

fn await_child(pid: i32, options: i32) -> ExitStatus {
    let mut status = 0;
    // SAFETY: `status` is ours and outlives the call.
    let answer = unsafe { libc::waitpid(pid, &raw mut status, options) };
    assert_eq!(answer, pid, "waitpid: {}", std::io::Error::last_os_error());
    ExitStatus::from_raw(status)
}

/// Blocks until something can be read, or for at most `limit`; whether it can.
pub fn readable(file: &impl AsRawFd, limit: Option<Duration>) -> bool {
    let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_millis()).unwrap());
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: one entry, which is ours and outlives the call.
        let answer = unsafe { libc::poll(&raw mut poll, 1, limit) };
        let error = std::io::Error::last_os_error();
        match answer {
            -1 if error.raw_os_error() == Some(libc::EINTR) => {}
            -1 => panic!("poll: {error}"),
            count => return count > 0,
        }
    }
}

/// Blocks until the process has ended, or until the deadline; whether it has. It may be a zombie
/// then.
pub fn await_end(pid: u32, deadline: Instant) -> bool {
    end_of(pid, 0).is_none_or(|end| readable(&end, Some(left(deadline))))
}

/// As [`await_end`], of a thread of this process. The system gives no such event before
/// Linux 6.9: there it looks once and lets others run.
pub fn await_end_of_thread(tid: u32, deadline: Instant) -> bool {
    /// `PIDFD_THREAD` of Linux 6.9.
    const THREAD: i32 = libc::O_EXCL;
    if let Some(end) = end_of(tid, THREAD) {
        return readable(&end, Some(left(deadline)));
    }
    std::thread::yield_now();
    Instant::now() < deadline
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A descriptor that is readable once the process has ended; `None` if it is gone already.
fn end_of(pid: u32, flags: i32) -> Option<File> {
    let (pid, flags) = (i64::from(pid), i64::from(flags));
    // SAFETY: pidfd_open touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the descriptor was just made, and has no other owner.
    Some(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// The loader that has loaded this program; `None` for a static one.
pub fn loader() -> Option<PathBuf> {
    // SAFETY: only reads a value that the kernel gave this process.
    let base: u64 = wide(unsafe { libc::getauxval(libc::AT_BASE) });
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // start-end perms offset device inode   path
    let at_base = |line: &&str| {
        let start = line.split('-').next().unwrap();
        u64::from_str_radix(start, 16) == Ok(base)
    };
    let path = maps.lines().find(at_base)?.split_whitespace().nth(5)?;
    Some(path.into())
}

/// What the kernel calls a limit.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// A number of the C library, which has 32 bits on some systems.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// The same as a number of the C library, or the largest that it has.
fn narrow<N: TryFrom<u64>>(number: u64, largest: N) -> N {
    N::try_from(number).unwrap_or(largest)
}

/// How much of something this process may have.
pub fn limit(resource: Resource) -> u64 {
    wide(limits(resource).rlim_cur)
}

/// Sets how much of something this process, and those that it starts, may have. It can be raised
/// again.
pub fn set_limit(resource: Resource, limit: u64) {
    let mut limits = limits(resource);
    limits.rlim_cur = narrow(limit, libc::rlim_t::MAX);
    // SAFETY: the structure outlives the call.
    let answer = unsafe { libc::setrlimit(resource, &raw const limits) };
    assert_eq!(answer, 0, "setrlimit: {}", std::io::Error::last_os_error());
}

fn limits(resource: Resource) -> libc::rlimit {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    let answer = unsafe { libc::getrlimit(resource, &raw mut limits) };
    assert_eq!(answer, 0, "getrlimit: {}", std::io::Error::last_os_error());
    limits
}

/// Bytes of address space that this process has.
pub fn mapped_memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: no memory is touched.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(size).unwrap()
}

/// Makes root, for which some limits do not hold, a user that has no other process.
pub fn become_nobody_special() {
    const NOBODY_SPECIAL: libc::uid_t = 54_321;
    // SAFETY: no memory is touched.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: no memory is touched; this is the only thread.
        let answer = unsafe { libc::setuid(NOBODY_SPECIAL) };
        assert_eq!(answer, 0, "setuid: {}", std::io::Error::last_os_error());
    }
}

/// The user with whose rights this process acts.
pub fn effective_user() -> u32 {
    // SAFETY: no memory is touched.
    unsafe { libc::geteuid() }
}

/// Whether this process was given more rights by the file that it was started from.
pub fn has_more_rights() -> bool {
    // SAFETY: only reads a value that the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Gives a file the capability to use low ports, for any user that executes it.
pub fn give_capability(file: &Path) {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    const NET_BIND_SERVICE: u32 = 1 << 10;
    // The revision; permitted and inheritable ones, the lower half and the upper.
    let words = [REVISION_2_EFFECTIVE, NET_BIND_SERVICE, 0, 0, 0];
    let value: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
    let name = c"security.capability";
    // SAFETY: path, name and value outlive the call.
    let answer = unsafe {
        let value = (value.as_ptr().cast(), value.len());
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.0, value.1, 0)
    };
    assert_eq!(answer, 0, "setxattr: {}", std::io::Error::last_os_error());
}

/// Makes the effective user and group of this process its only ones.
pub fn become_effective_user() {
    let (user, group) = (effective_user(), {
        // SAFETY: no memory is touched.
        unsafe { libc::getegid() }
    });
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::setresgid(group, group, group) };
    assert_eq!(answer, 0, "setresgid: {}", std::io::Error::last_os_error());
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::setresuid(user, user, user) };
    assert_eq!(answer, 0, "setresuid: {}", std::io::Error::last_os_error());
}

/// Has this process act as a user, for now.
pub fn lower_rights(user: u32) {
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::seteuid(user) };
    assert_eq!(answer, 0, "seteuid: {}", std::io::Error::last_os_error());
}

/// Makes root a user that could become root again, but has no right of root meanwhile.
pub fn lay_down_rights(user: u32) {
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::setresuid(user, user, 0) };
    assert_eq!(answer, 0, "setresuid: {}", std::io::Error::last_os_error());
}

/// Has the system refuse this process, and those that it starts, to send signals.
pub fn refuse_signals() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let refused = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let mut steps = [
        step(LOAD, 0, 0, 0), // the number of the call
        step(JUMP_IF_EQUAL, 2, 0, number(libc::SYS_kill)),
        step(JUMP_IF_EQUAL, 1, 0, number(libc::SYS_pidfd_send_signal)),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, refused),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(steps.len()).unwrap(),
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0, "prctl: {}", std::io::Error::last_os_error());
    // SAFETY: the filter outlives the call.
    let answer = unsafe {
        let mode = libc::SECCOMP_MODE_FILTER;
        libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter)
    };
    assert_eq!(answer, 0, "prctl: {}", std::io::Error::last_os_error());
}

/// Has this process call a function when it exits.
pub fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function stays as long as the process.
    let answer = unsafe { libc::atexit(function) };
    assert_eq!(answer, 0, "atexit");
}

/// A full pipe: its reading end, its writing end.
pub fn full_pipe() -> (File, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the array outlives the call.
    let answer = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(answer, 0, "pipe: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel made these descriptors for us.
    let [reader, writer] = ends.map(|end| File::from(unsafe { OwnedFd::from_raw_fd(end) }));
    let bytes = vec![b'.'; pipe_size(&reader)];
    std::io::Write::write_all(&mut &writer, &bytes).unwrap();
    (reader, writer.into())
}

/// The capacity of a pipe in bytes.
pub fn pipe_size(pipe: &File) -> usize {
    // SAFETY: no memory is touched.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) };
    usize::try_from(size).unwrap()
}

/// Acts as a user, in the calling thread alone. The process cannot be looked into from then on.
pub fn as_user<R>(user: u32, act: impl FnOnce() -> R) -> R {
    let before = effective_user();
    let become_user = |user: u32| {
        let same = libc::uid_t::MAX;
        // SAFETY: no memory is touched. The C library's call would change all threads.
        let answer = unsafe { libc::syscall(libc::SYS_setresuid, same, user, same) };
        assert_eq!(answer, 0, "setresuid: {}", std::io::Error::last_os_error());
    };
    become_user(user);
    let outcome = act();
    become_user(before);
    outcome
}

/// Reaps whatever child of this process ends, for ever.
pub fn reap_all() {
    loop {
        // SAFETY: no memory is touched.
        let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        if reaped < 0 {
            std::thread::yield_now(); // there is no child
        }
    }
}

/// Blocks all signals that can be blocked in the calling thread.
pub fn block_all_signals() {
    // SAFETY: a sigset_t is numbers, for which zero is valid.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set outlives the call, which gets no pointer for the old one.
    let answer =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
}

/// Closes every descriptor above this one, whatever it belongs to.
pub fn close_all_above(last: u32) {
    // SAFETY: none: what they belong to loses them. That is what the caller wants.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, last + 1, u32::MAX, 0) };
    assert_eq!(
        answer,
        0,
        "close_range: {}",
        std::io::Error::last_os_error()
    );
}

/// Has this process leave its group for that of its parent.
pub fn join_group_of_parent() {
    // SAFETY: no memory is touched.
    let parent = unsafe { libc::getppid() };
    // SAFETY: no memory is touched.
    let group = unsafe { libc::getpgid(parent) };
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::setpgid(0, group) };
    assert_eq!(answer, 0, "setpgid: {}", std::io::Error::last_os_error());
}

/// Has [`peak_memory`] begin anew. Where `/proc` is read-only it goes on from the peak so far, above which a trial
/// then measures.
pub fn forget_peak_memory() {
    match std::fs::write("/proc/self/clear_refs", "5") {
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {}
        written => written.unwrap(),
    }
}

/// The most memory that this process has used, in bytes.
pub fn peak_memory() -> u64 {
    memory("VmHWM:")
}

/// The memory that this process uses, in bytes.
pub fn used_memory() -> u64 {
    memory("VmRSS:")
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() << 10
}

/// Maps a page at an address where nothing is.
pub fn map_at(address: usize) -> *mut u8 {
    let wanted: *mut libc::c_void = std::ptr::with_exposed_provenance_mut(address);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: nothing is replaced: where something is, the call fails.
    let place = unsafe { libc::mmap(wanted, 4096, protection, flags, -1, 0) };
    assert_eq!(
        place,
        wanted,
        "{address:x}: {}",
        std::io::Error::last_os_error()
    );
    place.cast()
}

/// Has the system refuse a call to this process and those that it starts, as one that is not permitted.
pub fn refuse(call: libc::c_long) {
    let statement = |code: u32, if_not: u8, value: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: 0,
        jf: if_not,
        k: value,
    };
    let refused = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        // The first of what a filter sees is the number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            u32::try_from(call).unwrap(),
        ),
        statement(libc::BPF_RET | libc::BPF_K, 0, refused),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0, "prctl: {}", std::io::Error::last_os_error());
    let (what, kind) = (libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER);
    // SAFETY: the program and its statements outlive the call, which copies them.
    let answer = unsafe { libc::prctl(what, kind, &raw const program) };
    assert_eq!(answer, 0, "seccomp: {}", std::io::Error::last_os_error());
}

/// Replaces a descriptor by an epoll that is always ready.
pub fn replace_by_ready_epoll(number: i32) {
    // SAFETY: no memory is touched.
    let epoll = unsafe { libc::epoll_create1(0) };
    // SAFETY: as above.
    let event = unsafe { libc::eventfd(1, 0) };
    let mut wanted = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 7,
    };
    // SAFETY: the event outlives the call.
    let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, event, &raw mut wanted) };
    assert_eq!(added, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: what had the number is the test's to replace.
    let taken = unsafe { libc::dup2(epoll, number) };
    assert_eq!(taken, number, "{}", std::io::Error::last_os_error());
    // SAFETY: it was made above, and stays behind the other number.
    unsafe { libc::close(epoll) };
}
