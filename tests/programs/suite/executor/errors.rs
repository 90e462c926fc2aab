//! What an error tells of its task.

use concurrent_futures::{Error, Executor, Shutdown, TaskOptions};
use libtest_mimic::Trial;

use crate::support::tasks::{fail, tasks_run};
use crate::support::{Kind, assert_works, panic_message, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_result_of_the_function_is_a_value::<K>,
        a_panic_is_told_with_message_place_and_task::<K>,
        a_panic_leaves_the_worker_at_work::<K>,
        a_panic_without_text_is_told::<K>,
        an_error_knows_the_place_of_its_submit::<K>,
        errors_are_compared_and_asked::<K>,
        an_error_knows_the_function_of_its_task::<K>,
        a_backtrace_is_told_where_it_is_asked_for::<K>,
    ]
}

fn a_result_of_the_function_is_a_value<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(
        |text: String| text.parse::<u8>().map_err(|e| e.to_string()),
        "x".into(),
    );
    let inner = future.result().unwrap();
    assert!(inner.unwrap_err().contains("invalid digit"));
}

fn a_panic_is_told_with_message_place_and_task<K: Kind>() {
    let pool = K::pool(1);
    let options = TaskOptions::new().name("doomed");
    let error = pool.submit_with(options, fail, "p".into()).result();
    let Err(Error::Panicked(panic)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(panic.message(), "on purpose: p");
    let place = panic.location().unwrap();
    assert!(place.contains("tasks.rs:"), "{place}");
    assert_eq!(panic.task().unwrap().name(), Some("doomed"));
    assert_eq!(panic.worker(), Some(0));
    let text = panic.to_string();
    assert!(
        text.contains("`doomed`") && text.contains("worker 0"),
        "{text}"
    );
}

fn a_panic_leaves_the_worker_at_work<K: Kind>() {
    let pool = K::pool(1);
    assert_eq!(pool.submit(tasks_run, ()).result().unwrap(), 1);
    assert!(panic_message(pool.submit(fail, "w".into()).result()).ends_with('w'));
    assert_eq!(pool.submit(tasks_run, ()).result().unwrap(), 3);
}

fn a_panic_without_text_is_told<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(|n: u8| -> u8 { std::panic::panic_any(n) }, 7);
    assert_eq!(panic_message(future.result()), "a payload that is no text");
    assert_works(&pool);
}

fn errors_are_compared_and_asked<K: Kind>() {
    let pool = K::pool(1);
    let one = pool.submit(fail, "x".into()).result().unwrap_err();
    assert!(one.is_panic() && !one.is_timeout() && !one.is_cancelled() && !one.is_worker_death());
    assert_eq!(one, one.clone());
    let place = one.task().unwrap().location();
    assert!(place.file().ends_with("errors.rs"), "{place}");
    let other = pool.submit(fail, "x".into()).result().unwrap_err();
    assert_ne!(one, other, "it was submitted elsewhere");
    pool.shutdown(Shutdown::wait());
    let refused = pool.submit(fail, "x".into()).result();
    assert_eq!(refused, Err(Error::ShutDown));
}

fn an_error_knows_the_place_of_its_submit<K: Kind>() {
    let pool = K::pool(1);
    let (line, future) = (line!(), pool.submit(fail, "here".into()));
    let Err(Error::Panicked(panic)) = future.result() else {
        panic!("no panic")
    };
    let task = panic.task().unwrap();
    assert_eq!(task.location().file(), file!());
    assert_eq!(task.location().line(), line, "{task}");
}

fn an_error_knows_the_function_of_its_task<K: Kind>() {
    let pool = K::pool(1);
    let Err(Error::Panicked(panic)) = pool.submit(fail, "who".into()).result() else {
        panic!("no panic")
    };
    let function = panic.task().unwrap().function();
    // Optimised, it may have been inlined; without the feature, no symbols are looked up.
    if cfg!(all(debug_assertions, feature = "symbols")) {
        let name = std::any::type_name_of_val(&fail);
        assert_eq!(function.as_deref(), Some(name));
        assert!(panic.to_string().contains(name), "{panic}");
    }
}

fn a_backtrace_is_told_where_it_is_asked_for<K: Kind>() {
    let pool = K::pool(1);
    let Err(Error::Panicked(panic)) = pool.submit(fail, "where".into()).result() else {
        panic!("no panic")
    };
    let asked = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
    assert_eq!(panic.backtrace().is_some(), asked);
}
