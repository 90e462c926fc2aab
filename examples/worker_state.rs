//! What takes long to open is opened once a worker, not once a task: it is the worker's state.
//!
//! ```sh
//! cargo run --example worker_state
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::{fs, io, process};

use concurrent_futures::{Executor, ProcessPoolExecutor};

/// The words of a text, and how often they occur.
type Words = HashMap<String, usize>;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let pool = ProcessPoolExecutor::builder()
        .max_workers(2)
        .try_state(open, text.to_owned())
        .build()?;
    pool.warm_up()?;

    let words = ["process", "thread", "future", "panic", "python", "zebra"];
    let answers = pool.map_with_state(count, words.map(str::to_owned));
    for (word, answer) in words.iter().zip(answers) {
        println!("{word:<10} {:>3} times", answer?);
    }
    Ok(())
}

/// Runs before a worker's first task. If it fails, the pool is broken, and says why.
fn open(path: String) -> io::Result<Words> {
    let text = fs::read_to_string(path)?;
    let mut words = Words::new();
    for word in text.split(|c: char| !c.is_alphabetic()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    println!("worker {} knows {} words", process::id(), words.len());
    Ok(words)
}

/// A task: it borrows what its worker has opened.
fn count(words: &mut Words, word: String) -> usize {
    words.get(&word).copied().unwrap_or(0)
}
