//! `underpass top`: what goes by, live.
//!
//! A [`Reading`](reading::Reading) is what the maps held at one moment, and two of them tell rates; `frame`
//! puts it onto lines. Both are pure. `read` reads the pins, `terminal` shows them again and again.

mod flows;
mod frame;
mod read;
mod reading;
mod section;
mod terminal;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal as _, stdout};
use std::thread::sleep;

use anyhow::{Result, bail};

use super::print;
use crate::cli::TopArgs;
use crate::datapath::Pins;
use read::read;

pub(super) use frame::frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use reading::Reading;

/// Lines of the frame that `--once` prints, at the most: a small terminal's.
const HEIGHT: usize = 24;

/// Runs `underpass top`.
///
/// # Errors
/// Where there is nothing, the maps cannot be read, or the standard output is no terminal and the view was
/// to be live.
pub fn run(args: &TopArgs) -> Result<()> {
    let pins = Pins::new(&args.pins.bpffs);
    if args.once {
        return once(&pins, args);
    }
    if !stdout().is_terminal() {
        bail!(
            "top needs a terminal (in a pod: kubectl exec -it): --once prints one frame as plain text, status -o json is for programs"
        );
    }
    terminal::run(&pins, args.interval)
}

fn once(pins: &Pins, args: &TopArgs) -> Result<()> {
    let before = read(pins)?;
    sleep(args.interval);
    let mut now = read(pins)?;
    now.since(&before);
    let lines = frame(&now, None, print::WIDTH, HEIGHT);
    let lines = lines
        .iter()
        .map(|line| line.to_string().trim_end().to_owned() + "\n");
    print::write(&lines.collect::<String>()).map(drop)
}
