//! Maps and `as_completed` as streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use concurrent_futures::{Error, Executor, MapOptions, Shutdown, as_completed};
use futures_core::Stream;
use libtest_mimic::Trial;

use crate::limits::Bounded;
use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::gate::{Held, Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_stream_keeps_order::<K>,
        a_stream_of_a_chunked_map_keeps_order::<K>,
        an_unordered_stream_tells_the_index::<K>,
        a_keyed_stream_gives_the_key_back::<K>,
        a_stream_of_nothing_ends::<K>,
        a_stream_goes_on_after_an_error::<K>,
        a_stream_of_wrong_options_is_refused_once::<K>,
        a_stream_pulls_no_further_than_its_buffer::<K>,
        a_stream_after_the_shutdown_yields_errors::<K>,
        futures_come_as_they_are_done::<K>,
    ]
}

pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    trials![K::NAME;
        a_stream_wakes_when_its_result_has_come::<K>,
        an_unordered_stream_is_held_up_by_no_item::<K>,
        a_dropped_stream_cancels_what_has_not_begun::<K>,
        a_slow_source_does_not_hold_up_a_poll::<K>,
        a_stream_ends_at_its_time_limit::<K>,
        an_unordered_stream_ends_at_its_time_limit::<K>,
        a_stream_waits_for_room_and_blocks_nobody::<K>,
        an_unordered_stream_waits_for_room_and_blocks_nobody::<K>,
        a_stream_past_its_time_limit_leaves_room_to_others::<K>,
        a_map_in_a_full_pool_counts_what_is_held_back::<K>,
        a_stream_of_futures_wakes_when_one_is_done::<K>,
        a_dropped_stream_of_futures_detaches_them::<K>,
    ]
}

/// All items of a stream; polls only when woken.
fn collect<S: Stream + Unpin>(mut stream: S) -> Vec<S::Item> {
    let mut all = Vec::new();
    while let Some(item) = next(&mut stream) {
        all.push(item);
    }
    assert!(all.len() <= 1 || stream.size_hint().0 == 0);
    all
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    block_on(std::future::poll_fn(|context| {
        Pin::new(&mut *stream).poll_next(context)
    }))
}

fn poll<S: Stream + Unpin>(stream: &mut S, wakes: &Wakes) -> Poll<Option<S::Item>> {
    Pin::new(stream).poll_next(&mut wakes.context())
}

/// Holds, or not.
fn hold_some(held: Option<Held>) -> u32 {
    held.map_or(0, hold)
}

fn a_stream_keeps_order<K: Kind>() {
    let pool = K::pool(2);
    let stream = pool.map(double, 0..3000).into_stream();
    assert_eq!(stream.size_hint(), (3000, Some(3000)));
    let results = collect(stream).into_iter().map(Result::unwrap);
    assert!(results.eq((0..3000).map(double)));
}

fn a_stream_of_a_chunked_map_keeps_order<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 7, 100, usize::MAX] {
        let options = MapOptions::new().chunksize(chunk);
        let stream = pool.map_with(options, double, 0..100).into_stream();
        let results = collect(stream).into_iter().map(Result::unwrap);
        assert!(results.eq((0..100).map(double)), "{chunk}");
    }
}

fn an_unordered_stream_tells_the_index<K: Kind>() {
    let pool = K::pool(2);
    let stream = Executor::map_unordered(&pool, double, 0..3000).into_stream();
    let mut results = collect(stream);
    results.sort_by_key(|(index, _)| *index);
    let expected = (0..3000_u64).map(|n| (n as usize, Ok(2 * n)));
    assert!(results.into_iter().eq(expected));
}

fn a_keyed_stream_gives_the_key_back<K: Kind>() {
    let pool = K::pool(2);
    let items = (0..500).map(|n| (n.to_string(), n));
    let results = collect(pool.map_keyed(double, items).into_stream());
    let expected = (0..500).map(|n| (n.to_string(), Ok(2 * n)));
    assert!(results.into_iter().eq(expected));
}

fn a_stream_of_nothing_ends<K: Kind>() {
    let pool = K::pool(1);
    assert!(collect(pool.map(double, []).into_stream()).is_empty());
    assert!(collect(Executor::map_unordered(&pool, double, []).into_stream()).is_empty());
    let none: [(u8, u64); 0] = [];
    assert!(collect(pool.map_keyed(double, none).into_stream()).is_empty());
    assert!(collect(as_completed::<u8>([]).into_stream()).is_empty());
}

fn a_stream_goes_on_after_an_error<K: Kind>() {
    let pool = K::pool(1);
    let words = ["a", "b"].map(str::to_owned);
    let results = collect(pool.map(fail, words).into_stream());
    assert!(results.len() == 2 && results.iter().all(Result::is_err));
}

