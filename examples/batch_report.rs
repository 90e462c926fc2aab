//! A batch of jobs that are tried again when they fail, a table of what became of each, and an exit code that says
//! whether all went well.
//!
//! ```sh
//! cargo run --release --example batch_report
//! ```

use std::error::Error;
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, SystemTime};

use concurrent_futures::{Executor, ProcessPoolExecutor, Retry, TaskOptions, WorkerStdio};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::builder()
        .max_workers(4)
        .stderr(WorkerStdio::Null) // the table says what panics would print
        .build()?;
    // At most four attempts each, with pauses of some 20, 40, 80 ms.
    let again = Retry::new(3)
        .after_err()
        .after_failure()
        .backoff(Duration::from_millis(20), Duration::from_secs(1));
    let limited = TaskOptions::new().timeout(Duration::from_millis(100));
    let start = SystemTime::now();
    let tables = ["staff", "orders", "prices", "stock", "plans", "bills"];
    let imports = tables.map(|table| {
        let retry = again.task(limited.name(format!("import of {table}")));
        pool.submit_retrying(retry, import, (table.to_owned(), start))
    });

    let mut imported = 0;
    println!("{:<7} {:<12} message", "table", "outcome");
    for (table, import) in tables.iter().zip(imports) {
        let (outcome, message) = match import.result() {
            Ok(Ok(rows)) => {
                imported += 1;
                ("imported".to_owned(), format!("{rows} rows"))
            }
            Ok(Err(words)) => ("refused".to_owned(), words),
            Err(error) => {
                // A report can also be written as JSON, or sent: serde knows it.
                let report = error.report();
                (report.kind().to_owned(), report.message().to_owned())
            }
        };
        println!("{table:<7} {outcome:<12} {message}");
    }
    println!("{imported} of {} tables were imported", tables.len());
    match imported == tables.len() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// The task: returns how many rows the table has. Most tables are trouble.
fn import((table, start): (String, SystemTime)) -> Result<usize, String> {
    let busy = start.elapsed().unwrap_or_default() < Duration::from_millis(50);
    match table.as_str() {
        "orders" if busy => Err("the server is busy".to_owned()),
        "prices" => loop {
            thread::park(); // for an answer that does not come
        },
        "stock" => Err("there is no such table".to_owned()),
        "plans" => process::abort(),
        "bills" => panic!("row 7 has no date"),
        _ => Ok(table.len() * 1000),
    }
}
