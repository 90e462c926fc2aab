//! How big payloads are.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Size(u64);

/// Units, the biggest first.
const UNITS: [(u64, &str); 4] = [
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
    (1, "B"),
];

impl Size {
    pub const QUICK: Self = Self(256 << 10);
    pub const MOST: Self = Self(256 << 20);

    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From 8 B to 256 MiB, in steps of eight times where that fits.
    pub fn steps() -> impl Iterator<Item = Self> {
        let steps = (1..=9).map(|power| Self(1 << (3 * power)));
        steps.chain([Self::MOST])
    }

    pub fn bytes(self) -> u64 {
        self.0
    }

    /// How many values of `each` bytes it takes; at least one.
    pub fn count(self, each: usize) -> usize {
        let bytes = usize::try_from(self.0).expect("it fits into memory");
        (bytes / each).max(1)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().find(|(unit, _)| self.0 >= *unit);
        let (unit, name) = fits.copied().unwrap_or((1, "B"));
        f.pad(&format!("{} {name}", self.0 / unit))
    }
}

/// A number, with or without a unit: `4096`, `64KiB`, `1 MiB`.
impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find(|(_, name)| text.ends_with(name));
        let number = unit.map_or(text, |(_, name)| text.trim_end_matches(name));
        let number: u64 = number.trim().parse().map_err(|_| "write it as 64KiB")?;
        let bytes = number.checked_mul(unit.map_or(1, |(unit, _)| *unit));
        bytes.map(Self).ok_or_else(|| "that is too much".to_owned())
    }
}
