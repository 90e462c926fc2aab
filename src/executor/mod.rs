//! The trait [`Executor`], which thread pools, process pools and [`SerialExecutor`](serial::SerialExecutor)
//! implement.

pub(crate) mod map;
pub(crate) mod map_keyed;
pub(crate) mod feed;
pub(crate) mod counts;
pub(crate) mod stats;
pub(crate) mod scope;
pub(crate) mod serial;
mod thread_states;
pub(crate) mod closed;
#[cfg(feature = "stream")]
pub(crate) mod map_stream;
pub(crate) mod submit_async;
pub(crate) mod waker_line;

use std::ops::Deref;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::executor::closed::Closed;
use crate::executor::feed::Feed;
use crate::executor::map::{Map, MapUnordered};
use crate::executor::map_keyed::MapKeyed;
use crate::executor::stats::Stats;
use crate::executor::submit_async::{RoomWaiter, SubmitAsync};
use crate::future::Future;
use crate::options::{MapOptions, Shutdown, TaskOptions};
use crate::remote::payload::Payload;
use crate::task::Task;
use crate::task::retry::Retry;

/// Runs functions on workers, and returns futures of their results. (`concurrent.futures.Executor`)
///
/// `submit` takes any function, generic function, method path or closure without captures; what a closure
/// would capture travels in the argument. A function that works with any executor takes `&impl Executor`,
/// `Arc<dyn Executor>` or `&Box<dyn Executor>`:
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor};
///
/// fn total(executor: &impl Executor) -> Result<u64, Error> {
///     executor.map(|n| n * n, 1..=10_u64).sum()
/// }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// for threads in [true, false] {
///     let executor: Box<dyn Executor> = if threads {
///         Box::new(ThreadPoolExecutor::new(2)?)
///     } else {
///         Box::new(ProcessPoolExecutor::new(2)?)
///     };
///     assert_eq!(total(&executor)?, 385);
/// }
/// # Ok(())
/// # }
/// ```
///
/// For a bare `&dyn Executor`, borrow once more:
///
/// ```
/// # use concurrent_futures::{Executor, SerialExecutor};
/// let executor: &dyn Executor = &SerialExecutor::new();
/// assert_eq!((&executor).submit(|x: i32| x + 1, 1).result()?, 2);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// ```compile_fail
/// # use concurrent_futures::{Executor, SerialExecutor};
/// let executor: &dyn Executor = &SerialExecutor::new();
/// executor.submit(|x: i32| x + 1, 1); // the `submit` method cannot be invoked on a trait object
/// ```
///
/// A closure that never returns, such as `|()| panic!()`, needs a result type: `|()| -> u8 { panic!() }`. The
/// compiler rejects a closure that captures:
///
/// ```compile_fail,E0308
/// # use concurrent_futures::{Executor, SerialExecutor};
/// let factor = 3;
/// SerialExecutor::new().submit(|x: i32| factor * x, 1); // expected fn pointer, found closure
/// ```
pub trait Executor: Send + Sync {
    /// Runs `f(arg)` and returns the future of its result. (`Executor.submit`)
    ///
    /// Never fails, and never blocks on a worker: an error becomes the future's error.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let sum = pool.submit(|(a, b): (u32, u32)| a + b, (40, 2));
    /// assert_eq!(sum.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn submit<A: Payload, R: Payload>(&self, f: fn(A) -> R, arg: A) -> Future<R>
    where
        Self: Sized,
    {
        self.submit_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit`](Self::submit), with options.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, SerialExecutor, TaskOptions};
    /// let options = TaskOptions::new().name("greet");
    /// let greeting = SerialExecutor::new().submit_with(options, |name: String| format!("hi, {name}"), "Ada".into());
    /// assert_eq!(greeting.result()?, "hi, Ada");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn submit_with<A: Payload, R: Payload>(
        &self,
        options: TaskOptions,
        f: fn(A) -> R,
        arg: A,
    ) -> Future<R>
    where
        Self: Sized,
    {
        let (task, future) = Task::portable(options, f, arg);
        self.execute(task);
        future
    }

    /// Like [`submit`](Self::submit), and runs the task again after failures, as `retry` says. The future gets the
    /// outcome of the last attempt.
    ///
    /// All attempts are one task: [`cancel`](Future::cancel) takes back a task that waits for its next attempt,
    /// no attempt follows [`kill`](Future::kill), and it counts once in [`stats`](Self::stats). Each attempt on
    /// a thread gets a copy of the argument; a process gets what was encoded once. In a pause the task takes no
    /// worker; a [`SerialExecutor`](crate::SerialExecutor) pauses in the call.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Retry, TaskOptions};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let retry = Retry::new(2)
    ///     .after_failure()
    ///     .backoff(Duration::from_millis(5), Duration::from_secs(1))
    ///     .task(TaskOptions::new().timeout(Duration::from_secs(10)));
    /// let fragile = pool.submit_retrying(retry, |code: i32| -> u8 { std::process::exit(code) }, 7);
    /// let Err(Error::WorkerDied(death)) = fragile.result() else { unreachable!() };
    /// assert_eq!(death.attempts(), 3);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn submit_retrying<A: Payload + Clone, R: Payload>(
        &self,
        retry: Retry<R>,
        f: fn(A) -> R,
        arg: A,
    ) -> Future<R>
    where
        Self: Sized,
    {
        let (task, future) = Task::retried(&retry, f, arg);
        self.execute(task);
        future
    }

    /// Like [`submit`](Self::submit), but gives the argument back if `max_pending` tasks are already waiting
    /// that no idle worker is about to begin.
    ///
    /// # Errors
    /// The argument, if there is no room. Any other error becomes the future's error.
    ///
    /// # Panics
    /// If the implementor's [`try_execute`](Self::try_execute) gives back another task than it was given.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// # use std::sync::mpsc::channel;
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(1).build()?;
    /// let (release, gate) = channel::<()>();
    /// let (begun, has_begun) = channel();
    /// let busy = pool.spawn(move || { begun.send(()).ok(); gate.recv().ok() });
    /// has_begun.recv().ok();
    /// let waits = pool.try_submit(|n: u32| n + 1, 1).expect("there is room for one");
    /// assert_eq!(pool.try_submit(|n: u32| n + 1, 2).unwrap_err(), 2);
    /// drop(release);
    /// assert_eq!(waits.result()?, 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn try_submit<A: Payload, R: Payload>(&self, f: fn(A) -> R, arg: A) -> Result<Future<R>, A>
    where
        Self: Sized,
    {
        self.try_submit_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit`](Self::submit), for a function that also borrows the state of its worker, which the
    /// worker has made: see `state` of the builders of [process](crate::ProcessPoolBuilder::state) and
    /// [thread](crate::ThreadPoolBuilder::state) pools, and
    /// [`SerialExecutor::with_state`](serial::SerialExecutor::with_state). (`initializer` and a global)
    ///
    /// The tasks of a worker borrow its state one after the other. If a task panics, the state is as that task
    /// has left it; where that must not be, the function catches the panic, or the pool has
    /// `max_tasks_per_child(1)`.
    ///
    /// If the worker has no state, or one of another type (`i32` is what `|| 0` makes, not `u64`), or if the
    /// state is borrowed by a task inside of which this one runs, then the task ends as
    /// [`Error::InvalidConfig`](crate::Error::InvalidConfig), which says so. An executor that runs its tasks on
    /// threads of its own has no states; one that hands them on to a pool has those of the pool.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # use std::collections::HashMap;
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// type Prices = HashMap<String, u32>;
    ///
    /// fn open(currency: String) -> Prices {
    ///     // Takes its time, but only once a worker.
    ///     [("tea".to_owned(), 3), (currency, 1)].into()
    /// }
    ///
    /// fn price(prices: &mut Prices, name: String) -> Option<u32> {
    ///     prices.get(&name).copied()
    /// }
    ///
    /// let builder = ProcessPoolExecutor::builder().max_workers(2);
    /// let pool = builder.state(open, "crown".into()).build()?;
    /// assert_eq!(pool.submit_with_state(price, "tea".into()).result()?, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn submit_with_state<S: 'static, A: Payload, R: Payload>(
        &self,
        f: fn(&mut S, A) -> R,
        arg: A,
    ) -> Future<R>
    where
        Self: Sized,
    {
        self.submit_with_state_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit_with_state`](Self::submit_with_state), with options.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    /// # use std::time::Duration;
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).state(|| vec![2_u32, 3, 5]).build()?;
    /// let options = TaskOptions::new().name("third prime").timeout(Duration::from_secs(9));
    /// let prime = pool.submit_with_state_with(options, |primes: &mut Vec<u32>, at: usize| primes[at], 2);
    /// assert_eq!(prime.result()?, 5);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn submit_with_state_with<S: 'static, A: Payload, R: Payload>(
        &self,
        options: TaskOptions,
        f: fn(&mut S, A) -> R,
        arg: A,
    ) -> Future<R>
    where
        Self: Sized,
    {
        let (task, future) = Task::portable_with_state(options, f, arg);
        self.execute(task);
        future
    }

    /// Like [`try_submit`](Self::try_submit), with options.
    ///
    /// # Errors
    /// The argument, if there is no room. Any other error becomes the future's error.
    ///
    /// # Panics
    /// If the implementor's [`try_execute`](Self::try_execute) gives back another task than it was given.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(8).build()?;
    /// let options = TaskOptions::new().name("double");
    /// match pool.try_submit_with(options, |n: u32| 2 * n, 21) {
    ///     Ok(doubled) => assert_eq!(doubled.result()?, 42),
    ///     Err(argument) => println!("no room for {argument}"),
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn try_submit_with<A: Payload, R: Payload>(
        &self,
        options: TaskOptions,
        f: fn(A) -> R,
        arg: A,
    ) -> Result<Future<R>, A>
    where
        Self: Sized,
    {
        let (task, future) = Task::portable(options, f, arg);
        match self.try_execute(task) {
            Ok(()) => Ok(future),
            Err(task) => Err(task.into_argument(f)),
        }
    }

    /// Like [`submit`](Self::submit), for async code: awaits room if `max_pending` tasks are already waiting,
    /// where `submit` blocks the thread. The output is the future of the result.
    ///
    /// The task is submitted when the returned future is polled and there is room. Dropping it before submits
    /// nothing. The argument is encoded by the thread that polls; a [`SerialExecutor`](crate::SerialExecutor)
    /// runs the task there. A shutdown, or a broken pool, ends the wait with a future that has that error. On
    /// a worker of the same pool there is always room, as for `submit`.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) { return output; }
    /// #         std::thread::yield_now();
    /// #     }
    /// # }
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).max_pending(1).build()?;
    /// block_on(async {
    ///     let mut squares = Vec::new();
    ///     for n in 0..10 {
    ///         squares.push(Executor::submit_async(&pool, |n: u64| n * n, n).await);
    ///     }
    ///     let mut sum = 0;
    ///     for square in squares {
    ///         sum += square.await?;
    ///     }
    ///     assert_eq!(sum, 285);
    ///     Ok::<(), Error>(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    fn submit_async<A: Payload, R: Payload>(&self, f: fn(A) -> R, arg: A) -> SubmitAsync<'_, R>
    where
        Self: Sized,
    {
        self.submit_async_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit_async`](Self::submit_async), with options.
    #[track_caller]
    fn submit_async_with<A: Payload, R: Payload>(
        &self,
        options: TaskOptions,
        f: fn(A) -> R,
        arg: A,
    ) -> SubmitAsync<'_, R>
    where
        Self: Sized,
    {
        let (task, future) = Task::portable(options, f, arg);
        SubmitAsync::new(self, task, future)
    }

    /// Runs `f` on every item, and yields the results in the order of the items.
    /// (`Executor.map`)
    ///
    /// Work starts at the call, with one item (or chunk) for each worker. `next` pulls all other items, on
    /// the thread that reads, as far ahead as [`buffersize`](MapOptions::buffersize) says, so the input may
    /// be endless. If pulling items is slow, a result that has come is returned first; it waits for one pull
    /// at most. An item's error does not end the map.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let roots: Vec<f64> = pool.map(f64::sqrt, [1.0, 4.0, 9.0]).collect::<Result<_, _>>()?;
    /// assert_eq!(roots, [1.0, 2.0, 3.0]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map<A: Payload, R: Payload, I: IntoIterator<Item = A>>(
        &self,
        f: fn(A) -> R,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
    {
        self.map_with(MapOptions::new(), f, items)
    }

    /// Like [`map`](Self::map), with options.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = MapOptions::new().buffersize(2);
    /// let mut squares = pool.map_with(options, |n| n * n, 0_u64..);
    /// assert_eq!(squares.nth(3).transpose()?, Some(9));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_with<A: Payload, R: Payload, I: IntoIterator<Item = A>>(
        &self,
        options: MapOptions,
        f: fn(A) -> R,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
    {
        Map::new(Feed::portable(self, options, f, items.into_iter()))
    }

    /// Like [`map`](Self::map), for a function that also gets a reference to a value that all items share,
    /// the context. The context is encoded once, and each worker process decodes it once, whatever the number
    /// of items. (`initializer` and a global, in Python)
    ///
    /// On threads, and in the caller, the function gets the value itself. For slices of numbers, and for
    /// tasks that are submitted one by one, use [`Shared`](crate::Shared). If the system gives no shared
    /// memory, the context travels with each item.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # use std::collections::BTreeMap;
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let prices: BTreeMap<String, u32> = [("tea".to_owned(), 3), ("cake".to_owned(), 5)].into();
    /// let pool = ProcessPoolExecutor::new(2)?;
    /// let orders = ["tea", "cake", "tea"].map(str::to_owned);
    /// let costs = pool.map_with_context(|prices, order: String| prices[&order], prices, orders);
    /// assert_eq!(costs.sum::<Result<u32, _>>()?, 11);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn map_with_context<C, A, R, I>(
        &self,
        f: fn(&C, A) -> R,
        context: C,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
        C: Payload + Sync,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = A>,
    {
        self.map_with_context_with(MapOptions::new(), f, context, items)
    }

    /// Like [`map_with_context`](Self::map_with_context), with options.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().chunksize(100);
    /// let weights = vec![2, 3, 5];
    /// let weigh = |weights: &Vec<usize>, n: usize| n * weights[n % weights.len()];
    /// let sum = pool.map_with_context_with(options, weigh, weights, 0..1000).sum::<Result<usize, _>>()?;
    /// assert_eq!(sum, 1_664_667);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_with_context_with<C, A, R, I>(
        &self,
        options: MapOptions,
        f: fn(&C, A) -> R,
        context: C,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
        C: Payload + Sync,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        Map::new(Feed::in_context(self, options, f, context, items))
    }

    /// Like [`map`](Self::map), for a function that also borrows the state of its worker, as
    /// [`submit_with_state`](Self::submit_with_state) does.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).state(|| 0_u64).build()?;
    /// let count = |sum: &mut u64, n: u64| { *sum += n; *sum };
    /// let sums = pool.map_with_state(count, 1..=4);
    /// assert_eq!(sums.collect::<Result<Vec<_>, _>>()?, [1, 3, 6, 10]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_with_state<S, A, R, I>(
        &self,
        f: fn(&mut S, A) -> R,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
        S: 'static,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = A>,
    {
        self.map_with_state_with(MapOptions::new(), f, items)
    }

    /// Like [`map_with_state`](Self::map_with_state), with options.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::builder().max_workers(2).state(|| vec![2_u32, 3, 5]).build()?;
    /// let options = MapOptions::new().chunksize(2);
    /// let primes = pool.map_with_state_with(options, |primes: &mut Vec<u32>, at: usize| primes[at], 0..3);
    /// assert_eq!(primes.sum::<Result<u32, _>>()?, 10);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_with_state_with<S, A, R, I>(
        &self,
        options: MapOptions,
        f: fn(&mut S, A) -> R,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        Self: Sized,
        S: 'static,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = A>,
    {
        Map::new(Feed::with_state(self, options, f, items.into_iter()))
    }

    /// Like [`map`](Self::map), over items with keys: each result comes with the key of its item, which does
    /// not travel.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let words = ["tea", "cake"].map(|word| (word, word.to_owned()));
    /// for (word, length) in pool.map_keyed(|word: String| word.len(), words) {
    ///     println!("{word}: {} letters", length?);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_keyed<K, A, R, I>(&self, f: fn(A) -> R, items: I) -> MapKeyed<'_, K, A, R, I::IntoIter>
    where
        Self: Sized,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = (K, A)>,
    {
        self.map_keyed_with(MapOptions::new(), f, items)
    }

    /// Like [`map_keyed`](Self::map_keyed), with options. If those are invalid, the error is the first item's.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, SerialExecutor};
    /// let (executor, options) = (SerialExecutor::new(), MapOptions::new().chunksize(2));
    /// let squares = Executor::map_keyed_with(&executor, options, |n: u32| n * n, [("three", 3)]);
    /// assert!(squares.map(|(key, square)| (key, square.ok())).eq([("three", Some(9))]));
    /// ```
    #[track_caller]
    fn map_keyed_with<K, A, R, I>(
        &self,
        options: MapOptions,
        f: fn(A) -> R,
        items: I,
    ) -> MapKeyed<'_, K, A, R, I::IntoIter>
    where
        Self: Sized,
        A: Payload,
        R: Payload,
        I: IntoIterator<Item = (K, A)>,
    {
        let (items, keys) = map_keyed::arguments(items.into_iter());
        MapKeyed::new(Feed::portable(self, options, f, items), keys)
    }

    /// Like [`map`](Self::map), but yields `(index, result)` as items finish.
    /// (`multiprocessing.Pool.imap_unordered`)
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut lengths = [0; 3];
    /// let words = ["a", "bb", "ccc"].map(String::from);
    /// for (index, length) in Executor::map_unordered(&pool, |word: String| word.len(), words) {
    ///     lengths[index] = length?;
    /// }
    /// assert_eq!(lengths, [1, 2, 3]);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_unordered<A: Payload, R: Payload, I: IntoIterator<Item = A>>(
        &self,
        f: fn(A) -> R,
        items: I,
    ) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        Self: Sized,
    {
        self.map_unordered_with(MapOptions::new(), f, items)
    }

    /// Like [`map_with`](Self::map_with), but yields `(index, result)` as items finish.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().chunksize(10);
    /// let squares = Executor::map_unordered_with(&pool, options, |n: u64| n * n, 0..100);
    /// assert_eq!(squares.map(|(_, square)| square.unwrap()).sum::<u64>(), 328_350);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    fn map_unordered_with<A: Payload, R: Payload, I: IntoIterator<Item = A>>(
        &self,
        options: MapOptions,
        f: fn(A) -> R,
        items: I,
    ) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        Self: Sized,
    {
        MapUnordered::new(Feed::portable(self, options, f, items.into_iter()))
    }

    /// The number of tasks that can run at a time.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(3)?;
    /// assert_eq!(pool.max_workers(), 3);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn max_workers(&self) -> usize;

    /// Accepts no more tasks; see [`Shutdown`] for what happens to the accepted ones. (`Executor.shutdown`)
    ///
    /// Idempotent; a later call may wait or cancel where an earlier one did not. If it is called on a thread
    /// of the pool itself (in a task, in a callback), it waits for everything but that thread.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, Shutdown, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let doubled = pool.submit(|x: i32| 2 * x, 21);
    /// pool.shutdown(Shutdown::wait());
    /// assert_eq!(doubled.result()?, 42);
    /// assert!(matches!(pool.submit(|x: i32| x, 1).result(), Err(Error::ShutDown)));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn shutdown(&self, how: Shutdown);

    /// Like [`shutdown`](Self::shutdown), but waits no longer than `limit`; `false`: the pool is still
    /// shutting down. An implementor needs to write it only if its `shutdown` may wait long.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, Shutdown, ThreadPoolExecutor};
    /// # use std::{sync::mpsc::channel, time::Duration};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (release, gate) = channel::<()>();
    /// let busy = pool.spawn(move || gate.recv().is_err());
    /// assert!(!pool.shutdown_timeout(Shutdown::wait(), Duration::from_millis(5)));
    /// drop(release);
    /// pool.shutdown(Shutdown::wait());
    /// assert!(busy.result()?);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        let _ = limit;
        self.shutdown(how);
        true
    }

    /// The end of the executor, for async code: complete once it was [shut down](Self::shutdown) and nothing
    /// of it is left. All work is done then, all threads are joined and all worker processes reaped. No thread
    /// of the runtime is blocked.
    ///
    /// It shuts nothing down. Call `shutdown` with [`Shutdown::no_wait`] first, or later. Any number of tasks
    /// may wait. A task of the executor itself must not: it would wait for its own end. Where the system has no
    /// thread for the wait, the one that polls waits.
    ///
    /// Dropping a pool blocks the thread until its work is done. In a runtime, await the end before: the drop
    /// then finds nothing to wait for.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, Shutdown, ThreadPoolExecutor};
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut future = std::pin::pin!(future);
    /// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     loop {
    /// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) { return output; }
    /// #         std::thread::yield_now();
    /// #     }
    /// # }
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// block_on(async {
    ///     let doubled = pool.submit(|n: u64| 2 * n, 21);
    ///     pool.shutdown(Shutdown::no_wait());
    ///     pool.closed().await;
    ///     assert!(doubled.done());
    ///     assert_eq!(pool.stats().workers, 0);
    /// });
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// An implementor that has an end to wait for passes on that of its pool; the default is complete at once.
    fn closed(&self) -> Closed {
        Closed::at_once()
    }

    /// What the executor is doing now, and how many tasks have ended.
    fn stats(&self) -> Stats;

    /// Queues one type-erased task: the method that an implementor writes. The task's future settles when the
    /// task is run, failed or dropped.
    fn execute(&self, task: Task);

    /// Like [`execute`](Self::execute), but gives the task back if there is no room for it. An implementor
    /// needs to write it only if its queue has a limit.
    ///
    /// # Errors
    /// The task, if there is no room for it.
    fn try_execute(&self, task: Task) -> Result<(), Task> {
        self.execute(task);
        Ok(())
    }

    /// Like [`try_execute`](Self::try_execute), but if there is no room, has `waker` woken when there may be.
    /// `place` is the caller's own, for all calls with the same task; dropping it ends the wait. An implementor
    /// needs to write it only if its `execute` may wait; one that passes tasks on passes this on, too.
    ///
    /// # Errors
    /// The task, if there is no room for it.
    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        let _ = (place, waker);
        self.execute(task);
        Ok(())
    }
}

