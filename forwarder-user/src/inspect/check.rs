//! `underpass check`: is this machine fit?

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use aya::util::KernelVersion;
use serde::Serialize;

use super::print::{self, table};
use super::room;
use crate::cli::ReadArgs;
use crate::datapath::Pins;
use crate::datapath::attach::Mechanism;
use crate::neighbour_limits::{Kernels, Limits, Table};
use crate::sysctl;

/// One precondition.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it stands.
    pub outcome: Outcome,
    /// What was found, and what to do about it.
    pub detail: String,
}

/// How a precondition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Works, but somebody should know.
    Warn,
    /// The agent cannot work like this.
    Fail,
}

/// Runs `underpass check`.
///
/// # Errors
/// Where a precondition fails, so that the exit code tells.
pub fn run(args: &ReadArgs) -> Result<()> {
    let findings = findings(&Pins::new(&args.pins.bpffs));
    print::print(args.output, &findings, |findings| {
        table(
            ["", "WHAT", "FOUND"],
            findings.iter().map(|finding| {
                [
                    format!("{:?}", finding.outcome).to_uppercase(),
                    finding.name.to_owned(),
                    finding.detail.clone(),
                ]
            }),
        )
    })?;
    let failed = findings
        .iter()
        .filter(|f| f.outcome == Outcome::Fail)
        .count();
    if failed > 0 {
        bail!("{failed} of {} preconditions fail", findings.len());
    }
    Ok(())
}

/// All preconditions.
pub fn findings(pins: &Pins) -> Vec<Finding> {
    let known = room::Known::read(pins);
    vec![
        kernel(),
        btf(),
        bpffs(pins),
        capabilities(),
        forwarding(sysctl::IPV4_FORWARD, "IPv4"),
        forwarding(sysctl::IPV6_FORWARD, "IPv6"),
        be_liberal(),
        loose(),
        neighbours(Table::Ipv4, "neighbour table (IPv4)", &known),
        neighbours(Table::Ipv6, "neighbour table (IPv6)", &known),
    ]
}

fn finding(name: &'static str, outcome: Outcome, detail: impl Into<String>) -> Finding {
    Finding {
        name,
        outcome,
        detail: detail.into(),
    }
}

fn kernel() -> Finding {
    let name = "kernel";
    match KernelVersion::current() {
        // bpf_check_mtu(), which says whether a packet fits its way out, came with 5.12.
        Ok(version) if version < KernelVersion::new(5, 12, 0) => finding(
            name,
            Outcome::Fail,
            format!("{}; 5.12 is the oldest that can work", release()),
        ),
        Ok(_) => {
            let by = match Mechanism::of_this_kernel() {
                Mechanism::Tcx => "TCX",
                Mechanism::Clsact => "a clsact qdisc",
            };
            finding(
                name,
                Outcome::Pass,
                format!("{}: programs are attached by {by}", release()),
            )
        }
        Err(error) => finding(name, Outcome::Warn, format!("version unknown: {error}")),
    }
}

/// The release as `uname -r` shows it.
fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "?".into(), |text| text.trim().to_owned())
}

fn btf() -> Finding {
    match Path::new("/sys/kernel/btf/vmlinux").exists() {
        true => finding("BTF", Outcome::Pass, "the kernel describes its types"),
        false => finding(
            "BTF",
            Outcome::Warn,
            "none in the kernel (CONFIG_DEBUG_INFO_BTF): bpftool will show maps as hex",
        ),
    }
}

fn bpffs(pins: &Pins) -> Finding {
    match pins.check_file_system() {
        Ok(()) => finding("bpffs", Outcome::Pass, pins.root().display().to_string()),
        Err(error) => finding("bpffs", Outcome::Fail, format!("{error:#}")),
    }
}

fn capabilities() -> Finding {
    let name = "capabilities";
    match crate::capabilities::missing() {
        Ok(missing) if missing.is_empty() => finding(name, Outcome::Pass, "all that are needed"),
        Ok(missing) => {
            let names = crate::capabilities::names(&missing);
            finding(name, Outcome::Fail, format!("missing: {names}"))
        }
        Err(error) => finding(name, Outcome::Warn, format!("{error:#}")),
    }
}

fn forwarding(key: &'static str, family: &str) -> Finding {
    match sysctl::read(key) {
        Ok(Some(0)) => finding(
            key,
            Outcome::Warn,
            format!(
                "0: the kernel forwards no {family}, so that nothing of it can be confirmed; set it to 1 \
                 where pods have {family}"
            ),
        ),
        Ok(value) => finding(key, Outcome::Pass, shown(value)),
        Err(error) => finding(key, Outcome::Warn, format!("{error:#}")),
    }
}

fn be_liberal() -> Finding {
    let key = sysctl::TCP_BE_LIBERAL;
    match sysctl::read(key) {
        Ok(Some(0)) => finding(
            key,
            Outcome::Warn,
            "0: a connection that falls back to the kernel may be INVALID there; the agent sets it to 1",
        ),
        Ok(value) => finding(key, Outcome::Pass, shown(value)),
        Err(error) => finding(key, Outcome::Warn, format!("{error:#}")),
    }
}

fn loose() -> Finding {
    let key = sysctl::TCP_LOOSE;
    match sysctl::read(key) {
        Ok(Some(0)) => finding(
            key,
            Outcome::Warn,
            "0: conntrack takes up no connection in mid-stream, so that one which falls back to the kernel breaks; set it to 1",
        ),
        Ok(value) => finding(key, Outcome::Pass, shown(value)),
        Err(error) => finding(key, Outcome::Warn, format!("{error:#}")),
    }
}

fn neighbours(table: Table, name: &'static str, known: &room::Known) -> Finding {
    match Limits::read(&Kernels, table) {
        Ok(Some(limits)) => match known.shortage(table, limits) {
            Some(text) => finding(name, Outcome::Warn, text),
            None => finding(
                name,
                Outcome::Pass,
                format!("gc_thresh1 to 3 are {limits}: peers and pods share that many entries"),
            ),
        },
        Ok(None) => finding(name, Outcome::Pass, shown(None)),
        Err(error) => finding(name, Outcome::Warn, format!("{error:#}")),
    }
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(
        || "not in this kernel or namespace".into(),
        |value| value.to_string(),
    )
}
