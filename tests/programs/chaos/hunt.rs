//! The outsider: what the killer does, a process of its own that stops and ends workers at random.
//!
//! It finds them in the list of processes, from their first moment on. It obeys lines on its
//! standard input, and tells what it did when that ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::exit;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common;
use crate::support::os;

/// Tells this program that it is the killer: the process whose children it hunts, and how it begins.
pub const ROLE: &str = "CONCURRENT_FUTURES_CHAOS_KILLER";

/// If this process is to be the killer, it is, to its end.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let numbers: Vec<u64> = role
        .split(' ')
        .map(|number| number.parse().expect("numbers"))
        .collect();
    let mut hunt = Hunt {
        parent: u32::try_from(numbers[0]).expect("a pid"),
        random: StdRng::seed_from_u64(numbers[1]),
        pause: Duration::from_micros(numbers[2]),
        frozen: HashMap::new(),
        sent: BTreeMap::new(),
        hit: BTreeSet::new(),
    };
    hunt.go_on_until_told();
    hunt.tell();
    exit(0);
}

/// The killer at work.
struct Hunt {
    /// The process whose children are hunted.
    parent: u32,
    /// Decides.
    random: StdRng,
    /// Between two strikes, on average.
    pause: Duration,
    /// The processes that were stopped, and when each goes on; `None`: never.
    frozen: HashMap<u32, (Prey, Option<Instant>)>,
    /// Signals sent, by what they were part of.
    sent: BTreeMap<String, u64>,
    /// The processes that were sent a signal that ends a process.
    hit: BTreeSet<u32>,
}

/// A process that cannot be mistaken for another of the same number.
struct Prey {
    /// Its number.
    pid: u32,
    /// It.
    pidfd: OwnedFd,
}

