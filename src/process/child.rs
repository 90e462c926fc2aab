//! The worker's end: from `init` to the end of the process.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Clock};
use crate::error::Error;
use crate::footing::Footing;
use crate::fork::Origin;
use crate::process::board::layout::{INLINE, Mapped, Plan};
use crate::process::board::{Board, Claim, Finish, Form, ItemRun, Place, Step};
use crate::process::bytes::Bytes;
use crate::process::channel::{self, Channel, Heard};
use crate::process::checksum::Key;
use crate::process::depot::lease::{Location, NoRoom, Room};
use crate::process::depot::stock::{Berth, Stock};
use crate::process::entry::{self, Argument, Call};
use crate::process::flag::Flag;
use crate::process::image;
use crate::process::items::Items;
use crate::process::launch::dialect;
use crate::process::memory::manifest::Manifest;
use crate::process::memory::registry;
use crate::process::reentry::{self, Role};
use crate::process::slip::{Outcome, Slip};
use crate::process::sys;
use crate::process::tray::Tray;
use crate::process::wire::{self, CALL_SIZE, Fault, Header, Hello, Kind, Welcome};
use crate::sync::look_around;
use crate::unwind::{self, Panic};
use crate::worker::{Progress, WorkerInfo};

/// How long shared memory stays mapped in a worker that waits for its parent to say something.
const KEPT_IDLE: Duration = Duration::from_secs(1);

/// How long a worker whose task was killed waits for its own death. It is killed within microseconds;
/// where that does not come, a stray write has said that it would.
const KILLED: Duration = Duration::from_secs(1);

/// What a worker exits with when it cannot serve.
pub(crate) const UNFIT: i32 = 70; // EX_SOFTWARE of sysexits.h

/// Makes this program one whose processes can be workers: the first statement of `main`.
///
/// In a worker it serves the pool and never returns; in any other process it notes that it was
/// called, and returns. It plays the part of Python's `if __name__ == "__main__":` guard: a
/// program that never calls it gets [`Error::NotInitialized`] from process pools, and starts no
/// child.
///
/// A process that has more rights than the user that started it (by a setuid or setgid bit, or by
/// capabilities of its file) is no worker, whatever its environment says, and starts none: process
/// pools are [`Error::Unsupported`] there. A program that first takes on the user and the group as which
/// it acts, by `setresgid` and `setresuid`, has them.
///
/// So they are in a library that a program of another kind has loaded, an extension of Python say: the
/// program, started anew, would not come to this call.
///
/// ```no_run
/// fn main() -> Result<(), concurrent_futures::Error> {
///     concurrent_futures::init();
///     // arguments, logging, threads, pools: all that comes after
///     Ok(())
/// }
/// ```
///
/// With tokio, call it before the runtime starts, as [the guide](crate#where-init-goes) does. Inside a runtime it
/// works too, but workers then run their tasks inside that runtime.
///
/// In tests of libtest and nextest, and in doctests, it is the first statement of each test that
/// uses process pools; with `harness = false`, of `main`.
#[inline]
pub fn init() {
    init_from((here as *const ()).addr());
}

/// Stands for the caller of `init`: being inline, it is compiled once more for each crate that calls `init`,
/// as a part of that.
#[inline]
fn here() {}

