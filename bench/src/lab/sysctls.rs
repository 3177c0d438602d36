//! What the hosts of a lab are told by sysctl.

use anyhow::{Result, ensure};

use super::host::Host;
use super::{Family, Node};

const IPV6_SWITCH: &str = "net.ipv6.conf.all.disable_ipv6";

/// Has a node forward.
pub fn route(node: &Node) -> Result<()> {
    node.sysctls(&[
        ("net.ipv4.ip_forward", "1"),
        // Distributions differ here; the way back of a packet may be another in our tests.
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
    ])?;
    if node.families().has(Family::V6) {
        node.sysctl(Family::V6.forwarding(), "1")?;
    }
    Ok(())
}

/// Whether the packets that a host's bridges pass go through its iptables rules, where the kernel can do that at all
/// (`br_netfilter`).
pub fn set_bridge_netfilter(host: &Host, wanted: bool) -> Result<()> {
    for key in [
        "net.bridge.bridge-nf-call-iptables",
        "net.bridge.bridge-nf-call-ip6tables",
    ] {
        if host.has_sysctl(key)? {
            host.sysctl(key, if wanted { "1" } else { "0" })?;
        }
    }
    Ok(())
}

/// IPv6 without what would have a lab come up later or a link speak unasked.
pub fn prepare_ipv6(host: &Host) -> Result<()> {
    ensure!(
        host.has_sysctl(IPV6_SWITCH)?,
        "this kernel has no IPv6: take a lab with IPv4 only"
    );
    host.sysctls(&[
        (IPV6_SWITCH, "0"),
        ("net.ipv6.conf.default.disable_ipv6", "0"),
        // Of the two the greater holds.
        ("net.ipv6.conf.all.accept_dad", "0"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.default.router_solicitations", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
        // As IPv4 has it: a link that goes down and up again has its addresses as before.
        ("net.ipv6.conf.all.keep_addr_on_down", "1"),
        ("net.ipv6.conf.default.keep_addr_on_down", "1"),
    ])
}

/// No IPv6 at all.
pub fn disable_ipv6(host: &Host) -> Result<()> {
    // A kernel without IPv6 has no such sysctl.
    if host.has_sysctl(IPV6_SWITCH)? {
        host.sysctls(&[
            (IPV6_SWITCH, "1"),
            ("net.ipv6.conf.default.disable_ipv6", "1"),
        ])?;
    }
    Ok(())
}
