//! One scene as horizontal bars.

use std::ops::Range;
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::prelude::{IntoLogRange, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, IntoFont, RGBColor, TextStyle, WHITE};

use crate::Outcome;
use crate::figure::{Figure, Verdict, show_ratio};

const WIDTH: u32 = 1200;
const ROW: u32 = 30;
const AXIS: u32 = 50;
/// Room for the names on the left.
const NAMES: u32 = 560;
const FONT: (&str, u32) = ("sans-serif", 16);

const PASSED: RGBColor = RGBColor(45, 110, 180);
const MISSED: RGBColor = RGBColor(215, 105, 35);
const UNJUDGED: RGBColor = RGBColor(140, 145, 150);

/// Draws how many times better than its peer each is.
pub fn draw(file: &Path, figures: &[&Figure]) -> Outcome<()> {
    let rows = figures.len() as u32;
    let root = SVGBackend::new(file, (WIDTH, rows * ROW + AXIS + 10)).into_drawing_area();
    root.fill(&WHITE)?;
    let range = range(figures);
    let mut chart = ChartBuilder::on(&root)
        .margin_top(10)
        .margin_right(90)
        .x_label_area_size(AXIS)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(range.clone().log_scale(), f64::from(rows)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .light_line_style(WHITE)
        .x_label_formatter(&|gain| power_of_ten(*gain))
        .x_label_style(FONT.into_font())
        .x_desc("times as good as the peer")
        .axis_desc_style(FONT.into_font())
        .draw()?;
    for (row, figure) in figures.iter().enumerate() {
        let top = row as f64;
        let (gain, color) = (figure.gain(), color(figure));
        let middle = top + 0.5;
        let bar = Rectangle::new([(1.0, top + 0.2), (gain, top + 0.8)], color.filled());
        let (worst, best) = figure.gain_spread();
        let spread = PathElement::new([(worst, middle), (best, middle)], BLACK);
        let one = PathElement::new([(1.0, top), (1.0, top + 1.0)], BLACK);
        chart.draw_series([bar])?;
        chart.draw_series([spread, one])?;
        if let Some(asked) = figure.gain_asked() {
            let mark = [(asked, top + 0.05), (asked, top + 0.95)];
            chart.draw_series([PathElement::new(mark, BLACK.stroke_width(3))])?;
        }
        let (_, height) = chart.backend_coord(&(1.0, middle));
        let name = format!("{}: {} / {}", figure.measure, figure.ours, figure.peer);
        let at = (NAMES as i32 - 10, height);
        root.draw(&Text::new(name, at, style(BLACK)))?;
        let at = (WIDTH as i32 - 10, height);
        root.draw(&Text::new(show_ratio(gain), at, style(color)))?;
    }
    root.present()?;
    Ok(())
}

/// Of texts that end where they are put.
fn style(color: RGBColor) -> TextStyle<'static> {
    TextStyle {
        font: FONT.into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(HPos::Right, VPos::Center),
    }
}

/// Room for all that is drawn, and a little more.
fn range(figures: &[&Figure]) -> Range<f64> {
    let (mut least, mut most) = (1.0_f64, 1.0_f64);
    for figure in figures {
        let (worst, best) = figure.gain_spread();
        for gain in [worst, best, figure.gain_asked().unwrap_or(1.0)] {
            least = least.min(gain);
            most = most.max(gain);
        }
    }
    least / 1.3..most * 1.3
}

fn power_of_ten(gain: f64) -> String {
    if gain < 0.9 {
        format!("1/{:.0}", 1.0 / gain)
    } else {
        format!("{gain:.0}")
    }
}

fn color(figure: &Figure) -> RGBColor {
    match figure.verdict() {
        Some(Verdict::Pass) => PASSED,
        Some(Verdict::Miss) => MISSED,
        None => UNJUDGED,
    }
}
