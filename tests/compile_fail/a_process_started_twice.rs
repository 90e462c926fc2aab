//! A process is started at most once.

use concurrent_futures::Process;

fn main() {
    concurrent_futures::init();
    let process = Process::new(|x: u32| x, 1);
    let _first = process.start();
    let _second = process.start();
}
