//! Times against sizes, both on logarithmic axes, as a picture.

use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, DashedPathElement, Text};
use plotters::prelude::{IntoLogRange, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, IntoFont, RGBColor, TextStyle, WHITE};

use crate::Outcome;
use crate::size::Size;
use crate::table::show;

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 700;
/// Room for what lines are called, to the right of them.
const LEGEND: u32 = 310;
/// How long a line in the legend is.
const SAMPLE: i32 = 40;
/// Between two lines of the legend.
const SPACING: i32 = 26;
const FONT: (&str, u32) = ("sans-serif", 16);
const TITLE: (&str, u32) = ("sans-serif", 22);

const COLORS: [RGBColor; 8] = [
    RGBColor(45, 110, 180),
    RGBColor(215, 105, 35),
    RGBColor(60, 145, 75),
    RGBColor(135, 80, 165),
    RGBColor(140, 145, 150),
    RGBColor(190, 155, 20),
    RGBColor(0, 0, 0),
    RGBColor(195, 45, 70),
];

pub struct Picture {
    pub title: String,
    pub lines: Vec<Line>,
    /// What stands below the names of the lines.
    pub notes: Vec<(Option<Look>, String)>,
}

pub struct Line {
    /// Empty: it is not in the legend.
    name: String,
    color: RGBColor,
    look: Look,
    /// Sizes in bytes, times in seconds.
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Look {
    Unbroken,
    Dashed,
    Dotted,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Line {
    /// Times that were not measured are left out.
    pub fn new(name: String, color: usize, look: Look, points: Vec<(Size, f64)>) -> Self {
        let seen = points.into_iter().filter(|(_, seconds)| *seconds > 0.0);
        let points = seen.map(|(size, seconds)| (size.bytes() as f64, seconds));
        Self {
            name,
            color: COLORS[color % COLORS.len()],
            look,
            points: points.collect(),
        }
    }
}

impl Look {
    /// The first unbroken, the others dashed.
    pub fn of(number: usize) -> Self {
        match number {
            0 => Self::Unbroken,
            _ => Self::Dashed,
        }
    }

    /// Of a dash, and of the gap behind it.
    fn lengths(self) -> (i32, i32) {
        match self {
            Self::Unbroken => (WIDTH as i32, 0),
            Self::Dashed => (9, 6),
            Self::Dotted => (2, 5),
        }
    }
}

impl Picture {
    /// Nothing, if there are no lines to draw.
    pub fn draw(&self, file: &Path) -> Outcome<()> {
        let lengths = self.lines.iter().map(|line| line.points.len());
        if lengths.max().is_none_or(|most| most == 0) {
            return Ok(());
        }
        let root = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (plot, legend) = root.split_horizontally(WIDTH - LEGEND);
        self.draw_lines(&plot)?;
        self.draw_legend(&legend)?;
        root.present()?;
        println!("drawn: {}", file.display());
        Ok(())
    }

    fn draw_lines(&self, area: &Area<'_>) -> Outcome<()> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let (sizes, times): (Vec<_>, Vec<_>) = points.copied().unzip();
        let (sizes, times) = (powers(8.0, &sizes), powers(10.0, &times));
        let across = sizes[0] / 1.4..sizes[sizes.len() - 1] * 1.4;
        let up = times[0]..times[times.len() - 1];
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, TITLE.into_font())
            .margin(10)
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d(
                across.log_scale().with_key_points(sizes),
                up.log_scale().with_key_points(times),
            )?;
        chart
            .configure_mesh()
            .x_label_formatter(&|bytes| Size::new(bytes.round() as u64).to_string())
            .y_label_formatter(&|time| show(*time).replace(".00", "").replace(".0", ""))
            .label_style(FONT.into_font())
            .x_desc("size of the argument")
            .axis_desc_style(FONT.into_font())
            .draw()?;
        for line in &self.lines {
            chart.draw_series([line.path(line.points.clone())])?;
            if line.look != Look::Dotted {
                let circle = |point| line.circle(point);
                chart.draw_series(line.points.iter().copied().map(circle))?;
            }
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>) -> Outcome<()> {
        let mut height = 70;
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            if line.points.len() > 1 {
                area.draw(&line.path(vec![(0, height), (SAMPLE, height)]))?;
            }
            area.draw(&line.circle((SAMPLE / 2, height)))?;
            area.draw(&text(&line.name, height))?;
            height += SPACING;
        }
        height += SPACING / 2;
        for (look, note) in &self.notes {
            if let Some(look) = look {
                let line = Line::new(String::new(), 0, *look, Vec::new());
                area.draw(&line.path(vec![(0, height), (SAMPLE, height)]))?;
            }
            area.draw(&text(note, height))?;
            height += SPACING;
        }
        Ok(())
    }
}

impl Line {
    fn path<P: Clone>(&self, points: Vec<P>) -> DashedPathElement<std::vec::IntoIter<P>, i32> {
        let (dash, gap) = self.look.lengths();
        DashedPathElement::new(points, dash, gap, self.color.stroke_width(2))
    }

    /// A point alone must be seen under the lines of others, and tell by itself how it looks.
    fn circle<P>(&self, point: P) -> Circle<P, i32> {
        match (self.points.len(), self.look) {
            (1, Look::Unbroken) => Circle::new(point, 6, self.color.filled()),
            (1, _) => Circle::new(point, 8, self.color.stroke_width(2)),
            _ => Circle::new(point, 3, self.color.filled()),
        }
    }
}

/// A text of the legend, beside its sample.
fn text(text: &str, height: i32) -> Text<'_, (i32, i32), &str> {
    let style = TextStyle {
        font: FONT.into_font(),
        color: BLACK.to_backend_color(),
        pos: Pos::new(HPos::Left, VPos::Center),
    };
    Text::new(text, (SAMPLE + 10, height), style)
}

/// The powers around some numbers.
fn powers(base: f64, numbers: &[f64]) -> Vec<f64> {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(0.0, f64::max);
    let (first, last) = (least.log(base).floor() as i32, most.log(base).ceil() as i32);
    (first..=last.max(first + 1))
        .map(|power| base.powi(power))
        .collect()
}
