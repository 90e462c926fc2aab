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
    /// What the waker and its clones own.
    ringer: Arc<Ringer>,
    /// Where its wakes arrive.
    woken: Receiver<()>,
}

struct Ringer(Sender<()>);

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        // A receiver that is gone needs no wake.
        let _ = self.0.send(());
    }
}

impl Wakes {
    pub fn new() -> Self {
        let (sender, woken) = channel();
        let ringer = Arc::new(Ringer(sender));
        Self {
            waker: Waker::from(Arc::clone(&ringer)),
            ringer,
            woken,
        }
    }

    /// Blocks until the waker was used.
    pub fn await_wake(&self) {
        self.woken.recv().unwrap();
    }

    /// Whether the waker was used since this was asked, or awaited, last.
    pub fn is_woken(&self) -> bool {
        self.woken.try_iter().count() > 0
    }

    /// How many clones of the waker others keep.
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.ringer) - 2
    }

    /// A context that has the waker.
    pub fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }
}

/// Polls once.
pub fn poll_once<F: Future + Unpin>(future: &mut F, wakes: &Wakes) -> Poll<F::Output> {
    Pin::new(future).poll(&mut wakes.context())
}

/// Runs a future to its end. Polls only when woken.
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let wakes = Wakes::new();
    let mut future = pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut wakes.context()) {
            Poll::Ready(output) => return output,
            Poll::Pending => wakes.await_wake(),
        }
    }
}
