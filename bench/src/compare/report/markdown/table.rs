//! A table in Markdown.

use std::fmt;

/// Columns with a title; the first ones, of text, are aligned to the left, the others to the right.
pub(super) struct Table {
    text_columns: usize,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<T: Into<String>>(text_columns: usize, header: impl IntoIterator<Item = T>) -> Self {
        Self {
            text_columns,
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with as many cells as there are columns.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let row: Vec<_> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(row.len(), self.header.len(), "{row:?}");
        self.rows.push(row);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ruler =
            (0..self.header.len()).map(|it| if it < self.text_columns { ":--" } else { "--:" });
        writeln!(f, "{}", line(&self.header))?;
        writeln!(f, "{}", line(&ruler.map(str::to_owned).collect::<Vec<_>>()))?;
        for row in &self.rows {
            writeln!(f, "{}", line(row))?;
        }
        Ok(())
    }
}

fn line(cells: &[String]) -> String {
    // A bar within a cell would end it.
    let cells: Vec<_> = cells.iter().map(|it| it.replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_header_a_ruler_and_its_rows() {
        let mut table = Table::new(1, ["who", "Gb/s"]);
        assert!(table.is_empty());
        table.row(["a|b", "14.1"]);
        let text = "| who | Gb/s |\n| :-- | --: |\n| a\\|b | 14.1 |\n";
        assert_eq!(table.to_string(), text);
    }
}
