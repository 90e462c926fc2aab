//! One scene as horizontal bars.

use std::ops::Range;
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::combinators::BindKeyPoints;
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
const UNJUDGED: RGBColor = RGBColor(120, 125, 130);

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
        .build_cartesian_2d(
            range.clone().log_scale().with_key_points(ticks(&range)),
            f64::from(rows)..0.0,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .light_line_style(WHITE)
        .x_label_formatter(&|gain| tick_name(*gain))
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

/// Powers of ten; where there are few, numbers between them as well.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let powers = || (-9..=9).map(|power| 10_f64.powi(power));
    let by_steps: [Vec<f64>; 4] = [
        powers().collect(),
        powers()
            .flat_map(|ten| [ten, 2.0 * ten, 5.0 * ten])
            .collect(),
        (1..=9)
            .rev()
            .map(|n| 1.0 / f64::from(n))
            .chain((2..=9).map(f64::from))
            .collect(),
        (5..=15).map(|n| f64::from(n) / 10.0).collect(),
    ];
    let inside = by_steps.map(|ticks| {
        let inside = ticks.into_iter().filter(|tick| range.contains(tick));
        inside.collect::<Vec<_>>()
    });
    let enough = inside.iter().find(|ticks| ticks.len() > 2);
    enough.or(inside.last()).cloned().unwrap_or_default()
}

fn tick_name(gain: f64) -> String {
    let share = 1.0 / gain;
    if gain < 0.55 && (share - share.round()).abs() < 1e-6 {
        format!("1/{share:.0}")
    } else if gain < 1.95 && (gain - 1.0).abs() > 1e-6 {
        format!("{gain:.1}")
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

#[cfg(test)]
mod tests {
    use super::{tick_name, ticks};

    fn names(least: f64, most: f64) -> Vec<String> {
        ticks(&(least..most)).into_iter().map(tick_name).collect()
    }

    #[test]
    fn there_are_enough_ticks_whatever_the_range() {
        assert_eq!(names(0.09, 150.0), ["1/10", "1", "10", "100"]);
        assert_eq!(names(0.4, 3.0), ["1/2", "1", "2"]);
        assert_eq!(names(0.3, 1.3), ["1/3", "1/2", "1"]);
        assert_eq!(names(0.75, 1.3), ["0.8", "0.9", "1", "1.1", "1.2"]);
    }
}
