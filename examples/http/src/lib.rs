//! An HTTP service over a pool of processes: the function that answers a request may take long, hang or crash,
//! and costs that request alone.
//!
//! | what happens | answer |
//! |---|---|
//! | the function returns | 200 |
//! | the function says that it cannot | 422, in its words |
//! | the worker dies, or the task panics | 500, in the words of the error |
//! | it takes longer than the limit | 504, and the worker is killed |
//! | the client goes away | none, and the worker is killed |
//! | the pool is full | 503, with `Retry-After` |

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shutdown};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// What all requests share.
#[derive(Clone)]
pub struct Service {
    /// Runs what requests ask for. Its `max_pending` bounds how many of them wait.
    pub pool: ProcessPoolExecutor,
    /// How long a request may take, from the moment at which its task was queued.
    pub limit: Duration,
}

/// Why a request has no result.
enum Refusal {
    /// Too many wait.
    Busy,
    /// It took too long.
    Late,
    /// The function refuses its argument.
    Unfit(String),
    /// The task has no result.
    Failed(Error),
}

impl Service {
    /// Answers requests until `stop` is complete, then finishes those that have begun, and ends the pool. No
    /// thread of the runtime is blocked.
    ///
    /// # Errors
    /// The listener's.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let pool = self.pool.clone();
        let routes = Router::new()
            .route("/count", post(count))
            .route("/stats", get(stats))
            .with_state(self);
        axum::serve(listener, routes)
            .with_graceful_shutdown(stop)
            .await?;
        pool.shutdown(Shutdown::no_wait());
        pool.closed().await;
        Ok(())
    }
}

/// `POST /count`: how many words the text has.
async fn count(State(service): State<Service>, text: String) -> Result<String, Refusal> {
    let Ok(counted) = service.pool.try_submit(count_words, text) else {
        return Err(Refusal::Busy);
    };
    // Dropped at the limit, or with this whole request when the client goes away.
    match timeout(service.limit, counted.kill_on_drop()).await {
        Ok(Ok(Ok(words))) => Ok(format!("{words}\n")),
        Ok(Ok(Err(reason))) => Err(Refusal::Unfit(reason)),
        Ok(Err(error)) => Err(Refusal::Failed(error)),
        Err(_) => Err(Refusal::Late),
    }
}

/// `GET /stats`: what the pool is doing.
async fn stats(State(service): State<Service>) -> String {
    format!("{:?}\n", service.pool.stats())
}

/// Stands for code that nobody trusts: it has words at which it crashes or hangs.
fn count_words(text: String) -> Result<u64, String> {
    let mut count = 0;
    for word in text.split_whitespace() {
        match word {
            "crash!" => std::process::abort(),
            "hang!" => loop {
                std::thread::park();
            },
            "panic!" => panic!("a word that nobody expects"),
            _ => count += 1,
        }
    }
    match count {
        0 => Err("there are no words".to_owned()),
        count => Ok(count),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Busy => {
                let later = [(header::RETRY_AFTER, "1")];
                (StatusCode::SERVICE_UNAVAILABLE, later, "too many wait\n").into_response()
            }
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "it took too long\n").into_response(),
            Self::Unfit(reason) => {
                (StatusCode::UNPROCESSABLE_ENTITY, format!("{reason}\n")).into_response()
            }
            Self::Failed(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
            }
        }
    }
}
