//! `underpass top` on a node of a lab.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use underpass_bench::lab::{AgentOptions, Process};
use underpass_bench::{Lab, root_or_skip, skip, wait_for};

use crate::common::{DEADLINE, lab, start_agents};
use crate::talk::{Road, Talk};

/// What follows a label on the screen.
fn line<'a>(screen: &'a str, label: &str) -> Result<&'a str> {
    let mut lines = screen.lines();
    let found = lines.find_map(|line| line.strip_prefix(label));
    found.with_context(|| format!("no line {label} in\n{screen}"))
}

/// What `arguments` prints while the talk goes on.
fn meanwhile(lab: &Lab, talk: &Talk, arguments: &[&str]) -> Result<String> {
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let talker = threads.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                talk.exchange()?;
            }
            Ok(())
        });
        let screen = lab.underpass(lab.node(1), arguments);
        done.store(true, Ordering::Relaxed);
        talker.join().expect("the talker does not panic")?;
        screen
    })
}

/// A talk that goes on is told as such, on a small screen.
fn expect_fast(lab: &Lab, talk: &Talk) -> Result<()> {
    let screen = meanwhile(lab, talk, &["top", "--once", "--interval", "0.2"])?;
    let (share, _) = line(&screen, "now")?.split_once('%').context("no share")?;
    ensure!(share.trim().parse::<f64>()? > 90.0, "{screen}");
    let fast = line(&screen, "fast")?.trim();
    ensure!(!fast.starts_with("0/s"), "{screen}");
    // The first packet of each direction was the kernel's, and is told by hook and reason.
    let told = |hook, verdict| anyhow::Ok(line(&screen, hook)?.contains(verdict));
    ensure!(told("from_pod", "  unconfirmed: The kernel")?, "{screen}");
    ensure!(told("to_wire", "  confirmed: ")?, "{screen}");
    // Flows, confirmed, in both directions.
    let numbers = |peer| {
        let words = line(&screen, peer)?.split_whitespace();
        anyhow::Ok(words.take(3).collect::<Vec<_>>())
    };
    ensure!(numbers("node2")? == ["1", "1", "1"], "{screen}");
    ensure!(numbers("node3")? == ["0", "0", "0"], "{screen}");
    let fits = screen.lines().all(|line| line.chars().count() <= 80);
    ensure!(fits && screen.lines().count() <= 24, "{screen}");
    ensure!(!screen.contains('\x1b'), "colours in a pipe: {screen:?}");
    Ok(())
}

#[test]
fn top_tells_the_fast_share() -> Result<()> {
    if !root_or_skip("top_tells_the_fast_share") {
        return Ok(());
    }
    let lab = lab().nodes(3).pods(2).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    let talk = Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;

    expect_fast(&lab, &talk)?;
    let screen = lab.underpass(lab.node(1), &["top", "--once", "--interval", "0.2"])?;
    let agent = line(&screen, "agent")?;
    ensure!(agent.contains(", p99 of reconciling "), "{screen}");
    // Without agents, and the same.
    for agent in agents {
        ensure!(agent.terminate()?.success());
    }
    expect_fast(&lab, &talk)?;

    // Live it is on a terminal alone.
    let pins = lab.bpffs(lab.node(1)).display().to_string();
    let top = [env!("CARGO_BIN_EXE_underpass"), "top", "--bpffs", &pins];
    let output = lab.node(1).output(&top)?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(
        !output.status.success() && told.contains("--once"),
        "{told}"
    );
    Ok(())
}

/// `top` in a shell on a terminal of its own, which is asked for its state afterwards.
struct OnTerminal {
    script: Process,
    typescript: PathBuf,
    pid_file: PathBuf,
}