fn a_stream_of_wrong_options_is_refused_once<K: Kind>() {
    let pool = K::pool(1);
    let options = MapOptions::new().buffersize(0);
    let mut results = collect(pool.map_with(options, double, 0..4).into_stream());
    assert_error!(results.pop().unwrap(), Error::InvalidConfig(_));
    assert!(results.is_empty());
    let map = Executor::map_unordered_with(&pool, options, double, 0..4);
    assert_eq!(collect(map.into_stream()).len(), 1);
}

/// The source is without end.
fn a_stream_pulls_no_further_than_its_buffer<K: Kind>() {
    let pool = K::pool(1);
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let source = (0..).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let options = MapOptions::new().buffersize(3);
    let mut stream = pool.map_with(options, double, source).into_stream();
    for n in 0..20 {
        assert_eq!(next(&mut stream).unwrap().unwrap(), 2 * n);
        assert!(pulled.load(Ordering::Relaxed) <= n as usize + 3);
    }
}

fn a_stream_after_the_shutdown_yields_errors<K: Kind>() {
    let pool = K::pool(1);
    pool.shutdown(Shutdown::wait());
    let results = collect(pool.map(double, [1, 2]).into_stream());
    assert_eq!(results, [Err(Error::ShutDown), Err(Error::ShutDown)]);
}

fn futures_come_as_they_are_done<K: Kind>() {
    let pool = K::pool(2);
    let futures: Vec<_> = (0..500).map(|n| pool.submit(double, n)).collect();
    futures[0].wait();
    let stream = as_completed(futures).into_stream();
    let results = collect(stream).into_iter();
    let mut results: Vec<_> = results.map(|future| future.result().unwrap()).collect();
    assert_eq!(results[0], 0);
    results.sort_unstable();
    assert!(results.into_iter().eq((0..500).map(double)));
}

fn a_stream_wakes_when_its_result_has_come<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let mut stream = pool.map(hold, [held.argument()]).into_stream();
    let wakes = Wakes::new();
    assert!(poll(&mut stream, &wakes).is_pending());
    held.await_begun();
    assert!(poll(&mut stream, &wakes).is_pending() && !wakes.is_woken());
    held.release();
    wakes.await_wake();
    assert!(matches!(
        poll(&mut stream, &wakes),
        Poll::Ready(Some(Ok(_)))
    ));
    assert!(matches!(poll(&mut stream, &wakes), Poll::Ready(None)));
}

fn an_unordered_stream_is_held_up_by_no_item<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let items = [Some(held.argument()), None, None, None];
    let options = MapOptions::new().chunksize(1);
    let mut stream = Executor::map_unordered_with(&pool, options, hold_some, items).into_stream();
    for _ in 0..3 {
        let (index, result) = next(&mut stream).unwrap();
        assert!(index > 0 && result.is_ok());
    }
    assert!(poll(&mut stream, &Wakes::new()).is_pending());
    held.release();
    assert!(matches!(next(&mut stream), Some((0, Ok(_)))));
    assert!(next(&mut stream).is_none());
}

fn a_dropped_stream_cancels_what_has_not_begun<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let items = [Some(held.argument()), None, None];
    let options = MapOptions::new().chunksize(1);
    let mut stream = pool.map_with(options, hold_some, items).into_stream();
    let wakes = Wakes::new();
    assert!(poll(&mut stream, &wakes).is_pending());
    held.await_begun();
    drop(stream);
    assert_eq!(wakes.clones(), 0);
    held.release();
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 2), "{stats:?}");
    assert!(!wakes.is_woken());
}

/// The poll returns after some pulls, and asks for the next one by itself.
fn a_slow_source_does_not_hold_up_a_poll<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let mut pulled = 0;
    let source = std::iter::from_fn(|| {
        std::thread::sleep(Duration::from_millis(2));
        pulled += 1;
        Some((pulled == 1).then(|| held.argument()))
    });
    let mut stream = pool.map(hold_some, source.take(6)).into_stream();
    let wakes = Wakes::new();
    for _ in 0..5 {
        assert!(poll(&mut stream, &wakes).is_pending() && wakes.is_woken());
    }
    assert!(poll(&mut stream, &wakes).is_pending() && !wakes.is_woken());
    held.release();
    assert_eq!(collect(stream).len(), 6);
}

/// Nothing else wakes it.
fn a_stream_ends_at_its_time_limit<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let options = MapOptions::new().timeout(Duration::from_millis(20));
    let map = pool.map_with(options, hold, [held.argument(), held.argument()]);
    assert_eq!(collect(map.into_stream()), [Err(Error::Timeout)]);
    held.release();
}

