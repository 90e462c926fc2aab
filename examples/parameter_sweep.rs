//! A search for the best parameters, in which each worker loads the data once. Results are looked at as they come, and
//! the search stops when one is good enough, or when its time is up.
//!
//! ```sh
//! cargo run --release --example parameter_sweep
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, ProcessPoolExecutor, as_completed_keyed};
use serde::{Deserialize, Serialize};

/// When the search ends at the latest, and the loss with which it ends before.
const LIMIT: Duration = Duration::from_secs(10);
const GOOD_ENOUGH: f64 = 0.0834;

/// How a line is fitted to the points of the data.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Parameters {
    rate: f64,
    momentum: f64,
}

/// The points (x, y): the state of a worker.
type Data = Vec<(f64, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let start = Instant::now();
    let pool = ProcessPoolExecutor::builder()
        .max_workers(2)
        .state(load, 200_000)
        .build()?;

    let fits = grid().map(|parameters| (parameters, pool.submit_with_state(fit, parameters)));
    let mut fits = as_completed_keyed(fits);
    let mut best = f64::INFINITY;
    while best > GOOD_ENOUGH {
        let left = LIMIT.saturating_sub(start.elapsed());
        // An error: no more of them ended in time. `None`: there are no more of them.
        let Ok(Some((parameters, loss))) = fits.next_timeout(left) else {
            break;
        };
        let loss = loss.result()?;
        if loss < best {
            best = loss;
            println!("{loss:.5} with {parameters:?}");
        }
    }
    println!("fits that were not needed: {}", fits.remaining());
    pool.kill_workers(); // else the end of `main` would wait for them
    Ok(())
}

fn grid() -> impl Iterator<Item = Parameters> {
    let rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
    let momenta = [0.0, 0.5, 0.9, 0.99];
    let row = move |momentum| rates.map(|rate| Parameters { rate, momentum });
    momenta.into_iter().flat_map(row)
}

/// Stands for the reading of a large file: points near the line y = 3 x + 1. Runs once a worker.
fn load(points: u32) -> Data {
    println!("a worker loads {points} points");
    let noise = |n: u32| f64::from(n * 7919 % 10_007) / 10_007.0 - 0.5;
    let x = |n: u32| f64::from(n) / f64::from(points);
    (0..points)
        .map(|n| (x(n), 3.0 * x(n) + 1.0 + noise(n)))
        .collect()
}

/// The task: fits a line by gradient descent, and returns the mean square of what is left.
fn fit(data: &mut Data, parameters: Parameters) -> f64 {
    let Parameters { rate, momentum } = parameters;
    let size = data.len() as f64;
    let (mut slope, mut offset) = (0.0, 0.0);
    let mut step = (0.0, 0.0);
    for _ in 0..100 {
        let mut gradient = (0.0, 0.0);
        for &(x, y) in data.iter() {
            let error = slope * x + offset - y;
            gradient.0 += 2.0 * error * x / size;
            gradient.1 += 2.0 * error / size;
        }
        step.0 = momentum * step.0 - rate * gradient.0;
        step.1 = momentum * step.1 - rate * gradient.1;
        slope += step.0;
        offset += step.1;
    }
    let square = |&(x, y): &(f64, f64)| (slope * x + offset - y).powi(2);
    data.iter().map(square).sum::<f64>() / size
}
