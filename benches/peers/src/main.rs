//! The executors of concurrent-futures beside their peers, in scenes. Contenders alternate within
//! a run, since the machine's own speed drifts: only ratios within one run count.
//!
//! ```sh
//! cargo run --release -p peers -- run                     # everything, in some minutes
//! cargo run --release -p peers -- run --quick             # the same in a minute, less exact
//! cargo run --release -p peers -- run --scene echo --json echo.json
//! cargo run --release -p peers -- report                  # everything, into docs/benchmarks.md
//! ```

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::children::Role;
use crate::results::Results;
use crate::scenes::{Run, Scene, Size};

mod children;
mod duel;
mod figure;
mod placement;
mod pools;
mod report;
mod results;
mod scenes;
mod system;
mod table;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    // Both execute the program again; each only knows its own workers.
    concurrent_futures::init();
    procspawn::init();
    if let Some(role) = Role::of_arguments() {
        return role.play();
    }
    match Cli::parse().command {
        Command::Run(options) => {
            let results = options.measure()?;
            options.keep(&results)
        }
        Command::Report(report) => report.write(),
    }
}

/// Measures the executors of concurrent-futures beside their peers.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure, and print a table
    Run(RunOptions),
    /// Measure, or read what was measured, and write the document with its charts
    Report(ReportOptions),
}

#[derive(Args)]
struct RunOptions {
    /// What to measure [default: everything]
    #[arg(long = "scene", value_enum, value_name = "SCENE")]
    scenes: Vec<Scene>,
    /// How many rounds, each of which gives a ratio [default: what suits the scene]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Do little of everything: to see that it works, not to tell
    #[arg(long)]
    quick: bool,
    /// The interpreter of the pools of Python
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Keep everything in this file, for a report
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Keep a line a figure in this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Args)]
struct ReportOptions {
    #[command(flatten)]
    run: RunOptions,
    /// Read this file of an earlier run instead of measuring
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenes", "rounds", "quick", "python"])]
    from: Option<PathBuf>,
    /// The document; its charts go to a folder of the same name
    #[arg(long, value_name = "FILE", default_value = report::DOCUMENT)]
    out: PathBuf,
}

impl RunOptions {
    fn measure(&self) -> Outcome<Results> {
        let size = if self.quick { Size::Quick } else { Size::Full };
        let mut run = Run {
            size,
            rounds: self.rounds.map(usize::from),
            python: self.python.clone(),
            results: Results::new(size, &self.python)?,
        };
        let machine = &run.results.machine;
        if machine.was_busy() {
            println!(
                "load average {:.2}: others use this machine too",
                machine.load
            );
        }
        if self.scenes.is_empty() {
            run.play(Scene::all())?;
        } else {
            run.play(&self.scenes)?;
        }
        Ok(run.results)
    }

    fn keep(&self, results: &Results) -> Outcome<()> {
        if let Some(file) = &self.json {
            results.write_json(file)?;
        }
        if let Some(file) = &self.csv {
            results.write_csv(file)?;
        }
        Ok(())
    }
}

impl ReportOptions {
    fn write(&self) -> Outcome<()> {
        let results = match &self.from {
            Some(file) => Results::read(file)?,
            None => self.run.measure()?,
        };
        self.run.keep(&results)?;
        report::write(&results, &self.out)
    }
}
