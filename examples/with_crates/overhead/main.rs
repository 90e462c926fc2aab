//! What does it cost to send a task away? Serialisation, taken apart.
//!
//! ```sh
//! cargo run --release --example overhead                           # everything, in some minutes
//! cargo run --release --example overhead -- --quick                # in seconds, less exact
//! cargo run --release --example overhead -- --kind vec-string --executor shared-memory
//! cargo run --release --example overhead -- --pause 1              # when everybody has fallen asleep
//! cargo run --release --example overhead -- --csv postcard.csv --plot charts
//! ```
//!
//! The codec is the one that the crate was built with. To see two in one chart:
//!
//! ```sh
//! cargo run --release --example overhead --no-default-features --features bincode,symbols -- \
//!     --csv bincode.csv
//! cargo run --release --example overhead -- --plot charts --from bincode.csv postcard.csv
//! ```
//!
//! The task drops its argument and returns two numbers: when it began, and when it ended. All
//! processes of a machine share that clock, so it is known how long the way there took, and the way
//! back.
//!
//! - *encoded*: how many bytes the codec makes of the argument
//! - *encode*, *decode*: measured alone, by calling the same format on the same value
//! - *wake*: until a task without any argument begins
//! - *hand over*: what is left of the way there: the bytes, out of the value and into the worker. What
//!   does not fit into a slot of the shared-memory queue is copied through memory that stays warm.
//! - *drop*: until the task has got rid of its argument
//! - *result back*: from the end of the task until the program has the two numbers
//! - *total*: from `submit` to the end of `result`; all of the above, where medians add up
//! - *echo*: the same for a task that returns its argument
//! - *must last*: a task that computes for this time spends a tenth of it on the way, and nine on itself

mod bench;
mod chart;
mod clock;
mod codec;
mod executor;
mod payload;
mod plot;
mod row;
mod size;
mod table;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use bench::{Bench, Seen};
use executor::Where;
use payload::Kind;
use row::Row;
use size::Size;

/// How often each payload is measured.
const PASSES: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    concurrent_futures::init();
    let args = Args::parse();
    let rows = if args.from.is_empty() {
        args.measure()?
    } else {
        args.read()?
    };
    if args.rows {
        print!("{}", row::to_csv(&rows));
        return Ok(());
    }
    table::print(&rows);
    if let Some(file) = &args.csv {
        fs::write(file, row::to_csv(&rows))?;
    }
    if let Some(folder) = &args.plot {
        chart::draw_all(folder, &rows)?;
    }
    Ok(())
}

/// Measures what a task costs beside its work, by payload, size and executor.
#[derive(Parser)]
struct Args {
    /// What is sent [default: everything]
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Where it is sent to [default: everywhere]
    #[arg(long = "executor", value_enum, value_name = "EXECUTOR")]
    executors: Vec<Where>,
    /// The biggest payload; memory for some copies of it is needed [default: 256MiB, quick 256KiB]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Few rounds of small payloads: to see that it works, not to tell
    #[arg(long)]
    quick: bool,
    /// Let nothing happen for so many milliseconds before each call
    #[arg(long, value_name = "MS", default_value = "0")]
    pause: u64,
    /// Keep everything in this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw charts into this folder
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Read what was kept by --csv instead of measuring
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Print what --csv keeps, and nothing else
    #[arg(long, hide = true)]
    rows: bool,
}

impl Args {
    fn measure(&self) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for executor in self.executors() {
            if executor.is_ruled_out() {
                eprintln!("skipped: {executor}: the environment says that no memory is shared");
                continue;
            }
            let more = match executor.variable() {
                Some(variable) => self.measure_in_child(executor, variable)?,
                None => self.measure_here(executor)?,
            };
            rows.extend(more);
        }
        Ok(rows)
    }

    /// Goes through all payloads again and again: what changes with time changes for all.
    fn measure_here(&self, executor: Where) -> Outcome<Vec<Row>> {
        let bench = Bench::new(executor, Duration::from_millis(self.pause), self.quick)?;
        let sizes = |kind: Kind| kind.sizes().filter(|size| *size <= self.max_size());
        let payloads = self
            .kinds()
            .flat_map(|kind| sizes(kind).map(move |size| (kind, size)));
        let mut seen: Vec<_> = payloads.map(|payload| (payload, Seen::default())).collect();
        for pass in 1..=PASSES {
            eprintln!("measuring {executor}, pass {pass} of {PASSES}");
            for ((kind, size), seen) in &mut seen {
                kind.pass(&bench, *size, seen)?;
            }
        }
        let rows = seen.into_iter();
        let rows = rows.map(|((kind, size), seen)| Row::new(executor, kind, size, seen));
        Ok(rows.collect())
    }

    /// Measures in another process of this program. Pools look into the environment when they are
    /// made, and to set a variable is no business of a program that may have threads.
    fn measure_in_child(&self, executor: Where, variable: (&str, &str)) -> Outcome<Vec<Row>> {
        let mut child = std::process::Command::new(std::env::current_exe()?);
        child.env(variable.0, variable.1).arg("--rows");
        child.args(["--executor", executor.name()]);
        child.args(["--max-size", &self.max_size().bytes().to_string()]);
        child.args(["--pause", &self.pause.to_string()]);
        child.args(self.kinds().flat_map(|kind| ["--kind", kind.name()]));
        child.args(self.quick.then_some("--quick"));
        let output = child.stderr(std::process::Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("{executor}: {}", output.status).into());
        }
        row::from_csv(&String::from_utf8(output.stdout)?)
    }

    fn read(&self) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for file in &self.from {
            let text = fs::read_to_string(file)?;
            let more = row::from_csv(&text).map_err(|why| format!("{}: {why}", file.display()))?;
            rows.extend(more);
        }
        Ok(rows)
    }

    fn executors(&self) -> Vec<Where> {
        match self.executors.as_slice() {
            [] => Where::all().to_vec(),
            some => some.to_vec(),
        }
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let all = Kind::all().iter().copied();
        all.filter(|kind| self.kinds.is_empty() || self.kinds.contains(kind))
    }

    fn max_size(&self) -> Size {
        let usual = if self.quick { Size::QUICK } else { Size::MOST };
        self.max_size.unwrap_or(usual)
    }
}