/// `init`, called by code at this address.
fn init_from(caller: usize) {
    if reentry::is_known() {
        return;
    }
    let stdin = io::stdin();
    match Role::find(stdin.as_fd()) {
        Role::Program => {
            image::note_file();
            reentry::note(caller);
        }
        Role::Mistrustful(why) => {
            reentry::note_mistrust();
            eprintln!("concurrent-futures: this process {why}, and is no worker");
        }
        Role::Unfit(why) => {
            eprintln!("concurrent-futures: this process was started as a worker, and {why}");
            exit(UNFIT);
        }
        Role::Worker(mark) => {
            image::note_file();
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
    /// Where big arguments and results are, if there is such a place.
    stock: Option<Arc<Stock>>,
    /// How often the parent had let go of shared memory when we last looked.
    drops: Cell<u32>,
    /// What tasks can see of the worker.
    progress: Arc<Progress>,
    /// This process, and no forked copy of it.
    origin: Origin,
    /// Where user code prints: asking for it anew takes a while.
    stdout: io::Stdout,
}

impl Server {
    /// Takes the link off stdin, makes the process a worker, and greets.
    fn set_up() -> io::Result<Self> {
        let stdin = io::stdin();
        let link = UnixStream::from(sys::copy_high(stdin.as_fd())?);
        let mut channel = Channel::new(Arc::new(link));
        // First of all: the parent says nothing before it, and we have enough to do until it is heard.
        say_hello(&channel);
        sys::redirect(File::open("/dev/null")?.as_fd(), libc::STDIN_FILENO)?;
        sys::die_with_parent();
        if sys::is_hung_up(channel.stream().as_fd()) {
            exit(0); // the parent ended before the line above
        }
        sys::heed_signals();
        sys::stand_aside_from_terminal();

        let welcome = hear_welcome(&mut channel)?;
        if welcome.dialect != dialect() {
            let words = "the parent is another build of the program";
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        let mut passed = channel.take_passed().into_iter();
        for number in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
            sys::redirect(next(&mut passed)?.as_fd(), number)?;
        }
        let flag = match welcome.has_flag {
            true => Some(Flag::map(next(&mut passed)?)?),
            false => None,
        };
        let (workers, index) = (welcome.board.1 as usize, welcome.index as usize);
        let board = match Plan::of_numbers(welcome.board) {
            Some(plan) => {
                let memory = Mapped::map(next(&mut passed)?, plan, index)?;
                let board = Board::new(memory, Key::from_numbers(welcome.key));
                board.arrive(index);
                Some(board)
            }
            None => None,
        };
        let stock = match welcome.has_depot {
            true => Some(Stock::map(next(&mut passed)?, workers, index)?),
            false => None,
        };
        if welcome.memory_limit > 0 {
            sys::limit_memory(welcome.memory_limit)?;
        }
        if let Ok(title) = std::ffi::CString::new(welcome.title.clone()) {
            sys::set_title(&title);
        }
        Ok(Self {
            channel,
            welcome,
            flag,
            board,
            stock,
            drops: Cell::new(0),
            progress: Arc::default(),
            origin: Origin::here(),
            stdout: io::stdout(),
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
        self.flush();
        match code {
            Ok(code) => exit(code),
            // The parent is gone, or cannot be understood: there is nobody to tell.
            Err(_) => exit(UNFIT),
        }
    }

    fn initialize(&mut self) -> io::Result<()> {
        let mut report = Vec::new();
        if let Some((call, mut argument)) = self.welcome.initializer.take() {
            let argument = Argument::Kept(&mut argument);
            if let Err(fault) = run(call, argument, u64::MAX, &NoRoom) {
                report = fault.to_body();
            }
            unwind::chain_hook(); // it may have set one
        }
        self.flush();
        // After the initializer: what needs a process of one thread can be done there. Without a thread for
        // it, the signal for the parent's end has to do.
        let _ = sys::end_when_hung_up(self.channel.stream().as_fd());
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
                self.tell(header.task, Err(Fault::LeftAlone))?;
                continue;
            }
            let clock = ClockAfar {
                link: Arc::clone(self.channel.stream()),
                task: header.task,
                origin: self.origin,
            };
            let outcome = clock::measured(Rc::new(clock), || match header.kind {
                Kind::StoredTask => self.run_stored(call, Location::from_bytes(&body)),
                _ => self.run(call, Argument::Kept(&mut body)),
            });
            // Python's `Process` exits with 1 if its function raised.
            code = i32::from(matches!(outcome, Err(Fault::Panicked(_))));
            self.tell(header.task, outcome)?;
        }
        Ok(Told::Close(code))
    }

    /// Runs a task, and brings out what it has printed before anybody hears of it.
    fn run(&self, call: Call, argument: Argument<'_>) -> Result<Bytes, Fault> {
        self.tidy_up();
        self.shield();
        self.progress.begin_task();
        let stock = self.stock.as_ref();
        let outcome = run(call, argument, self.welcome.payload_limit, &Berth { stock });
        self.wind_up();
        outcome
    }

    /// Brings out what user code has printed.
    fn flush(&self) {
        // A closed stdout is the user's affair.
        let _ = (&self.stdout).flush();
        sys::flush_c_output();
    }

    /// A task has ended, and nobody has heard of it.
    fn wind_up(&self) {
        if self.origin.is_elsewhere() {
            sys::vanish(); // a copy that the task forked: the outcome is the original's to tell
        }
        self.flush();
    }

    /// Runs a task whose argument is in the depot.
    fn run_stored(&self, call: Call, location: Option<Location>) -> Result<Bytes, Fault> {
        let place = self.stock.as_ref().zip(location);
        match place.and_then(|(stock, location)| stock.argument(location)) {
            Some(lease) => self.run(call, Argument::Leased(lease)),
            None => Err(Fault::Decode("there is no such argument".to_owned())),
        }
    }

    /// The next header. If it takes long to come, mapped shared memory is let go: here, nobody can
    /// wake us when the parent lets go of it. Memory for results is given back.
    fn next_header(&mut self) -> io::Result<Heard<Header>> {
        let is_warm = |stock: &Arc<Stock>| stock.is_warm();
        if registry::keeps_any() || self.stock.as_ref().is_some_and(is_warm) {
            self.channel
                .give_up_at(Instant::now().checked_add(KEPT_IDLE));
            let heard = self.channel.receive_header();
            self.channel.give_up_at(None);
            match heard {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    registry::forget_all();
                    self.purge();
                }
                heard => return heard,
            }
        }
        self.channel.receive_header()
    }

    /// Results that the program has not read cannot be written any more.
    #[inline]
    fn shield(&self) {
        if let Some(stock) = &self.stock {
            stock.shield();
        }
    }

    /// Gives memory for results back to the system that was not used for a while.
    fn purge(&self) {
        if let Some(stock) = &self.stock {
            stock.purge();
        }
    }

    /// When memory for results is to be given back, if there is some.
    fn purge_at(&self) -> Option<Instant> {
        let stock = self.stock.as_ref().filter(|stock| stock.is_warm());
        stock.and_then(|_| Instant::now().checked_add(KEPT_IDLE))
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
        let (Kind::Task | Kind::StoredTask, Some(size)) = (header.kind, size) else {
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

    /// Has the program look at what lies in shared memory.
    fn raise_alarm(&self) -> io::Result<()> {
        self.channel.send(&[&wire::frame(Kind::Alarm, &[])])
    }

    /// Goes on after a task, or leaves, if the task was taken away from this worker.
    fn go_on(&self, finish: Finish) -> io::Result<()> {
        match finish {
            Finish::Told => Ok(()),
            Finish::Killed => {
                sys::await_death(KILLED);
                exit(UNFIT)
            }
            Finish::Displaced => {
                // What became of the task stands in this worker's part: the program finds it there.
                self.raise_alarm()?;
                self.flush();
                exit(UNFIT)
            }
        }
    }

    fn tell(&self, task: u64, outcome: Result<Bytes, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let kind = match form {
            Form::StoredValue => Kind::StoredValue,
            Form::Fault => Kind::Fault,
            _ => Kind::Value,
        };
        let length = body.len() as u64;
        let header = Header { kind, task, length };
        self.channel.send_bringing(header, &body)
    }
}

/// What a worker says of a task's outcome: what kind of bytes, and these; of a result in the depot, where it is.
#[inline]
pub(crate) fn body_of(outcome: Result<Bytes, Fault>) -> (Form, Bytes) {
    match outcome.map(Bytes::into_lease) {
        Ok(Ok(lease)) => {
            let location = lease.hand_over().to_bytes();
            (Form::StoredValue, Bytes::copy(&location))
        }
        Ok(Err(value)) => (Form::Value, value),
        Err(fault) => (Form::Fault, fault.to_body().into()),
    }
}

/// The program's clock of a task that came over the link.
struct ClockAfar {
    /// To the program.
    link: Arc<UnixStream>,
    /// The task's number there.
    task: u64,
    /// The worker, and no forked copy of it.
    origin: Origin,
}

impl ClockAfar {
    fn tell(&self, kind: Kind) {
        if !self.origin.is_elsewhere() {
            // Fails only if the program is gone.
            let _ = channel::send_signal(&self.link, &wire::signal(kind, self.task));
        }
    }
}

impl Clock for ClockAfar {
    fn stop(&self) {
        self.tell(Kind::Stop);
    }

    fn go_on(&self) {
        self.tell(Kind::GoOn);
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
    /// Outcomes of the items at hand, as they stand on the board.
    results: Vec<u8>,
    /// Bytes that the last item's outcome took there: the next is taken to be as large.
    last_result: usize,
    /// On which core it stands.
    footing: Footing,
}

impl<'a> Hand<'a> {
    fn new(board: &'a Board, me: usize, server: &'a mut Server) -> Self {
        Self {
            board,
            me,
            server,
            argument: Vec::new(),
            results: Vec::new(),
            last_result: 0,
            footing: Footing::new(),
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
                Claim::Items(place, call, count) => self.run_items(place, call, count)?,
                Claim::Stored(place, call) => self.run_stored(place, call)?,
                Claim::Ticket(place) => match self.ask_for(place)? {
                    Told::Resume => {}
                    close => return Ok(close),
                },
                Claim::Corrupt => {
                    self.server.raise_alarm()?;
                    // Until the program has put it right, unless there is something else to do.
                    self.board.sleep(self.me, None, || false);
                    has_waited = true;
                }
                Claim::Empty if is_closing => return Ok(Told::Close(0)),
                Claim::Empty => {
                    self.wait();
                    has_waited = true;
                }
            }
        }
    }

    fn run(&mut self, place: Place, call: Call) -> io::Result<()> {
        self.footing.step(1);
        let outcome = self.server.run(call, Argument::Kept(&mut self.argument));
        self.finish(place, outcome)
    }

    /// Runs a task whose argument is in the depot.
    fn run_stored(&mut self, place: Place, call: Call) -> io::Result<()> {
        let location = Location::from_bytes(&self.argument);
        let outcome = self.server.run_stored(call, location);
        self.finish(place, outcome)
    }

    /// Says what came of a task.
    fn finish(&mut self, place: Place, outcome: Result<Bytes, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let finish = if body.len() <= INLINE && body.manifest().is_empty() {
            self.board.finish(place, self.me, form, &body)
        } else {
            let kind = match form {
                Form::Fault => Kind::LargeFault,
                _ => Kind::LargeValue,
            };
            self.server.say(kind, place, &body)?;
            self.board.finish(place, self.me, Form::Told, &[])
        };
        self.server.go_on(finish)
    }

    /// Runs items of a map, one after the other, as long as they may begin, and their outcomes fit.
    fn run_items(&mut self, place: Place, call: Call, count: usize) -> io::Result<()> {
        let begun = Instant::now();
        self.server.tidy_up();
        self.server.shield();
        self.results.clear();
        let Some(run) = self.board.begin_run(place, self.me) else {
            return self.server.go_on(Finish::Displaced);
        };
        let mut items = ItemsAtHand {
            server: &*self.server,
            place,
            arguments: Items::new(&self.argument),
            count,
            run,
            results: &mut self.results,
            last_result: self.last_result,
            stand: Stand::Ready,
        };
        items.run_all(call);
        self.last_result = items.last_result;
        let form = match items.stand {
            Stand::Ready => Form::Items,
            Stand::Told => Form::ItemsTold,
            Stand::Broken(error) => return Err(error),
        };
        let (took, run) = (begun.elapsed(), items.run);
        let items = run.done();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let finish = run.finish(form, nanos);
        self.server.go_on(finish)?;
        self.footing.step(items);
        let each = took.checked_div(items as u32).unwrap_or(took);
        let submitted_from = self.board.submitted_from();
        self.footing.run_items(each, submitted_from);
        Ok(())
    }

    /// Has the program say over the link what is to be done.
    fn ask_for(&mut self, place: Place) -> io::Result<Told> {
        self.server.say(Kind::Claim, place, &Bytes::copy(&[]))?;
        self.server.run_tasks()
    }

    /// Waits until there may be something to do: looks for a while, unless somebody else does.
    fn wait(&mut self) {
        let watched_from = self.board.watched_from();
        let submitted_from = self.board.submitted_from();
        let in_the_way = self.footing.in_the_way(watched_from, submitted_from);
        if in_the_way.is_none() && self.board.begin_search(self.me) == Step::Taken {
            self.footing.pause(watched_from);
            look_around(|| self.board.has_ready() || self.board.is_closing());
            self.board.end_search();
            if self.board.has_ready() {
                return self.server.tidy_up();
            }
        }
        self.server.shield();
        self.footing.lie_down(submitted_from);
        let purge_at = self.server.purge_at();
        self.board
            .sleep(self.me, purge_at, || self.server.is_untidy());
        if purge_at.is_some_and(|due| due <= Instant::now()) {
            self.server.purge();
        }
        let watched_from = self.board.watched_from();
        self.footing
            .get_up(watched_from, self.board.submitted_from());
        self.server.tidy_up();
    }
}

/// Items of a map that a worker runs.
struct ItemsAtHand<'a> {
    /// The rest of the worker.
    server: &'a Server,
    /// Where on the board they lie.
    place: Place,
    /// The arguments of those that have not begun.
    arguments: Items<'a>,
    /// How many items there are.
    count: usize,
    /// How far it is with them.
    run: ItemRun<'a>,
    /// Their outcomes, as they stand on the board; then that of the one that runs.
    results: &'a mut Vec<u8>,
    /// Bytes that the last outcome took: the next is taken to be as large.
    last_result: usize,
    /// Whether another may begin.
    stand: Stand,
}

/// Whether another item may begin.
enum Stand {
    /// As far as there are some.
    Ready,
    /// No: the outcome of the last one was told over the link.
    Told,
    /// No: the link is broken.
    Broken(io::Error),
}

impl ItemsAtHand<'_> {
    /// Runs them.
    fn run_all(&mut self, call: Call) {
        let function = match entry::find(call) {
            Ok(function) => function,
            Err(error) => {
                while self.begin().is_some() {
                    self.end(Err(error.clone()));
                }
                return;
            }
        };
        let limit = self.server.welcome.payload_limit;
        while let Err(panic) = unwind::catch(|| function.call_each(limit, self)) {
            self.server.wind_up();
            self.lay_down(Err(Fault::Panicked(panic)));
        }
    }

    /// Lays the outcome of the item that has ended down on the board, or tells it over the link, where there
    /// is no room, or it brings shared memory.
    fn lay_down(&mut self, outcome: Result<Manifest, Fault>) {
        let mut slip = Slip::of(self.results, self.run.filled());
        let brought = outcome.unwrap_or_else(|fault| {
            slip.replace(&fault.to_body());
            slip.mark_as_fault();
            Manifest::default()
        });
        slip.end();
        self.last_result = slip.len().min(INLINE);
        if let (Some(results), true) = (slip.fitting(), brought.is_empty()) {
            return self.run.end(results);
        }
        let kind = match slip.kind() {
            Outcome::Value => Kind::LargeValue,
            Outcome::Fault => Kind::LargeFault,
        };
        let body = Bytes::copy(slip.body()).naming(brought);
        self.stand = match self.server.say(kind, self.place, &body) {
            Ok(()) => Stand::Told,
            Err(error) => Stand::Broken(error),
        };
    }
}

impl Tray for ItemsAtHand<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        let (index, filled) = (self.run.done(), self.run.filled());
        let is_roomy = filled + self.last_result <= INLINE;
        let may_begin = is_roomy && index < self.count && matches!(self.stand, Stand::Ready);
        if !may_begin {
            return None; // the rest goes back
        }
        let argument = self.arguments.next()?;
        if self.run.begin() == Step::TooLate {
            return None;
        }
        self.server.progress.begin_task();
        Slip::begin(self.results);
        Some((argument, self.results))
    }

    fn end_well(&mut self) {
        self.server.wind_up();
        let mut slip = Slip::of(self.results, self.run.filled());
        slip.end();
        let length = slip.len();
        match slip.fitting() {
            Some(results) => {
                self.last_result = length;
                self.run.end(results);
            }
            None => self.lay_down(Ok(Manifest::default())),
        }
    }

    fn end(&mut self, outcome: Result<Manifest, Error>) {
        self.server.wind_up();
        self.lay_down(fault_of(Ok(outcome)));
    }
}

