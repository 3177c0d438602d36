//! What cargo built, from the messages that it prints for programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// A program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    pub path: PathBuf,
    /// The name of its target, such as the binary's or the integration test's.
    pub target: String,
    /// `lib`, `bin`, `test` and so on.
    pub kind: String,
    /// The folder of its package.
    pub package_dir: PathBuf,
    /// Whether it is a test: the target's own, or the unit tests of a library or binary.
    pub is_test: bool,
}

impl Executable {
    /// Its package's folder name, and what it is.
    pub fn title(&self) -> String {
        let package = self
            .package_dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        format!("{package} {} {}", self.kind, self.target)
    }
}

/// Runs a cargo command that builds; the programs that it built. cargo's own words are shown.
///
/// # Errors
/// The build failed, or cargo speaks another language.
pub fn build(cargo: &mut Command) -> Result<Vec<Executable>> {
    // Not in its name in an error, which people may want to type again.
    let name = process::name_of(cargo);
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        bail!("{name} failed");
    }
    let text = String::from_utf8(output.stdout).context("cargo printed no UTF-8")?;
    parse(&text)
}

fn parse(messages: &str) -> Result<Vec<Executable>> {
    // Build scripts and procedural macros may print lines of their own.
    let lines = messages.lines().filter(|line| line.starts_with('{'));
    let messages =
        lines.map(|line| serde_json::from_str::<Value>(line).context("reading cargo's messages"));
    messages
        .filter_map(|message| message.map(|it| executable(&it)).transpose())
        .collect()
}

fn executable(message: &Value) -> Option<Executable> {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    Some(Executable {
        path: text("/executable")?.into(),
        target: text("/target/name")?.to_owned(),
        kind: text("/target/kind/0")?.to_owned(),
        package_dir: Path::new(text("/manifest_path")?).parent()?.to_owned(),
        is_test: message.pointer("/profile/test").and_then(Value::as_bool)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_count() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/common/Cargo.toml","target":{"kind":["lib"],"name":"common"},"profile":{"test":false},"executable":null}"#,
            "\nwords of a macro\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/agent/Cargo.toml","target":{"kind":["test"],"name":"packets"},"profile":{"test":true},"executable":"/w/target/debug/deps/packets-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = parse(messages).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title(), "agent test packets");
        assert_eq!(found[0].package_dir, Path::new("/w/agent"));
        assert!(found[0].is_test);
    }

    #[test]
    fn a_broken_message_is_an_error() {
        assert!(parse("{\"reason\":").is_err());
    }
}
