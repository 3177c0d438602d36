//! The command line as people meet it: its help, its man pages, its completions, its file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use clap::{Arg, CommandFactory as _};
use underpass::cli::Cli;
use underpass_bench::skip;

/// A process of the program under test, without the variables of whoever runs this.
fn underpass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_underpass"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("UNDERPASS_") || text == "NODE_NAME" {
            command.env_remove(name);
        }
    }
    command
}

fn printed(arguments: &[&str]) -> String {
    let output = underpass().args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        complaint(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The agent's options, all of them: name, variable.
fn options() -> BTreeSet<(String, String)> {
    let command = Cli::command();
    let agent = command.find_subcommand("agent").unwrap();
    let named = |arg: &Arg| {
        let variable = arg.get_env()?.to_str()?.to_owned();
        Some((arg.get_long()?.to_owned(), variable))
    };
    let all = agent.get_arguments().chain(command.get_arguments());
    let options: BTreeSet<_> = all.filter_map(named).collect();
    assert!(options.len() >= 16, "{options:?}");
    options
}

/// What a page looks like without its typesetting.
fn plain(page: &str) -> String {
    page.replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "")
}

fn man_pages() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    printed(&["man", "--out", dir.path().to_str().unwrap()]);
    dir
}

#[test]
fn the_help_is_the_reference_of_options_variables_and_keys() {
    let help = printed(&["agent", "--help"]);
    for (option, variable) in options() {
        assert!(
            help.contains(&format!("--{option} <")),
            "no --{option} in\n{help}"
        );
        assert!(
            help.contains(&format!("[env: {variable}=")),
            "no {variable} in\n{help}"
        );
    }
    assert!(
        help.contains("The keys of the file are the options' names"),
        "{help}"
    );
}

#[test]
fn the_man_page_has_what_the_help_has() {
    let pages = man_pages();
    let agent = plain(&fs::read_to_string(pages.path().join("underpass-agent.1")).unwrap());
    for (option, variable) in options() {
        assert!(
            agent.contains(&format!("--{option}")),
            "no --{option} in\n{agent}"
        );
        assert!(agent.contains(&variable), "no {variable} in\n{agent}");
    }
    assert!(
        agent.contains("The keys of the file are the options' names"),
        "{agent}"
    );
    for subcommand in Cli::command().get_subcommands() {
        let page = format!("underpass-{}.1", subcommand.get_name());
        assert!(pages.path().join(&page).exists(), "no {page}");
    }
    let own = fs::read_to_string(pages.path().join("underpass.1")).unwrap();
    assert_eq!(own, printed(&["man"]));
}

#[test]
fn man_can_show_every_page() {
    let pages = man_pages();
    for entry in fs::read_dir(pages.path()).unwrap() {
        let page = entry.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings=w", "-P", "cat", "-l"])
            .arg(&page)
            .env("MANWIDTH", "80");
        let Some(output) = run(&mut man, "man") else {
            return skip("man_can_show_every_page", "there is no `man` here");
        };
        assert!(
            output.status.success(),
            "{}: {}",
            page.display(),
            complaint(&output)
        );
        assert_eq!(complaint(&output), "", "{}", page.display());
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("underpass"), "{shown}");
    }
}

#[test]
fn mandoc_finds_no_errors_in_the_pages() {
    let pages = man_pages();
    for entry in fs::read_dir(pages.path()).unwrap() {
        let page = entry.unwrap().path();
        let Some(output) = run(
            Command::new("mandoc")
                .args(["-T", "lint", "-W", "error"])
                .arg(&page),
            "mandoc",
        ) else {
            return skip(
                "mandoc_finds_no_errors_in_the_pages",
                "there is no `mandoc` here",
            );
        };
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {told}", page.display());
    }
}

/// `None`: there is no such program.
fn run(command: &mut Command, name: &str) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn completions_know_every_option_and_the_shells_take_them() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for (option, _) in options() {
            assert!(script.contains(&option), "{shell}: no {option}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("underpass.bash");
    fs::write(&script, printed(&["completions", "bash"])).unwrap();
    let completed = completed_by_bash(&script, "underpass agent --off");
    assert_eq!(completed, ["--offload"]);
    let completed = completed_by_bash(&script, "underpass agent --offload ");
    assert_eq!(completed, ["confirmed", "always"]);
}

/// What bash offers after the words of `line`.
fn completed_by_bash(script: &Path, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let ask = format!(
        "source {}; COMP_WORDS=({}); COMP_CWORD={}; _underpass underpass '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let output = Command::new("bash")
        .args(["--norc", "-c", &ask])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    let offered = String::from_utf8(output.stdout).unwrap();
    offered.lines().map(str::to_owned).collect()
}

#[test]
fn a_wrong_file_ends_the_agent_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    fs::write(&path, "node-name: a\noffload: alwais\n").unwrap();
    let output = underpass()
        .arg("agent")
        .env("UNDERPASS_CONFIG", &path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = format!(
        "underpass: {}:2: offload: \"alwais\" is not one of confirmed, always\n",
        path.display()
    );
    assert_eq!(complaint(&output), told);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let line = format!(
        "{} completions bash | head -n 1 >/dev/null",
        env!("CARGO_BIN_EXE_underpass")
    );
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &line])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
}
