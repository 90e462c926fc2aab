//! The task: throws darts, and counts those that hit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::lanes::{self, Lanes};

/// Throws the darts, and returns four times the number of hits.
pub fn calc_pi(darts: Darts) -> u64 {
    let mut thrower = darts.kernel.thrower(darts.key());
    let mut hits = 0;
    let mut left = darts.samples;
    while left > 0 {
        let batch = left.min(BATCH);
        let gil = darts.gil.hold();
        hits += thrower.throw(batch);
        drop(gil);
        left -= batch;
    }
    4 * hits
}

/// A task's argument. It travels to another process, so serde must know it.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Darts {
    pub kernel: Kernel,
    pub gil: Gil,
    pub seed: u64,
    pub number: u64,
    pub samples: u64,
}

impl Darts {
    /// What a generator starts from: no two tasks share their numbers.
    fn key(self) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.number.to_le_bytes());
        key
    }
}

/// So many darts between two looks at the lock; about what fits the second cache.
const BATCH: u64 = 1 << 15;

/// How darts are thrown.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Kernel {
    Scalar,
    Array,
    Simd,
}

impl Kernel {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Array => "array",
            Self::Simd => "simd",
        }
    }

    pub fn note(self) -> String {
        match self {
            Self::Scalar => "one dart at a time".to_owned(),
            Self::Array => "arrays of coordinates, then a count over them".to_owned(),
            Self::Simd => format!(
                "{} darts at a time, in vectors of {} bits",
                lanes::N,
                lanes::vector_bits()
            ),
        }
    }

    fn thrower(self, key: [u8; 32]) -> Box<dyn Throw> {
        match self {
            Self::Scalar => Box::new(Scalar(StdRng::from_seed(key))),
            Self::Array => Box::new(Array::new(StdRng::from_seed(key))),
            Self::Simd => Box::new(Lanes::new(StdRng::from_seed(key))),
        }
    }
}

trait Throw {
    /// Throws darts, and returns how many hit.
    fn throw(&mut self, darts: u64) -> u64;
}

/// The obvious way to write it.
struct Scalar(StdRng);

impl Throw for Scalar {
    fn throw(&mut self, darts: u64) -> u64 {
        let mut hits = 0;
        for _ in 0..darts {
            let x: f64 = self.0.random_range(-1.0..1.0);
            let y: f64 = self.0.random_range(-1.0..1.0);
            if x * x + y * y < 1.0 {
                hits += 1;
            }
        }
        hits
    }
}

/// What one writes for numpy: each step does all the darts before the next step begins.
struct Array {
    random: StdRng,
    xs: Vec<f64>,
    ys: Vec<f64>,
}

impl Array {
    fn new(random: StdRng) -> Self {
        let (xs, ys) = (Vec::new(), Vec::new());
        Self { random, xs, ys }
    }

    fn fill(coordinates: &mut Vec<f64>, random: &mut StdRng, darts: u64) {
        coordinates.clear();
        coordinates.extend((0..darts).map(|_| random.random_range(-1.0..1.0)));
    }
}

impl Throw for Array {
    fn throw(&mut self, darts: u64) -> u64 {
        Self::fill(&mut self.xs, &mut self.random, darts);
        Self::fill(&mut self.ys, &mut self.random, darts);
        let points = self.xs.iter().zip(&self.ys);
        points.map(|(x, y)| u64::from(x * x + y * y < 1.0)).sum()
    }
}

impl Throw for Lanes {
    fn throw(&mut self, darts: u64) -> u64 {
        Lanes::throw(self, darts)
    }
}

/// Whether throwing takes a lock that the whole process shares.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Gil {
    None,
    Held,
}

impl Gil {
    pub fn note(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Held => ", one lock a process",
        }
    }

    /// Waits for the lock, if there is one. Each process has its own: statics are not shared.
    fn hold(self) -> Option<MutexGuard<'static, ()>> {
        static LOCK: Mutex<()> = Mutex::new(());
        match self {
            Self::None => None,
            Self::Held => Some(LOCK.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}
