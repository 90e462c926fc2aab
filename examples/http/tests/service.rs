//! The service as its clients see it.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::net::SocketAddr;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor};
use http_service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A limit that no request passes.
const NEVER: Duration = Duration::from_secs(3600);

/// Serves with one worker and at most one task that waits, as long as `talk` talks to it. `init` stands before
/// the runtime.
fn with_service<F: Future<Output = ()>>(limit: Duration, talk: impl FnOnce(SocketAddr) -> F) {
    concurrent_futures::init();
    let builder = ProcessPoolExecutor::builder().max_workers(1).max_pending(1);
    let pool = builder.build().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service {
            pool: pool.clone(),
            limit,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(service.serve(listener, async {
            let _ = stopped.await;
        }));
        talk(address).await;
        drop(stop);
        server.await.unwrap().unwrap();
    });
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.running), (0, 0), "{stats:?}");
}

/// A request, and a connection to read its answer from.
async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = text.len();
    let head = format!("POST /count HTTP/1.1\r\nHost: it\r\nContent-Length: {length}\r\n");
    let request = format!("{head}Connection: close\r\n\r\n{text}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn assert_answers(address: SocketAddr, text: &str, status: &str, words: &str) {
    let answer = answer(send(address, text).await).await;
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains(words), "{answer}");
}

#[test]
fn a_request_costs_itself_alone() {
    with_service(NEVER, |address| async move {
        for (text, status, words) in [
            ("to be or not to be", "200", "\r\n\r\n6\n"),
            (" ", "422", "there are no words"),
            ("crash!", "500", "SIGABRT"),
            ("panic!", "500", "a word that nobody expects"),
            ("to be", "200", "\r\n\r\n2\n"),
        ] {
            assert_answers(address, text, status, words).await;
        }
    });
}

#[test]
fn a_request_that_takes_too_long_is_killed() {
    with_service(Duration::from_millis(100), |address| async move {
        assert_answers(address, "hang!", "504", "too long").await;
    });
}

/// Its worker is the only one: the second request gets it.
#[test]
fn a_request_whose_client_goes_away_is_killed() {
    with_service(NEVER, |address| async move {
        drop(send(address, "hang!").await);
        assert_answers(address, "to be", "200", "\r\n\r\n2\n").await;
    });
}

/// Of three that hang, one runs and one waits.
#[test]
fn a_request_too_many_is_told_to_come_later() {
    with_service(NEVER, |address| async move {
        let mut requests = JoinSet::new();
        for _ in 0..3 {
            requests.spawn(async move { answer(send(address, "hang!").await).await });
        }
        let first = requests.join_next().await.unwrap().unwrap();
        assert!(first.starts_with("HTTP/1.1 503 "), "{first}");
        assert!(first.contains("retry-after: 1"), "{first}");
        // The others' clients go away.
        requests.shutdown().await;
    });
}
