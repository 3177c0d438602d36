//! Kernel settings under `/proc/sys`, of the network namespace that we run in.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Conntrack takes TCP packets outside the window for VALID: without it a connection that was fast
/// and comes back to the kernel is INVALID there, which kube-proxy's rules drop.
pub const TCP_BE_LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";
/// Conntrack picks up connections in mid-stream.
pub const TCP_LOOSE: &str = "net.netfilter.nf_conntrack_tcp_loose";
/// The kernel forwards IPv4 packets.
pub const IPV4_FORWARD: &str = "net.ipv4.ip_forward";
/// The kernel forwards IPv6 packets: what is set for all interfaces.
pub const IPV6_FORWARD: &str = "net.ipv6.conf.all.forwarding";
/// The IPv4 neighbour table's upper limit, in entries.
pub const NEIGHBOUR_LIMIT_V4: &str = "net.ipv4.neigh.default.gc_thresh3";
/// The IPv6 neighbour table's upper limit, in entries.
pub const NEIGHBOUR_LIMIT_V6: &str = "net.ipv6.neigh.default.gc_thresh3";

/// Reads a number. `None`: this kernel, or this namespace, has no such setting.
///
/// # Errors
/// Where it cannot be read or is no number.
pub fn read(key: &str) -> Result<Option<u64>> {
    let text = match fs::read_to_string(path(key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read the sysctl {key}"))?,
    };
    let number = text
        .trim()
        .parse()
        .with_context(|| format!("the sysctl {key} is {:?}, not a number", text.trim()))?;
    Ok(Some(number))
}

/// An interface's MTU for IPv6. `None`: there is no IPv6 on it, or no such interface.
pub fn mtu_v6(interface: &str) -> Option<u32> {
    // Not by a key: a name may have dots.
    let file = format!("/proc/sys/net/ipv6/conf/{interface}/mtu");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Writes a number.
///
/// # Errors
/// Where it cannot be written: in a container `/proc/sys` is often read-only.
pub fn write(key: &str, value: u64) -> Result<()> {
    fs::write(path(key), value.to_string())
        .with_context(|| format!("cannot set the sysctl {key} to {value}"))
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key.replace('.', "/"))
}
