//! The worker's end: from `init` to the end of the process.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::fork::Origin;
use crate::process::board::layout::{INLINE, Mapped, Plan};
use crate::process::board::{Board, Claim, Form, Place, Step};
use crate::process::bytes::Bytes;
use crate::process::channel::{Channel, Heard};
use crate::process::entry::{self, Call};
use crate::process::flag::Flag;
use crate::process::launch::dialect;
use crate::process::memory::registry;
use crate::process::reentry::{self, Mark};
use crate::process::sys;
use crate::process::wire::{self, CALL_SIZE, Fault, Header, Hello, Kind, Welcome};
use crate::sync::look_around;
use crate::unwind;
use crate::worker::{Progress, WorkerInfo};

/// How long shared memory stays mapped in a worker that waits for its parent to say something.
const KEPT_IDLE: Duration = Duration::from_secs(1);

/// What a worker exits with when it cannot serve.
const UNFIT: i32 = 70; // EX_SOFTWARE of sysexits.h

/// Makes this program one whose processes can be workers: the first statement of `main`.
///
/// In a worker it serves the pool and never returns; in any other process it notes that it was
/// called, and returns. It plays the part of Python's `if __name__ == "__main__":` guard: a
/// program that never calls it gets [`Error::NotInitialized`] from process pools, and starts no
/// child.
///
/// ```no_run
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     // arguments, logging, threads, pools: all that comes after
///     Ok(())
/// }
/// ```
///
/// With tokio, call it before the runtime starts. Inside a runtime it works too, but workers then
/// run their tasks inside that runtime.
///
/// ```no_run
/// fn main() {
///     concurrent_futures::init();
///     async_main();
/// }
///
/// #[tokio::main]
/// async fn async_main() {}
/// ```
///
/// In tests of libtest and nextest, and in doctests, it is the first statement of each test that
/// uses process pools; with `harness = false`, of `main`.
pub fn init() {
    if reentry::is_known() {
        return;
    }
    let stdin = io::stdin();
    match Mark::take(stdin.as_fd()) {
        None => reentry::note(),
        Some(mark) => {
            reentry::note_mark(&mark);
            match Server::set_up() {
                Ok(mut server) => server.serve(),
                Err(error) => {
                    eprintln!("concurrent-futures: this worker cannot serve: {error}");
                    exit(UNFIT);
                }
            }
        }
    }
}

/// A worker at work.
struct Server {
    /// Frames to and from the parent.
    channel: Channel,
    /// What the parent said first.
    welcome: Welcome,
    /// Raised: begin nothing more of this chunk.
    flag: Option<Flag>,
    /// Where it takes tasks by itself, if it does.
    board: Option<Board>,
    /// How often the parent had let go of shared memory when we last looked.
    drops: Cell<u32>,
    /// What tasks can see of the worker.
    progress: Arc<Progress>,
    /// This process, and no forked copy of it.
    origin: Origin,
}

