//! Addresses that nodes get while traffic goes on.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::Result;
use underpass_bench::lab::{Family, Node, names};
use underpass_bench::wait_until;

use crate::common::{DEADLINE, no_dad};

/// Gives a node one more address on the wire, and waits until it can be asked for it.
///
/// The kernel joins the group in which an IPv6 address is asked for by and by, in a work queue, `nodad` or not
/// (`addrconf_dad_start()` of net/ipv6/addrconf.c). A question before that is lost, the next one comes a second
/// later, and what waits for the answer meanwhile is more than a neighbour's queue holds.
pub fn add_address(node: &Node, address: IpAddr) -> Result<()> {
    let family = Family::of(address);
    let prefix = names::wire_prefix(family);
    node.ip(&format!(
        "addr add {address}/{prefix} dev eth0 {}\n",
        no_dad(family)
    ))?;
    let IpAddr::V6(address) = address else {
        return Ok(());
    };
    let group = solicited_node(address).to_string();
    wait_until(
        DEADLINE,
        "the node can be asked for its new address",
        || {
            let groups = node.run(&["ip", "-6", "maddr", "show", "dev", "eth0"]);
            groups.is_ok_and(|groups| groups.split_whitespace().any(|word| word == group))
        },
    )
}

/// The group in which an address is asked for (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}
