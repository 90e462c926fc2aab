//! Python's pools: a program of Python's that measures itself, a turn at a time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::duel::Samples;
use crate::pools::{Echoes, RoundTrips, Series, Throughput, WORKERS};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python.py");

/// Python leaves no compiled files beside the script.
const NO_CACHE: (&str, &str) = ("PYTHONDONTWRITEBYTECODE", "1");

/// The pools that the script knows.
#[derive(Clone, Copy)]
pub enum PythonPool {
    Processes,
    Threads,
    Multiprocessing,
    Loky,
    Pebble,
}

/// A process of Python's with one pool, which answers requests.
pub struct Python {
    /// The script.
    child: Child,
    /// Lines to it. Closed first: that ends the script.
    requests: Option<ChildStdin>,
    /// Lines from it.
    answers: BufReader<ChildStdout>,
}

/// What the script can be asked; it documents the fields.
#[derive(Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    RoundTrips {
        warm_up: u64,
        calls: u64,
        /// Seconds.
        pause: f64,
    },
    Throughput {
        tasks: u64,
    },
    Map {
        items: u64,
        chunksize: Option<u64>,
    },
    Echoes {
        size: usize,
        calls: u64,
    },
    StartUps {
        calls: u64,
    },
}

/// What the script says.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// The pool has started.
    Ready,
    /// It cannot, and why.
    Missing(String),
    /// How long each call took, or all tasks together.
    Seconds(Vec<f64>),
}

impl PythonPool {
    pub fn name(self) -> String {
        match self {
            Self::Multiprocessing => self.argument().to_owned(),
            _ => format!("Python {}", self.argument()),
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Processes => "ProcessPoolExecutor",
            Self::Threads => "ThreadPoolExecutor",
            Self::Multiprocessing => "multiprocessing.Pool",
            Self::Loky => "loky",
            Self::Pebble => "pebble",
        }
    }
}

impl Python {
    /// `Err` in the inside: that pool cannot be had, and why.
    pub fn start(interpreter: &Path, pool: PythonPool) -> Outcome<Result<Self, String>> {
        let spawned = Command::new(interpreter)
            .args([SCRIPT, pool.argument(), "--workers", &WORKERS.to_string()])
            .env(NO_CACHE.0, NO_CACHE.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("{}: {error}", interpreter.display()))),
        };
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("stdout is piped")?);
        let mut python = Self {
            child,
            requests,
            answers,
        };
        match python.answer()? {
            Answer::Ready => Ok(Ok(python)),
            Answer::Missing(why) => Ok(Err(why)),
            Answer::Seconds(_) => Err("the script answered before it was asked".into()),
        }
    }

    /// Of the script; the workers are its children.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn map(&mut self, items: u64, chunksize: Option<u64>) -> Outcome<Samples> {
        self.ask(&Request::Map { items, chunksize })
    }

    /// How long it takes to have the first result of a new pool.
    pub fn start_ups(&mut self, calls: u64) -> Outcome<Samples> {
        self.ask(&Request::StartUps { calls })
    }

    fn ask(&mut self, request: &Request) -> Outcome<Samples> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        let requests = self.requests.as_mut().ok_or("the script has ended")?;
        requests.write_all(line.as_bytes())?;
        match self.answer()? {
            Answer::Seconds(seconds) => Ok(seconds.into_iter().collect()),
            Answer::Ready | Answer::Missing(_) => Err("the script does not say how long".into()),
        }
    }

    fn answer(&mut self) -> Outcome<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the script has ended; see what it printed".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.requests = None;
        self.child.wait().ok();
    }
}

impl RoundTrips for Python {
    fn round_trips(&mut self, series: Series) -> Outcome<Samples> {
        self.ask(&Request::RoundTrips {
            warm_up: series.warm_up,
            calls: series.calls,
            pause: Duration::as_secs_f64(&series.pause),
        })
    }
}

impl Throughput for Python {
    fn throughput(&mut self, tasks: u64) -> Outcome<Samples> {
        self.ask(&Request::Throughput { tasks })
    }
}

impl Echoes for Python {
    fn echoes(&mut self, size: usize, calls: u64) -> Outcome<Samples> {
        self.ask(&Request::Echoes { size, calls })
    }
}

/// Python's version and those of its packages; empty where there is no Python.
pub fn versions(interpreter: &Path) -> Outcome<BTreeMap<String, String>> {
    let Ok(output) = Command::new(interpreter)
        .args([SCRIPT, "versions"])
        .output()
    else {
        return Ok(BTreeMap::new());
    };
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::{Answer, Request};

    #[test]
    fn requests_are_what_the_script_documents() {
        let script = include_str!("../../python.py");
        let examples = [
            Request::RoundTrips {
                warm_up: 20,
                calls: 200,
                pause: 0.001,
            },
            Request::Throughput { tasks: 1000 },
            Request::Map {
                items: 1000,
                chunksize: Some(100),
            },
            Request::Echoes {
                size: 1024,
                calls: 10,
            },
            Request::StartUps { calls: 10 },
        ];
        for request in examples {
            let line = serde_json::to_string(&request).expect("requests are plain");
            let spaced = line.replace(':', ": ").replace(',', ", ");
            assert!(script.contains(&spaced), "{spaced}");
        }
    }

    #[test]
    fn answers_are_understood() {
        let answer = serde_json::from_str(r#"{"seconds": [0.5, 2]}"#);
        assert!(matches!(answer, Ok(Answer::Seconds(seconds)) if seconds == [0.5, 2.0]));
        let answer = serde_json::from_str(r#"{"missing": "No module named 'loky'"}"#);
        assert!(matches!(answer, Ok(Answer::Missing(_))));
    }
}
