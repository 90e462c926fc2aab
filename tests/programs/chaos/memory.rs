//! How much memory the program has.

use std::fmt;
use std::fs;

/// The memory of the program at some time, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// What the program has asked for and not given back; 0 where the C library does not tell.
    used: u64,
    /// What the system has given it, once the allocator has returned what it can.
    resident: u64,
}

impl Memory {
    /// With one heap for all threads: the allocator returns what is free at the end of the first
    /// one alone. Called before there are others.
    pub fn have_one_heap() {
        #[cfg(target_env = "gnu")]
        // SAFETY: sets a number of the allocator.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1)
        };
    }

    /// What there is now.
    pub fn now() -> Self {
        Self {
            used: used(),
            resident: resident(),
        }
    }

    /// Whether it is no more than it was then, except for this number of used bytes, and this number
    /// of resident bytes.
    pub fn is_like(self, then: Self, more_used: u64, more_resident: u64) -> bool {
        self.used <= then.used + more_used && self.resident <= then.resident + more_resident
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, resident) = (self.used >> 10, self.resident >> 10);
        write!(f, "{used} KiB in use, {resident} KiB resident")
    }
}

#[cfg(target_env = "gnu")]
fn used() -> u64 {
    // SAFETY: reads numbers of the allocator.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

#[cfg(not(target_env = "gnu"))]
fn used() -> u64 {
    0
}

fn resident() -> u64 {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives back memory that is not in use.
    unsafe {
        libc::malloc_trim(0)
    };
    let status = fs::read_to_string("/proc/self/status").expect("there is a /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.map_or(0, |kib| kib.parse::<u64>().expect("a number") << 10)
}
