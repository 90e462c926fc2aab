//! A program that never calls `init`: processes are refused, and none is started.

mod common;

use concurrent_futures::{
    Error, Executor, Process, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor,
};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("new_is_refused", new_is_refused),
        trial("build_is_refused", build_is_refused),
        trial("start_is_refused", start_is_refused),
        trial("threads_need_no_init", threads_need_no_init),
        trial(
            "the_callers_stack_needs_no_init",
            the_callers_stack_needs_no_init,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn new_is_refused() {
    refuses(ProcessPoolExecutor::new(2));
}

fn build_is_refused() {
    refuses(ProcessPoolExecutor::builder().build());
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let builder = builder.env("A", "B").current_dir("/");
    refuses(builder.initializer(|_: u8| (), 1).build());
}

fn start_is_refused() {
    refuses(Process::new(double, 2).start());
}

fn threads_need_no_init() {
    works(&ThreadPoolExecutor::new(1).expect("it needs no init"));
}

fn the_callers_stack_needs_no_init() {
    works(&SerialExecutor::new());
}

fn double(n: u64) -> u64 {
    2 * n
}

fn refuses<T>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::NotInitialized) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it went through"),
    }
    assert_eq!(common::children(), []);
}

fn works(executor: &impl Executor) {
    assert_eq!(executor.submit(double, 21).result().expect("it runs"), 42);
}
