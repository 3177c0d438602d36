//! Every command that README tells to type is run: those for a node here, on a node of the lab; the
//! rest are the project's own tasks, which their own tests and the demo run.

mod documented;
#[path = "documented/shell.rs"]
mod shell;

use std::process::Command;
use std::time::Duration;

use underpass_bench::lab::Process;
use underpass_bench::{Lab, root_or_skip, wait_until};

use crate::shell::Shell;

const README: &str = include_str!("../../README.md");
const DEADLINE: Duration = Duration::from_secs(20);

/// What README says to type, line by line.
fn commands() -> Vec<&'static str> {
    documented::commands(README)
}

/// The project's own tasks: `cargo xtask demo` and `test` contain this test, and `lab` is what the
/// tests of the crate `bench` run.
fn is_task(command: &str) -> bool {
    [
        "demo",
        "test",
        "build --release",
        "lab up",
        "lab exec",
        "lab down",
    ]
    .iter()
    .any(|task| command.starts_with(&format!("cargo xtask {task}")))
}

/// README's reader: a shell, and the agent that was started from it.
struct Reader<'lab> {
    shell: Shell<'lab>,
    agent: Option<Process>,
}

impl<'lab> Reader<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        Self {
            shell: Shell::new(lab),
            agent: None,
        }
    }

    fn run(&self, command: &str) -> String {
        let printed = self.shell.run(command);
        printed.unwrap_or_else(|error| panic!("README: {error:#}"))
    }

    fn start_agent(&mut self, command: &str) {
        let [shell, option, line] = self.shell.line(&format!("exec {command}"));
        let mut background = Command::new(shell);
        background.args([option, line]);
        self.agent = Some(self.shell.node().spawn(background).unwrap());
        wait_until(DEADLINE, "the agent of README sets everything up", || {
            let screen = self.shell.run("underpass status");
            // The peers are what the agent writes last.
            screen.is_ok_and(|screen| screen.contains("attached") && screen.contains("node2"))
        })
        .unwrap();
    }

    fn stop_agent(&mut self) {
        let mut agent = self.agent.take().expect("README starts an agent before");
        agent.terminate(DEADLINE).unwrap();
    }
}

#[test]
fn every_command_of_the_readme_works() {
    if !root_or_skip("every_command_of_the_readme_works") {
        return;
    }
    let lab = Lab::builder().nodes(2).pods(1).build().unwrap();
    let mut reader = Reader::new(&lab);
    let commands: Vec<_> = commands().into_iter().filter(|one| !is_task(one)).collect();
    let agent = *commands
        .iter()
        .find(|one| one.starts_with("underpass agent "))
        .unwrap();
    for &command in &commands {
        if command == agent {
            reader.start_agent(command);
            continue;
        }
        if command == "underpass detach" {
            reader.stop_agent();
        }
        let output = reader.run(command);
        match command {
            "underpass status" => assert!(output.contains("confirmed"), "{output}"),
            "underpass peers" => assert!(output.contains("node2"), "{output}"),
            "underpass pods" => assert!(output.contains("attached"), "{output}"),
            one if one.starts_with("underpass trace ") => {
                assert!(output.contains("`unconfirmed`"), "{output}");
            }
            "underpass detach" => {
                assert!(!reader.shell.pins().exists(), "{output}");
                // What README says after it looks into the maps again.
                reader.start_agent(agent);
            }
            _ => {}
        }
    }
    assert!(
        commands.len() >= 10,
        "README has lost its commands: {commands:?}"
    );
}

#[test]
fn every_task_of_the_readme_exists() {
    let commands = commands();
    let tasks: Vec<_> = commands
        .iter()
        .filter(|one| one.starts_with("cargo"))
        .collect();
    assert!(tasks.contains(&&"cargo xtask demo") && tasks.contains(&&"cargo xtask test"));
    for task in tasks {
        assert!(is_task(task), "nothing runs `{task}`");
    }
}
