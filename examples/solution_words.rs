//! Exercise 3: count the words of many files, on threads or on processes, by one function.
//!
//! ```sh
//! cargo run --release --example solution_words -- README.md DESIGN.md ARCHITECTURE.md
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fs;

use concurrent_futures::{Executor, ProcessPoolExecutor, ThreadPoolExecutor};

type Counts = HashMap<String, u64>;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let files: Vec<String> = std::env::args().skip(1).collect();
    let by_threads = count_all(&ThreadPoolExecutor::new(2)?, &files)?;
    let by_processes = count_all(&ProcessPoolExecutor::new(2)?, &files)?;
    println!("the same: {}", by_threads == by_processes);

    let mut longest: Vec<_> = by_threads.iter().filter(|(_, n)| **n > 2).collect();
    longest.sort_by_key(|(word, _)| (std::cmp::Reverse(word.len()), *word));
    for (word, count) in longest.into_iter().take(3) {
        println!("{count:>4} {word}");
    }
    Ok(())
}

/// The files in parallel, their counts one after the other as they come, in whatever order.
fn count_all(pool: &impl Executor, files: &[String]) -> Result<Counts, Box<dyn Error>> {
    let mut all = Counts::new();
    for counts in pool.map(count, files.iter().cloned()) {
        for (word, number) in counts?? {
            *all.entry(word).or_default() += number;
        }
    }
    Ok(all)
}

/// What it returns travels: few numbers, and not the text. Nor an `io::Error`, but its message.
fn count(file: String) -> Result<Counts, String> {
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let mut counts = Counts::new();
    for word in text.split(|c: char| !c.is_alphabetic()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok(counts)
}
