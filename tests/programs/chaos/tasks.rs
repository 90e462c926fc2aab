//! What workers are asked to do: return what they were given, or misbehave in one of many ways.

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::de::{self, Deserializer, Visitor};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};

use crate::support::os;

/// An argument or a result. Its bytes follow from its number.
pub struct Parcel {
    /// Of the task.
    pub id: u64,
    /// Where its own serde code misbehaves.
    trap: Trap,
    /// As [`bytes_of`] makes them.
    bytes: Bytes,
    /// Counts it.
    _live: Live,
}

/// Where a parcel's serde code misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trap {
    Nowhere,
    ErrorInEncoding,
    PanicInEncoding,
    ErrorInDecoding,
    PanicInDecoding,
}

/// What a worker does between its argument and its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    Nothing,
    Sleep(Duration),
    Compute(Duration),
    /// Never ends.
    Stay,
    Panic,
    Exit(i32),
    Abort,
    Segfault,
    KillItself,
    /// Aborts in every other process.
    AbortAtTimes,
    /// Takes this number of bytes of memory.
    Hoard(usize),
    /// Both copies return.
    Fork,
    /// The copy stays for this time, its end of the connection open.
    ForkAndStay(Duration),
    /// Overwrites what the seed says of the memory that is shared with the program, and crashes or returns.
    Scribble(u64),
}

/// The argument of [`work`].
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Comes along.
    pub parcel: Parcel,
    /// What to do with it.
    pub deed: Deed,
    /// How large the result is.
    pub size_back: usize,
    /// Where the result misbehaves.
    pub trap_back: Trap,
}

/// The task.
pub fn work(order: Order) -> Parcel {
    let id = order.parcel.id;
    assert!(order.parcel.is_right(id), "the argument of {id} is mangled");
    match order.deed {
        Deed::Nothing => {}
        Deed::Sleep(time) => std::thread::sleep(time),
        Deed::Compute(time) => compute(time),
        Deed::Stay => loop {
            std::thread::park();
        },
        Deed::Panic => panic!("{}", excuse(id)),
        Deed::Exit(code) => std::process::exit(code),
        Deed::Abort => std::process::abort(),
        Deed::Segfault => os::segfault(),
        Deed::KillItself => os::kill(std::process::id(), libc::SIGKILL),
        Deed::AbortAtTimes if std::process::id() % 2 == 0 => std::process::abort(),
        Deed::AbortAtTimes => {}
        Deed::Hoard(bytes) => drop(black_box(vec![1_u8; bytes])),
        Deed::Fork => {
            os::fork();
        }
        Deed::ForkAndStay(time) => {
            if os::fork() == 0 {
                std::thread::sleep(time);
                os::exit_now(0);
            }
        }
        Deed::Scribble(seed) => scribble(seed),
    }
    Parcel::new(id, order.size_back, order.trap_back)
}

/// The smallest task.
pub fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// What tasks say that fail on purpose.
pub fn excuse(id: u64) -> String {
    format!("on purpose: task {id}.")
}

fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        black_box(mix(black_box(7)));
    }
}

// ---- stray writes ----------------------------------------------------------------------------

fn scribble(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let parts = writable();
    if parts.is_empty() {
        return; // there is no shared memory
    }
    for _ in 0..=random.random_range(0..64) {
        let (start, end) = parts[random.random_range(0..parts.len())];
        let address = start + random.random_range(0..(end - start) / 8) * 8;
        // A word, or a run.
        let run = if random.random_bool(0.7) {
            1
        } else {
            random.random_range(1..512)
        };
        for address in (address..end).step_by(8).take(run) {
            let word: *mut u64 = std::ptr::with_exposed_provenance_mut(address);
            // SAFETY: none: the memory is mapped, but not ours to write. That is what this is about.
            let value = unsafe { word.read_volatile() };
            let value = match random.random_range(0..4) {
                0 => value ^ 1 << random.random_range(0..64),
                1 => random.random(),
                2 => 0,
                _ => u64::MAX,
            };
            // SAFETY: none, as above.
            unsafe { word.write_volatile(value) };
        }
    }
    if random.random_bool(0.5) {
        os::segfault();
    }
}

/// Memory that is shared with the program and that this process can write.
fn writable() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let is_ours = |line: &&str| line.contains(" rw-s ") && line.contains("concurrent-futures");
    let range = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some((address(start)?, address(end)?))
    };
    maps.lines().filter(is_ours).filter_map(range).collect()
}

// ---- parcels ---------------------------------------------------------------------------------

impl Parcel {
    pub fn new(id: u64, size: usize, trap: Trap) -> Self {
        Self {
            id,
            trap,
            bytes: Bytes(bytes_of(id, size)),
            _live: Live::new(),
        }
    }

    /// Whether it is the one of this task, undamaged.
    pub fn is_right(&self, id: u64) -> bool {
        self.id == id && self.bytes.0 == bytes_of(id, self.bytes.0.len())
    }

    pub fn size(&self) -> usize {
        self.bytes.0.len()
    }
}

/// A block that depends on the number, again and again. Its length is odd, so that a piece that is
/// missing, or there twice, does not go unnoticed.
fn bytes_of(id: u64, size: usize) -> Vec<u8> {
    const WORDS: usize = 31;
    let words = (0..WORDS as u64).flat_map(|n| mix(id ^ (n << 56)).to_le_bytes());
    let block: Vec<u8> = words.chain([id as u8]).take(size).collect();
    let mut bytes = block.repeat(size.div_ceil(block.len().max(1)));
    bytes.truncate(size);
    bytes
}

impl Serialize for Parcel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.trap {
            Trap::ErrorInEncoding => Err(ser::Error::custom(excuse(self.id))),
            Trap::PanicInEncoding => panic!("{}", excuse(self.id)),
            _ => (self.id, self.trap, &self.bytes).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Parcel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, trap, bytes) = Deserialize::deserialize(deserializer)?;
        let _live = Live::new();
        match trap {
            Trap::ErrorInDecoding => Err(de::Error::custom(excuse(id))),
            Trap::PanicInDecoding => panic!("{}", excuse(id)),
            _ => Ok(Self {
                id,
                trap,
                bytes,
                _live,
            }),
        }
    }
}

/// Bytes that travel in one piece.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Whole)
    }
}

// ---- what is alive ---------------------------------------------------------------------------

/// How many there are in this process.
static LIVE: AtomicI64 = AtomicI64::new(0);

/// Counted as long as it lives: a value that is leaked is noticed.
pub struct Live(());

impl Live {
    pub fn new() -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// How many there are.
    pub fn count() -> i64 {
        LIVE.load(Ordering::Relaxed)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}
