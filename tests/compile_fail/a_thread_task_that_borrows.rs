//! A thread of a pool may outlive the caller's locals.

use concurrent_futures::ThreadPoolExecutor;

fn main() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let words = vec!["local"];
    let _ = pool.spawn(|| words.len()).result();
}
