//! The executors side by side: what one task costs, and what many do. The reports are in
//! `target/criterion/report/index.html`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const WORKERS: usize = 2;

fn main() -> Result<(), Error> {
    concurrent_futures::init();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let executors = [serial()?, threads(WORKERS)?, processes(WORKERS)?];
    round_trip(&mut criterion, &executors);
    throughput(&mut criterion, &executors);
    map(&mut criterion, &executors);
    echo(&mut criterion, &executors);
    drop(executors);
    start_up(&mut criterion);
    scaling(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// A name and an executor, ready to work.
type Named = (&'static str, Box<dyn Executor>);

fn serial() -> Result<Named, Error> {
    Ok(("serial", Box::new(SerialExecutor::new())))
}

fn threads(workers: usize) -> Result<Named, Error> {
    Ok(("threads", Box::new(ThreadPoolExecutor::new(workers)?)))
}

fn processes(workers: usize) -> Result<Named, Error> {
    let pool = ProcessPoolExecutor::new(workers)?;
    pool.warm_up()?;
    Ok(("processes", Box::new(pool)))
}

/// One task that does nothing, submitted and awaited.
fn round_trip(criterion: &mut Criterion, executors: &[Named]) {
    let mut group = criterion.benchmark_group("round trip");
    for (name, executor) in executors {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| executor.submit(|x: u64| x, black_box(1)).result());
        });
    }
}

/// A thousand tasks that do nothing, all submitted, then all awaited.
fn throughput(criterion: &mut Criterion, executors: &[Named]) {
    const TASKS: u64 = 1000;
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(TASKS));
    for (name, executor) in executors {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let futures: Vec<_> = (0..TASKS).map(|n| executor.submit(|x: u64| x, n)).collect();
                let results = futures.into_iter().map(|future| future.result());
                results.sum::<Result<u64, _>>()
            });
        });
    }
}

/// A map over ten thousand numbers, by the number of items that travel together.
fn map(criterion: &mut Criterion, executors: &[Named]) {
    const ITEMS: u64 = 10_000;
    let sizes = [1, 16, 256].map(|n| (n.to_string(), MapOptions::new().chunksize(n)));
    let adaptive = ("adaptive".to_owned(), MapOptions::new());
    let mut group = criterion.benchmark_group("map");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(ITEMS));
    for (size, options) in sizes.into_iter().chain([adaptive]) {
        for (name, executor) in executors {
            group.bench_function(BenchmarkId::new(*name, &size), |bencher| {
                bencher.iter(|| {
                    let results = executor.map_with(options, |x: u64| x, 0..ITEMS);
                    results.sum::<Result<u64, _>>()
                });
            });
        }
    }
}

/// Bytes there and back.
fn echo(criterion: &mut Criterion, executors: &[Named]) {
    let mut group = criterion.benchmark_group("echo");
    group.sample_size(20);
    for size in [1 << 10, 64 << 10, 1 << 20, 16 << 20] {
        let bytes = vec![7_u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        for (name, executor) in executors {
            let id = BenchmarkId::new(*name, size);
            group.bench_with_input(id, &bytes, |bencher, bytes| {
                bencher.iter_custom(|rounds| {
                    (0..rounds)
                        .map(|_| time_of_echo(executor, bytes.clone()))
                        .sum()
                });
            });
        }
    }
}

/// Without the copy of the argument that came before, and the drop of the result.
fn time_of_echo(executor: &impl Executor, bytes: Vec<u8>) -> Duration {
    let begun = Instant::now();
    let result = executor.submit(|bytes: Vec<u8>| bytes, bytes).result();
    let time = begun.elapsed();
    assert!(result.is_ok());
    time
}

/// The first result of a new executor; its end is not counted. `startup.rs` tells how much of it
/// the operating system takes.
fn start_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start-up");
    type Start = fn() -> Result<Named, Error>;
    let starts: [(&str, Start); 3] = [
        ("serial", serial),
        ("threads", || threads(WORKERS)),
        // One of the two is started: the other waits until it is needed.
        ("processes", || {
            Ok(("processes", Box::new(ProcessPoolExecutor::new(WORKERS)?)))
        }),
    ];
    for (name, start) in starts {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| time_of_start(start)).sum());
        });
    }
}

fn time_of_start(start: fn() -> Result<Named, Error>) -> Duration {
    let begun = Instant::now();
    let (_, executor) = start().expect("the numbers of workers are valid, and init was called");
    let result = executor.submit(|x: u64| x, 1).result();
    let time = begun.elapsed();
    assert!(result.is_ok());
    time
}

/// π by throwing darts, by the number of workers: the example `calc_pi`, in small.
fn scaling(criterion: &mut Criterion) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = criterion.benchmark_group("calc_pi");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(TASKS * DARTS));
    let mut bench = |workers: usize, (name, executor): Named| {
        group.bench_function(BenchmarkId::new(name, workers), |bencher| {
            bencher.iter(|| pi(&executor).expect("no task fails"));
        });
    };
    bench(1, serial()?);
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2));
    for workers in sizes.take_while(|size| *size <= cores) {
        bench(workers, threads(workers)?);
        bench(workers, processes(workers)?);
    }
    Ok(())
}

const TASKS: u64 = 64;
const DARTS: u64 = 100_000;

fn pi(executor: &impl Executor) -> Result<f64, Error> {
    let hits = executor.map(hits, 0..TASKS).sum::<Result<u64, _>>()?;
    Ok(4.0 * hits as f64 / (TASKS * DARTS) as f64)
}

/// How many darts hit the circle.
fn hits(seed: u64) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let mut hits = 0;
    for _ in 0..DARTS {
        let x: f64 = random.random_range(-1.0..1.0);
        let y: f64 = random.random_range(-1.0..1.0);
        hits += u64::from(x * x + y * y < 1.0);
    }
    hits
}
