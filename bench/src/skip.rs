//! Tests say so where they can't run.

use std::fs::OpenOptions;
use std::io::Write;

/// True for root. Otherwise says `SKIP <test>: needs root` on standard error and in the file that the
/// environment variable `UNDERPASS_SKIP_LOG` names, so that a skipped test is never taken for a
/// passed one.
///
/// ```no_run
/// # fn test() {
/// if !underpass_bench::root_or_skip("clusterip") {
///     return;
/// }
/// # }
/// ```
#[must_use]
pub fn root_or_skip(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    skip(test, "needs root");
    false
}

/// Says `SKIP <test>: <reason>` on standard error and in the file that the environment variable
/// `UNDERPASS_SKIP_LOG` names. The test then returns as if it had passed: libtest knows nothing else.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("UNDERPASS_SKIP_LOG") {
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut log| log.write_all(line.as_bytes()));
        if let Err(error) = written {
            eprintln!("{}: {error}", path.display());
        }
    }
}
