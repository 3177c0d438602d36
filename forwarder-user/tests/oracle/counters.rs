//! What the kernel and the programs have counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use underpass::datapath::Maps;
use underpass_common::verdict::{Hook, Verdict};

use super::cast::Family;
use super::world::World;

/// The kernel's counters of a node, by name: `Ip:InHdrErrors`, `Ip6InHdrErrors`.
#[derive(Clone, Debug)]
pub struct KernelCounts(BTreeMap<String, u64>);

/// Reports of multicast groups, which go by the clock: whenever an interface comes up, and again.
const REPORTS: &str = "Icmp6OutMLDv2Reports";
/// What a report adds to, besides.
const REPORTED: [&str; 3] = ["Icmp6OutMsgs", "Icmp6OutType143", "Ip6OutRequests"];
/// The first on an interface where IPv6 is switched off, such as the port of a bridge; else the second.
const MAYBE_REPORTED: [&str; 2] = ["Ip6OutDiscards", "Ip6OutMcastPkts"];

/// Packets of a family that have gone past the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    pub fast: u64,
    /// Those that end with us: the kernel, too, drops what it cannot cut to its length, because its
    /// checksum belongs behind its end (`pskb_trim_rcsum()`).
    pub dropped: u64,
}

impl Past {
    /// How many of these packets the kernel alone counts by this name.
    fn at(self, family: Family, name: &str) -> u64 {
        let [received, forwarded, dropped] = match family {
            Family::V4 => ["Ip:InReceives", "Ip:ForwDatagrams", "Ip:InDiscards"],
            Family::V6 => ["Ip6InReceives", "Ip6OutForwDatagrams", "Ip6InHdrErrors"],
        };
        match name {
            _ if name == received => self.fast + self.dropped,
            _ if name == forwarded => self.fast,
            _ if name == dropped => self.dropped,
            _ => 0,
        }
    }
}

/// What forwarded packets add to by something else than one.
const SIZES: [&str; 15] = [
    "Ip:OutTransmits",
    "IpExt:InOctets",
    "IpExt:OutOctets",
    "IpExt:InNoECTPkts",
    "IpExt:InECT1Pkts",
    "IpExt:InECT0Pkts",
    "IpExt:InCEPkts",
    "Ip6InOctets",
    "Ip6OutOctets",
    "Ip6InNoECTPkts",
    "Ip6InECT1Pkts",
    "Ip6InECT0Pkts",
    "Ip6InCEPkts",
    "Ip6OutTransmits",
    // By reports of groups alone.
    "Ip6OutMcastOctets",
];

impl KernelCounts {
    /// # Errors
    /// Where they can't be read.
    pub fn of(world: &World) -> Result<Self> {
        let [snmp, netstat, snmp6] = world.proc_net()?;
        let mut counts = BTreeMap::new();
        for text in [snmp, netstat] {
            let lines: Vec<_> = text.lines().collect();
            // A line of names, and one of values.
            for pair in lines.chunks_exact(2) {
                let (group, names) = pair[0].split_once(": ").context("no names")?;
                let (_, values) = pair[1].split_once(": ").context("no values")?;
                for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                    // One of them, the most connections, is -1 where there is no limit.
                    counts.insert(format!("{group}:{name}"), value.parse().unwrap_or(0));
                }
            }
        }
        for line in snmp6.lines() {
            let (name, value) = line.split_once(char::is_whitespace).context("no value")?;
            counts.insert(name.to_owned(), value.trim().parse()?);
        }
        let reports = counts.get(REPORTS).copied().unwrap_or_default();
        for name in REPORTED {
            counts
                .entry(name.to_owned())
                .and_modify(|count| *count -= reports);
        }
        Ok(Self(counts))
    }

    /// One of them; 0 where the kernel has none of that name.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum of two.
    pub fn plus(&self, other: &Self) -> Self {
        let more = |name: &String| other.0.get(name).copied().unwrap_or_default();
        let counts = self.0.iter();
        Self(
            counts
                .map(|(name, value)| (name.clone(), value.wrapping_add(more(name))))
                .collect(),
        )
    }

    /// What has been added to an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &String| earlier.0.get(name).copied().unwrap_or_default();
        let added = self.0.iter();
        Self(
            added
                .map(|(name, value)| (name.clone(), value.wrapping_sub(before(name))))
                .collect(),
        )
    }
}

