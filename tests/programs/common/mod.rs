//! What several test programs ask of the system.

use std::fs;
use std::path::Path;

/// Child processes of this one, zombies too.
pub fn children() -> Vec<u32> {
    children_of(std::process::id())
}

/// Child processes of that one, zombies too.
pub fn children_of(parent: u32) -> Vec<u32> {
    numbers(Path::new("/proc"))
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

/// The entries of a directory that are named by a number.
pub fn numbers(directory: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).expect("there is a /proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process: the second field after its name, which stands in parentheses.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}
