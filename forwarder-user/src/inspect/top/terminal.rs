//! The view on a terminal: drawn anew after each reading and each change of its size, until somebody ends it.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::{DefaultTerminal, Frame};

use super::super::paint::Colour;
use super::frame::frame;
use super::read::read;
use super::reading::Reading;
use super::section::style;
use crate::datapath::Pins;
use crate::stop;

/// On a lower screen the last line is not spent on the keys.
const LOW: u16 = 12;
const KEYS: &str = "q, Esc or Ctrl-C ends";

/// Why a wait ends before its time.
enum Happening {
    /// A key, or another size.
    Terminal(Event),
    /// The terminal cannot be read any more.
    Lost(io::Error),
    /// SIGTERM or SIGINT.
    Told,
}

/// What is shown.
pub(super) struct View {
    pub reading: Reading,
    /// Why the maps could not be read again.
    pub trouble: Option<String>,
}

/// Shows it until somebody ends it. The terminal is put back, also after a panic.
///
/// # Errors
/// Where there is nothing to be read at first, or the terminal fails.
pub(super) fn run(pins: &Pins, pause: Duration) -> Result<()> {
    // While errors still stand on a terminal as it was.
    let reading = read(pins)?;
    // Its panic hook puts the terminal back before the panic is told.
    let shown = ratatui::try_init()
        .context("cannot take the terminal over")
        .and_then(|mut terminal| {
            let view = View {
                reading,
                trouble: None,
            };
            follow(&mut terminal, view, pins, pause)
        });
    let restored = ratatui::try_restore().context("cannot put the terminal back");
    shown.and(restored)
}

fn follow(
    terminal: &mut DefaultTerminal,
    mut view: View,
    pins: &Pins,
    pause: Duration,
) -> Result<()> {
    let happenings = listen()?;
    let mut next = Instant::now() + pause;
    loop {
        terminal
            .draw(|frame| draw(frame, &view))
            .context("cannot draw on the terminal")?;
        let left = next.saturating_duration_since(Instant::now());
        match happenings.recv_timeout(left) {
            Ok(Happening::Terminal(Event::Key(key))) if ends(key) => return Ok(()),
            Ok(Happening::Terminal(_)) => {}
            Ok(Happening::Lost(error)) => return Err(error).context("cannot read the terminal"),
            Ok(Happening::Told) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                view.renew(read(pins));
                next = Instant::now() + pause;
            }
        }
    }
}

impl View {
    /// What was read before stays where nothing can be read: the pins may be back in a moment.
    pub fn renew(&mut self, read: Result<Reading>) {
        match read {
            Ok(mut reading) => {
                reading.since(&self.reading);
                *self = Self {
                    reading,
                    trouble: None,
                };
            }
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
    }
}

/// Draws it on all of the terminal.
pub(super) fn draw(onto: &mut Frame, view: &View) {
    let area = onto.area();
    let with_keys = area.height >= LOW;
    let height = area.height - u16::from(with_keys);
    let lines = frame(
        &view.reading,
        view.trouble.as_deref(),
        area.width.into(),
        height.into(),
    );
    for (line, y) in lines.into_iter().zip(area.y..) {
        onto.render_widget(line, Rect::new(area.x, y, area.width, 1));
    }
    if with_keys {
        let keys = Line::styled(KEYS, style(Some(Colour::Faint)));
        onto.render_widget(keys, Rect::new(area.x, area.y + height, area.width, 1));
    }
}

/// In raw mode the terminal makes no signal of Ctrl-C.
pub(super) fn ends(key: KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => with_control,
            _ => false,
        }
}

/// Terminal and signals in one queue. Its threads end with the process.
fn listen() -> Result<Receiver<Happening>> {
    let (sender, receiver) = mpsc::channel();
    let of_signals = sender.clone();
    let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(body).context("cannot start a thread")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let told = {
        let _inside = runtime.enter();
        stop::told()?
    };
    spawn("keys", Box::new(move || hear_terminal(&sender)))?;
    spawn(
        "signals",
        Box::new(move || {
            runtime.block_on(told);
            let _ = of_signals.send(Happening::Told);
        }),
    )?;
    Ok(receiver)
}

fn hear_terminal(heard: &Sender<Happening>) {
    loop {
        let (happening, last) = match event::read() {
            Ok(event) => (Happening::Terminal(event), false),
            Err(error) => (Happening::Lost(error), true),
        };
        if heard.send(happening).is_err() || last {
            return;
        }
    }
}