/// What the kernels of both worlds counted must be the same, but for packets that went past one of
/// them. `past`: those of each family.
///
/// # Errors
/// Names every counter that says otherwise.
pub fn compare(kernel: &KernelCounts, underpass: &KernelCounts, past: [Past; 2]) -> Result<()> {
    let mut wrong = String::new();
    let reports = kernel.get(REPORTS).abs_diff(underpass.get(REPORTS));
    for (name, &by_kernel) in &kernel.0 {
        let by_both = underpass.get(name);
        let families = Family::BOTH.into_iter().zip(past);
        let past: u64 = families.map(|(family, past)| past.at(family, name)).sum();
        let differs = match name.as_str() {
            REPORTS => false,
            name if MAYBE_REPORTED.contains(&name) => by_kernel.abs_diff(by_both) > reports,
            _ => by_kernel != by_both.wrapping_add(past),
        };
        if differs && !SIZES.contains(&name.as_str()) {
            let _ = writeln!(
                wrong,
                "{name}: the kernel alone {by_kernel}, beside Underpass {by_both}, past it {past}"
            );
        }
    }
    ensure!(
        wrong.is_empty(),
        "the kernels have counted differently:\n{wrong}"
    );
    Ok(())
}

/// Verdicts by hook, for each family: a batch holds packets of one family only, and what is none.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    by_family: BTreeMap<(Family, Hook, Verdict), u64>,
    last: BTreeMap<(Hook, Verdict), u64>,
}

impl Verdicts {
    /// Begins to count.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn start(maps: &Maps) -> Result<Self> {
        Ok(Self {
            by_family: BTreeMap::new(),
            last: read(maps)?,
        })
    }

    /// Adds what has been counted since the last time to a family's.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn add(&mut self, maps: &Maps, family: Family) -> Result<()> {
        let now = read(maps)?;
        for (&(hook, verdict), &count) in &now {
            let before = self.last.get(&(hook, verdict)).copied().unwrap_or_default();
            *self.by_family.entry((family, hook, verdict)).or_default() += count - before;
        }
        self.last = now;
        Ok(())
    }

    pub fn of(&self, family: Family, hook: Hook, verdict: Verdict) -> u64 {
        let found = self.by_family.get(&(family, hook, verdict));
        found.copied().unwrap_or_default()
    }

    /// In both families together.
    pub fn sum(&self, hook: Hook, verdict: Verdict) -> u64 {
        let families = Family::BOTH.into_iter();
        families.map(|family| self.of(family, hook, verdict)).sum()
    }

    /// Packets of a family that have gone past the kernel, both directions.
    pub fn past(&self, family: Family) -> Past {
        let at_all = |verdict| {
            let hooks = Hook::ALL.into_iter();
            hooks.map(|hook| self.of(family, hook, verdict)).sum()
        };
        Past {
            fast: at_all(Verdict::Fast),
            dropped: at_all(Verdict::Dropped),
        }
    }

    /// The share of fast packets among all of a family at an entrance. XDP's is the uplink's, too.
    pub fn share(&self, family: Family, hook: Hook) -> f64 {
        let all: u64 = Verdict::ALL
            .iter()
            .map(|&verdict| self.of(family, hook, verdict))
            .sum();
        let by_xdp = match hook {
            Hook::FromWire => self.of(family, Hook::FromWireXdp, Verdict::Fast),
            _ => 0,
        };
        let fast = self.of(family, hook, Verdict::Fast) + by_xdp;
        fast as f64 / (all + by_xdp).max(1) as f64
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = format!("{:<18}", "verdict");
        for family in Family::BOTH {
            for hook in Hook::ALL {
                let _ = write!(out, "{:>19}", format!("{} {}", family, hook.name()));
            }
        }
        for &verdict in Verdict::ALL {
            let _ = write!(out, "\n{:<18}", verdict.name());
            for family in Family::BOTH {
                for hook in Hook::ALL {
                    let _ = write!(out, "{:>19}", self.of(family, hook, verdict));
                }
            }
        }
        out
    }
}

fn read(maps: &Maps) -> Result<BTreeMap<(Hook, Verdict), u64>> {
    let counts = maps.verdicts()?.into_iter();
    Ok(counts
        .map(|(hook, verdict, count)| ((hook, verdict), count.packets))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(forwarded: u64, errors: u64) -> KernelCounts {
        let named = [("Ip:ForwDatagrams", forwarded), ("Ip:InDiscards", errors)];
        KernelCounts(named.map(|(name, count)| (name.to_owned(), count)).into())
    }

    #[test]
    fn only_packets_that_went_past_the_kernel_may_be_missing() {
        let fast = |fast| [Past { fast, dropped: 0 }, Past::default()];
        assert!(compare(&counts(10, 3), &counts(4, 3), fast(6)).is_ok());
        assert!(compare(&counts(10, 3), &counts(4, 3), fast(5)).is_err());
        assert!(compare(&counts(10, 3), &counts(10, 2), fast(0)).is_err());
        let dropped = Past {
            fast: 0,
            dropped: 1,
        };
        assert!(compare(&counts(10, 3), &counts(10, 2), [dropped, Past::default()]).is_ok());
    }
}
