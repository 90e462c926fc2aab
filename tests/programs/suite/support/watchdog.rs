//! Ends a run that hangs, saying which trial it was and where every thread stands.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{leaks, os};

/// A trial to be watched.
struct Watch {
    /// The trial.
    name: String,
    /// How long it may take.
    limit: Duration,
    /// Disconnected when it is over.
    over: Receiver<()>,
}

/// While it lives, its trial is watched.
pub struct Watched(
    /// Dropping it tells the watchdog.
    #[allow(dead_code, reason = "its drop is the message")]
    Sender<()>,
);

/// Where trials announce themselves.
static WATCHES: OnceLock<Sender<Watch>> = OnceLock::new();

/// Starts the thread that watches, for the rest of the program.
pub fn start() {
    os::allow_debuggers();
    let (sender, watches) = channel();
    WATCHES.set(sender).expect("the watchdog is started once");
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watches.into_iter().for_each(guard))
        .unwrap();
}

/// Watches a trial until the answer is dropped.
pub fn watch(name: String, limit: Duration) -> Watched {
    let (sender, over) = channel();
    let watch = Watch { name, limit, over };
    WATCHES.get().unwrap().send(watch).unwrap();
    Watched(sender)
}

fn guard(watch: Watch) {
    if let Err(RecvTimeoutError::Timeout) = watch.over.recv_timeout(watch.limit) {
        report(&watch);
        leaks::kill_descendants();
        os::exit_now(101);
    }
}

fn report(watch: &Watch) {
    eprintln!(
        "\n==== {} hangs: {:?} have passed ====",
        watch.name, watch.limit
    );
    let own = std::process::id();
    for pid in std::iter::once(own).chain(leaks::descendants()) {
        eprintln!("---- process {pid} {}", proc_file(pid, "cmdline"));
        eprintln!(
            "{}",
            stacks_by_gdb(pid).unwrap_or_else(|| stacks_by_proc(pid))
        );
    }
}

fn stacks_by_gdb(pid: u32) -> Option<String> {
    let output = Command::new("timeout")
        .args(["60", "gdb", "-p", &pid.to_string(), "-batch"])
        .args(["-ex", "thread apply all bt"])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && text.contains("Thread")).then_some(text)
}

fn stacks_by_proc(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let of_thread = |tid: String| {
        ["comm", "wchan", "stack", "status"]
            .map(|file| proc_file(pid, &format!("task/{tid}/{file}")))
            .join("\n")
    };
    threads
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| of_thread(entry.file_name().to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join("\n")
}

fn proc_file(pid: u32, file: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
