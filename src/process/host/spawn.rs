//! The start of a worker: the command that runs this program again, the child process, and the handshake
//! with it, up to the point where the worker is ready for tasks.
//!
//! Supervisors and `Process` call [`WorkerConfig::start`]. It relies on `child` for the process, and on
//! `handshake` for the rest.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::error::Error;
use crate::process::host::child::{ChildProcess, SpawnOn};
use crate::process::host::config::WorkerConfig;
use crate::process::host::connection::Connection;
use crate::process::host::handshake::{Handshake, StartError, program_name};
use crate::process::reexec;
use crate::sync::deadline::Deadline;
use crate::sys;
use crate::sys::handle::{AsHandle, OwnedHandle};
use crate::sys::image;
use crate::transport::framed::FramedStream;

impl WorkerConfig {
    /// Starts worker `index` and waits until it is ready. `spawned` is told of the process as soon as there
    /// is one; `then` is called with its process id when it has ended.
    pub(crate) fn start(
        &self,
        index: usize,
        spawn_on: SpawnOn,
        spawned: impl FnOnce(&Arc<ChildProcess>),
        then: impl FnOnce(u32) + Send + 'static,
    ) -> Result<Connection, StartError> {
        // Rights may have changed since the pool was made.
        self.check()
            .map_err(|error| failed(index, &io::Error::other(error)))?;
        let deadline = Deadline::after(self.start_timeout);
        let (ours, theirs) = sys::stream::socket_pair().map_err(|error| failed(index, &error))?;
        let ours = Arc::new(ours);
        let started = self
            .command(index, theirs.into())
            .and_then(|command| ChildProcess::start(command, Arc::clone(&ours), spawn_on, then))
            .map_err(|error| failed(index, &error))?;
        spawned(&started.process);
        let connection = Connection::new(
            FramedStream::new(ours),
            started.process,
            started.wait_thread,
            self.payload_limit,
        );
        Handshake::new(self, index, connection, Some(started.stderr), deadline).finish()
    }

    /// Runs the handshake with a stand-in for a worker that was started, at the other end of `ours`.
    #[cfg(all(any(test, fuzzing), not(loom)))]
    pub(crate) fn greet(&self, ours: sys::stream::Stream) -> Result<Connection, StartError> {
        let connection = Connection::new(
            FramedStream::new(Arc::new(ours)),
            ChildProcess::ended(),
            None,
            self.payload_limit,
        );
        Handshake::new(self, 0, connection, None, Deadline::never()).finish()
    }

    fn command(&self, index: usize, stdin: OwnedHandle) -> io::Result<Command> {
        let mut command = self.program()?;
        let (arguments, (mark, value)) = reexec::arguments(stdin.as_handle());
        if let (true, Some(name)) = (self.launcher.is_empty(), std::env::args_os().next()) {
            sys::child::start_as(&mut command, name);
        }
        sys::child::lead_group(&mut command);
        self.environment.apply(&mut command);
        command
            .args(arguments)
            .env(mark, value)
            .stdin(Stdio::from(stdin))
            // Output before `init` does not come from the user's tasks: libtest prints there, for example.
            .stdout(sys::stdio::open_null()?);
        if let Some(dir) = &self.current_dir {
            // Checked here: a worker that cannot change into it would fail like a missing program.
            if !dir.is_dir() {
                let words = format!(
                    "current_dir {} of worker {index} is no directory",
                    dir.display()
                );
                return Err(io::Error::new(io::ErrorKind::NotFound, words));
            }
            command.current_dir(dir);
        }
        Ok(command)
    }

    /// The command for this program, behind the launcher if there is one, and behind the loader that runs it
    /// if that is not the kernel.
    ///
    /// # Errors
    /// Where a launcher could not find the program.
    fn program(&self) -> io::Result<Command> {
        let loaded = image::program_behind_loader();
        let Some((launcher, arguments)) = self.launcher.split_first() else {
            let mut command = Command::new(image::program());
            command.args(loaded);
            return Ok(command);
        };
        let mut command = Command::new(launcher);
        let program = image::program_for_launcher()?;
        command.args(arguments).arg(program).args(loaded);
        Ok(command)
    }
}

fn failed(index: usize, error: &io::Error) -> StartError {
    let program = program_name();
    let missing = match error.kind() {
        io::ErrorKind::NotFound => what_is_missing(),
        _ => String::new(),
    };
    let reason = format!("cannot start worker {index} of {program}: {error}{missing}");
    StartError::Start(Error::BrokenPool(reason.into()))
}

/// The files that a start needs and that are missing, as text to append to a message.
fn what_is_missing() -> String {
    let needed = [image::program(), Path::new(sys::stdio::NULL)];
    let missing = needed.iter().filter(|file| !file.exists());
    missing
        .map(|file| format!("; there is no {}", file.display()))
        .collect()
}
