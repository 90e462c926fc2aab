//! A program that forgot `init`. Its workers would be this whole program again, and build pools
//! whose workers would be this program again; so there are none.
//!
//! ```sh
//! cargo run --example without_init
//! ```

use concurrent_futures::{Executor, ProcessPoolExecutor};

fn main() {
    match ProcessPoolExecutor::new(2) {
        Ok(pool) => println!("a pool of {} workers", pool.max_workers()),
        Err(error) => println!("no pool: {error}"),
    }
}
