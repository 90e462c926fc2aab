//! Late callbacks lend the value to any thread that holds `&Future`.

use std::cell::Cell;

use concurrent_futures::Future;

fn share<T: Sync>(_: Option<T>) {}

fn main() {
    share(None::<Future<Cell<u32>>>);
}
