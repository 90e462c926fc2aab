//! Times, and what they amount to.

use std::error::Error;
use std::f64::consts::PI;
use std::time::{Duration, Instant};

use crate::kernel::Darts;
use crate::runner::Runner;

/// A line for each runner; the serial one is the first.
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub fn new(runners: &[Runner]) -> Self {
        let rows = runners.iter().copied().map(Row::new).collect();
        Self { rows }
    }

    /// Runs all tasks once on each runner, and keeps the times that are the best so far.
    pub fn measure(&mut self, workers: usize, tasks: &[Darts]) -> Result<(), Box<dyn Error>> {
        for row in &mut self.rows {
            row.measure(workers, tasks)?;
        }
        let differs = self.rows.iter().find(|row| row.sum != self.rows[0].sum);
        match differs {
            Some(row) => Err(format!("{} has another π", row.runner.name()).into()),
            None => Ok(()),
        }
    }

    pub fn print(&self, samples: u64) {
        println!("executor              pi       error      time  speed-up  of ceiling  samples/s");
        let ceiling = self
            .rows
            .iter()
            .find(|row| row.runner == Runner::BareThreads);
        for row in &self.rows {
            let name = row.runner.name();
            let pi = row.sum as f64 / samples as f64;
            let error = format!("{:+.7}", pi - PI);
            let time = format!("{:.3} s", row.best.as_secs_f64());
            let speed_up = row.speed_up(&self.rows[0]);
            let share = ceiling.map_or(String::new(), |c| {
                format!("{:.1} %", 100.0 * row.speed_up(c))
            });
            let speed = format!("{:.0} M", samples as f64 / row.best.as_secs_f64() / 1e6);
            println!(
                "{name:<11}  {pi:.9}  {error:>10}  {time:>8}  {speed_up:>8.2}  {share:>10}  {speed:>9}"
            );
        }
    }
}

/// A line of the table.
struct Row {
    runner: Runner,
    sum: u64,
    best: Duration,
}

impl Row {
    fn new(runner: Runner) -> Self {
        Self {
            runner,
            sum: 0,
            best: Duration::MAX,
        }
    }

    /// Runs all tasks once, and keeps the time if it is the best so far.
    fn measure(&mut self, workers: usize, tasks: &[Darts]) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let results = self.runner.run(workers, tasks)?;
        self.best = self.best.min(start.elapsed());
        self.sum = results.into_iter().sum();
        Ok(())
    }

    fn speed_up(&self, over: &Self) -> f64 {
        over.best.as_secs_f64() / self.best.as_secs_f64()
    }
}
