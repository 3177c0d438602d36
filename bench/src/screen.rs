//! What people see: headings, a line for each step, a sign of life while it works. Colours and
//! moving lines only on a terminal.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::interrupt;

/// Columns that a line may take.
pub(crate) const WIDTH: usize = 80;
/// Columns before the details of a step.
const INDENT: &str = "      ";
/// How often the moving line moves.
const TICK: Duration = Duration::from_millis(120);
/// A step that is done by then needs no moving line.
const PATIENCE: Duration = Duration::from_millis(400);
const WHEEL: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
}

impl Screen {
    pub fn new() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        Self {
            terminal,
            colour: terminal && !set("NO_COLOR"),
        }
    }

    /// Prints a line. Where nobody reads any more the demo goes on: its exit code counts.
    pub fn line(self, text: &str) {
        let _ = writeln!(io::stdout(), "{}", text.trim_end());
    }

    /// Prints the title of what comes.
    pub fn heading(self, text: &str) {
        self.line("");
        self.line(&self.bold(text));
    }

    /// Says what goes on while a step runs; `takes` about how long, where that is long.
    pub fn begin(self, title: &str, takes: Option<Duration>) -> Progress {
        if self.terminal {
            return Progress::start(title);
        }
        if let Some(takes) = takes {
            self.line(&format!("  ..  {title} (about {} s)", takes.as_secs()));
        }
        Progress::silent()
    }

    /// The line of a step that is over.
    pub fn end(self, held: bool, title: &str, elapsed: Duration) {
        let sign = match (held, self.terminal) {
            (true, true) => self.green(" ✓"),
            (false, true) => self.red(" ✗"),
            (true, false) => "ok".into(),
            (false, false) => "NO".into(),
        };
        let time = format!("{:.1} s", elapsed.as_secs_f64());
        let room = WIDTH.saturating_sub(INDENT.len() + time.len() + 1);
        self.line(&format!("  {sign}  {title:<room$} {}", self.dim(&time)));
    }

    /// More about a step, in lines that fit.
    pub fn detail(self, text: &str) {
        for line in wrap(text, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{}", self.dim(&line)));
        }
    }

    /// As [`detail`](Self::detail), for what went wrong.
    pub fn trouble(self, text: &str) {
        for line in wrap(text, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{}", self.red(&line)));
        }
    }

    /// Prints a text in lines that fit.
    pub fn note(self, text: &str) {
        for line in wrap(text, WIDTH) {
            self.line(&self.dim(&line));
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint(text, "1")
    }

    pub fn green(self, text: &str) -> String {
        self.paint(text, "32")
    }

    pub fn red(self, text: &str) -> String {
        self.paint(text, "31")
    }

    pub fn dim(self, text: &str) -> String {
        self.paint(text, "2")
    }

    fn paint(self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Breaks lines between words; a line that begins with a blank has its own layout and stays.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            lines.push(line.to_owned());
            continue;
        }
        let mut current = String::new();
        for word in line.split_whitespace() {
            let fits = current.chars().count() + 1 + word.chars().count() <= width;
            if !current.is_empty() && !fits {
                lines.push(std::mem::take(&mut current));
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current += word;
        }
        lines.push(current);
    }
    lines
}

/// A line that moves while a step runs. Dropped, it is wiped.
#[derive(Debug)]
pub(crate) struct Progress {
    now: Arc<Mutex<String>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    fn silent() -> Self {
        Self {
            now: Arc::default(),
            stop: None,
            thread: None,
        }
    }

    fn start(title: &str) -> Self {
        let (stop, stopped) = mpsc::channel();
        let now = Arc::new(Mutex::new(String::new()));
        let thread = {
            let (title, now) = (title.to_owned(), Arc::clone(&now));
            thread::spawn(move || {
                let begin = Instant::now();
                let mut pause = PATIENCE;
                for sign in WHEEL.iter().cycle() {
                    if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                    pause = TICK;
                    draw(sign, &title, &lock(&now), begin.elapsed());
                }
                if begin.elapsed() >= PATIENCE {
                    print("\r\x1b[K");
                }
            })
        };
        Self {
            now,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What the step is at.
    pub fn now(&self, what: String) {
        *lock(&self.now) = what;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread that only draws a line is no reason to end the demo.
            let _ = thread.join();
        }
    }
}

fn draw(sign: &str, title: &str, now: &str, elapsed: Duration) {
    let what = match (interrupt::asked(), now) {
        (true, _) => "stopping".to_owned(),
        (false, "") => title.to_owned(),
        (false, now) => format!("{title}: {now}"),
    };
    let time = format!("{} s", elapsed.as_secs());
    // Room for the "^C" of a terminal, so that it is wiped with this line.
    let room = WIDTH - INDENT.len() - time.len() - 4;
    let what: String = what.chars().take(room).collect();
    print(&format!("\r\x1b[K   {sign}  {what:<room$} {time}"));
}

fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn lock(text: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a-very-long-word x", 8), ["a-very-long-word", "x"]);
        assert_eq!(wrap("one\ntwo", 8), ["one", "two"]);
    }

    #[test]
    fn lines_with_a_layout_stay() {
        assert_eq!(
            wrap("  { not, broken, at, all }", 8),
            ["  { not, broken, at, all }"]
        );
    }
}
