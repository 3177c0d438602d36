//! Tables on a screen of whatever size: how many lines each gets, and what becomes of those that do not
//! fit. Pure.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::paint::Colour;

/// A title, a row, and how many more there are: with fewer lines a table says nothing.
const LEAST: usize = 3;

/// One row of a table.
pub(super) struct Row {
    pub text: String,
    pub colour: Option<Colour>,
}

impl Row {
    /// In no colour.
    pub fn plain(text: String) -> Self {
        Self { text, colour: None }
    }
}

/// A table.
pub(super) struct Table {
    /// Above the columns.
    pub title: String,
    pub rows: Vec<Row>,
    /// Where the rows are that do not fit: a command.
    pub more: &'static str,
}

impl Table {
    /// How many lines it would take.
    fn wanted(&self) -> usize {
        1 + self.rows.len()
    }

    /// As many lines as there is room for, with what is left out in the last one.
    fn lines(&self, room: usize) -> Vec<(String, Style)> {
        let fits = self.wanted() <= room;
        let shown = match fits {
            true => self.rows.len(),
            false => room.saturating_sub(2),
        };
        let title = (self.title.clone(), style(Some(Colour::Faint)));
        let rows = self.rows[..shown]
            .iter()
            .map(|row| (row.text.clone(), style(row.colour)));
        let hidden = self.rows.len() - shown;
        let rest = (!fits).then(|| {
            let text = format!("and {hidden} more: {}", self.more);
            (text, style(Some(Colour::Faint)))
        });
        let lines = [title].into_iter().chain(rows).chain(rest);
        lines.take(room).collect()
    }
}

/// Tables that stand side by side.
pub(super) struct Section(pub Vec<Table>);

impl Section {
    fn wanted(&self) -> usize {
        self.0.iter().map(Table::wanted).max().unwrap_or(0)
    }

    /// No more than `room` lines, none wider than `width`.
    fn lines(&self, width: usize, room: usize) -> Vec<Line<'static>> {
        let columns: Vec<_> = self.0.iter().map(|table| table.lines(room)).collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(0);
        let wide = column_width(width, columns.len());
        let nothing = (String::new(), Style::new());
        let line = |place: usize| {
            let cells = columns.iter().enumerate().map(|(column, lines)| {
                let (text, style) = lines.get(place).unwrap_or(&nothing);
                let gap = if column == 0 { "" } else { "  " };
                let text = cut(text, wide);
                Span::styled(format!("{gap}{text:wide$}"), *style)
            });
            Line::from(cells.collect::<Vec<_>>())
        };
        (0..height).map(line).collect()
    }
}

/// The width of each of so many columns, two blanks between them.
pub(super) fn column_width(width: usize, columns: usize) -> usize {
    let columns = columns.max(1);
    width.saturating_sub(2 * (columns - 1)) / columns
}

/// All sections that there is room for, a blank line before each.
pub(super) fn stack(sections: &[Section], width: usize, room: usize) -> Vec<Line<'static>> {
    let wanted: Vec<_> = sections
        .iter()
        .map(|section| 1 + section.wanted())
        .collect();
    let mut lines = Vec::new();
    for (section, given) in sections.iter().zip(allot(room, &wanted)) {
        if given > 0 {
            lines.push(Line::default());
            lines.extend(section.lines(width, given - 1));
        }
    }
    lines
}

/// How many lines each section gets, its blank line with it: first what it needs to say anything, the first
/// ones first; then one more for each in turn.
fn allot(room: usize, wanted: &[usize]) -> Vec<usize> {
    let mut left = room;
    let mut given: Vec<_> = wanted
        .iter()
        .map(|&wanted| {
            let least = wanted.min(1 + LEAST);
            let least = if least <= left { least } else { 0 };
            left -= least;
            least
        })
        .collect();
    let mut grows = true;
    while grows {
        grows = false;
        for (given, &wanted) in given.iter_mut().zip(wanted) {
            if (1..wanted).contains(given) && left > 0 {
                *given += 1;
                left -= 1;
                grows = true;
            }
        }
    }
    given
}

/// As much of a text as fits, `…` at the end of what does not.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    match width {
        0 => kept,
        _ => kept + "…",
    }
}

/// The terminal's own colours, as `underpass status` has them.
pub(super) fn style(colour: Option<Colour>) -> Style {
    match colour {
        None => Style::new(),
        Some(Colour::Green) => Style::new().fg(Color::Green),
        Some(Colour::Yellow) => Style::new().fg(Color::Yellow),
        Some(Colour::Red) => Style::new().fg(Color::Red),
        Some(Colour::Faint) => Style::new().add_modifier(Modifier::DIM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shared_out_and_none_is_lost() {
        for (room, wanted, given) in [
            (20, &[5, 4, 3][..], &[5, 4, 3][..]),
            (10, &[9, 9, 2], &[4, 4, 2]),
            (12, &[9, 9, 2], &[5, 5, 2]),
            (6, &[9, 9, 2], &[4, 0, 2]),
            (3, &[9, 9], &[0, 0]),
            (0, &[9], &[0]),
            (9, &[], &[]),
        ] {
            assert_eq!(allot(room, wanted), given, "{room} {wanted:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let rows = (0..5).map(|number| Row::plain(format!("row {number}")));
        let table = Table {
            title: "TITLE".into(),
            rows: rows.collect(),
            more: "elsewhere",
        };
        let section = Section(vec![table]);
        let lines = |room| {
            let lines = section.lines(20, room);
            let text = |line: &Line| line.to_string().trim_end().to_owned();
            lines.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(lines(6).len(), 6);
        assert_eq!(
            lines(4),
            ["TITLE", "row 0", "row 1", "and 3 more: elsewhe…"]
        );
        assert_eq!(lines(1), ["TITLE"]);
        assert_eq!(lines(0), Vec::<String>::new());
    }

    #[test]
    fn a_text_is_cut_by_characters() {
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("ab", 1), "…");
        assert_eq!(cut("ab", 0), "");
    }
}