impl Hunt {
    fn go_on_until_told(&mut self) {
        let orders = io::stdin().as_fd().try_clone_to_owned();
        let mut orders = File::from(orders.expect("there is a standard input"));
        let mut next = Instant::now();
        loop {
            let due = self.frozen.values().filter_map(|(_, until)| *until).min();
            let due = due.map_or(next, |due| due.min(next));
            let left = due.saturating_duration_since(Instant::now());
            // Rounded up: a wait of less than a millisecond would be none.
            let left = left + Duration::from_micros(999);
            if os::readable(&orders, Some(left)) {
                let mut order = [0; 4096];
                match orders.read(&mut order) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => self.obey(&String::from_utf8_lossy(&order[..count])),
                }
            }
            self.thaw(Instant::now());
            if next <= Instant::now() {
                self.strike();
                let most = 2 * self.pause.as_micros() as u64;
                next = Instant::now() + Duration::from_micros(self.random.random_range(0..=most));
            }
        }
        for (prey, _) in std::mem::take(&mut self.frozen).into_values() {
            self.send(&prey, libc::SIGCONT, "resume");
        }
    }

    /// Stops the processes that the order names.
    fn obey(&mut self, order: &str) {
        let numbers = order.split_whitespace().map(|n| n.parse::<u32>());
        let mut numbers = numbers.map(|number| number.expect("numbers"));
        let time = numbers.next().expect("a time stands first");
        let until = (time > 0).then(|| Instant::now() + Duration::from_millis(time.into()));
        for pid in numbers {
            if let Some(prey) = self.catch(pid) {
                self.stop(prey, until, "stop before an end");
            }
        }
        println!("frozen");
    }

    /// Continues the processes that were stopped for long enough.
    fn thaw(&mut self, now: Instant) {
        let due = |(_, until): &(Prey, Option<Instant>)| until.is_some_and(|until| until <= now);
        let pids: Vec<_> = self.frozen.iter().filter(|(_, entry)| due(entry)).collect();
        let pids: Vec<_> = pids.into_iter().map(|(pid, _)| *pid).collect();
        for pid in pids {
            if let Some((prey, _)) = self.frozen.remove(&pid) {
                self.send(&prey, libc::SIGCONT, "resume");
            }
        }
    }

    fn strike(&mut self) {
        let preys = self.preys();
        if preys.is_empty() {
            return;
        }
        let one = preys[self.random.random_range(0..preys.len())];
        match self.random.random_range(0..100) {
            0..25 => self.end(one, libc::SIGKILL, "kill"),
            25..40 => self.end(one, libc::SIGTERM, "terminate"),
            40..62 => self.stop_for_a_while(one, "stop"),
            62..66 => {
                self.stop_for_a_while(one, "stop, then kill");
                self.end(one, libc::SIGKILL, "stop, then kill");
            }
            66..70 => {
                self.stop_for_a_while(one, "stop, then terminate");
                self.end(one, libc::SIGTERM, "stop, then terminate");
            }
            70..72 => {
                for pid in preys {
                    self.end(pid, libc::SIGKILL, "kill all");
                }
            }
            72..75 => {
                for pid in preys {
                    self.stop_for_a_while(pid, "stop all");
                }
            }
            _ => self.ambush(preys),
        }
    }

    /// For a moment, hits workers that start, before they are ready or soon after.
    fn ambush(&mut self, mut known: Vec<u32>) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            let preys = self.preys();
            let fresh = preys.iter().filter(|pid| !known.contains(pid));
            for fresh in fresh.copied().collect::<Vec<_>>() {
                // A start takes a millisecond, or twenty where others are at work.
                let most = 300 << self.random.random_range(0..7);
                std::thread::sleep(Duration::from_micros(self.random.random_range(0..most)));
                match self.random.random_range(0..5) {
                    0 | 1 => self.end(fresh, libc::SIGKILL, "kill at its start"),
                    2 => self.end(fresh, libc::SIGTERM, "terminate at its start"),
                    3 => self.stop_for_a_while(fresh, "stop at its start"),
                    _ => {}
                }
            }
            known = preys;
        }
    }

    fn end(&mut self, pid: u32, signal: i32, what: &str) {
        if let Some(prey) = self.catch(pid) {
            self.hit.insert(pid);
            self.send(&prey, signal, what);
        }
    }

    /// Mostly for a short while.
    fn stop_for_a_while(&mut self, pid: u32, what: &str) {
        let millis = match self.random.random_range(0..100) {
            0..80 => self.random.random_range(0..30),
            80..98 => self.random.random_range(30..250),
            _ => self.random.random_range(250..1200),
        };
        if let Some(prey) = self.catch(pid) {
            let until = Instant::now() + Duration::from_millis(millis);
            self.stop(prey, Some(until), what);
        }
    }

    fn stop(&mut self, prey: Prey, until: Option<Instant>, what: &str) {
        // A process that was stopped for ever stays so.
        if let Some((_, None)) = self.frozen.get(&prey.pid) {
            return;
        }
        self.send(&prey, libc::SIGSTOP, what);
        self.frozen.insert(prey.pid, (prey, until));
    }

    fn send(&mut self, prey: &Prey, signal: i32, what: &str) {
        if send(&prey.pidfd, signal) {
            let name = match signal {
                libc::SIGKILL => "SIGKILL",
                libc::SIGTERM => "SIGTERM",
                libc::SIGSTOP => "SIGSTOP",
                _ => "SIGCONT",
            };
            *self.sent.entry(format!("{name} ({what})")).or_default() += 1;
        }
    }

    /// Children of the program other than this one.
    fn preys(&self) -> Vec<u32> {
        let mut children = common::children_of(self.parent);
        children.retain(|pid| *pid != std::process::id());
        children
    }

    /// Takes hold of a worker, if it still is one.
    fn catch(&self, pid: u32) -> Option<Prey> {
        // SAFETY: no memory is touched.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let pidfd = i32::try_from(pidfd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // Asked once the number is sure to stay with the process.
        (common::parent_of(pid)? == self.parent).then_some(Prey { pid, pidfd })
    }

    fn tell(&self) {
        for (what, count) in &self.sent {
            println!("{what}\t{count}");
        }
        for pid in &self.hit {
            println!("hit\t{pid}");
        }
    }
}

/// Sends a signal; whether the process was still there.
fn send(pidfd: &OwnedFd, signal: i32) -> bool {
    let (fd, nothing) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: no memory is touched.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, nothing, 0) == 0 }
}
