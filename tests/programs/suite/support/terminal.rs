//! A terminal of our own, in place of the one that the suite may or may not run in.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// The keyboard and the screen.
pub struct Terminal {
    /// The end that a person would sit at.
    master: File,
    /// The end that programs have.
    programs: String,
}

/// The key Ctrl-C.
pub const CTRL_C: u8 = 0x03;
/// The key Ctrl-Z.
pub const CTRL_Z: u8 = 0x1a;

impl Terminal {
    /// A terminal that shows what programs print, and nothing else; those in the background may
    /// not (`stty tostop`).
    pub fn new() -> Self {
        let options = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: no memory is touched.
        let master = unsafe { libc::posix_openpt(options) };
        assert!(master >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the descriptor was just made, and has no other owner.
        let master = File::from(unsafe { OwnedFd::from_raw_fd(master) });
        let unlocked: libc::c_int = 0;
        // SAFETY: reads the number, which outlives the call.
        let answer =
            unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        let mut number: libc::c_uint = 0;
        // SAFETY: writes the number, which outlives the call.
        let answer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        let programs = format!("/dev/pts/{number}");
        let terminal = Self { master, programs };
        terminal.set_up();
        terminal
    }

    fn set_up(&self) {
        // SAFETY: a termios is numbers, for which zero is valid.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the buffer outlives the call.
        let answer = unsafe { libc::tcgetattr(self.master.as_raw_fd(), &raw mut settings) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        settings.c_lflag &= !libc::ECHO;
        settings.c_lflag |= libc::ISIG | libc::TOSTOP;
        settings.c_oflag &= !libc::OPOST;
        // SAFETY: the buffer outlives the call.
        let answer =
            unsafe { libc::tcsetattr(self.master.as_raw_fd(), libc::TCSANOW, &raw const settings) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    /// Starts a program as the first one in this terminal: as a login shell is.
    pub fn start(&self, mut program: Command) -> Child {
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NOCTTY);
            Stdio::from(options.open(&self.programs).unwrap())
        };
        program.stdin(open()).stdout(open()).stderr(open());
        // SAFETY: both calls may be made between fork and exec; nothing is allocated.
        unsafe { program.pre_exec(own_terminal) };
        program.spawn().unwrap()
    }

    /// Presses a key.
    pub fn press(&self, key: u8) {
        (&self.master).write_all(&[key]).unwrap();
    }

    /// Blocks until `length` bytes are on the screen, and returns them.
    pub fn read(&self, length: usize) -> String {
        let mut shown = vec![0; length];
        (&self.master).read_exact(&mut shown).unwrap();
        String::from_utf8(shown).unwrap()
    }

    /// Blocks until no program has the terminal any more; what else they have printed.
    pub fn read_to_end(self) -> String {
        let mut shown = Vec::new();
        match (&self.master).read_to_end(&mut shown) {
            Ok(_) => {}
            // The error of a terminal that no process has open.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
            Err(error) => panic!("{error}"),
        }
        String::from_utf8(shown).unwrap()
    }
}

/// Makes the terminal that is our stdin ours: of this process, and those that it starts. The keys do what they do
/// for a program that a shell starts, even if the suite itself was started with these signals ignored.
fn own_terminal() -> std::io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP] {
        // SAFETY: SIG_DFL runs nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: no memory is touched.
    let session = unsafe { libc::setsid() };
    // SAFETY: no memory is touched.
    let taken = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
    if session < 0 || taken < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Puts a process group into the foreground of our terminal; called by the one that is there.
pub fn give_terminal(group: u32) {
    let group = libc::pid_t::try_from(group).unwrap();
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, group) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}