impl OnTerminal {
    /// Of 80 columns and 24 lines, when the first frame is there.
    fn start(lab: &Lab, name: &str) -> Result<Self> {
        let file = |what: &str| lab.file(&format!("{name}.{what}"));
        let (typescript, pid_file) = (file("typescript"), file("pid"));
        let top = format!(
            "echo $$ > {}; exec {} top --interval 0.1 --bpffs {}",
            pid_file.display(),
            env!("CARGO_BIN_EXE_underpass"),
            lab.bpffs(lab.node(1)).display()
        );
        let line = format!("stty cols 80 rows 24; sh -c '{top}'; echo \"ended by $?\"; stty -a");
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--flush", "--command", &line])
            .arg(&typescript)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let script = lab.node(1).spawn(command)?;
        let terminal = Self {
            script,
            typescript,
            pid_file,
        };
        // What is drawn is words: blanks are jumped over.
        terminal.wait_for("node1,")?;
        Ok(terminal)
    }

    fn shown(&self) -> Result<String> {
        let bytes = fs::read(&self.typescript)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        wait_for(DEADLINE, &format!("the terminal shows {text}"), || {
            let shown = self.shown()?;
            ensure!(shown.contains(text), "{shown}");
            Ok(())
        })
    }

    fn press(&mut self, key: &[u8]) -> Result<()> {
        let stdin = self.script.child().stdin.as_mut().context("no stdin")?;
        Ok(stdin.write_all(key).and_then(|()| stdin.flush())?)
    }

    fn pid(&self) -> Result<i32> {
        Ok(fs::read_to_string(&self.pid_file)?.trim().parse()?)
    }

    /// Waits until all of the new size has been drawn on.
    fn resize(&self, columns: &str, rows: &str) -> Result<()> {
        let cleared = || anyhow::Ok(self.shown()?.matches("\x1b[2J").count());
        let before = cleared()?;
        let terminal = format!("/proc/{}/fd/0", self.pid()?);
        let mut stty = Command::new("stty");
        stty.args(["-F", &terminal, "cols", columns, "rows", rows]);
        ensure!(stty.status()?.success(), "the terminal keeps its size");
        wait_for(DEADLINE, "the screen is drawn anew", || {
            ensure!(cleared()? > before, "it is not");
            Ok(())
        })
    }

    /// The terminal is as it was: its first screen, lines, echo.
    fn expect_restored(mut self) -> Result<()> {
        self.wait_for("ended by ")?;
        self.script.wait(DEADLINE)?;
        let shown = self.shown()?;
        let (live, after) = shown.rsplit_once("\x1b[?1049l").context("never left")?;
        ensure!(live.contains("\x1b[?1049h"), "{shown:?}");
        ensure!(after.contains("ended by 0"), "{after:?}");
        let has = |setting: &str| after.split_whitespace().any(|word| word == setting);
        ensure!(has("icanon") && has("echo") && has("isig"), "{after:?}");
        Ok(())
    }
}

#[test]
fn top_leaves_the_terminal_as_it_was() -> Result<()> {
    const NAME: &str = "top_leaves_the_terminal_as_it_was";
    if !root_or_skip(NAME) {
        return Ok(());
    }
    if Command::new("script").arg("--version").output().is_err() {
        skip(NAME, "there is no `script` here");
        return Ok(());
    }
    let lab = lab().nodes(2).build()?;
    let agents = start_agents(&lab, &AgentOptions::default())?;
    for (name, key) in [("q", &b"q"[..]), ("esc", b"\x1b"), ("ctrl-c", b"\x03")] {
        let mut terminal = OnTerminal::start(&lab, name)?;
        terminal.press(key)?;
        terminal
            .expect_restored()
            .with_context(|| name.to_owned())?;
    }
    let told = OnTerminal::start(&lab, "sigterm")?;
    kill(Pid::from_raw(told.pid()?), Signal::SIGTERM)?;
    told.expect_restored()?;

    let mut resized = OnTerminal::start(&lab, "resized")?;
    for (columns, rows) in [("20", "5"), ("1", "1"), ("200", "60")] {
        resized.resize(columns, rows)?;
    }
    resized.press(b"q")?;
    resized.expect_restored()?;

    // What cannot be read any more is told, and the rest stays.
    let mut terminal = OnTerminal::start(&lab, "detached")?;
    for agent in agents {
        ensure!(agent.terminate()?.success());
    }
    lab.underpass(lab.node(1), &["detach"])?;
    terminal.wait_for("TROUBLE")?;
    terminal.press(b"q")?;
    terminal.expect_restored()
}
