//! The worker's end: from `init` to the end of the process.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::sync::Arc;

use crate::error::Error;
use crate::process::channel::{Channel, Heard};
use crate::process::entry::{self, Call};
use crate::process::flag::Flag;
use crate::process::launch::dialect;
use crate::process::reentry::{self, Mark};
use crate::process::sys;
use crate::process::wire::{self, CALL_SIZE, Fault, Header, Hello, Kind, Welcome};
use crate::unwind;
use crate::worker::{Progress, WorkerInfo};

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
                Ok(server) => server.serve(),
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
    flag: Flag,
    /// What tasks can see of the worker.
    progress: Arc<Progress>,
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
        let outputs = channel.take_passed();
        let Some(memory) = outputs.get(2) else {
            let words = "the parent's welcome lacks descriptors";
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        };
        let flag = Flag::map(memory.as_fd())?;
        for (descriptor, number) in outputs
            .iter()
            .zip([libc::STDOUT_FILENO, libc::STDERR_FILENO])
        {
            sys::redirect(descriptor.as_fd(), number)?;
        }
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
            progress: Arc::default(),
        })
    }

    fn serve(mut self) -> ! {
        let index = self.welcome.index as usize;
        let _seat = WorkerInfo::here(index, Arc::clone(&self.progress)).sit();
        let outcome = self.initialize().and_then(|()| self.run_tasks());
        flush();
        match outcome {
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

    /// Runs tasks until the parent closes its end; what to exit with.
    fn run_tasks(&mut self) -> io::Result<i32> {
        let pid = std::process::id();
        let mut code = 0;
        let mut body = Vec::new();
        while let Heard::Some(header) = self.channel.receive_header()? {
            let call = self.receive_task(header, &mut body)?;
            if self.flag.is_raised() {
                self.tell(header.task, &Err(Fault::LeftAlone))?;
                continue;
            }
            self.progress.begin_task();
            let outcome = run(call, &mut body, self.welcome.payload_limit);
            if std::process::id() != pid {
                sys::vanish(); // a copy that the task forked: the outcome is the original's to tell
            }
            flush();
            // Python's `Process` exits with 1 if its function raised.
            code = i32::from(matches!(outcome, Err(Fault::Panicked(_))));
            self.tell(header.task, &outcome)?;
        }
        Ok(code)
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

    fn tell(&self, task: u64, outcome: &Result<Vec<u8>, Fault>) -> io::Result<()> {
        let fault;
        let (kind, body) = match outcome {
            Ok(value) => (Kind::Value, value),
            Err(why) => {
                fault = why.to_body();
                (Kind::Fault, &fault)
            }
        };
        let length = body.len() as u64;
        let header = Header { kind, task, length };
        self.channel.send(&[&header.to_bytes(), body])
    }
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
fn run(call: Call, argument: &mut Vec<u8>, limit: u64) -> Result<Vec<u8>, Fault> {
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
