//! What people see: colours, questions and a sign of life, each only on a terminal.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

fn paint(text: &str, code: &str, to_terminal: bool) -> String {
    if to_terminal && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// For what is wrong; meant for stderr.
pub fn red(text: &str) -> String {
    paint(text, "31", io::stderr().is_terminal())
}

/// For what people should read twice; meant for stderr.
pub fn yellow(text: &str) -> String {
    paint(text, "33", io::stderr().is_terminal())
}

/// For what is as it should be; meant for stderr.
pub fn green(text: &str) -> String {
    paint(text, "32", io::stderr().is_terminal())
}

/// For headings; meant for stdout.
pub fn heading(text: &str) -> String {
    paint(text, "1", io::stdout().is_terminal())
}

/// Whether programs whose stdout we read and print again should colour it.
pub fn colours_on_stdout() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none()
}

/// Asks a yes-or-no question, yes by default. `None` where nobody is there to answer.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn confirm(question: &str) -> Result<Option<bool>> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Ok(None);
    }
    let mut out = io::stdout();
    write!(out, "{question} [Y/n] ")
        .and_then(|()| out.flush())
        .context("asking on the terminal")?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .context("reading the answer from the terminal")?;
    // An end of input has no line end: nobody said yes.
    Ok(Some(
        answer.ends_with('\n') && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"),
    ))
}

/// Formats a duration for people: tenths of a second up to a minute, then minutes and seconds.
pub fn seconds(duration: Duration) -> String {
    let secs = duration.as_secs();
    if secs < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", secs / 60, secs % 60)
    }
}

/// A line with the elapsed time while something long runs; a single plain line without a terminal.
/// Dropped, it wipes the line.
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to show `what` on stderr.
    pub fn start(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            eprintln!("  {what} ...");
            return Self {
                stop: None,
                thread: None,
            };
        }
        let (stop, stopped) = mpsc::channel();
        let what = what.to_owned();
        let thread = thread::spawn(move || {
            let start = Instant::now();
            loop {
                eprint!("\r\x1b[K  {what} ... {} s", start.elapsed().as_secs());
                if stopped.recv_timeout(Duration::from_millis(200))
                    != Err(RecvTimeoutError::Timeout)
                {
                    eprint!("\r\x1b[K");
                    return;
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread that only draws a line is no reason to end the work.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!(seconds(Duration::from_millis(340)), "0.3 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 01 s");
    }
}
