//! Many darts at a time: each lane of a vector is a generator of its own.
//!
//! There is no instruction of any processor in here, only loops over arrays of a fixed length. The
//! compiler turns them into vector instructions: once for AVX-512, once for AVX2, once for any
//! processor. `multiversion` picks among them when the program runs.

use multiversion::multiversion;
use multiversion::target::match_target;
use rand::Rng;
use rand::rngs::StdRng;

/// Lanes: two vectors of AVX-512, four of AVX2. One vector waits while the other is computed.
pub const N: usize = 32;

/// A number for each lane.
type Vector<T> = [T; N];

/// xoshiro128+ by Blackman and Vigna, in every lane. Its low bits are weak, and `f32` drops them.
pub struct Lanes {
    state: [Vector<u32>; 4],
}

impl Lanes {
    pub fn new(mut random: StdRng) -> Self {
        let state = std::array::from_fn(|_| std::array::from_fn(|_| random.random()));
        Self { state }
    }

    /// Throws darts, and returns how many hit.
    pub fn throw(&mut self, darts: u64) -> u64 {
        let lanes = N as u64;
        let last = usize::try_from(darts % lanes).expect("below the number of lanes");
        throw_rounds(self, darts / lanes) + u64::from(self.throw_once()[..last].iter().sum::<u32>())
    }

    /// One dart a lane: 1 where it hits.
    #[inline(always)]
    fn throw_once(&mut self) -> Vector<u32> {
        let (x, y) = (self.next(), self.next());
        std::array::from_fn(|lane| {
            // Whole numbers from -2^31 to 2^31 are the square, and 2^31 is the circle's radius.
            let (x, y) = (x[lane] as f32, y[lane] as f32);
            u32::from(x * x + y * y < RADIUS * RADIUS)
        })
    }

    /// The next number of each lane.
    #[inline(always)]
    fn next(&mut self) -> Vector<i32> {
        let [s0, s1, s2, s3] = &mut self.state;
        std::array::from_fn(|lane| {
            let next = s0[lane].wrapping_add(s3[lane]);
            let shifted = s1[lane] << 9;
            s2[lane] ^= s0[lane];
            s3[lane] ^= s1[lane];
            s1[lane] ^= s2[lane];
            s0[lane] ^= s3[lane];
            s2[lane] ^= shifted;
            s3[lane] = s3[lane].rotate_left(11);
            next as i32
        })
    }
}

const RADIUS: f32 = 2_147_483_648.0;

/// So many rounds of darts, compiled for several processors. Vectors stay in registers meanwhile.
// Rust speaks AVX-512 since 1.89.
#[rustversion::attr(since(1.89), multiversion(targets("x86_64+avx512f", "x86_64+avx2")))]
#[rustversion::attr(before(1.89), multiversion(targets("x86_64+avx2")))]
fn throw_rounds(lanes: &mut Lanes, rounds: u64) -> u64 {
    let mut hits = [0; N];
    for _ in 0..rounds {
        let hit = lanes.throw_once();
        for lane in 0..N {
            hits[lane] += hit[lane];
        }
    }
    hits.into_iter().map(u64::from).sum()
}

/// The bits of a vector, as `throw_rounds` is compiled for this processor.
#[rustversion::attr(since(1.89), multiversion(targets("x86_64+avx512f", "x86_64+avx2")))]
#[rustversion::attr(before(1.89), multiversion(targets("x86_64+avx2")))]
pub fn vector_bits() -> u32 {
    match_target! {
        "x86_64+avx512f" => 512,
        "x86_64+avx2" => 256,
        _ => 128,
    }
}
