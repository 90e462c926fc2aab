//! Spans of tasks and events of worker processes, as one subscriber of the program shows them.
//!
//! ```sh
//! cargo run --example tracing --features tracing
//! ```

use std::error::Error;

use concurrent_futures::{Executor, ProcessPoolExecutor, TaskOptions, ThreadPoolExecutor};
use tracing::{Level, info, info_span, warn};
use tracing_subscriber::fmt::format::FmtSpan;

fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_target(false)
        .init();
    let threads = ThreadPoolExecutor::builder()
        .max_workers(2)
        .trace_tasks()
        .build()?;
    let processes = ProcessPoolExecutor::builder()
        .max_workers(2)
        .trace_tasks()
        .forward_tracing()
        .build()?;

    for request in ["ada", "bob"] {
        // What is submitted here, and what the tasks do, is in the span of the request.
        let _request = info_span!("request", user = request).entered();
        let fetch = TaskOptions::new().name("fetch");
        let page = threads.submit_with(fetch, fetch_page, request.to_owned());
        let render = TaskOptions::new().name("render");
        let lengths = processes.submit_with(render, render_page, page.result()?);
        match lengths.result() {
            Ok(bytes) => info!(bytes, "answered"),
            Err(error) => warn!(%error, "no answer"),
        }
    }
    Ok(())
}

/// Runs on a thread.
fn fetch_page(user: String) -> String {
    info!("fetching");
    format!("<p>hello, {user}")
}

/// Runs in a worker process, which knows nothing of the program's subscriber.
fn render_page(page: String) -> usize {
    info!(bytes = page.len(), "rendering");
    assert!(!page.ends_with("bob"), "on purpose: bob is not rendered");
    page.len()
}
