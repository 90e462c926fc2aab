//! Counts words over HTTP, in processes: see the library beside it.
//!
//! ```sh
//! cargo run --release -p http-service -- --port 8080
//! curl -d 'to be or not to be' localhost:8080/count
//! curl -d 'crash!' localhost:8080/count
//! ```
//!
//! Ctrl-C ends it, after the requests that have begun.

use std::error::Error;
use std::time::Duration;

use concurrent_futures::ProcessPoolExecutor;
use http_service::Service;
use lexopt::{Arg, Parser, ValueExt};
use tokio::net::TcpListener;

/// `init` stands before the runtime: workers have none.
fn main() -> Result<(), Box<dyn Error>> {
    concurrent_futures::init();
    let mut port = 8080;
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("port") => port = arguments.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    serve(port)
}

#[tokio::main]
async fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let pool = ProcessPoolExecutor::builder().max_pending(64).build()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}/count", listener.local_addr()?);
    let limit = Duration::from_secs(5);
    let service = Service { pool, limit };
    service.serve(listener, interrupted()).await?;
    println!("all requests are answered");
    Ok(())
}

/// Ctrl-C was pressed; or nobody can, where the system does not tell.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}