impl<E: Executor + ?Sized> Executor for &E {
    fn max_workers(&self) -> usize {
        (**self).max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        (**self).shutdown(how);
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }

    fn execute(&self, task: Task) {
        (**self).execute(task);
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        (**self).shutdown_timeout(how, limit)
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        (**self).try_execute(task)
    }

    fn closed(&self) -> Closed {
        (**self).closed()
    }

    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        (**self).try_execute_or_wake(task, place, waker)
    }
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn max_workers(&self) -> usize {
        self.deref().max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.deref().shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.deref().stats()
    }

    fn execute(&self, task: Task) {
        self.deref().execute(task);
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        self.deref().shutdown_timeout(how, limit)
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        self.deref().try_execute(task)
    }

    fn closed(&self) -> Closed {
        self.deref().closed()
    }

    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        self.deref().try_execute_or_wake(task, place, waker)
    }
}

impl<E: Executor + ?Sized> Executor for Arc<E> {
    fn max_workers(&self) -> usize {
        self.deref().max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.deref().shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.deref().stats()
    }

    fn execute(&self, task: Task) {
        self.deref().execute(task);
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        self.deref().shutdown_timeout(how, limit)
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        self.deref().try_execute(task)
    }

    fn closed(&self) -> Closed {
        self.deref().closed()
    }

    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        self.deref().try_execute_or_wake(task, place, waker)
    }
}
