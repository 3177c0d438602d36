//! Where is drawn: text, lines and boxes at pixels.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width and height of a picture.
pub(super) const SIZE: (i32, i32) = (900, 500);

/// Colours that the colour-blind tell apart (Okabe and Ito's), without their yellow, which is faint on white.
pub(super) const PALETTE: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(136, 136, 136),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
];

const INK: RGBColor = RGBColor(30, 30, 30);
const FAINT_INK: RGBColor = RGBColor(95, 95, 95);
const GRID: RGBColor = RGBColor(222, 222, 222);

/// Where a text stands, seen from its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// What is drawn on.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// A picture with a title and a caption below, and what `draw` puts between them.
pub(super) fn picture(
    title: &str,
    caption: &str,
    draw: impl FnOnce(&Canvas<'_>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let (width, height) = SIZE;
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let canvas = Canvas {
            area: SVGBackend::with_string(&mut svg, size).into_drawing_area(),
        };
        canvas.area.fill(&WHITE)?;
        canvas.styled(title, (width / 2, 24), 19, Anchor::Middle, INK)?;
        let below = (width - 12, height - 12);
        canvas.styled(caption, below, 12, Anchor::End, FAINT_INK)?;
        draw(&canvas)?;
        canvas.area.present()?;
    }
    Ok(svg)
}

impl Canvas<'_> {
    /// A text whose middle line is at the point's height.
    pub fn text(&self, text: &str, at: (i32, i32), size: i32, anchor: Anchor) -> Result<()> {
        self.styled(text, at, size, anchor, INK)
    }

    /// A text that reads upwards, centred at the point.
    pub fn upward_text(&self, text: &str, at: (i32, i32), size: i32) -> Result<()> {
        let font = font(size).transform(FontTransform::Rotate270);
        let style = TextStyle::from(font).color(&INK);
        let style = style.pos(Pos::new(HPos::Center, VPos::Center));
        Ok(self.area.draw(&Text::new(text, at, style))?)
    }

    /// A line of the grid.
    pub fn grid_line(&self, from: (i32, i32), to: (i32, i32)) -> Result<()> {
        self.line(&[from, to], GRID, 1)
    }

    /// A line that is an axis, or a whisker.
    pub fn thin_line(&self, from: (i32, i32), to: (i32, i32)) -> Result<()> {
        self.line(&[from, to], INK, 1)
    }

    /// A line through these points.
    pub fn line(&self, points: &[(i32, i32)], colour: RGBColor, width: u32) -> Result<()> {
        let style = colour.stroke_width(width);
        Ok(self.area.draw(&PathElement::new(points, style))?)
    }

    /// A line of this style through these points: dashed where an earlier style has its colour.
    pub fn styled_line(&self, points: &[(i32, i32)], style: usize) -> Result<()> {
        if style < PALETTE.len() {
            return self.line(points, colour(style), 2);
        }
        let stroke = colour(style).stroke_width(2);
        let dashes = DashedPathElement::new(points.iter().copied(), 6, 4, stroke);
        Ok(self.area.draw(&dashes)?)
    }

    /// A filled box.
    pub fn fill(&self, corners: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
        Ok(self.area.draw(&Rectangle::new(corners, colour.filled()))?)
    }

    /// The mark of a line's points.
    pub fn mark(&self, at: (i32, i32), style: usize) -> Result<()> {
        let fill = colour(style).filled();
        let (x, y) = at;
        match style % 3 {
            0 => self.area.draw(&Circle::new(at, 4, fill))?,
            1 => self.fill([(x - 4, y - 4), (x + 4, y + 4)], colour(style))?,
            _ => self.area.draw(&TriangleMarker::new(at, 6, fill))?,
        }
        Ok(())
    }

    fn styled(
        &self,
        text: &str,
        at: (i32, i32),
        size: i32,
        anchor: Anchor,
        colour: RGBColor,
    ) -> Result<()> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = TextStyle::from(font(size)).color(&colour);
        let style = style.pos(Pos::new(horizontal, VPos::Center));
        Ok(self.area.draw(&Text::new(text, at, style))?)
    }
}

/// The colour of a line of this style.
fn colour(style: usize) -> RGBColor {
    PALETTE[style % PALETTE.len()]
}

/// More than a text of this size is wide, in pixels, whatever the viewer's font.
#[cfg(test)]
pub(super) fn width(text: &str, size: i32) -> i32 {
    let characters = i32::try_from(text.chars().count()).expect("a short text");
    characters * size * 6 / 10
}

/// A font of this size in pixels: the backend divides by 1.24.
fn font(size: i32) -> FontDesc<'static> {
    ("sans-serif", f64::from(size) * 1.24).into_font()
}
