//! Gratuitous ARP: a host tells all on its link where its address is now.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use underpass_common::addr::Mac;

use super::FrameSocket;
use crate::lab::Host;

/// Says on `interface` of `host` that `address` is at `mac`; as CNI plugins do for a new pod, and
/// kernels with `arp_notify` for a new MAC.
///
/// # Errors
/// When there is no such interface, or it is down.
pub fn announce(host: &Host, interface: &str, address: Ipv4Addr, mac: Mac) -> Result<()> {
    // A socket is not shown what it sends itself.
    let (sender, witness) = (
        FrameSocket::open(host, interface)?,
        FrameSocket::open(host, interface)?,
    );
    let frame = gratuitous_arp(address, mac);
    sender.send(&frame)?;
    // Seen going out: it is on the wire.
    let sent = |seen: &super::Frame| seen.bytes == frame;
    witness.expect(Duration::from_secs(1), "the gratuitous ARP goes out", sent)?;
    Ok(())
}

/// A request for one's own address (RFC 826, RFC 5227).
fn gratuitous_arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &mac, &[0x08, 0x06]];
    // Ethernet, IPv4, their address lengths, request.
    let fixed = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let ip = address.octets();
    let arp = [&fixed[..], &mac, &ip, &[0; 6], &ip];
    [ethernet.concat(), arp.concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_all_for_ones_own_address() {
        let frame = gratuitous_arp(Ipv4Addr::new(10, 0, 0, 2), [2, 0, 0, 0, 0, 9]);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[28..32], frame[38..42]);
    }
}
