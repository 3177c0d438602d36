//! Colours, on a terminal alone.

use std::io::{IsTerminal as _, stdout};

/// A colour of the terminal's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Well.
    Green,
    /// To be looked at.
    Yellow,
    /// Wrong.
    Red,
    /// Beside the point: labels.
    Faint,
}

/// Whether anything is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Text as it is: for pipes, files and tests.
    pub const PLAIN: Self = Self { on: false };

    /// What suits the standard output: colours on a terminal, but not where `NO_COLOR` holds anything
    /// (<https://no-color.org>) or `TERM` is `dumb`.
    pub fn of_stdout() -> Self {
        let says = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::decide(
            stdout().is_terminal(),
            says("NO_COLOR").is_some(),
            says("TERM").is_some_and(|term| term == "dumb"),
        )
    }

    const fn decide(is_terminal: bool, no_color: bool, is_dumb: bool) -> Self {
        Self {
            on: is_terminal && !no_color && !is_dumb,
        }
    }

    /// The text in a colour.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        // ECMA-48, 8.3.117 (SGR).
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
            Colour::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
impl Paint {
    /// Colours, whatever the standard output is.
    pub const COLOURED: Self = Self { on: true };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        for (is_terminal, no_color, is_dumb, coloured) in [
            (true, false, false, true),
            (false, false, false, false),
            (true, true, false, false),
            (true, false, true, false),
        ] {
            let paint = Paint::decide(is_terminal, no_color, is_dumb);
            let shown = paint.paint(Colour::Red, "x");
            assert_eq!(shown == "\x1b[31mx\x1b[0m", coloured, "{shown:?}");
            assert_eq!(shown == "x", !coloured, "{shown:?}");
        }
    }
}
