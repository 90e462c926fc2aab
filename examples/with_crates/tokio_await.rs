//! Process pools in an async program: futures are awaited, and no thread of the runtime waits.
//!
//! ```sh
//! cargo run --release --example tokio_await
//! ```

use std::error::Error;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor, Shutdown};
use tokio::time::timeout;

/// `init` stands before the runtime: workers have none.
fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    async_main()
}

#[tokio::main]
async fn async_main() -> Result<(), Box<dyn Error>> {
    let pool = ProcessPoolExecutor::new(2)?;

    // Both compute at a time, each in a process of its own.
    let (low, high) = tokio::join!(
        pool.submit(primes, (0, 1_000_000)),
        pool.submit(primes, (1_000_000, 2_000_000)),
    );
    println!("primes below two million: {}", low? + high?);

    // A computation does not end because no task awaits it any more. Killed, it does.
    let mut endless = pool.submit(primes, (0, u64::MAX));
    match timeout(Duration::from_millis(200), &mut endless).await {
        Ok(found) => println!("primes: {}", found?),
        Err(_) => {
            endless.kill();
            let error = endless.await.err();
            println!("after a fifth of a second: {}", error.ok_or("it ended")?);
        }
    }
    println!("and the next: {}", pool.submit(primes, (0, 100)).await?);

    // Dropping a pool waits for its tasks, and would hold up the runtime if some still ran. Its end is awaited.
    pool.shutdown(Shutdown::no_wait());
    pool.closed().await;
    Ok(())
}

/// How many primes there are from `first` up to `end`.
fn primes((first, end): (u64, u64)) -> u64 {
    let prime = |&n: &u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
    (first..end).filter(prime).count() as u64
}
