//! Printing: tables for people, JSON for programs.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::Output;

/// Prints `report` in the form asked for; `text` makes what people read.
///
/// # Errors
/// Where it cannot be put into JSON, a defect, or cannot be written.
pub fn print<R: Serialize>(
    output: Output,
    report: &R,
    text: impl FnOnce(&R) -> String,
) -> Result<()> {
    write(&form(output, report, text)?).map(drop)
}

/// `report` in the form asked for, ended by a line feed.
///
/// # Errors
/// Where it cannot be put into JSON, a defect.
pub fn form<R: Serialize>(
    output: Output,
    report: &R,
    text: impl FnOnce(&R) -> String,
) -> Result<String> {
    let shown = match output {
        Output::Text => text(report).trim_end().to_owned(),
        Output::Json => {
            serde_json::to_string_pretty(report).context("cannot write the report as JSON")?
        }
    };
    Ok(shown + "\n")
}

/// Writes to the standard output. False: whoever reads it has seen enough, as in
/// `underpass status | head -3`.
///
/// # Errors
/// Where it cannot be written.
pub fn write(text: &str) -> Result<bool> {
    let mut output = io::stdout();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written
            .map(|()| true)
            .context("cannot write to the standard output"),
    }
}

/// A table without frames: columns aligned, two blanks between them.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

/// Text up to its first zero byte, with nothing in it that could break a line or steer a terminal.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).replace(char::is_control, "\u{fffd}")
}

/// Columns of a screen.
pub const WIDTH: usize = 80;

/// Breaks a text so that no line is wider than [`WIDTH`] once `indent` stands before each, also before the
/// first, which is left to the caller. A word that is wider than a line is cut.
pub fn fold(text: &str, indent: &str) -> String {
    let room = WIDTH - indent.chars().count();
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let wide: Vec<char> = word.chars().collect();
        for (part, piece) in wide.chunks(room).enumerate() {
            let blank = usize::from(part == 0 && used > 0);
            if used + blank + piece.len() > room {
                lines.push(String::new());
                used = 0;
            } else if blank == 1 {
                used += 1;
                lines.last_mut().expect("there is one").push(' ');
            }
            used += piece.len();
            lines.last_mut().expect("there is one").extend(piece);
        }
    }
    lines.join(&format!("\n{indent}"))
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// An interface's name, or its number where it has none any more.
pub fn interface(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("#{ifindex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn text_ends_at_its_first_zero() {
        assert_eq!(text(b"node-1\0\0\0"), "node-1");
        assert_eq!(text(b"full"), "full");
        assert_eq!(text(b""), "");
        assert_eq!(text(b"a\x1b[31m\nb\xff"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_no_word_is_lost() {
        let words = "some words of various lengths, ".repeat(9);
        let long = "x".repeat(200);
        let text = format!("{words}{long} end");
        let folded = format!("    {}", fold(&text, "    "));
        let lines: Vec<_> = folded.lines().collect();
        assert!(lines.len() > 6);
        for line in &lines {
            assert!(
                line.chars().count() <= WIDTH && line.starts_with("    "),
                "{line:?}"
            );
        }
        let letters = |text: &str| text.replace([' ', '\n'], "");
        assert_eq!(letters(&folded), letters(&text));
        assert_eq!(fold("short", "  "), "short");
        assert_eq!(fold("", "  "), "");
    }

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let shown = table(
            ["NAME", "N"],
            [["a".into(), "1".into()], ["longer".into(), "22".into()]],
        );
        assert_eq!(shown, "NAME    N\na       1\nlonger  22\n");
    }
}
