//! The handshake with a worker that was started, up to the point where it is ready for tasks: the worker
//! says hello, the program checks that both are the same build and answers with the welcome, and the worker
//! runs the initializer and says that it is ready.
//!
//! Called by `spawn`. It relies on `connection` for frames, and on `stdio` for the worker's output.

use std::io::{self, Read};
use std::process::ChildStderr;
use std::time::{Duration, Instant};

use crate::error::{Error, PanicInfo};
use crate::preparation::Duty;
use crate::process::host::config::WorkerConfig;
use crate::process::host::connection::Connection;
use crate::process::host::stdio::WorkerStreams;
use crate::process::shm::signals::SharedSignals;
use crate::sync::deadline::Deadline;
use crate::sys;
use crate::sys::child::from_outside;
use crate::sys::handle::AsHandle;
use crate::transport::fault::Fault;
use crate::transport::framed::Received;
use crate::transport::messages::{self, Hello, protocol_version};
use crate::transport::wire::{self, Header, Kind};

/// Why a worker did not get ready.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Something is wrong with the program or the system.
    Start(Error),
    /// A process outside the pool killed it.
    Interrupted(Error),
    /// What the worker runs before its first task has failed, panicked, or ended the process.
    Initializer(Error),
}

/// How long a process may take to end once its exit has closed its end of the connection.
const LEAVING: Duration = Duration::from_millis(500);

/// A worker between its start and its first task.
pub(super) struct Handshake<'a> {
    /// How the worker was started.
    worker_config: &'a WorkerConfig,
    /// The worker's index.
    index: usize,
    /// The program's end of the worker's connection.
    connection: Connection,
    /// The worker's standard error before the welcome, which explains a failure; `None` once closed.
    stderr: Option<ChildStderr>,
    /// The end of what the worker wrote there.
    last_words: Vec<u8>,
    /// What the worker wrote there and the program's own standard error had no room for so far. While there
    /// is some, no more is read from the worker.
    unsaid: Vec<u8>,
    /// When the worker must be ready.
    deadline: Deadline,
    /// How far the worker has come.
    stage: Stage,
}

/// How far a worker has come in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not said hello.
    Silent,
    /// It was sent the welcome, and runs the initializer, then the function that makes its state.
    Initializing,
    /// It waits for tasks.
    Ready,
}

/// Why a handshake goes no further.
enum HandshakeError {
    /// The process, or its end of the connection, is gone.
    Gone,
    /// The deadline has passed.
    Late,
    /// The worker sent what it must not send now; what that was.
    Wrong(String),
    /// What the worker runs before its first task has failed; its report.
    Initializer(Duty, Fault),
}

impl<'a> Handshake<'a> {
    pub(super) fn new(
        worker_config: &'a WorkerConfig,
        index: usize,
        connection: Connection,
        stderr: Option<ChildStderr>,
        deadline: Deadline,
    ) -> Self {
        Self {
            worker_config,
            index,
            connection,
            stderr,
            last_words: Vec::new(),
            unsaid: Vec::new(),
            deadline,
            stage: Stage::Silent,
        }
    }

    pub(super) fn finish(mut self) -> Result<Connection, StartError> {
        match self.get_ready() {
            Ok(()) => Ok(self.connection),
            Err(stop) => Err(self.explain(stop)),
        }
    }

    fn get_ready(&mut self) -> Result<(), HandshakeError> {
        self.limit_patience(Some(self.worker_config.start_timeout), self.deadline);
        while self.stage != Stage::Ready {
            self.wait_for_news()?;
            // A worker that never ceases to ask for memory is late, too.
            if self.stage == Stage::Initializing && self.deadline.has_passed() {
                return Err(HandshakeError::Late);
            }
        }
        self.drain_stderr();
        self.limit_patience(None, Deadline::never());
        Ok(())
    }

    /// Bounds the time of each write, and sets the deadline of reads, for frames that should go or come at
    /// once.
    fn limit_patience(&mut self, limit: Option<Duration>, deadline: Deadline) {
        let stream = self.connection.stream_mut();
        // Fails only for a limit of zero, which then does not apply.
        let _ = stream.stream().set_write_timeout(limit);
        stream.give_up_at(deadline);
    }

