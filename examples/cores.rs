//! How many cores are there, how many may this program use, and what follows for the pools?
//! What `lscpu` and `numactl --show` answer on Linux.
//!
//! ```sh
//! cargo run --example cores
//! taskset -c 0 cargo run --example cores     # on one core only
//! ```
//!
//! The answers are read where those tools read them: in `/proc` and `/sys`. Other systems have no
//! such files; there, the last three lines still hold.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::thread;

use concurrent_futures::{Executor, ProcessPoolExecutor, ThreadPoolExecutor};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    if std::env::args().len() > 1 {
        print!("{HELP}");
        return Ok(());
    }

    println!("The machine");
    show("logical cores", machine_cores());
    for (node, cores) in numa_nodes() {
        show(&format!("NUMA node {node}"), Some(cores));
    }

    println!("\nThis process may use");
    show(
        "cores (affinity)",
        allowed("Cpus_allowed_list").map(counted),
    );
    show("CPU time (cgroup)", quota());
    show("memory of NUMA nodes", allowed("Mems_allowed_list"));

    println!("\nWhat follows");
    show(
        "available_parallelism",
        thread::available_parallelism().ok(),
    );
    // `builder()` without `max_workers` is what `ThreadPoolExecutor()` is in Python.
    let threads = ThreadPoolExecutor::builder().build()?;
    show("ThreadPoolExecutor", Some(workers(&threads)));
    match ProcessPoolExecutor::builder().build() {
        Ok(processes) => show("ProcessPoolExecutor", Some(workers(&processes))),
        Err(error) => show("ProcessPoolExecutor", Some(error)),
    }
    Ok(())
}

const HELP: &str = "\
Shows how many cores there are, how many this program may use, and how big pools are by default.

Usage: cores
";

fn show(what: &str, answer: Option<impl Display>) {
    match answer {
        Some(answer) => println!("  {what:<22} {answer}"),
        None => println!("  {what:<22} not known on this system"),
    }
}

fn workers(pool: &impl Executor) -> String {
    format!("max_workers = {}", pool.max_workers())
}

/// Every core that is switched on, no matter which process may use it.
fn machine_cores() -> Option<String> {
    read("/sys/devices/system/cpu/online").map(counted)
}

/// Cores that are near one memory; the memory of another node is slower to reach.
fn numa_nodes() -> Vec<(usize, String)> {
    let nodes = read("/sys/devices/system/node/online").unwrap_or_default();
    let cores = |node| {
        let list = read(format!("/sys/devices/system/node/node{node}/cpulist"))?;
        Some((node, counted(list)))
    };
    numbers(&nodes).into_iter().filter_map(cores).collect()
}

/// What this process was left with by `taskset`, `numactl`, a container or a batch system.
fn allowed(what: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    let (_, list) = fields.find(|(field, _)| *field == what)?;
    Some(list.trim().to_owned())
}

/// A container may see every core and be granted the time of one and a half.
fn quota() -> Option<String> {
    let groups = read("/proc/self/cgroup")?;
    let quotas = groups.lines().flat_map(quotas_above);
    Some(match quotas.min_by(f64::total_cmp) {
        Some(cores) => format!("that of {cores:.2} cores"),
        None => "no limit".to_owned(),
    })
}

/// The quotas of a control group and of all that it is in: each of them holds.
/// Its line is `0::/path` in version 2, and like `4:cpu,cpuacct:/path` in version 1.
fn quotas_above(line: &str) -> Vec<f64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let root = match controllers {
        "" => Path::new("/sys/fs/cgroup"),
        _ if controllers.split(',').any(|name| name == "cpu") => Path::new("/sys/fs/cgroup/cpu"),
        _ => return Vec::new(),
    };
    let group = Path::new(path.trim_start_matches('/'));
    group
        .ancestors()
        .filter_map(|group| quota_of(&root.join(group)))
        .collect()
}

/// CPU time in each period of real time, as a number of cores.
fn quota_of(group: &Path) -> Option<f64> {
    let (quota, period) = match read(group.join("cpu.max")) {
        Some(limit) => limit
            .split_once(' ')
            .map(|(q, p)| (q.to_owned(), p.to_owned()))?,
        None => (
            read(group.join("cpu.cfs_quota_us"))?,
            read(group.join("cpu.cfs_period_us"))?,
        ),
    };
    // Without a limit the quota is `max`, or -1.
    let cores = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
    (cores > 0.0).then_some(cores)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// `0-3,8` becomes `5 (0-3,8)`.
fn counted(list: String) -> String {
    format!("{} ({list})", numbers(&list).len())
}

/// The numbers in a list such as `0-3,8`.
fn numbers(list: &str) -> Vec<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}
