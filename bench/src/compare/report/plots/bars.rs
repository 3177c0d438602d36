//! Bars that lie, with whiskers: one row a contender, two bars a row.

use anyhow::Result;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, PALETTE, SIZE};
use crate::compare::figure::Figure;
use crate::compare::report::show;
use crate::measure::statistics::Estimate;

/// A chart.
pub(super) struct Bars<'a> {
    pub figure: Figure,
    pub axis: Axis,
    /// What the first bars of all rows show, and the second.
    pub series: [&'a str; 2],
    pub rows: Vec<Row>,
}

/// A row.
pub(super) struct Row {
    pub name: &'static str,
    /// None where it was not measured.
    pub bars: [Option<Estimate>; 2],
}

/// Where the bars lie: left, right, top, bottom.
const LEFT: i32 = 190;
const RIGHT: i32 = SIZE.0 - 70;
const TOP: i32 = 70;
const BOTTOM: i32 = SIZE.1 - 75;

/// How far before them their names end, and how large they are.
const GAP: i32 = 10;
const NAME_SIZE: i32 = 14;

/// Blue and orange, both light enough for a whisker to be seen on them.
const COLOURS: [usize; 2] = [2, 6];

/// From 0 to the highest value or whisker; `None` where there is none.
pub(super) fn axis(figure: Figure, rows: &[Row]) -> Option<Axis> {
    let all = rows.iter().flat_map(|it| it.bars).flatten();
    let highs = all.map(|it| it.interval[1] / unit(figure));
    Axis::from_zero(&show::figure_and_unit(figure), highs)
}

/// What one of the axis is in the figure's own measure.
fn unit(figure: Figure) -> f64 {
    if figure.unit() == "k/s" { 1e3 } else { 1.0 }
}

impl Bars<'_> {
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<()> {
        self.draw_legend(canvas)?;
        draw_axis(canvas, &self.axis)?;
        let height = (BOTTOM - TOP) / i32::try_from(self.rows.len())?;
        for (row, index) in self.rows.iter().zip(0..) {
            let middle = TOP + height * index + height / 2;
            canvas.text(row.name, (LEFT - GAP, middle), NAME_SIZE, Anchor::End)?;
            self.draw_row(canvas, row, middle, height)?;
        }
        canvas.thin_line((LEFT, TOP), (LEFT, BOTTOM))
    }

    fn draw_legend(&self, canvas: &Canvas<'_>) -> Result<()> {
        let is_drawn = |series: usize| self.rows.iter().any(|it| it.bars[series].is_some());
        let series = self.series.iter().zip(COLOURS).enumerate();
        let drawn = series.filter(|(number, _)| is_drawn(*number));
        for ((_, (name, colour)), x) in drawn.zip([LEFT, LEFT + 170]) {
            canvas.fill([(x, 44), (x + 16, 56)], PALETTE[colour])?;
            canvas.text(name, (x + 24, 50), 14, Anchor::Start)?;
        }
        Ok(())
    }

    /// The bars that there are, around the row's middle.
    fn draw_row(&self, canvas: &Canvas<'_>, row: &Row, middle: i32, height: i32) -> Result<()> {
        let thick = (height * 2 / 5).min(24);
        let bars = row.bars.iter().zip(COLOURS);
        let bars: Vec<_> = bars
            .filter_map(|(it, colour)| Some((it.as_ref()?, colour)))
            .collect();
        let mut top = middle - thick * i32::try_from(bars.len())? / 2;
        for (estimate, colour) in bars {
            let place = |value: f64| at(&self.axis, value / unit(self.figure));
            let bar = [(LEFT, top), (place(estimate.median), top + thick - 1)];
            canvas.fill(bar, PALETTE[colour])?;
            let [low, high] = estimate.interval.map(place);
            draw_whisker(canvas, low, high, top + thick / 2)?;
            let beside = (high.max(bar[1].0) + 7, top + thick / 2);
            let text = self.figure.show(estimate.median);
            canvas.text(&text, beside, 12, Anchor::Start)?;
            top += thick;
        }
        Ok(())
    }
}

fn draw_axis(canvas: &Canvas<'_>, axis: &Axis) -> Result<()> {
    for (value, text) in &axis.ticks {
        let x = at(axis, *value);
        canvas.grid_line((x, TOP), (x, BOTTOM))?;
        canvas.text(text, (x, BOTTOM + 14), 13, Anchor::Middle)?;
    }
    let middle = LEFT.midpoint(RIGHT);
    canvas.text(&axis.title, (middle, BOTTOM + 36), 14, Anchor::Middle)
}

fn draw_whisker(canvas: &Canvas<'_>, low: i32, high: i32, y: i32) -> Result<()> {
    canvas.thin_line((low, y), (high, y))?;
    canvas.thin_line((low, y - 3), (low, y + 3))?;
    canvas.thin_line((high, y - 3), (high, y + 3))
}

fn at(axis: &Axis, value: f64) -> i32 {
    LEFT + (axis.place(value) * f64::from(RIGHT - LEFT)).round() as i32
}

/// True where a name fits before the bars.
#[cfg(test)]
pub(super) fn fits(name: &str) -> bool {
    super::canvas::width(name, NAME_SIZE) <= LEFT - GAP
}
