//! The smallest async runtime: one future, one thread.

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};

/// A waker that relies on a thread to wait for it.
pub struct Wakes {
    /// For polling.
    waker: Waker,
    /// Where its wakes arrive.
    woken: Receiver<()>,
}

struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // A receiver that is gone needs no wake.
        let _ = self.0.send(());
    }
}

impl Wakes {
    pub fn new() -> Self {
        let (sender, woken) = channel();
        Self {
            waker: Waker::from(Arc::new(Bell(sender))),
            woken,
        }
    }

    /// Blocks until the waker was used.
    pub fn await_wake(&self) {
        self.woken.recv().unwrap();
    }
}

/// Polls once.
pub fn poll_once<F: Future + Unpin>(future: &mut F, wakes: &Wakes) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&wakes.waker))
}

/// Runs a future to its end. Polls only when woken.
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let wakes = Wakes::new();
    let mut future = pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&wakes.waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => wakes.await_wake(),
        }
    }
}
