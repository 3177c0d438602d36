//! Reading what a program prints while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::name_of;

/// How long the output may stay open and silent after its program has ended.
const GRACE: Duration = Duration::from_secs(2);

enum Event {
    Line(String),
    Ended(std::io::Result<ExitStatus>),
}

/// Runs a program without input to its end and hands over each line that it prints on stdout.
///
/// A process that it started and left behind keeps its output open, perhaps for ever: such a one is not
/// waited for.
///
/// # Errors
/// It cannot be started or waited for.
pub fn for_each_line(command: &mut Command, mut absorb: impl FnMut(&str)) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let name = name_of(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let stdout = child
        .stdout
        .take()
        .with_context(|| format!("reading what {name} prints"))?;
    let (events, received) = mpsc::channel();
    let lines = events.clone();
    thread::spawn(move || send_lines(stdout, &lines));
    // Nobody listens any more only if this function is over.
    thread::spawn(move || events.send(Event::Ended(child.wait())));
    let mut status = None;
    loop {
        // The channel closes once the program has ended and its output is read.
        let event = match status {
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => received.recv_timeout(GRACE),
        };
        match event {
            Ok(Event::Line(line)) => absorb(&line),
            Ok(Event::Ended(result)) => {
                status = Some(result.with_context(|| format!("waiting for {name}"))?)
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("(a process left behind still holds the output of {name})");
                break;
            }
        }
    }
    status.with_context(|| format!("nobody knows how {name} ended"))
}

fn send_lines(stdout: impl Read, lines: &Sender<Event>) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        // A test may print anything, not only UTF-8.
        let line = String::from_utf8_lossy(&line).into_owned();
        if lines.send(Event::Line(line)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> (Vec<String>, ExitStatus) {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        let status = for_each_line(command.args(["-c", script]), |line| {
            lines.push(line.to_owned())
        });
        (lines, status.unwrap())
    }

    #[test]
    fn lines_come_in_order_and_the_status_after_them() {
        let (lines, status) = run("echo one; echo two; printf three; exit 4");
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(status.code(), Some(4));
    }

    #[test]
    fn a_process_left_behind_is_not_waited_for() {
        // It ends by itself, when the test is long over.
        let (lines, status) = run("sleep 20 & echo done");
        assert_eq!(lines, ["done"]);
        assert!(status.success());
    }
}
