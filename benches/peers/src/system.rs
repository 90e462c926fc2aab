//! What Linux tells of processes and of the machine.

use std::fs;
use std::io;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;

/// The processor time that this process has used, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The processor time that the living threads of another process have used, in seconds. What a
/// thread uses is added when it stops for something.
pub fn cpu_seconds(pid: u32) -> Outcome<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = schedstat.split_whitespace().next();
        nanoseconds += first.ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// The memory that a process has for itself alone, in bytes.
pub fn private_memory(pid: u32) -> Outcome<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(private_kib(&rollup) as f64 * 1024.0)
}

fn private_kib(rollup: &str) -> u64 {
    let private = |line: &str| {
        let amount = line
            .strip_prefix("Private_Clean:")
            .or(line.strip_prefix("Private_Dirty:"))?;
        amount.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    rollup.lines().filter_map(private).sum()
}

/// The name of the processor.
pub fn cpu_model() -> io::Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(": "));
    Ok(model.map_or("unknown", |model| model.1).to_owned())
}

/// The release of the kernel.
pub fn kernel() -> io::Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("Linux {}", release.trim()))
}

/// The load average of the last minute.
pub fn load() -> Outcome<f64> {
    let loads = fs::read_to_string("/proc/loadavg")?;
    let first = loads.split_whitespace().next();
    Ok(first.ok_or("loadavg is empty")?.parse()?)
}

/// The version of a crate that this program was built with.
pub fn locked_version(lock: &Path, package: &str) -> io::Result<Option<String>> {
    let lock = fs::read_to_string(lock)?;
    Ok(version_in(&lock, package))
}

/// The newest one, if the lock file has several.
fn version_in(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines();
    let mut newest = None;
    while lines.by_ref().any(|line| line == name) {
        let version = lines.next()?.strip_prefix("version = \"")?;
        newest = version.strip_suffix('"');
    }
    newest.map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, own_cpu_seconds, private_kib, version_in};

    #[test]
    fn private_memory_is_clean_and_dirty() {
        let rollup = "Rss: 900 kB\nPrivate_Clean:   24 kB\nPrivate_Dirty:  100 kB\nSwap: 5 kB\n";
        assert_eq!(private_kib(rollup), 124);
    }

    #[test]
    fn the_newest_of_several_versions() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"0.9.0\"\n\n\
                    [[package]]\nname = \"a\"\nversion = \"0.10.0\"\n";
        assert_eq!(version_in(lock, "a").as_deref(), Some("0.10.0"));
        assert_eq!(version_in(lock, "b"), None);
    }

    #[test]
    fn time_is_counted_where_it_is_used() {
        let before = own_cpu_seconds();
        let work = || (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        let thread = std::thread::spawn(work);
        thread.join().expect("the work does not panic");
        assert!(own_cpu_seconds() - before > 0.001);
        assert!(cpu_seconds(std::process::id()).expect("the kernel tells") > 0.0);
    }
}
