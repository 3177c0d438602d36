//! The machine that it runs on: what it is, and whether it is quiet.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::measure::cpu::Account;

/// How long others are watched before it begins.
const WATCH: Duration = Duration::from_secs(2);
/// CPUs that others may keep busy: more than a tenth of one shows in every figure.
pub(super) const MOST_BUSY: f64 = 0.1;

/// How many CPUs others keep busy now.
pub(super) fn busy() -> Result<f64> {
    let before = Account::read()?;
    thread::sleep(WATCH);
    Ok(Account::read()?.since(before).busy_cpus())
}

/// The processors' model name, as the kernel tells it.
pub(super) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find(|line| line.starts_with("model name"));
    let name = named.and_then(|line| line.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// Bytes of memory.
pub(super) fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// What the tools call themselves, in one line each. A tool that is missing is not listed.
pub(super) fn tools() -> BTreeMap<String, String> {
    const ASKED: [(&str, &str); 5] = [
        ("iperf3", "--version"),
        // It tells its version with its usage.
        ("wrk", "--version"),
        ("ip", "-V"),
        ("iptables", "--version"),
        ("nft", "--version"),
    ];
    ASKED
        .into_iter()
        .filter_map(|(tool, flag)| {
            let output = Command::new(tool).arg(flag).output().ok()?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let line = said.lines().find(|line| !line.trim().is_empty())?;
            Some((tool.to_owned(), line.trim().to_owned()))
        })
        .collect()
}

/// The commit of the sources in the working directory, `-dirty` where they differ; empty where it cannot be told.
pub(super) fn commit() -> String {
    let arguments = [
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty",
        "--exclude=*",
    ];
    let output = Command::new("git").args(arguments).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// The time in UTC, to the minute.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        assert!(memory() > 0 && !processor().is_empty());
    }
}
