//! What this program does when it is executed again by itself, beside being a worker of a pool.

use std::env;
use std::io::{self, Write};
use std::process::Command;

use crate::Outcome;
use crate::pools::{ipc, socket};
use crate::scenes::queue;

#[derive(Clone, Copy)]
pub enum Role {
    /// Prints an answer: the least that a start-up can be.
    Answer,
    /// Returns what comes over the socket that is its standard input.
    SocketPong,
    /// Returns numbers over ipc-channel.
    IpcNumbers,
    /// Returns bytes over ipc-channel.
    IpcBytes,
    /// Queues tasks, and prints what memory they take.
    Queue,
}

/// What `Role::Answer` prints.
pub const ANSWER: &str = "42";

/// The first argument of a child; its role is the second.
const MARK: &str = "--child";

const ROLES: [(&str, Role); 5] = [
    ("answer", Role::Answer),
    ("socket-pong", Role::SocketPong),
    ("ipc-numbers", Role::IpcNumbers),
    ("ipc-bytes", Role::IpcBytes),
    ("queue", Role::Queue),
];

impl Role {
    /// Executes this program again, in this role.
    pub fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args([MARK, ROLES[self as usize].0]);
        command
    }

    /// What this process was executed for; `None`: it is the program itself.
    pub fn of_arguments() -> Option<Self> {
        let mut arguments = env::args().skip(1);
        if arguments.next()? != MARK {
            return None;
        }
        let name = arguments.next()?;
        ROLES.iter().find(|role| role.0 == name).map(|role| role.1)
    }

    pub fn play(self) -> Outcome<()> {
        let argument = || env::args().nth(3).ok_or("the third argument is missing");
        match self {
            Self::Answer => Ok(io::stdout().write_all(ANSWER.as_bytes())?),
            Self::SocketPong => socket::pong(),
            Self::IpcNumbers => ipc::pong_numbers(argument()?),
            Self::IpcBytes => ipc::pong_bytes(argument()?),
            Self::Queue => queue::print_growth(argument()?.parse()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROLES, Role};

    #[test]
    fn each_role_finds_its_own_name() {
        for (place, (_, role)) in ROLES.iter().enumerate() {
            assert_eq!(*role as usize, place);
        }
        let command = Role::IpcBytes.command();
        assert!(command.get_args().eq(["--child", "ipc-bytes"]));
    }
}