impl Server {
    /// Takes the link off stdin, makes the process a worker, and greets.
    fn set_up() -> io::Result<Self> {
        let stdin = io::stdin();
        let link = UnixStream::from(sys::copy_high(stdin.as_fd())?);
        sys::redirect(File::open("/dev/null")?.as_fd(), libc::STDIN_FILENO)?;
        sys::die_with_parent();
        if sys::is_hung_up(link.as_fd()) {
            exit(0); // the parent ended before the line above
        }
        sys::stand_aside_from_terminal();

        let mut channel = Channel::new(Arc::new(link));
        let welcome = hear_welcome(&mut channel)?;
        let mut passed = channel.take_passed().into_iter();
        for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            sys::redirect(next(&mut passed)?.as_fd(), number)?;
        }
        let flag = match welcome.has_flag {
            true => Some(Flag::map(next(&mut passed)?.as_fd())?),
            false => None,
        };
        let plan = Plan::of_numbers(welcome.board);
        let board = match plan {
            Some(plan) => Some(Board::new(Mapped::map(next(&mut passed)?.as_fd(), plan)?)),
            None => None,
        };
        if welcome.memory_limit > 0 {
            sys::limit_memory(welcome.memory_limit)?;
        }
        if let Ok(title) = std::ffi::CString::new(welcome.title.clone()) {
            sys::set_title(&title);
        }
        let hello = Hello {
            dialect: dialect(),
            pid: std::process::id(),
        };
        channel.send(&[&wire::frame(Kind::Hello, &hello.to_body())])?;
        if welcome.dialect != hello.dialect {
            let words = "the parent is another build of the program";
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Self {
            channel,
            welcome,
            flag,
            board,
            drops: Cell::new(0),
            progress: Arc::default(),
            origin: Origin::here(),
        })
    }

    fn serve(&mut self) -> ! {
        let index = self.welcome.index as usize;
        let _seat = WorkerInfo::here(index, Arc::clone(&self.progress)).sit();
        // It goes to the board when it is sent there: by then the pool knows that it is ready.
        let outcome = self.initialize().and_then(|()| self.run_tasks());
        let outcome = outcome.and_then(|told| match (told, self.board.take()) {
            (Told::Resume, Some(board)) => Hand::new(&board, index, self).run_tasks(),
            (told, _) => Ok(told),
        });
        let code = outcome.map(|told| match told {
            Told::Close(code) => code,
            Told::Resume => 0,
        });
        flush();
        match code {
            Ok(code) => exit(code),
            // The parent is gone, or cannot be understood: there is nobody to tell.
            Err(_) => exit(UNFIT),
        }
    }

    fn initialize(&mut self) -> io::Result<()> {
        let mut report = Vec::new();
        if let Some((call, mut argument)) = self.welcome.initializer.take() {
            if let Err(fault) = run(call, &mut argument, u64::MAX) {
                report = fault.to_body();
            }
        }
        flush();
        self.channel.send(&[&wire::frame(Kind::Ready, &report)])
    }

    /// Runs what comes over the link, until the parent closes its end or sends us back to the board.
    fn run_tasks(&mut self) -> io::Result<Told> {
        let mut code = 0;
        let mut body = Vec::new();
        while let Heard::Some(header) = self.next_header()? {
            if header.kind == Kind::Resume {
                return Ok(Told::Resume);
            }
            let call = self.receive_task(header, &mut body)?;
            if self.flag.as_ref().is_some_and(Flag::is_raised) {
                self.tell(header.task, &Err(Fault::LeftAlone))?;
                continue;
            }
            let outcome = self.run(call, &mut body);
            // Python's `Process` exits with 1 if its function raised.
            code = i32::from(matches!(outcome, Err(Fault::Panicked(_))));
            self.tell(header.task, &outcome)?;
        }
        Ok(Told::Close(code))
    }

    /// Runs a task; what the rest of the process hears of it before anybody does.
    fn run(&self, call: Call, argument: &mut Vec<u8>) -> Result<Bytes, Fault> {
        self.tidy_up();
        self.progress.begin_task();
        let outcome = run(call, argument, self.welcome.payload_limit);
        if self.origin.is_elsewhere() {
            sys::vanish(); // a copy that the task forked: the outcome is the original's to tell
        }
        flush();
        outcome
    }

    /// The next header. If it takes long to come, mapped shared memory is let go: here, nobody can
    /// wake us when the parent lets go of it.
    fn next_header(&mut self) -> io::Result<Heard<Header>> {
        if registry::keeps_any() {
            self.channel
                .give_up_at(Instant::now().checked_add(KEPT_IDLE));
            let heard = self.channel.receive_header();
            self.channel.give_up_at(None);
            match heard {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => registry::forget_all(),
                heard => return heard,
            }
        }
        self.channel.receive_header()
    }

    /// Whether the parent has let go of shared memory that may be mapped here.
    fn is_untidy(&self) -> bool {
        let drops = self.flag.as_ref().map_or(0, Flag::drops);
        drops != self.drops.get()
    }

    /// Lets go of what the parent has let go of.
    fn tidy_up(&self) {
        if self.is_untidy() {
            // Read again before, and not after: what goes meanwhile is seen next time.
            self.drops.set(self.flag.as_ref().map_or(0, Flag::drops));
            registry::forget_closed();
        }
    }

    fn receive_task(&mut self, header: Header, argument: &mut Vec<u8>) -> io::Result<Call> {
        let size = header.length.checked_sub(CALL_SIZE as u64);
        let (Kind::Task, Some(size)) = (header.kind, size) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        self.channel.receive_body(CALL_SIZE as u64, argument)?;
        let Some(call) = argument.first_chunk() else {
            unreachable!("receive_body gives what was asked for")
        };
        let call = wire::call_from_bytes(call);
        self.channel.receive_body(size, argument)?;
        Ok(call)
    }

    /// Says something of the task at a place of the board.
    fn say(&self, kind: Kind, place: Place, body: &Bytes) -> io::Result<()> {
        let (task, length) = (place.to_number(), body.len() as u64);
        let header = Header { kind, task, length };
        self.channel.send_bringing(header, body)
    }

    fn tell(&self, task: u64, outcome: &Result<Bytes, Fault>) -> io::Result<()> {
        let fault;
        let (kind, body) = match outcome {
            Ok(value) => (Kind::Value, value),
            Err(why) => {
                fault = why.to_body().into();
                (Kind::Fault, &fault)
            }
        };
        let length = body.len() as u64;
        let header = Header { kind, task, length };
        self.channel.send_bringing(header, body)
    }
}

