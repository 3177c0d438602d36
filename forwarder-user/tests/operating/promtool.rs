//! Prometheus' own checker.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use underpass_bench::skip;

/// Where `cargo xtask setup` puts it.
const OURS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/tools/promtool/promtool"
);

/// Runs `promtool ARGUMENTS` in `deploy/prometheus` with `input`; everything that it complains of is an error.
/// Where there is none, says so for `test`.
pub fn promtool(test: &str, arguments: &[&str], input: &str) -> Result<()> {
    let program = if Path::new(OURS).exists() {
        OURS
    } else {
        "promtool"
    };
    let child = Command::new(program)
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(
                test,
                "there is no promtool here: `cargo xtask setup` brings it",
            );
            return Ok(());
        }
        child => child.context("cannot start promtool")?,
    };
    let mut stdin = child.stdin.take().context("it has no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    ensure!(
        output.status.success(),
        "promtool {}:\n{told}",
        arguments.join(" ")
    );
    Ok(())
}
