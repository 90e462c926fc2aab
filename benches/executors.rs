//! The executors side by side: what one task costs, and what many do.

use std::hint::black_box;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor};
use criterion::{BenchmarkId, Criterion, Throughput};

const WORKERS: usize = 2;

fn main() {
    concurrent_futures::init();
    let threads = ThreadPoolExecutor::new(WORKERS).expect("two workers are a valid number");
    let processes = ProcessPoolExecutor::new(WORKERS).expect("init was called");
    let executors: [(&str, Box<dyn Executor>); 3] = [
        ("serial", Box::new(SerialExecutor::new())),
        ("threads", Box::new(threads)),
        ("processes", Box::new(processes)),
    ];
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    round_trip(&mut criterion, &executors);
    throughput(&mut criterion, &executors);
    map(&mut criterion, &executors);
    echo(&mut criterion, &executors);
    criterion.final_summary();
}

type Executors = [(&'static str, Box<dyn Executor>)];

/// One task that does nothing, submitted and awaited.
fn round_trip(criterion: &mut Criterion, executors: &Executors) {
    let mut group = criterion.benchmark_group("round trip");
    for (name, executor) in executors {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| executor.submit(|x: u64| x, black_box(1)).result());
        });
    }
}

/// A thousand tasks that do nothing, all submitted, then all awaited.
fn throughput(criterion: &mut Criterion, executors: &Executors) {
    const TASKS: u64 = 1000;
    let mut group = criterion.benchmark_group("throughput");
    group.throughput(Throughput::Elements(TASKS));
    for (name, executor) in executors {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let futures: Vec<_> = (0..TASKS).map(|n| executor.submit(|x: u64| x, n)).collect();
                futures
                    .into_iter()
                    .filter_map(|future| future.result().ok())
                    .sum::<u64>()
            });
        });
    }
}

/// A map over a hundred thousand numbers.
fn map(criterion: &mut Criterion, executors: &Executors) {
    const ITEMS: u64 = 100_000;
    let mut group = criterion.benchmark_group("map");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(ITEMS));
    for (name, executor) in executors {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| executor.map(|x: u64| x, 0..ITEMS).flatten().sum::<u64>());
        });
    }
}

/// Bytes there and back.
fn echo(criterion: &mut Criterion, executors: &Executors) {
    let mut group = criterion.benchmark_group("echo");
    for size in [1 << 10, 1 << 20] {
        let bytes = vec![7_u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        for (name, executor) in executors {
            let id = BenchmarkId::new(*name, size);
            group.bench_with_input(id, &bytes, |bencher, bytes| {
                bencher.iter(|| executor.submit(|b: Vec<u8>| b, bytes.clone()).result());
            });
        }
    }
}
