//! What is sent.

use std::fmt;

use bytemuck::{cast_slice, pod_collect_to_vec};
use clap::ValueEnum;
use concurrent_futures::{Error, Payload, Shared};
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, Seen};
use crate::codec;
use crate::size::Size;

/// Kinds of payload. To add one takes a variant, its names and its values below, and a `Sample`.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Kind {
    /// A number
    #[value(name = "u64")]
    Number,
    /// A struct of ten fields
    #[value(name = "struct")]
    Struct,
    /// Numbers
    #[value(name = "vec-f64")]
    Floats,
    /// Many short texts
    #[value(name = "vec-string")]
    Strings,
    /// Bytes
    #[value(name = "bytes")]
    Bytes,
    /// Numbers that are shared, and sent again and again
    #[value(name = "shared")]
    Shared,
}

impl Kind {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "u64",
            Self::Struct => "struct",
            Self::Floats => "vec-f64",
            Self::Strings => "vec-string",
            Self::Bytes => "bytes",
            Self::Shared => "shared",
        }
    }

    /// The sizes that there are of it.
    pub fn sizes(self) -> impl Iterator<Item = Size> {
        let only = match self {
            Self::Number => Some(Size::new(size_of::<u64>() as u64)),
            Self::Struct => Some(Size::new(size_of::<Struct>() as u64)),
            Self::Floats | Self::Strings | Self::Bytes | Self::Shared => None,
        };
        let steps = Size::steps().filter(move |_| only.is_none());
        only.into_iter().chain(steps)
    }

    /// Sends a value of it, a few times.
    pub fn pass(self, bench: &Bench, size: Size, seen: &mut Seen) -> Result<(), Error> {
        match self {
            Self::Number => bench.pass(&u64::MAX, size, seen),
            Self::Struct => bench.pass(&Struct::default(), size, seen),
            Self::Floats => bench.pass(&vec![0.5; size.count(size_of::<f64>())], size, seen),
            Self::Strings => bench.pass(&texts(size), size, seen),
            Self::Bytes => bench.pass(&vec![7_u8; size.count(1)], size, seen),
            Self::Shared => {
                let numbers = vec![0.5_f64; size.count(size_of::<f64>())];
                bench.pass(&Shared::from_vec(numbers), size, seen)
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Number => "u64",
            Self::Struct => "struct of ten fields",
            Self::Floats => "Vec<f64>",
            Self::Strings => "Vec<String>",
            Self::Bytes => "Vec<u8>",
            Self::Shared => "Shared<f64>",
        })
    }
}

/// A value that is sent, and how the crate makes bytes of it.
pub trait Sample: Payload + Clone {
    /// Into memory that is used again, as the crate's is. `None`: it has no bytes outside of a pool.
    fn encode(&self, into: &mut Vec<u8>) -> Option<()> {
        codec::encode(self, into)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes)
    }
}

impl Sample for u64 {}
impl Sample for Struct {}
impl Sample for Vec<String> {}

/// A reference to a region, which cannot be made or read outside of a pool.
impl Sample for Shared<f64> {
    fn encode(&self, _: &mut Vec<u8>) -> Option<()> {
        None
    }

    fn decode(_: &[u8]) -> Option<Self> {
        None
    }
}

/// One copy, since the value is its bytes.
impl Sample for Vec<f64> {
    fn encode(&self, into: &mut Vec<u8>) -> Option<()> {
        into.extend_from_slice(cast_slice(self));
        Some(())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(pod_collect_to_vec(bytes))
    }
}

/// One copy, since the value is its bytes.
impl Sample for Vec<u8> {
    fn encode(&self, into: &mut Vec<u8>) -> Option<()> {
        into.extend_from_slice(self);
        Some(())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

/// What a small task may be told.
#[derive(Clone, Serialize, Deserialize)]
pub struct Struct {
    number: u64,
    seed: u64,
    samples: u64,
    width: u32,
    height: u32,
    x: f64,
    y: f64,
    scale: f64,
    name: String,
    note: Option<String>,
}

impl Default for Struct {
    fn default() -> Self {
        Self {
            number: 12,
            seed: 0x1234_5678_9abc_def0,
            samples: 1_000_000,
            width: 1920,
            height: 1080,
            x: -0.75,
            y: 0.1,
            scale: 1e-3,
            name: "mandelbrot".to_owned(),
            note: None,
        }
    }
}

/// Texts of `size` bytes in all, 16 bytes each.
fn texts(size: Size) -> Vec<String> {
    let length = size.count(1).min(16);
    vec!["sixteen letters.".chars().take(length).collect(); size.count(16)]
}
