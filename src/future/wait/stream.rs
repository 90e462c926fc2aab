//! [`CompletedStream`] and [`CompletedKeyedStream`]: futures as they become done, as an asynchronous stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_channel::Sender;
use futures_core::Stream;

use super::{AsCompleted, AsCompletedKeyed, Completions};
use crate::future::Future;
use crate::future::bell::Bell;

/// Futures as they become done, as an asynchronous stream (feature `stream`): what
/// [`AsCompleted::into_stream`] returns. Dropping it detaches the futures that were not yielded.
#[must_use = "streams do nothing unless polled"]
pub struct CompletedStream<T>(
    /// The same stream, of futures without keys.
    CompletedKeyedStream<(), T>,
);

/// Futures as they become done, each with its key, as an asynchronous stream (feature `stream`): what
/// [`AsCompletedKeyed::into_stream`] returns. Dropping it detaches the futures that were not yielded.
#[must_use = "streams do nothing unless polled"]
pub struct CompletedKeyedStream<K, T> {
    /// The futures, and which of them are done.
    completions: Completions<K, T>,
    /// Rung when one of them is.
    bell: Arc<Bell>,
}

/// The waker of one future of a stream.
struct FutureWaker {
    /// The number of the future.
    number: usize,
    /// Where the numbers of futures that are done are sent.
    done: Sender<usize>,
    /// Rung afterwards.
    bell: Arc<Bell>,
}

impl<T> AsCompleted<T> {
    /// Makes it an asynchronous stream of the same futures (feature `stream`).
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor, as_completed};
    /// # use std::{pin::Pin, task::{Context, Poll, Waker}};
    /// # use futures_core::Stream;
    /// # fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    /// #     loop {
    /// #         if let Poll::Ready(output) = poll(&mut Context::from_waker(Waker::noop())) { return output; }
    /// #         std::thread::yield_now();
    /// #     }
    /// # }
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let futures = [1, 2, 3].map(|n| pool.submit(|n: u64| n * n, n));
    /// let mut completed = as_completed(futures).into_stream();
    /// let mut sum = 0;
    /// // With the crate `futures`: while let Some(future) = completed.next().await
    /// while let Some(future) = block_on(|context| Pin::new(&mut completed).poll_next(context)) {
    ///     sum += future.result()?;
    /// }
    /// assert_eq!(sum, 14);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn into_stream(self) -> CompletedStream<T> {
        CompletedStream(self.0.into_stream())
    }
}

impl<K, T> AsCompletedKeyed<K, T> {
    /// Makes it an asynchronous stream of the same futures, with their keys (feature `stream`).
    /// [`AsCompleted::into_stream`] has an example.
    pub fn into_stream(self) -> CompletedKeyedStream<K, T> {
        let (completions, bell) = (self.0, Arc::default());
        let stream = CompletedKeyedStream { completions, bell };
        stream.hear();
        stream
    }
}

impl<K, T> CompletedKeyedStream<K, T> {
    /// Has each future wake a waker of its own, in place of a watcher. Foreign code, the waker of the task, may
    /// run where wakers do, but not where watchers do.
    fn hear(&self) {
        let completions = &self.completions;
        let futures = (completions.removed..).zip(&completions.futures);
        for (number, (_, future)) in futures.filter_map(|(number, it)| Some((number, it.as_ref()?)))
        {
            future.unwatch(completions.watch_key);
            let waker = Waker::from(Arc::new(FutureWaker {
                number,
                done: completions.sender.clone(),
                bell: Arc::clone(&self.bell),
            }));
            if !future.wake_when_done(&waker) {
                // Perhaps for the second time, after the watcher: `poll_next` passes over it.
                let _ = completions.sender.send(number);
            }
        }
    }
}

impl<T> Stream for CompletedStream<T> {
    type Item = Future<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Future<T>>> {
        let next = Pin::new(&mut self.get_mut().0).poll_next(context);
        next.map(|next| next.map(|((), future)| future))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, T> Stream for CompletedKeyedStream<K, T> {
    type Item = (K, Future<T>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let mut is_armed = false;
        while this.completions.remaining > 0 {
            match this.completions.receiver.try_recv() {
                Ok(number) => {
                    if let Some(next) = this.completions.take(number) {
                        return Poll::Ready(Some(next));
                    }
                }
                Err(_) if is_armed => return Poll::Pending,
                Err(_) => {
                    this.bell.arm(context.waker());
                    is_armed = true;
                }
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.completions.remaining, Some(self.completions.remaining))
    }
}

/// Neither futures nor keys are ever pinned in it.
impl<K, T> Unpin for CompletedKeyedStream<K, T> {}

impl<K, T> Drop for CompletedKeyedStream<K, T> {
    /// No task is woken any more.
    fn drop(&mut self) {
        drop(self.bell.ring());
    }
}

impl<T> fmt::Debug for CompletedStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletedStream")
            .field("remaining", &self.0.completions.remaining)
            .finish_non_exhaustive()
    }
}

impl<K, T> fmt::Debug for CompletedKeyedStream<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletedKeyedStream")
            .field("remaining", &self.completions.remaining)
            .finish_non_exhaustive()
    }
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        // The receiver may be gone by then: no task waits any more.
        let _ = self.done.send(self.number);
        if let Some(waker) = self.bell.ring() {
            waker.wake();
        }
    }
}
