//! All that a run found out, to be kept as JSON or CSV.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::figure::Figure;
use crate::pools::python;
use crate::scenes::Size;
use crate::system;

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    /// Of the peers.
    pub versions: BTreeMap<String, String>,
    /// Whether little was done of everything.
    pub quick: bool,
    /// What could not be measured, and why.
    pub skipped: BTreeMap<String, String>,
    pub figures: Vec<Figure>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
    /// What others did when the run began: the load average of the last minute.
    pub load: f64,
}

/// The crates that are measured, or measured with.
const CRATES: [&str; 8] = [
    "concurrent-futures",
    "rayon",
    "oneshot",
    "threadpool",
    "rusty_pool",
    "tokio",
    "procspawn",
    "ipc-channel",
];

const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock");

impl Machine {
    /// Whether others used more than a little of it when the run began.
    pub fn was_busy(&self) -> bool {
        self.load > self.cores as f64 / 4.0
    }
}

impl Results {
    /// Nothing measured so far, on this machine.
    pub fn new(size: Size, interpreter: &Path) -> Outcome<Self> {
        let mut versions = python::versions(interpreter)?;
        for name in CRATES {
            if let Some(version) = system::locked_version(Path::new(LOCK), name)? {
                versions.insert(name.to_owned(), version);
            }
        }
        Ok(Self {
            machine: Machine {
                processor: system::cpu_model()?,
                cores: thread::available_parallelism()?.get(),
                kernel: system::kernel()?,
                load: system::load()?,
            },
            versions,
            quick: size == Size::Quick,
            skipped: BTreeMap::new(),
            figures: Vec::new(),
        })
    }

    pub fn read(file: &Path) -> Outcome<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }

    pub fn write_json(&self, file: &Path) -> Outcome<()> {
        Ok(fs::write(file, serde_json::to_vec_pretty(self)?)?)
    }

    pub fn write_csv(&self, file: &Path) -> Outcome<()> {
        let mut csv = String::from(
            "scene,measure,unit,ours,peer,our value,peer's value,ratio,lowest,highest,bar,verdict\n",
        );
        for figure in &self.figures {
            csv.push_str(&csv_line(figure));
        }
        Ok(fs::write(file, csv)?)
    }
}

fn csv_line(figure: &Figure) -> String {
    let (lowest, highest) = figure.spread();
    let fields = [
        figure.scene.clone(),
        figure.measure.clone(),
        format!("{:?}", figure.unit),
        figure.ours.clone(),
        figure.peer.clone(),
        figure.our_value().to_string(),
        figure.peer_value().to_string(),
        figure.ratio().to_string(),
        lowest.to_string(),
        highest.to_string(),
        figure.bar.map(|bar| bar.to_string()).unwrap_or_default(),
        figure.verdict().map(|v| v.to_string()).unwrap_or_default(),
    ];
    let quoted = fields.map(|field| format!("\"{}\"", field.replace('"', "\"\"")));
    quoted.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::csv_line;
    use crate::figure::{Bar, Figure, Unit};

    #[test]
    fn a_line_of_csv_has_all_fields_quoted() {
        let figure = Figure {
            scene: "echo".into(),
            measure: "p50, \"warm\"".into(),
            unit: Unit::Seconds,
            ours: "processes".into(),
            peer: "procspawn".into(),
            bar: Some(Bar::AtMost(0.5)),
            rounds: vec![(1.0, 4.0)],
        };
        let line = "\"echo\",\"p50, \"\"warm\"\"\",\"Seconds\",\"processes\",\"procspawn\",\
                    \"1\",\"4\",\"0.25\",\"0.25\",\"0.25\",\"≤ 0.5\",\"pass\"\n";
        assert_eq!(csv_line(&figure), line);
    }
}