/// What ends a talk.
enum Told {
    /// There is no more; with what to exit.
    Close(i32),
    /// Take tasks from the board again.
    Resume,
}

/// A worker that takes tasks by itself.
struct Hand<'a> {
    /// Where it takes them.
    board: &'a Board,
    /// Its index.
    me: usize,
    /// The rest of it.
    server: &'a mut Server,
    /// The argument of the task at hand; kept warm.
    argument: Vec<u8>,
}

impl<'a> Hand<'a> {
    fn new(board: &'a Board, me: usize, server: &'a mut Server) -> Self {
        Self {
            board,
            me,
            server,
            argument: Vec::new(),
        }
    }

    /// Runs tasks until there are no more.
    fn run_tasks(mut self) -> io::Result<Told> {
        let mut has_waited = false;
        loop {
            let is_closing = self.board.is_closing();
            let claim = self.board.claim(self.me, &mut self.argument);
            if std::mem::take(&mut has_waited) {
                // Publishers rely on us to see what they published while we looked.
                self.board.pass_on();
            }
            match claim {
                Claim::Task(place, call) => self.run(place, call)?,
                Claim::Ticket(place) => match self.ask_for(place)? {
                    Told::Resume => {}
                    close => return Ok(close),
                },
                Claim::Empty if is_closing => return Ok(Told::Close(0)),
                Claim::Empty => {
                    self.wait();
                    has_waited = true;
                }
            }
        }
    }

    fn run(&mut self, place: Place, call: Call) -> io::Result<()> {
        let outcome = self.server.run(call, &mut self.argument);
        let (form, kind, body) = match outcome {
            Ok(value) => (Form::Value, Kind::LargeValue, value),
            Err(fault) => (Form::Fault, Kind::LargeFault, fault.to_body().into()),
        };
        let step = if body.len() <= INLINE && body.manifest().is_empty() {
            self.board.finish(place, self.me, form, &body)
        } else {
            self.server.say(kind, place, &body)?;
            self.board.finish(place, self.me, Form::Told, &[])
        };
        if step == Step::TooLate {
            sys::await_death(); // the task was killed, and so are we
        }
        Ok(())
    }

    /// Has the program say over the link what is to be done.
    fn ask_for(&mut self, place: Place) -> io::Result<Told> {
        self.server.say(Kind::Claim, place, &Bytes::copy(&[]))?;
        self.server.run_tasks()
    }

    /// Waits until there may be something to do: looks for a while, unless somebody else does.
    fn wait(&self) {
        if self.board.begin_search(self.me) == Step::Taken {
            look_around(|| self.board.has_ready() || self.board.is_closing());
            self.board.end_search();
        }
        self.board.sleep(self.me, || self.server.is_untidy());
        self.server.tidy_up();
    }
}

/// The next descriptor that came with the welcome.
fn next(passed: &mut impl Iterator<Item = OwnedFd>) -> io::Result<OwnedFd> {
    let words = "the parent's welcome lacks descriptors";
    let missing = || io::Error::new(io::ErrorKind::InvalidData, words);
    passed.next().ok_or_else(missing)
}

fn hear_welcome(channel: &mut Channel) -> io::Result<Welcome> {
    let garbled = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the parent's welcome is garbled",
        )
    };
    let Heard::Some(header) = channel.receive_header()? else {
        exit(0) // the parent has ended, or does not want us any more
    };
    if header.kind != Kind::Welcome {
        return Err(garbled());
    }
    let mut body = Vec::new();
    channel.receive_body(header.length, &mut body)?;
    Welcome::from_body(&body).ok_or_else(garbled)
}

/// Runs user code; whatever it does short of ending the process becomes an outcome.
fn run(call: Call, argument: &mut Vec<u8>, limit: u64) -> Result<Bytes, Fault> {
    let outcome = unwind::catch(|| entry::invoke(call, argument, limit));
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Decode(words))) => Err(Fault::Decode(words.as_str().to_owned())),
        Ok(Err(Error::TooLarge { size, limit })) => Err(Fault::TooLarge { size, limit }),
        Ok(Err(Error::Encode(words))) => Err(Fault::Encode(words.as_str().to_owned())),
        Ok(Err(other)) => Err(Fault::Encode(other.to_string())),
        Err(panic) => Err(Fault::Panicked(panic)),
    }
}

/// Brings out what user code has printed.
fn flush() {
    // A closed stdout is the user's affair.
    let _ = io::stdout().flush();
    sys::flush_c_streams();
}
