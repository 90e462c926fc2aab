//! The killer, as the program sees it: a process of its own that stops and ends workers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::hunt::ROLE;

/// The killer.
pub struct Killer {
    /// Its process.
    pub pid: u32,
    /// Dropped by `finish`.
    child: Mutex<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

/// What the killer did.
#[derive(Debug, Default)]
pub struct Deeds {
    /// Signals, by what they were part of.
    pub sent: BTreeMap<String, u64>,
    /// The processes that were sent a signal that ends a process.
    pub hit: BTreeSet<u32>,
}

impl Killer {
    /// Starts it; it strikes about once in `pause`.
    pub fn start(seed: u64, pause: Duration) -> Self {
        let role = format!("{} {seed} {}", std::process::id(), pause.as_micros());
        let mut child = Command::new("/proc/self/exe")
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the killer starts");
        let orders = child.stdin.take().expect("it was piped");
        let answers = BufReader::new(child.stdout.take().expect("it was piped"));
        Self {
            pid: child.id(),
            child: Mutex::new((child, orders, answers)),
        }
    }

    /// Stops these workers, for this time or for ever; returns once the killer has answered.
    pub fn freeze(&self, pids: &[u32], time: Option<Duration>) {
        let time = time.map_or(0, |time| time.as_millis());
        let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // In one piece: the other side reads it as one.
        let order = format!("{time} {}\n", pids.join(" "));
        child
            .1
            .write_all(order.as_bytes())
            .expect("the killer listens");
        let mut answer = String::new();
        child.2.read_line(&mut answer).expect("the killer answers");
        assert_eq!(answer, "frozen\n");
    }

    /// Ends it, and returns what it did.
    pub fn finish(self) -> Deeds {
        let child = self.child.into_inner();
        let (mut child, orders, mut answers) = child.unwrap_or_else(PoisonError::into_inner);
        drop(orders);
        let mut report = String::new();
        answers.read_to_string(&mut report).expect("it tells");
        let status = child.wait().expect("it is our child");
        assert!(status.success(), "the killer: {status}");
        Deeds::from_report(&report)
    }
}

impl Deeds {
    fn from_report(report: &str) -> Self {
        let mut deeds = Self::default();
        for line in report.lines() {
            let (name, number) = line.split_once('\t').expect("each line is a pair");
            let number = number.parse().expect("a number follows the name");
            match name {
                "hit" => drop(deeds.hit.insert(u32::try_from(number).expect("a pid"))),
                _ => drop(deeds.sent.insert(name.to_owned(), number)),
            }
        }
        deeds
    }
}
