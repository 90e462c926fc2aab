//! A batch in which one item makes C code crash. It costs that item, and nothing else.
//!
//! ```sh
//! cargo run --example crash_isolation
//! ```

use std::error::Error;
use std::ffi::CStr;
use std::ptr;

use concurrent_futures::{Executor, ProcessPoolExecutor};

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let pool = ProcessPoolExecutor::new(2)?;
    let lines = ["one", "two", "three", "a bad one", "five", "six"];
    let batch = lines.map(str::to_owned);

    for (line, length) in lines.iter().zip(pool.map(measure, batch)) {
        match length {
            Ok(length) => println!("{line:<10} {length} bytes"),
            Err(error) => println!("{line:<10} {error}"),
        }
    }
    println!("workers replaced: {}", pool.stats().worker_restarts);
    Ok(())
}

/// Stands for a library in C that trusts its input.
fn measure(line: String) -> usize {
    let line = format!("{line}\0");
    let address = match line.contains("bad") {
        true => ptr::without_provenance(1),
        false => line.as_ptr().cast(),
    };
    // SAFETY: it is not! At that address there is no string: this process dies of SIGSEGV.
    let line = unsafe { CStr::from_ptr(address) };
    line.to_bytes().len()
}
