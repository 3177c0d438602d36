//! Lines with marks, and their names beside them.

use anyhow::Result;

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, SIZE};

/// A chart.
pub(super) struct Lines {
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// A line.
pub(super) struct Line {
    pub name: String,
    /// Which colour and mark it has; as many differ as anybody can tell apart.
    pub style: usize,
    /// Ascending.
    pub points: Vec<(f64, f64)>,
}

/// Where the lines lie.
const LEFT: i32 = 75;
const RIGHT: i32 = SIZE.0 - 300;
const TOP: i32 = 55;
const BOTTOM: i32 = SIZE.1 - 75;

/// How far beside them their names stand, and how large.
const NAME: i32 = 52;
const NAME_SIZE: i32 = 13;

/// So many marks has a line at most.
const MARKS: usize = 10;

/// All values of all lines.
pub(super) fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    let points = lines.iter().flat_map(|line| &line.points);
    points.map(|(_, value)| *value)
}

impl Lines {
    pub fn draw(&self, canvas: &Canvas<'_>) -> Result<()> {
        self.draw_axes(canvas)?;
        for line in &self.lines {
            let points: Vec<_> = line.points.iter().map(|it| self.at(*it)).collect();
            canvas.styled_line(&points, line.style)?;
            // A dense line needs no mark at each of its points.
            for point in points
                .iter()
                .rev()
                .step_by(points.len().div_ceil(MARKS).max(1))
            {
                canvas.mark(*point, line.style)?;
            }
        }
        self.draw_names(canvas)
    }

    fn draw_axes(&self, canvas: &Canvas<'_>) -> Result<()> {
        for (value, text) in &self.x.ticks {
            let x = horizontal(&self.x, *value);
            canvas.grid_line((x, TOP), (x, BOTTOM))?;
            canvas.text(text, (x, BOTTOM + 14), 13, Anchor::Middle)?;
        }
        for (value, text) in &self.y.ticks {
            let y = vertical(&self.y, *value);
            canvas.grid_line((LEFT, y), (RIGHT, y))?;
            canvas.text(text, (LEFT - 8, y), 13, Anchor::End)?;
        }
        canvas.thin_line((LEFT, TOP), (LEFT, BOTTOM))?;
        canvas.thin_line((LEFT, BOTTOM), (RIGHT, BOTTOM))?;
        let below = (LEFT.midpoint(RIGHT), BOTTOM + 36);
        canvas.text(&self.x.title, below, 14, Anchor::Middle)?;
        canvas.upward_text(&self.y.title, (22, TOP.midpoint(BOTTOM)), 14)
    }

    /// In the order in which the lines end, highest first.
    fn draw_names(&self, canvas: &Canvas<'_>) -> Result<()> {
        let mut lines: Vec<_> = self.lines.iter().collect();
        let end = |line: &Line| line.points.last().map_or(0.0, |(_, value)| *value);
        lines.sort_by(|one, other| end(other).total_cmp(&end(one)));
        let room = (BOTTOM - TOP) / i32::try_from(lines.len().max(1))?;
        let step = room.min(24);
        for (line, index) in lines.into_iter().zip(0..) {
            let y = TOP + 8 + step * index;
            let x = RIGHT + 18;
            canvas.styled_line(&[(x, y), (x + 26, y)], line.style)?;
            canvas.mark((x + 13, y), line.style)?;
            canvas.text(&line.name, (RIGHT + NAME, y), NAME_SIZE, Anchor::Start)?;
        }
        Ok(())
    }

    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (horizontal(&self.x, x), vertical(&self.y, y))
    }
}

fn horizontal(axis: &Axis, value: f64) -> i32 {
    LEFT + (axis.place(value) * f64::from(RIGHT - LEFT)).round() as i32
}

fn vertical(axis: &Axis, value: f64) -> i32 {
    BOTTOM - (axis.place(value) * f64::from(BOTTOM - TOP)).round() as i32
}

/// True where a name fits beside the lines.
#[cfg(test)]
pub(super) fn fits(name: &str) -> bool {
    RIGHT + NAME + super::canvas::width(name, NAME_SIZE) <= SIZE.0
}
