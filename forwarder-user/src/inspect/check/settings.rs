//! Settings of the kernel.

use super::Finding;
use super::facts::{Answer, Facts};
use crate::inspect::room::Known;
use crate::neighbour_limits::{Limits, Table};
use crate::sysctl;

/// Bridged IPv4 packets go through iptables.
pub(super) const BRIDGE_NF: &str = "net.bridge.bridge-nf-call-iptables";
/// Reverse path filtering on all interfaces; an interface's own counts where it is stricter.
pub(super) const RP_FILTER_ALL: &str = "net.ipv4.conf.all.rp_filter";
/// The setting that an interface's own reverse path filter is noted under: its name may have dots.
pub(super) const RP_FILTER_UPLINK: &str = "rp_filter of the uplink";

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        forwarding(facts, sysctl::IPV4_FORWARD, "IPv4"),
        forwarding(facts, sysctl::IPV6_FORWARD, "IPv6"),
        rp_filter(facts),
        be_liberal(facts),
        loose(facts),
        bridge_nf(facts),
    ];
    let known = known(facts);
    let tables = facts.limits.iter();
    findings.extend(tables.map(|(table, limits)| neighbours(*table, limits, &known)));
    findings
}

/// One that is read as a number, judged by `judge`; what is not there or cannot be read is told alike.
fn setting(
    facts: &Facts,
    key: &'static str,
    judge: impl FnOnce(u64) -> Option<(String, String)>,
) -> Finding {
    match facts.sysctl(key) {
        Ok(Some(value)) => match judge(value) {
            Some((found, fix)) => Finding::warn(key, format!("{value}: {found}"), fix),
            None => Finding::pass(key, value.to_string()),
        },
        Ok(None) => Finding::pass(key, "not in this kernel or namespace"),
        Err(error) => unreadable(key, &error),
    }
}

fn unreadable(key: &'static str, error: &str) -> Finding {
    Finding::warn(
        key,
        error,
        "is /proc/sys the kernel's? --proc-sys names another place",
    )
}

fn forwarding(facts: &Facts, key: &'static str, family: &str) -> Finding {
    setting(facts, key, |value| {
        let found =
            format!("the kernel forwards no {family}, so that nothing of it can be confirmed");
        let fix = format!("sysctl -w {key}=1, where pods have {family}");
        (value == 0).then_some((found, fix))
    })
}

/// The greater of both is in force (the kernel's Documentation/networking/ip-sysctl.rst): 2 makes it loose
/// whatever the other says.
fn rp_filter(facts: &Facts) -> Finding {
    let name = "rp_filter";
    match (facts.sysctl(RP_FILTER_ALL), facts.sysctl(RP_FILTER_UPLINK)) {
        (Err(error), _) | (_, Err(error)) => unreadable(name, &error),
        (Ok(None), Ok(None)) => Finding::pass(name, "not in this kernel or namespace"),
        (Ok(all), Ok(uplink)) => {
            let in_force = all.max(uplink).unwrap_or(0);
            let shown = |value: Option<u64>| value.map_or("-".into(), |value| value.to_string());
            let found = format!("all: {}, uplink: {}", shown(all), shown(uplink));
            match in_force {
                1 => Finding::warn(
                    name,
                    format!(
                        "{found}, strict: what comes from a pod by another way than the kernel's own route \
                         back is dropped, and is never confirmed"
                    ),
                    "fine where each podCIDR is routed by the uplink; else sysctl -w net.ipv4.conf.all.rp_filter=2",
                ),
                _ => Finding::pass(name, found),
            }
        }
    }
}

fn be_liberal(facts: &Facts) -> Finding {
    setting(facts, sysctl::TCP_BE_LIBERAL, |value| {
        let found = "a connection that falls back to the kernel may be INVALID there";
        let fix = "the agent sets it to 1, unless it is told --tcp-be-liberal leave";
        (value == 0).then(|| (found.into(), fix.into()))
    })
}

fn loose(facts: &Facts) -> Finding {
    let key = sysctl::TCP_LOOSE;
    setting(facts, key, |value| {
        let found = "conntrack takes up no connection in mid-stream: one that falls back to the kernel breaks";
        (value == 0).then(|| (found.into(), format!("sysctl -w {key}=1")))
    })
}

/// Told, and never wrong by itself.
fn bridge_nf(facts: &Facts) -> Finding {
    let found = match facts.sysctl(BRIDGE_NF) {
        Ok(Some(0)) => {
            "0: packets between pods of this node skip iptables, Services between them too"
        }
        Ok(Some(_)) => "1: packets between pods of this node pass iptables",
        Ok(None) => "not there: br_netfilter is not loaded, or not shown in this namespace",
        Err(error) => return unreadable(BRIDGE_NF, &error),
    };
    Finding::pass(BRIDGE_NF, found)
}

fn known(facts: &Facts) -> Known {
    let addresses = facts.network.peers.list.iter();
    let addresses = addresses.filter_map(|peer| peer.address);
    Known::of_addresses(addresses, facts.network.pods.len())
}

fn neighbours(table: Table, limits: &Answer<Option<Limits>>, known: &Known) -> Finding {
    let name = match table {
        Table::Ipv4 => "neighbour table (IPv4)",
        Table::Ipv6 => "neighbour table (IPv6)",
    };
    match limits {
        Ok(Some(limits)) => match known.shortage(table, *limits) {
            Some(found) => Finding::warn(
                name,
                found,
                "nothing where the agent may (not with --neighbour-limits leave); docs/scale.md has figures",
            ),
            None => Finding::pass(
                name,
                format!("gc_thresh1 to 3 are {limits}: room for what is known of peers and pods"),
            ),
        },
        Ok(None) => Finding::pass(name, "its limits are not shown in this namespace"),
        Err(error) => unreadable(name, error),
    }
}
