//! What a process takes: memory and CPU, as the kernel accounts for it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident now (`VmRSS`).
    pub resident_kib: u64,
    /// The most that ever was (`VmHWM`).
    pub peak_kib: u64,
}

/// Reads the memory of a process.
///
/// # Errors
/// Where it has ended.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_memory(&text).with_context(|| format!("cannot make out {path}"))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory {
        resident_kib: kib("VmRSS:")?,
        peak_kib: kib("VmHWM:")?,
    })
}

/// CPU time that a process has used, and when that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    used: Duration,
    at: Instant,
}

impl Cpu {
    /// Reads it.
    ///
    /// # Errors
    /// Where the process has ended.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let ticks = parse_ticks(&text).with_context(|| format!("cannot make out {path}"))?;
        let a_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        Ok(Self {
            used: Duration::from_secs_f64(ticks as f64 / a_second as f64),
            at: Instant::now(),
        })
    }

    /// Percent of one CPU since an earlier reading.
    pub(crate) fn percent_since(self, before: Self) -> f64 {
        let used = self.used.saturating_sub(before.used).as_secs_f64();
        100.0 * used / (self.at - before.at).as_secs_f64()
    }
}

/// `utime` and `stime` of proc_pid_stat(5). The name in parentheses may hold anything.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_ticks_are_found() {
        let status = "Name:\tx\nVmHWM:\t   20004 kB\nVmRSS:\t   1234 kB\n";
        let expected = Memory {
            resident_kib: 1234,
            peak_kib: 20004,
        };
        assert_eq!(parse_memory(status), Some(expected));
        assert_eq!(parse_memory("VmRSS: 1 kB"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(parse_ticks(stat), Some(42));
    }

    #[test]
    fn this_process_is_seen() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident_kib > 100 && memory.peak_kib >= memory.resident_kib);
        assert!(Cpu::of(std::process::id()).is_ok());
    }
}
