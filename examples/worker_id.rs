//! Which worker runs a task? The same function on a pool of threads, on a pool of processes, and in child
//! processes of its own.
//!
//! ```sh
//! cargo run --example worker_id                           # one PID, a thread a task
//! cargo run --example worker_id -- --executor processes   # a PID a task
//! cargo run --example worker_id -- --executor process     # the same without a pool
//! ```
//!
//! The task that sleeps longest is handed out first and finishes last, and yet its result comes
//! first: `map` yields results in the order of its input, whatever the order of finishing.

use std::error::Error;
use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, SystemTime};

use concurrent_futures::{
    Executor, Process, ProcessPoolExecutor, ThreadPoolExecutor, current_worker,
};
use lexopt::{Arg, Parser, ValueExt};
use serde::{Deserialize, Serialize};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let Some(args) = Args::parse()? else {
        return Ok(());
    };
    println!("The main program has PID {}.\n", std::process::id());

    let workers = args.workers.get();
    let reports = match args.executor {
        Kind::Threads => {
            // Not the default prefix: Linux would cut it to `ThreadPoolExecu` in the listing.
            let builder = ThreadPoolExecutor::builder().thread_name_prefix("worker");
            in_pool(&builder.max_workers(workers).build()?, workers)?
        }
        Kind::Processes => in_pool(&ProcessPoolExecutor::new(workers)?, workers)?,
        Kind::Process => in_processes(workers)?,
    };
    println!("Handed out and printed: {}", numbers(&reports));
    println!("Finished:               {}", numbers(&by_finish(reports)));
    Ok(())
}

const HELP: &str = "\
Which worker runs a task? Threads share a PID, processes do not.

Usage: worker_id [OPTIONS]

Options:
      --executor <NAME>  Where tasks run [default: threads]
                           threads:   A pool of threads
                           processes: A pool of processes
                           process:   One child process a task, no pool
      --workers <N>      How many workers; as many tasks [default: 4]
  -h, --help             Print help
";

struct Args {
    executor: Kind,
    workers: NonZeroUsize,
}

impl Args {
    /// `None` where help was asked for, and given.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self {
            executor: Kind::Threads,
            workers: NonZeroUsize::new(4).expect("it is more than 0"),
        };
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("executor") => args.executor = parser.value()?.parse_with(Kind::named)?,
                Arg::Long("workers") => args.workers = parser.value()?.parse()?,
                Arg::Short('h') | Arg::Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(args))
    }
}

enum Kind {
    Threads,
    Processes,
    Process,
}

impl Kind {
    fn named(name: &str) -> Result<Self, &'static str> {
        match name {
            "threads" => Ok(Self::Threads),
            "processes" => Ok(Self::Processes),
            "process" => Ok(Self::Process),
            _ => Err("executors are threads, processes, process"),
        }
    }
}

/// Runs the tasks in a pool. This function cannot tell threads from processes.
fn in_pool(pool: &impl Executor, tasks: usize) -> Result<Vec<Report>, Box<dyn Error>> {
    let mut reports = Vec::new();
    for report in pool.map(worker, (1..=tasks).rev()) {
        reports.push(print(report?));
    }
    Ok(reports)
}

/// Runs each task in a child process: starts them all, then joins them all.
fn in_processes(tasks: usize) -> Result<Vec<Report>, Box<dyn Error>> {
    let mut children = Vec::new();
    for number in (1..=tasks).rev() {
        children.push(Process::new(worker, number).start()?);
    }
    let mut reports = Vec::new();
    for child in children {
        reports.push(print(child.join()?));
    }
    Ok(reports)
}

/// The task: sleeps for `number` tenths of a second, then says where it ran.
fn worker(number: usize) -> Report {
    thread::sleep(Duration::from_millis(100) * u32::try_from(number).unwrap_or(u32::MAX));
    let me = current_worker().expect("this function runs as a task only");
    let thread = Thread {
        name: me.thread_name().to_owned(),
        id: me.native_id(),
    };
    Report {
        number,
        pid: me.pid(),
        alive: threads_alive().unwrap_or_else(|| vec![thread.clone()]),
        thread,
        finished: SystemTime::now(),
    }
}

/// The threads of this process, as Linux lists them; `None` on other systems.
fn threads_alive() -> Option<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task").ok()?.flatten() {
        // A thread that ends meanwhile is no longer alive, and no error.
        if let Ok(name) = fs::read_to_string(entry.path().join("comm")) {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let name = name.trim_end().to_owned();
            threads.push(Thread { name, id });
        }
    }
    Some(threads)
}

/// What a task has to say. It travels from process to process, so serde must know it.
#[derive(Serialize, Deserialize)]
struct Report {
    number: usize,
    pid: u32,
    thread: Thread,
    alive: Vec<Thread>,
    finished: SystemTime,
}

#[derive(Clone, Serialize, Deserialize)]
struct Thread {
    name: String,
    id: u64,
}

/// Prints from the main program, so that lines of different tasks never mix.
fn print(report: Report) -> Report {
    println!("{report}");
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Worker:         {}", self.number)?;
        writeln!(f, "PID:            {}", self.pid)?;
        writeln!(f, "Thread name:    {}", self.thread.name)?;
        writeln!(f, "Thread id:      {}", self.thread.id)?;
        writeln!(f, "Threads alive:  {}", self.alive.len())?;
        for thread in &self.alive {
            writeln!(f, "                {} ({})", thread.name, thread.id)?;
        }
        Ok(())
    }
}

fn by_finish(mut reports: Vec<Report>) -> Vec<Report> {
    reports.sort_by_key(|report| report.finished);
    reports
}

fn numbers(reports: &[Report]) -> String {
    let numbers: Vec<_> = reports.iter().map(|r| r.number.to_string()).collect();
    numbers.join(" ")
}
