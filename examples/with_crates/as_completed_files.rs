//! Hashes every file below a folder, and prints each as soon as it is done: `sha256sum`, on as
//! many cores as there are.
//!
//! ```sh
//! cargo run --release --example as_completed_files -- src
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use concurrent_futures::{ThreadPoolExecutor, as_completed_keyed};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let pool = ThreadPoolExecutor::new(thread::available_parallelism()?.get())?;

    // Which future is of which file? What a dict of futures is in Python.
    let mut futures = Vec::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let future = pool.submit(|path: PathBuf| sha256(&path), entry.path().into());
            futures.push((entry.into_path(), future));
        }
    }
    for (path, future) in as_completed_keyed(futures) {
        let path = path.display();
        match future.result()? {
            Ok(hash) => println!("{hash}  {path}"),
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