fn an_unordered_stream_ends_at_its_time_limit<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let options = MapOptions::new().timeout(Duration::from_millis(20));
    let items = [held.argument(), held.argument()];
    let map = Executor::map_unordered_with(&pool, options, hold, items);
    assert_eq!(collect(map.into_stream()), [(0, Err(Error::Timeout))]);
    held.release();
}

/// A pool that is full: neither the call of a map nor the poll of its stream returns later than at once.
fn a_stream_waits_for_room_and_blocks_nobody<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let options = MapOptions::new().chunksize(1);
    let mut stream = pool.map_with(options, double, 0..50).into_stream();
    let wakes = Wakes::new();
    assert!(poll(&mut stream, &wakes).is_pending());
    assert!(!wakes.is_woken());
    assert!(queued.cancel());
    assert!(wakes.is_woken(), "there is room");
    assert!(poll(&mut stream, &wakes).is_pending());
    assert_eq!(pool.stats().pending, 1);
    held.release();
    running.result().unwrap();
    let results = collect(stream).into_iter().map(Result::unwrap);
    assert!(results.eq((0..50).map(double)));
}

fn an_unordered_stream_waits_for_room_and_blocks_nobody<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let _queued = pool.submit(double, 1);
    let options = MapOptions::new().chunksize(3);
    let map = Executor::map_unordered_with(&pool, options, double, 0..50);
    let mut stream = map.into_stream();
    assert!(poll(&mut stream, &Wakes::new()).is_pending());
    held.release();
    running.result().unwrap();
    let mut results = collect(stream);
    results.sort_by_key(|(index, _)| *index);
    let expected = (0..50_u64).map(|n| (n as usize, Ok(2 * n)));
    assert!(results.into_iter().eq(expected));
}

fn a_stream_past_its_time_limit_leaves_room_to_others<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let options = MapOptions::new().timeout(Duration::from_millis(20));
    let mut stream = pool.map_with(options, double, 0..3).into_stream();
    let map = Executor::map_unordered_with(&pool, options, double, 0..3);
    let mut unordered = map.into_stream();
    assert!(poll(&mut stream, &Wakes::new()).is_pending());
    assert!(poll(&mut unordered, &Wakes::new()).is_pending());
    let (mut submission, wakes) = (Executor::submit_async(&pool, double, 2), Wakes::new());
    assert!(poll_once(&mut submission, &wakes).is_pending());
    assert_eq!(next(&mut stream), Some(Err(Error::Timeout)));
    assert_eq!(next(&mut unordered), Some((0, Err(Error::Timeout))));
    assert!(queued.cancel());
    assert!(
        wakes.is_woken(),
        "there is room, which the streams do not want"
    );
    drop((stream, unordered, submission));
    held.release();
    running.result().unwrap();
}

fn a_map_in_a_full_pool_counts_what_is_held_back<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let options = MapOptions::new().chunksize(4);
    let map = pool.map_with(options, double, (0..10).collect::<Vec<_>>());
    assert_eq!((map.len(), map.size_hint()), (10, (10, Some(10))));
    assert_eq!(pool.stats().pending, 1);
    drop(pool.map(double, 0..10));
    held.release();
    let results: Vec<_> = map.map(Result::unwrap).collect();
    assert!(results.into_iter().eq((0..10).map(double)));
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 2);
}

fn a_stream_of_futures_wakes_when_one_is_done<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let futures = [(); 2].map(|()| pool.submit(hold, held.argument()));
    let ids = [futures[0].id(), futures[1].id()];
    let mut stream = as_completed(futures).into_stream();
    let wakes = Wakes::new();
    assert!(poll(&mut stream, &wakes).is_pending());
    held.release();
    for id in ids {
        let future = loop {
            match poll(&mut stream, &wakes) {
                Poll::Ready(future) => break future.unwrap(),
                Poll::Pending => wakes.await_wake(),
            }
        };
        assert!(future.done() && future.id() == id);
    }
    assert!(matches!(poll(&mut stream, &wakes), Poll::Ready(None)));
}

fn a_dropped_stream_of_futures_detaches_them<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let mut stream = as_completed([held.occupy(&pool)]).into_stream();
    let wakes = Wakes::new();
    assert!(poll(&mut stream, &wakes).is_pending());
    assert_eq!(wakes.clones(), 1);
    drop(stream);
    assert_eq!(wakes.clones(), 0);
    held.release();
    pool.shutdown(Shutdown::wait());
    assert_eq!(pool.stats().completed, 1);
}
