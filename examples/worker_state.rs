//! What takes long to open is opened once a worker, not once a task: the initializer does it.
//!
//! ```sh
//! cargo run --example worker_state
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::process;
use std::sync::OnceLock;

use concurrent_futures::{Executor, ProcessPoolExecutor};

/// The words of a text, and how often they occur. Each worker process has a copy of its own.
static WORDS: OnceLock<HashMap<String, usize>> = OnceLock::new();

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let pool = ProcessPoolExecutor::builder()
        .max_workers(2)
        .initializer(open, text.to_owned())
        .build()?;
    pool.warm_up()?;

    let words = ["process", "thread", "future", "panic", "python", "zebra"];
    let answers = pool.map(count, words.map(str::to_owned));
    for (word, answer) in words.iter().zip(answers) {
        println!("{word:<10} {:>3} times", answer?);
    }
    Ok(())
}

/// Runs before a worker's first task. If it panics, the pool is broken, and says why.
fn open(path: String) {
    let text = fs::read_to_string(&path).expect("the text can be read");
    let mut words = HashMap::new();
    for word in text.split(|c: char| !c.is_alphabetic()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    println!("worker {} knows {} words", process::id(), words.len());
    WORDS.get_or_init(|| words);
}

fn count(word: String) -> usize {
    let words = WORDS.get().expect("the initializer has run");
    words.get(&word).copied().unwrap_or(0)
}