/// The next descriptor that came with the welcome.
fn next(passed: &mut impl Iterator<Item = OwnedFd>) -> io::Result<OwnedFd> {
    let words = "the parent's welcome lacks descriptors";
    let missing = || io::Error::new(io::ErrorKind::InvalidData, words);
    passed.next().ok_or_else(missing)
}

/// Tells the parent that this is a worker, and which program it is.
fn say_hello(channel: &Channel) {
    let hello = Hello {
        dialect: dialect(),
        pid: std::process::id(),
    };
    let frame = wire::frame(Kind::Hello, &hello.to_body());
    if channel.send(&[&frame]).is_err() {
        exit(0) // the parent has ended, or does not want us any more
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
fn run(call: Call, argument: Argument<'_>, limit: u64, room: &dyn Room) -> Result<Bytes, Fault> {
    fault_of(unwind::catch(|| entry::invoke(call, argument, limit, room)))
}

/// What came of user code, as it travels.
fn fault_of<R>(outcome: Result<Result<R, Error>, Panic>) -> Result<R, Fault> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Decode(words))) => Err(Fault::Decode(words.as_str().to_owned())),
        Ok(Err(Error::TooLarge { size, limit })) => Err(Fault::TooLarge { size, limit }),
        Ok(Err(Error::Encode(words))) => Err(Fault::Encode(words.as_str().to_owned())),
        Ok(Err(other)) => Err(Fault::Encode(other.to_string())),
        Err(panic) => Err(Fault::Panicked(panic)),
    }
}
