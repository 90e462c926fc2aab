//! A future goes to another thread only if its value does.

use std::rc::Rc;

use concurrent_futures::Future;

fn send<T: Send>(_: Option<T>) {}

fn main() {
    send(None::<Future<Rc<u32>>>);
}
