//! One pool, and how long its tasks are on their way.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Payload};

use crate::clock;
use crate::executor::Where;
use crate::payload::Sample;
use crate::row::Times;
use crate::size::Size;

pub struct Bench {
    /// One worker.
    pool: Box<dyn Executor>,
    /// Where it is.
    executor: Where,
    /// How long nothing happens before each call.
    pause: Duration,
    /// What is sent in a pass, in bytes, as far as the number of rounds allows.
    budget: u64,
    /// The fewest rounds of a pass, and the most.
    rounds: (u64, u64),
}

impl Bench {
    pub fn new(executor: Where, pause: Duration, quick: bool) -> Result<Self, Error> {
        Ok(Self {
            pool: executor.pool()?,
            executor,
            pause,
            budget: if quick { 1 << 20 } else { 64 << 20 },
            rounds: if quick { (1, 10) } else { (1, 200) },
        })
    }

    /// Some rounds, few if the value is big.
    pub fn pass<S: Sample>(&self, value: &S, size: Size, seen: &mut Seen) -> Result<(), Error> {
        let (least, most) = self.rounds;
        let rounds = (self.budget / size.bytes()).clamp(least, most);
        if rounds > least {
            // The first one warms up.
            self.round(value, size, &mut Seen::default())?;
        }
        for _ in 0..rounds {
            self.round(value, size, seen)?;
        }
        Ok(())
    }

    fn round<S: Sample>(&self, value: &S, size: Size, seen: &mut Seen) -> Result<(), Error> {
        let (argument, another) = (value.clone(), value.clone());
        if self.executor.encodes() {
            measure_codec(value, size, seen);
        }
        let empty = self.call(())?;
        seen.wake.push(empty.there);
        let call = self.call(argument)?;
        seen.there.push(call.there);
        seen.release.push(call.inside);
        seen.back.push(call.back);
        seen.total.push(call.total);
        seen.echo.push(self.echo(another)?);
        Ok(())
    }

    fn call<A: Payload>(&self, argument: A) -> Result<Call, Error> {
        self.settle()?;
        let submitted = clock::now();
        let (begun, ended) = self.pool.submit(swallow::<A>, argument).result()?;
        let returned = clock::now();
        Ok(Call {
            there: clock::seconds(submitted, begun),
            inside: clock::seconds(begun, ended),
            back: clock::seconds(ended, returned),
            total: clock::seconds(submitted, returned),
        })
    }

    fn echo<S: Sample>(&self, argument: S) -> Result<f64, Error> {
        self.settle()?;
        let submitted = clock::now();
        let answer = self.pool.submit(|value: S| value, argument).result()?;
        let returned = clock::now();
        drop(answer);
        Ok(clock::seconds(submitted, returned))
    }

    /// Brings the worker into the same state before each call: it has just been at work, or has
    /// been idle for the pause.
    fn settle(&self) -> Result<(), Error> {
        if self.pause.is_zero() {
            self.pool.submit(swallow::<()>, ()).result()?;
        } else {
            thread::sleep(self.pause);
        }
        Ok(())
    }
}

/// What was seen of one payload, round by round.
#[derive(Default)]
pub struct Seen {
    /// How many bytes the codec made of the value; `None`: it was not asked.
    encoded: Option<u64>,
    encode: Vec<f64>,
    decode: Vec<f64>,
    wake: Vec<f64>,
    there: Vec<f64>,
    release: Vec<f64>,
    back: Vec<f64>,
    total: Vec<f64>,
    echo: Vec<f64>,
}

impl Seen {
    /// How many bytes the codec made of the value.
    pub fn encoded(&self) -> Option<u64> {
        self.encoded
    }

    /// The medians.
    pub fn times(self) -> Times {
        let (encode, decode) = (median(self.encode), median(self.decode));
        // What was not measured is no number, and so less than any.
        let known = encode.max(0.0) + decode.max(0.0);
        let left = (median(self.there) - known).max(0.0);
        let wake = median(self.wake).min(left);
        Times {
            encode,
            hand_over: left - wake,
            wake,
            decode,
            release: median(self.release),
            back: median(self.back),
            total: median(self.total),
            echo: median(self.echo),
        }
    }
}

/// The task: when it began, and when it had dropped its argument.
fn swallow<A>(argument: A) -> (u64, u64) {
    let begun = clock::now();
    drop(argument);
    (begun, clock::now())
}

/// How long one task was where, in seconds.
struct Call {
    there: f64,
    inside: f64,
    back: f64,
    total: f64,
}

/// Encodes and decodes without any pool.
fn measure_codec<S: Sample>(value: &S, size: Size, seen: &mut Seen) {
    let times = if size.bytes() > 4096 { 1 } else { 50 };
    let mut bytes = Vec::new();
    let mut encode = || {
        bytes.clear();
        black_box(value).encode(&mut bytes)
    };
    if encode().is_none() {
        return;
    }
    seen.encode.push(mean(times, encode));
    seen.encoded = Some(bytes.len() as u64);
    seen.decode
        .push(mean(times, || S::decode(black_box(&bytes))));
}

/// How long it takes to make something, without dropping it, and without reading the clock.
fn mean<T>(times: u32, mut make: impl FnMut() -> Option<T>) -> f64 {
    let mut sum = 0.0;
    for _ in 0..times {
        // Twice: to read it takes as long as to encode a number.
        let read = clock::now();
        let begun = clock::now();
        let made = black_box(make());
        let ended = clock::now();
        assert!(
            made.is_some(),
            "what can be encoded once, can always be, and decoded"
        );
        sum += clock::seconds(begun, ended) - clock::seconds(read, begun);
    }
    (sum / f64::from(times)).max(0.0)
}

/// The middle one; not a number where there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
