//! What was measured, for the terminal.

use crate::payload::Kind;
use crate::row::{NAMES, Row, WORTH};

/// A table for each kind of payload and codec.
pub fn print(rows: &[Row]) {
    let mut codecs: Vec<_> = rows.iter().map(|row| &row.codec).collect();
    codecs.dedup();
    for codec in codecs {
        for kind in Kind::all() {
            let rows = rows.iter().filter(|row| row.kind == *kind);
            let rows: Vec<_> = rows.filter(|row| row.codec == *codec).collect();
            if !rows.is_empty() {
                println!("{kind}, codec {codec}");
                print_table(rows);
                println!();
            }
        }
    }
    println!(
        "So long must a task last to spend only a tenth of its time on the way: \"must last\"."
    );
}

fn print_table(mut rows: Vec<&Row>) {
    // Executors stand below each other: they are what is compared.
    rows.sort_by_key(|row| row.size.bytes());
    print!("{:>8}  {:<25}  {:>11}", "size", "executor", "encoded");
    for name in NAMES {
        print!("  {:>width$}", name, width = width(name));
    }
    println!("  {:>9}", "must last");
    for row in rows {
        let encoded = row.encoded.map(|bytes| format!("{bytes} B"));
        let encoded = encoded.unwrap_or_else(|| "–".to_owned());
        print!("{:>8}  {:<25}  {encoded:>11}", row.size, row.executor);
        for (name, value) in NAMES.iter().zip(row.times.values()) {
            print!("  {:>width$}", show(value), width = width(name));
        }
        println!("  {:>9}", show(WORTH * row.times.total));
    }
}

fn width(name: &str) -> usize {
    name.len().max("888 µs".chars().count())
}

/// Seconds for people to read; a dash for what was not measured.
pub fn show(seconds: f64) -> String {
    if seconds.is_nan() {
        return "–".to_owned();
    }
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
    // What three digits would round up to the next unit, has it.
    let fits = units.iter().find(|(unit, _)| seconds >= 0.9995 * unit);
    let (unit, name) = fits.copied().unwrap_or(units[3]);
    let value = seconds / unit;
    let digits = match value {
        _ if name == "ns" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {name}")
}