    /// Sends the welcome, with the descriptors that a worker needs. Only a process that has said hello gets
    /// it: another process, which a launcher has executed in the worker's place, would take it for its input.
    fn say_welcome(&mut self) -> Result<(), HandshakeError> {
        let output = WorkerStreams::new(self.worker_config, self.index).map_err(|error| {
            HandshakeError::Wrong(format!("no descriptors for its output: {error}"))
        })?;
        // Without memory for it, tasks that were sent ahead begin even if their map is dropped.
        let (signals, signals_memory) = SharedSignals::new().ok().unzip();
        let queue = self
            .worker_config
            .queue
            .as_ref()
            .map(|(queue, ..)| queue.copy());
        let queue = queue.transpose().map_err(|error| {
            HandshakeError::Wrong(format!("no queue to share with it: {error}"))
        })?;
        let arena = self
            .worker_config
            .arena
            .as_ref()
            .map(|arena| arena.descriptor());
        let arena = arena.transpose().map_err(|error| {
            HandshakeError::Wrong(format!("no arena to share with it: {error}"))
        })?;
        let descriptors: Vec<_> = output
            .descriptors()
            .into_iter()
            .map(AsHandle::as_handle)
            .chain(self.worker_config.input.as_deref().map(AsHandle::as_handle))
            .chain(
                [&signals_memory, &queue, &arena]
                    .into_iter()
                    .flatten()
                    .map(AsHandle::as_handle),
            )
            .chain(output.events().map(AsHandle::as_handle))
            .collect();
        let level = output.event_level();
        let welcome = self
            .worker_config
            .welcome(self.index, signals.as_ref(), level);
        let frame = wire::frame(Kind::Welcome, &welcome.to_body());
        let stream = self.connection.stream();
        stream.send_with(&[&frame], &descriptors).map_err(stop_of)?;
        let (captured, lines) = output.into_output();
        self.connection.keep_output(captured, lines);
        if let Some(signals) = signals {
            self.connection.process().keep_signals(signals);
        }
        Ok(())
    }

