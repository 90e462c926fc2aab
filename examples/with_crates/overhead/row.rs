//! What was measured of one payload, and how it is kept in files.

use std::fmt::Write as _;

use clap::ValueEnum;

use crate::Outcome;
use crate::bench::Seen;
use crate::codec;
use crate::executor::Where;
use crate::payload::Kind;
use crate::size::Size;

pub struct Row {
    pub codec: String,
    pub executor: Where,
    pub kind: Kind,
    pub size: Size,
    /// How many bytes the codec makes of it; `None` where nothing is encoded.
    pub encoded: Option<u64>,
    pub times: Times,
}

/// Medians, in seconds; not a number where nothing was measured.
pub struct Times {
    pub encode: f64,
    pub hand_over: f64,
    pub wake: f64,
    pub decode: f64,
    /// The argument is dropped.
    pub release: f64,
    pub back: f64,
    pub total: f64,
    pub echo: f64,
}

/// The names of the times, in the order of `Times::values`.
pub const NAMES: [&str; 8] = [
    "encode",
    "hand over",
    "wake",
    "decode",
    "drop",
    "result back",
    "total",
    "echo",
];

/// How many times as long a task must last, for a tenth of it to be spent on the way.
pub const WORTH: f64 = 10.0;

const HEADER: &str =
    "codec,executor,kind,size,encoded,encode,hand over,wake,decode,drop,result back,total,echo";

impl Row {
    /// Of this program, which has one codec.
    pub fn new(executor: Where, kind: Kind, size: Size, seen: Seen) -> Self {
        Self {
            codec: codec::NAME.to_owned(),
            executor,
            kind,
            size,
            encoded: seen.encoded(),
            times: seen.times(),
        }
    }

    fn of_line(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let (names, numbers) = fields.split_at_checked(5)?;
        let numbers = numbers.iter().map(|number| number.parse().ok());
        let numbers: Vec<f64> = numbers.collect::<Option<_>>()?;
        Some(Self {
            codec: names[0].to_owned(),
            executor: Where::from_str(names[1], false).ok()?,
            kind: Kind::from_str(names[2], false).ok()?,
            size: names[3].parse().ok()?,
            encoded: match names[4] {
                "" => None,
                number => Some(number.parse().ok()?),
            },
            times: Times::of(numbers.try_into().ok()?),
        })
    }
}

impl Times {
    pub fn values(&self) -> [f64; NAMES.len()] {
        [
            self.encode,
            self.hand_over,
            self.wake,
            self.decode,
            self.release,
            self.back,
            self.total,
            self.echo,
        ]
    }

    fn of(values: [f64; NAMES.len()]) -> Self {
        let [encode, hand_over, wake, decode, release, back, total, echo] = values;
        Self {
            encode,
            hand_over,
            wake,
            decode,
            release,
            back,
            total,
            echo,
        }
    }
}

pub fn to_csv(rows: &[Row]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        let (codec, executor, kind) = (&row.codec, row.executor.name(), row.kind.name());
        let size = row.size.bytes();
        let encoded = row.encoded.map(|bytes| bytes.to_string());
        let encoded = encoded.unwrap_or_default();
        let times = row.times.values().map(|time| format!("{time:e}"));
        let times = times.join(",");
        writeln!(text, "{codec},{executor},{kind},{size},{encoded},{times}")
            .expect("strings take all");
    }
    text
}

/// # Errors
/// Which line is none of `to_csv`.
pub fn from_csv(text: &str) -> Outcome<Vec<Row>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("not written by --csv".into());
    }
    let row = |line| Row::of_line(line).ok_or_else(|| format!("not understood: {line}").into());
    lines.map(row).collect()
}
