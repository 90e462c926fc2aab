//! Both pools in a program whose `main` is tokio's: `init` first, the attribute on another
//! function. Exits with 1 where something is wrong.

use std::process::ExitCode;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor};

fn main() -> ExitCode {
    concurrent_futures::init();
    if std::env::args().any(|argument| argument == "--list") {
        return list();
    }
    match async_main() {
        Ok(()) => {
            println!("futures of both pools were awaited");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tokio_main: {error}");
            ExitCode::FAILURE
        }
    }
}

/// nextest asks first what there is.
fn list() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--ignored") {
        println!("tokio_main: test");
    }
    ExitCode::SUCCESS
}

#[tokio::main]
async fn async_main() -> Result<(), Error> {
    let threads = ThreadPoolExecutor::new(2)?;
    let processes = ProcessPoolExecutor::new(2)?;
    for pool in [&threads as &dyn Executor, &processes] {
        await_in_turn(&pool).await?;
        await_side_by_side(&pool).await?;
        await_errors(&pool).await;
    }
    await_in_other_tasks(processes).await
}

fn square(n: u64) -> u64 {
    n * n
}

async fn await_in_turn(pool: &impl Executor) -> Result<(), Error> {
    let mut sum = 0;
    for n in 1..=10 {
        sum += pool.submit(square, n).await?;
    }
    assert_eq!(sum, 385);
    Ok(())
}

async fn await_side_by_side(pool: &impl Executor) -> Result<(), Error> {
    let (first, second) = (pool.submit(square, 3), pool.submit(square, 4));
    let (second, first) = tokio::join!(second, first);
    assert_eq!((first?, second?), (9, 16));
    Ok(())
}

async fn await_errors(pool: &impl Executor) {
    let failing = pool.submit(|n: u64| -> u64 { panic!("on purpose: {n}") }, 1);
    assert!(matches!(failing.await, Err(Error::Panicked(_))));
}

/// Futures move between tokio's threads.
async fn await_in_other_tasks(pool: ProcessPoolExecutor) -> Result<(), Error> {
    let futures: Vec<_> = (0..50)
        .map(|n| tokio::spawn(pool.submit(square, n)))
        .collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.await.expect("it does not panic")?, square(n));
    }
    // Waiting for workers blocks: not on a thread of tokio's that has other things to do.
    tokio::task::spawn_blocking(|| drop(pool))
        .await
        .expect("it does not panic");
    Ok(())
}
