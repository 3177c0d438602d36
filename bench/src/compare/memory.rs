//! What an agent's process takes.

use std::fs;

use anyhow::{Context as _, Result};

use super::contender::Contender;
use super::results::AgentMemory;

/// The largest of these processes.
pub(super) fn of(contender: Contender, pids: impl Iterator<Item = u32>) -> Result<AgentMemory> {
    let mut memory = AgentMemory {
        contender: contender.name().to_owned(),
        resident: 0,
        peak: 0,
    };
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let bytes = |name| field(&status, name).with_context(|| format!("{path}: no {name}"));
        memory.resident = memory.resident.max(bytes("VmRSS")?);
        memory.peak = memory.peak.max(bytes("VmHWM")?);
    }
    Ok(memory)
}

/// A field of `/proc/PID/status` (proc_pid_status(5)), in bytes; there it is in kB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value)
    })?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_are_1024_bytes() {
        let status = "Name:\tunderpass\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t1\n";
        assert_eq!(field(status, "VmRSS"), Some(10 << 20));
        assert_eq!(field(status, "VmHWM"), Some(20 << 20));
        assert_eq!(field(status, "VmSwap"), None);
        assert_eq!(field("VmRSS:\tmany\n", "VmRSS"), None);
    }
}
