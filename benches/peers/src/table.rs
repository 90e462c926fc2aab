//! Figures as lines for the terminal.

use crate::figure::{Figure, show_ratio};

pub fn print_header() {
    println!(
        "  {:<26} {:<9} {:>9}  {:<43} {:>9}  {:>7} {:>17}  bar",
        "measure", "ours", "", "peer", "", "ratio", "lowest – highest"
    );
}

pub fn print_row(figure: &Figure) {
    let (lowest, highest) = figure.spread();
    let spread = format!("{} – {}", show_ratio(lowest), show_ratio(highest));
    let bar = figure.bar.map(|bar| bar.to_string()).unwrap_or_default();
    let verdict = figure.verdict().map(|v| v.to_string()).unwrap_or_default();
    println!(
        "  {:<26} {:<9} {:>9}  {:<43} {:>9}  {:>7} {spread:>17}  {bar:<8} {verdict}",
        figure.measure,
        figure.ours,
        figure.unit.show(figure.our_value()),
        figure.peer,
        figure.unit.show(figure.peer_value()),
        show_ratio(figure.ratio()),
    );
}
