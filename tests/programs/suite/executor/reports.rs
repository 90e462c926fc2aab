//! Reports of errors: what they say, and that they travel.

use concurrent_futures::{
    Error, ErrorReport, Executor, MapOptions, ProcessPoolExecutor, TaskOptions,
};
use libtest_mimic::Trial;

use super::naming::NAME;
use crate::support::tasks::{double, fail};
use crate::support::{Kind, LONG, Processes, Serial, Threads, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_report_says_what_its_error_does::<K>,
        the_report_of_a_pool_within_a_task_arrives::<K>,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        the_report_of_a_death_tells_how,
        a_report_comes_back_from_json,
    ]
}

fn a_report_says_what_its_error_does<K: Kind>() {
    let (pool, options) = (K::pool(1), TaskOptions::new().name(NAME));
    let (line, future) = (line!(), pool.submit_with(options, fail, "here".into()));
    let error = future.result().unwrap_err();
    let report = error.report();
    assert_eq!(report, ErrorReport::from(error.clone()));
    assert_eq!(report.kind(), "panicked");
    assert_eq!(error.kind(), "panicked");
    assert_eq!(report.message(), error.to_string());
    assert_eq!(report.to_string(), error.to_string());
    assert_eq!(report.task_name(), Some(NAME));
    let location = format!("{}:{line}", file!());
    assert_eq!(report.location(), Some(&*location));
    let function = error.task().unwrap().function();
    assert_eq!(report.function(), function.as_deref());
    assert_eq!(
        (report.signal(), report.exit_code(), report.attempts()),
        (None, None, Some(1))
    );
    let mapped = MapOptions::new().task(options);
    let of_map = pool.map_with(mapped, fail, ["map".into()]).next().unwrap();
    let of_map = of_map.unwrap_err().report();
    assert_eq!(
        (of_map.kind(), of_map.task_name()),
        (report.kind(), report.task_name())
    );
}

/// The sum of a pool of its own, of one kind or the other.
fn sum(kind: u8) -> Result<u64, ErrorReport> {
    match kind {
        0 => sum_on(&Serial::pool(1)),
        1 => sum_on(&Threads::pool(1)),
        _ => sum_on(&Processes::pool(1)),
    }
}

fn sum_on(pool: &impl Executor) -> Result<u64, ErrorReport> {
    let first = pool.submit(double, 21).result()?;
    let second = pool
        .submit_with(TaskOptions::new().name(NAME), fail, "within".into())
        .result()?;
    Ok(first + second)
}

fn the_report_of_a_pool_within_a_task_arrives<K: Kind>() {
    let pool = K::pool(1);
    let mut reports: Vec<_> = (0..3)
        .map(|kind| pool.submit(sum, kind).result().unwrap().unwrap_err())
        .collect();
    reports.extend(pool.map(sum, 0..3).map(|sum| sum.unwrap().unwrap_err()));
    for report in reports {
        assert_eq!(
            (report.kind(), report.task_name()),
            ("panicked", Some(NAME))
        );
        assert!(report.message().ends_with("on purpose: within"), "{report}");
        let location = report.location().unwrap();
        assert!(location.starts_with(&format!("{}:", file!())), "{location}");
    }
}

fn die(how: i32) -> u64 {
    match how {
        0 => std::process::abort(),
        code => std::process::exit(code),
    }
}

/// The report of a death in a pool of its own.
fn autopsy(how: i32) -> ErrorReport {
    let pool = Processes::pool(1);
    let options = TaskOptions::new().retries(1);
    pool.submit_with(options, die, how)
        .exception()
        .unwrap()
        .report()
}

fn the_report_of_a_death_tells_how() {
    let pool = Processes::pool(1);
    for (how, signal, exit_code) in [(0, Some(6), None), (7, None, Some(7))] {
        let report = pool.submit(autopsy, how).result().unwrap();
        assert_eq!((report.signal(), report.exit_code()), (signal, exit_code));
        assert_eq!((report.kind(), report.attempts()), ("worker_died", Some(2)));
    }
}

fn a_report_comes_back_from_json() {
    let pool = ProcessPoolExecutor::builder().max_workers(1);
    let pool = pool.payload_limit(10).build().unwrap();
    let options = TaskOptions::new().name(NAME).timeout(LONG);
    let large = pool.submit_with(options, fail, "x".repeat(100));
    for error in [Error::Cancelled, large.result().unwrap_err()] {
        let report = error.report();
        let json = serde_json::to_string(&report).unwrap();
        assert!(
            json.starts_with(&format!("{{\"kind\":\"{}\"", error.kind())),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<ErrorReport>(&json).unwrap(), report);
    }
    let sparse = r#"{"pid": [1, 2], "message": "m", "signal": 9, "kind": "k"}"#;
    let report: ErrorReport = serde_json::from_str(sparse).unwrap();
    assert_eq!(
        (report.kind(), report.message(), report.signal()),
        ("k", "m", Some(9))
    );
    assert_eq!(report.location(), None);
    for cut in [r#"{"kind": "k"}"#, r#"{"message": "m"}"#, r#"["k", "m"]"#] {
        assert!(serde_json::from_str::<ErrorReport>(cut).is_err(), "{cut}");
    }
}
