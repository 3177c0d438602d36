//! Man pages and completions, made from the command line's own definition.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Writes completions for a shell.
///
/// # Errors
/// Where they cannot be written.
pub fn completions(shell: Shell, out: &mut impl Write) -> Result<()> {
    // clap_complete panics where its writer fails, and a reader may end at any time.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "underpass", &mut script);
    written(out.write_all(&script).and_then(|()| out.flush()))
}

/// Writes the man page of `underpass` itself, or with a directory that and a page for each subcommand
/// into it.
///
/// # Errors
/// Where they cannot be written.
pub fn man(directory: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        Man::new(described()).render(&mut page)?;
        return written(out.write_all(&page).and_then(|()| out.flush()));
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(described(), directory))
        .with_context(|| format!("cannot write man pages into {}", directory.display()))
}

/// The command line; without subcommands `help`, which are no pages.
fn described() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

/// A reader that has seen enough, as `head` does, is no failure.
fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
