//! Where the kernel's own routes lead (`KERNEL_ROUTES`).

use std::net::IpAddr;

use crate::cast::{KERNEL_ROUTES, NODE};
use crate::family::{Family, Twin as _};
use crate::world::prefix;

/// True where the kernel sends what is for this address out of that device.
pub fn sends_out_of(ifindex: u32, address: IpAddr) -> bool {
    let family = Family::of(address);
    if is_martian(address) || address == IpAddr::from(NODE).in_family(family) {
        return false;
    }
    let routes = KERNEL_ROUTES.map(|(text, device)| (prefix(text).in_family(family), device));
    let holding = routes
        .iter()
        .filter(|(prefix, _)| prefix.contains(&address));
    let longest = holding.max_by_key(|(prefix, _)| prefix.prefix_len());
    longest.is_some_and(|(_, device)| *device == Some(ifindex))
}

/// True for addresses that are nobody's elsewhere.
fn is_martian(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || v4.is_loopback() || v4.is_multicast() || first >= 240
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
        }
    }
}