    /// Waits for the next event of the handshake, and handles it: a frame, or output of the worker.
    fn wait_for_news(&mut self) -> Result<(), HandshakeError> {
        let connection = self.connection.stream().stream().as_handle();
        let stderr = self.stderr.as_ref().map(AsHandle::as_handle);
        let stderr = stderr.filter(|_| self.unsaid.is_empty());
        let ours = io::stderr();
        let ours = (!self.unsaid.is_empty()).then(|| ours.as_handle());
        let [captured, first, second, third] = self.connection.printed();
        let buffered = self.connection.stream().has_buffered();
        let ready = if buffered {
            Ok([true, false, false, false, false, false, false])
        } else {
            sys::stream::poll_readable_or_writable(
                [Some(connection), stderr, captured, first, second, third],
                ours,
                self.deadline.moment(),
            )
        };
        match ready.map_err(stop_of)? {
            [false, false, false, false, false, false, false] => Err(HandshakeError::Late),
            [connection, stderr, printed @ .., ours] => {
                self.connection.read_printed(printed);
                if ours {
                    self.pass_on();
                }
                if stderr {
                    self.hear_stderr();
                }
                if connection {
                    self.hear_frame()
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Reads what the worker writes to its standard error, keeps the end of it, and passes it on.
    fn hear_stderr(&mut self) {
        const KEPT: usize = 2048;
        let Some(stderr) = &mut self.stderr else {
            return;
        };
        let mut words = [0; 4096];
        match stderr.read(&mut words) {
            Ok(0) | Err(_) => self.stderr = None,
            Ok(count) => {
                self.unsaid.extend(&words[..count]);
                self.last_words.extend(&words[..count]);
                let excess = self.last_words.len().saturating_sub(KEPT);
                self.last_words.drain(..excess);
                self.pass_on();
            }
        }
    }

    /// Writes to the program's own standard error what was read from the worker, as far as there is room. Not
    /// through std: its lock may be held by the very thread that waits for this worker.
    fn pass_on(&mut self) {
        if !sys::stdio::has_error_output() {
            self.unsaid.clear();
        }
        while !self.unsaid.is_empty() {
            match sys::stdio::write_at_once(io::stderr().as_handle(), &self.unsaid) {
                Ok(0) => self.unsaid.clear(),
                Ok(count) => drop(self.unsaid.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // There is no place to report that the program's own standard error is gone.
                Err(_) => self.unsaid.clear(),
            }
        }
    }

    fn hear_frame(&mut self) -> Result<(), HandshakeError> {
        let header = match self
            .connection
            .stream_mut()
            .receive_header()
            .map_err(stop_of)?
        {
            Received::Some(header) => header,
            Received::Closed => return Err(HandshakeError::Gone),
        };
        let body = self.receive_control(header)?;
        match (header.kind, self.stage) {
            (Kind::Hello, Stage::Silent) => self.hear_hello(&body),
            (Kind::Ready, Stage::Initializing) => {
                self.stage = Stage::Ready;
                match body.as_slice() {
                    [] => Ok(()),
                    [duty, fault @ ..] => {
                        let report = messages::duty_of(*duty).zip(Fault::from_body(fault));
                        Err(match report {
                            Some((duty, fault)) => HandshakeError::Initializer(duty, fault),
                            None => HandshakeError::Wrong(
                                "its report that it is ready is garbled".into(),
                            ),
                        })
                    }
                }
            }
            (kind @ (Kind::RegionRequest | Kind::ChannelRequest), Stage::Initializing) => {
                self.connection.answer(kind, &body).map_err(stop_of)
            }
            (kind, stage) => Err(HandshakeError::Wrong(format!(
                "it sent {kind:?} while {stage:?}"
            ))),
        }
    }

    fn receive_control(&mut self, header: Header) -> Result<Vec<u8>, HandshakeError> {
        if header.length > wire::MAX_CONTROL {
            return Err(HandshakeError::Wrong(format!(
                "it announced {} bytes",
                header.length
            )));
        }
        let mut body = Vec::new();
        let stream = self.connection.stream_mut();
        stream
            .receive_body(header.length, &mut body)
            .map_err(stop_of)?;
        Ok(body)
    }

    fn hear_hello(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        let Some(hello) = Hello::from_body(body) else {
            return Err(HandshakeError::Wrong("its hello is garbled".into()));
        };
        let ours = protocol_version();
        let theirs = &hello.version;
        let difference = if theirs.protocol != ours.protocol {
            Some("protocol version")
        } else if theirs.codec != ours.codec {
            Some("codec")
        } else if theirs.stamp != ours.stamp {
            Some("build")
        } else {
            None
        };
        if hello.pid != self.connection.process().pid() {
            let words = "it said hello from another process than was started; a launcher must \
                         execute the program, not fork it";
            return Err(HandshakeError::Wrong(words.to_owned()));
        }
        match difference {
            None => {
                self.stage = Stage::Initializing;
                self.say_welcome()
            }
            Some(what) => Err(HandshakeError::Wrong(format!(
                "its {what} is not this program's own; was the program rebuilt?"
            ))),
        }
    }

    /// Ends the worker, and makes the error that tells why it was not ready.
    fn explain(mut self, stop: HandshakeError) -> StartError {
        // A process that has closed its end and is exiting ends soon; one that lives on without it does not.
        let left_by_itself =
            matches!(stop, HandshakeError::Gone) && self.connection.ends_within(LEAVING);
        let end = self.connection.end_or_abandon(LEAVING);
        self.drain_stderr();
        let index = self.index;
        let what = match &stop {
            HandshakeError::Gone if !left_by_itself => {
                "it closed its end of the connection and lived on".to_owned()
            }
            HandshakeError::Gone if self.is_in_initializer() => {
                let preparations = self.worker_config.preparations();
                let duties: Vec<_> = preparations.map(|call| call.duty.to_string()).collect();
                format!("its process {end} in {}", duties.join(" or "))
            }
            HandshakeError::Gone if self.stage == Stage::Initializing => {
                format!("its process {end} before it was ready")
            }
            HandshakeError::Gone => format!(
                "its process {end} before it said hello (is `concurrent_futures::init()` the first \
                 statement of `main`?)"
            ),
            HandshakeError::Late => {
                format!(
                    "it was not ready after {:?}",
                    self.worker_config.start_timeout
                )
            }
            HandshakeError::Wrong(words) => words.clone(),
            HandshakeError::Initializer(duty, fault) => initializer_fault(*duty, fault),
        };
        let program = program_name();
        let last_words = String::from_utf8_lossy(&self.last_words);
        let last_words = match last_words.trim() {
            "" => String::new(),
            words => format!("; its last words: {words}"),
        };
        let reason = format!("worker {index} of {program} did not start: {what}{last_words}");
        let error = Error::BrokenPool(reason.into());
        match stop {
            HandshakeError::Initializer(..) => StartError::Initializer(error),
            HandshakeError::Gone if self.is_in_initializer() => StartError::Initializer(error),
            HandshakeError::Gone if left_by_itself && from_outside(end) => {
                StartError::Interrupted(error)
            }
            _ => StartError::Start(error),
        }
    }

    /// Whether user code may run in the worker: the initializer, or the function that makes its state.
    fn is_in_initializer(&self) -> bool {
        let mut preparations = self.worker_config.preparations();
        self.stage == Stage::Initializing && preparations.next().is_some()
    }

    /// Reads what the worker has written to its standard error so far. What the program's own has no room for
    /// by now is lost.
    fn drain_stderr(&mut self) {
        self.pass_on();
        while self.stderr.is_some() && self.stderr_is_waiting() {
            self.hear_stderr();
        }
    }

    fn stderr_is_waiting(&self) -> bool {
        let stderr = self.stderr.as_ref().map(AsHandle::as_handle);
        sys::stream::poll_readable([stderr], Some(Instant::now())).is_ok_and(|[readable]| readable)
    }
}

/// Describes the failure of an initializer, or of the function that makes the state.
fn initializer_fault(duty: Duty, fault: &Fault) -> String {
    match fault {
        Fault::Panicked(panic) => {
            let info = PanicInfo::new(panic.clone(), None, None);
            format!("{duty} {info}")
        }
        Fault::Refused(words) | Fault::NoState(words) => format!("{duty} failed: {words}"),
        Fault::Decode(words) | Fault::Encode(words) => {
            format!("the argument of {duty} could not be decoded: {words}")
        }
        Fault::TooLarge { value, size, limit } => {
            format!(
                "{duty} has no outcome: {value}, has {size} bytes, over the limit of {limit} bytes"
            )
        }
        Fault::LeftAlone => format!("{duty} was left alone"),
    }
}

fn stop_of(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HandshakeError::Late,
        io::ErrorKind::InvalidData => HandshakeError::Wrong("it sent garbage".into()),
        _ => HandshakeError::Gone,
    }
}

pub(super) fn program_name() -> String {
    match std::env::current_exe() {
        Ok(path) => path.display().to_string(),
        Err(_) => "this program".to_owned(),
    }
}
