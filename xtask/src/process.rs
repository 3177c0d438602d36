//! Programs: finding them, running them, running them as root.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::terminal::{Progress, yellow};

/// Where Debian keeps network tools; an ordinary user's PATH often lacks them.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// PATH, with the folders of the system's tools at its end.
pub fn search_path() -> OsString {
    path_and(SYSTEM_DIRS.map(PathBuf::from))
}

/// PATH, with `dirs` at its end.
pub fn path_and(dirs: impl IntoIterator<Item = PathBuf>) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let all: Vec<_> = env::split_paths(&path).chain(dirs).collect();
    // A folder with a colon in its name cannot stand in PATH at all.
    env::join_paths(all).unwrap_or(path)
}

/// Finds a program as a shell would, and in the system's folders besides.
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path))
}

/// Whether `path` is a file that may be run.
pub fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this process has the effective user root: who owns /proc/self tells it without a line of C.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// A command that runs `program` as root with `env` set: itself, or through sudo, which drops the environment
/// and may ask for a password; so it says first what root is needed for.
///
/// # Errors
/// Not root, and no sudo on this machine.
pub fn as_root(
    program: impl AsRef<OsStr>,
    env: &[(&str, OsString)],
    purpose: &str,
) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    }
    let Some(sudo) = find_program("sudo") else {
        bail!(
            "root is needed to {purpose}, and this machine has no sudo: run the same task as root"
        );
    };
    eprintln!("{} root is needed to {purpose}", yellow("sudo:"));
    let mut command = Command::new(sudo);
    command.args(["--", "env"]);
    for (name, value) in env {
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}

/// Runs a command to its end and shows what it prints, on stderr, which leaves stdout to the task's own answer.
///
/// # Errors
/// It cannot be started, or does not end with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let to_stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .context("duplicating stderr")?;
    command.stdout(to_stderr);
    check(command, |command| command.status(), |status| *status)?;
    Ok(())
}

/// Runs a command to its end and keeps what it prints, for the caller to judge together with its status.
///
/// # Errors
/// It cannot be started.
pub fn capture(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", name_of(command)))
}

/// Like [`capture`], with a sign of life that says `what` goes on.
///
/// # Errors
/// It cannot be started.
pub fn capture_slow(what: &str, command: &mut Command) -> Result<Output> {
    let _progress = Progress::start(what);
    capture(command)
}

/// What a command prints on stdout, without the line end; its stderr is shown.
///
/// # Errors
/// It cannot be started, does not end with 0, or prints no UTF-8.
pub fn read(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    let output = check(command, |command| command.output(), |output| output.status)?;
    let text = String::from_utf8(output.stdout);
    Ok(text
        .with_context(|| format!("{} printed no UTF-8", name_of(command)))?
        .trim_end()
        .to_owned())
}

fn check<T>(
    command: &mut Command,
    run: impl FnOnce(&mut Command) -> io::Result<T>,
    status: impl FnOnce(&T) -> ExitStatus,
) -> Result<T> {
    let done = run(command).with_context(|| format!("starting {}", name_of(command)))?;
    let status = status(&done);
    if !status.success() {
        bail!("{} failed: {status}", name_of(command));
    }
    Ok(done)
}

/// The command as one would type it, its program without folders.
pub fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    format!(
        "`{}`",
        words
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_not() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-of-ours"), None);
    }

    #[test]
    fn a_command_is_named_as_typed() {
        assert_eq!(
            name_of(Command::new("/usr/bin/apt-get").args(["-qq", "update"])),
            "`apt-get -qq update`"
        );
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = read(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(
            error.to_string().starts_with("`sh -c exit 3` failed"),
            "{error}"
        );
    }
}
