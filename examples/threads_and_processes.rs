//! What runs code beside the program, started by hand: a thread, a thread of a pool, a process.
//!
//! ```sh
//! cargo run --example threads_and_processes
//! ```

use std::error::Error;
use std::fs;
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Process, ThreadPoolExecutor};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    println!("The program is {}.", me());
    a_thread()?;
    a_thread_of_a_pool()?;
    a_process()
}

const SHORT: Duration = Duration::from_millis(50);

/// Started by `spawn`, once: there is nothing that could be started again.
fn a_thread() -> Result<(), Box<dyn Error>> {
    let (say, said) = mpsc::channel();
    let (wake, woken) = mpsc::channel::<()>();
    let work = move || {
        let told = say.send(me());
        told.is_ok() && woken.recv().is_ok()
    };
    let thread = thread::Builder::new().name("sleeper".into()).spawn(work)?;

    println!("\nA thread says: I am {}.", said.recv()?);
    println!("alive:         {}", alive()?.join(", "));
    println!("is_finished(): {}", thread.is_finished());
    wake.send(())?;
    let result = thread.join().map_err(|_| "it panicked")?;
    println!("join():        {result}");
    Ok(())
}

/// std cannot join a thread with a time limit. A future can be awaited with one.
fn a_thread_of_a_pool() -> Result<(), Box<dyn Error>> {
    let (wake, woken) = mpsc::channel::<()>();
    let builder = ThreadPoolExecutor::builder().thread_name_prefix("pool");
    let pool = builder.max_workers(1).build()?;
    let mut future = pool.spawn(move || woken.recv().map(|()| me()));

    println!("\nA thread of a pool");
    if let Err(error) = future.result_timeout(SHORT) {
        println!("result_timeout(): {error}");
    }
    wake.send(())?;
    println!("result():         I was {}.", future.result()??);
    Ok(())
}

/// A child runs one function. `start` consumes the process: it, too, is started once.
fn a_process() -> Result<(), Box<dyn Error>> {
    let mut child = Process::new(nap, 1000).name("napper").start()?;
    println!("\nA process, {} (PID {})", child.name(), child.pid());
    println!("is_alive():     {}", child.is_alive());
    if let Err(error) = child.join_timeout(SHORT) {
        println!("join_timeout(): {error}");
    }
    println!("join():         {}", child.join()?);

    let mut endless = Process::new(nap, u64::MAX).start()?;
    endless.terminate();
    if let Err(error) = endless.join_timeout(Duration::from_secs(10)) {
        println!("\nA process that is terminated");
        println!("join_timeout(): {error}");
        println!("exit_code():    {:?}", endless.exit_code());
    }
    Ok(())
}

fn nap(milliseconds: u64) -> String {
    thread::sleep(Duration::from_millis(milliseconds));
    format!("I was {}.", me())
}

/// This process, and this thread by its name and the system's number for it.
fn me() -> String {
    // A link such as 4711/task/4712.
    let link = fs::read_link("/proc/thread-self").unwrap_or_default();
    let id = link.file_name().unwrap_or_default().to_string_lossy();
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    format!("thread `{name}` ({id}) of process {}", process::id())
}

/// The names of this process's threads. Rust keeps no list of them; the system does.
fn alive() -> Result<Vec<String>, std::io::Error> {
    let entries = fs::read_dir("/proc/self/task")?;
    let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm"));
    let names = entries.map(|entry| Ok(name(entry?)?.trim().to_owned()));
    names.collect()
}
