//! Workers that never say hello: they exit, crash or hang before `init`. The pool breaks after a
//! few of them, with the reason, and nothing is left.

mod common;

use std::ffi::{c_char, c_void};
use std::fs::File;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Process, ProcessPoolBuilder, ProcessPoolExecutor};
use libtest_mimic::{Arguments, Trial};

/// Says to a worker how to misbehave.
const MANNER: &str = "CONCURRENT_FUTURES_BAD_START";

fn main() {
    misbehave();
    concurrent_futures::init();
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_worker_exits_before_hello", exits_before_hello),
        trial("a_worker_crashes_before_hello", crashes_before_hello),
        trial("a_worker_speaks_another_language", speaks_another_language),
        trial("a_worker_hangs_before_hello", hangs_before_hello),
        trial("a_worker_is_killed_after_hello", is_killed_after_hello),
        trial("a_working_pool_beside_works", a_working_pool_beside_works),
        trial("a_process_cannot_start", a_process_cannot_start),
    ];
    let mut arguments = Arguments::from_args();
    // The last one changes the environment.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// What no program should do in front of `init`.
fn misbehave() {
    match std::env::var(MANNER).as_deref() {
        Ok("exit") => {
            eprintln!("on purpose: no init today");
            std::process::exit(3);
        }
        Ok("abort") => std::process::abort(),
        Ok("hang") => loop {
            std::thread::park();
        },
        Ok("babble") => {
            use std::io::Write;
            use std::os::fd::AsFd;
            let connection = std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .expect("stdin is open");
            let babbled = File::from(connection).write_all(&[0x55; 4096]);
            // Its parent may have seen enough, and killed it.
            std::process::exit(i32::from(babbled.is_err()));
        }
        Ok(mark) if mark.starts_with('/') && File::create_new(mark).is_ok() => {
            die_when_flushed();
        }
        _ => {}
    }
}

/// Has this process killed as soon as it flushes what was printed: a worker does so between its
/// hello and its first task.
fn die_when_flushed() {
    extern "C" fn die(_: *mut c_void, _: *const c_char, _: usize) -> isize {
        // SAFETY: no memory is touched.
        let pid = unsafe { libc::getpid() };
        // SAFETY: as above.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        unreachable!("SIGKILL is not survived")
    }
    /// `cookie_io_functions_t`: read, write, seek, close.
    #[repr(C)]
    struct Functions(
        Option<extern "C" fn()>,
        Option<extern "C" fn(*mut c_void, *const c_char, usize) -> isize>,
        Option<extern "C" fn()>,
        Option<extern "C" fn()>,
    );
    unsafe extern "C" {
        fn fopencookie(it: *mut c_void, mode: *const c_char, does: Functions) -> *mut libc::FILE;
    }
    let functions = Functions(None, Some(die), None, None);
    // SAFETY: the functions have the signatures that the C library calls them by, or are missing.
    let stream = unsafe { fopencookie(std::ptr::null_mut(), c"w".as_ptr(), functions) };
    assert!(!stream.is_null());
    // SAFETY: the stream was just opened, and stays so.
    let printed = unsafe { libc::fputs(c"x".as_ptr(), stream) };
    assert!(printed >= 0);
}

fn bad_pool(manner: &str) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder()
        .max_workers(1)
        .env(MANNER, manner)
}

/// Every task fails with a reason that holds these words.
fn breaks(pool: &ProcessPoolExecutor, words: &[&str]) {
    let futures = [1, 2, 3].map(|n| pool.submit(double, n));
    let errors = futures.map(|future| future.result().expect_err("no worker has run it"));
    let later = pool
        .submit(double, 4)
        .result()
        .expect_err("the pool is broken");
    let warm = pool.warm_up().expect_err("the pool is broken");
    for error in errors.into_iter().chain([later, warm]) {
        let Error::BrokenPool(reason) = &error else {
            panic!("{error:?}")
        };
        for word in words {
            assert!(reason.as_str().contains(word), "{word} is not in: {error}");
        }
    }
    assert!(pool.worker_pids().is_empty());
    assert_eq!(common::children(), []);
}

fn double(n: u64) -> u64 {
    2 * n
}

fn program() -> String {
    let program = std::env::current_exe().expect("the program has a path");
    program.display().to_string()
}

fn exits_before_hello() {
    let pool = bad_pool("exit").build().expect("nothing is started so far");
    let words = [
        &*program(),
        "exited with code 3",
        "on purpose: no init today",
        "init()",
    ];
    breaks(&pool, &words);
}

fn crashes_before_hello() {
    let pool = bad_pool("abort")
        .build()
        .expect("nothing is started so far");
    breaks(&pool, &["SIGABRT"]);
}

fn speaks_another_language() {
    let pool = bad_pool("babble")
        .build()
        .expect("nothing is started so far");
    breaks(&pool, &["did not start"]);
}

fn hangs_before_hello() {
    let limit = Duration::from_millis(100);
    let pool = bad_pool("hang").start_timeout(limit).build();
    breaks(
        &pool.expect("nothing is started so far"),
        &["100ms", &program()],
    );
}

/// Without an initializer, no user code runs then: another process killed it, and the next one is tried.
fn is_killed_after_hello() {
    let mark = std::env::temp_dir().join(format!("killed-after-hello-{}", std::process::id()));
    let pool = bad_pool(mark.to_str().expect("it is text"));
    let pool = pool.build().expect("nothing is started so far");
    assert_eq!(pool.submit(double, 21).result().expect("it works"), 42);
    std::fs::remove_file(mark).expect("the first worker has made it");
}

fn a_working_pool_beside_works() {
    let bad = bad_pool("exit").build().expect("nothing is started so far");
    let good = ProcessPoolExecutor::new(1).expect("init was called");
    breaks(&bad, &["exited with code 3"]);
    assert_eq!(good.submit(double, 21).result().expect("it works"), 42);
    assert_eq!(common::children(), good.worker_pids());
}

/// It takes its environment from the program.
fn a_process_cannot_start() {
    // SAFETY: trials run one after the other, in the main thread; all pools are gone, and with
    // them every other thread.
    unsafe { std::env::set_var(MANNER, "exit") };
    let error = Process::new(double, 1).start().expect_err("it cannot");
    assert!(matches!(&error, Error::Spawn(_)), "{error:?}");
    assert!(error.to_string().contains("exited with code 3"), "{error}");
    // SAFETY: as above.
    unsafe { std::env::remove_var(MANNER) };
}
