//! From the plan's types to the maps' and back.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use underpass_common::addr::Block;
use underpass_common::peer::{Peer, PeerFamily, PeerName};
use underpass_common::pod::Pod;
use underpass_common::settings::{MAX_POD_CIDRS, Settings};

use super::{PeerFamilyPlan, PeerPlan, PodPlan};

impl PodPlan {
    /// The veth's entry in the map `pods`.
    pub fn record(&self) -> Pod {
        let mut pod = Pod {
            mac: self.mac,
            state: self.state as u8,
            ingress: self.ingress as u8,
            ..Pod::default()
        };
        fill(&mut pod.name, &self.name);
        pod
    }
}

impl PeerPlan {
    /// The peer's entry in the map `peers`: the first podCIDR and address of each family.
    pub fn record(&self) -> Peer {
        Peer {
            v4: self.v4.map_or_else(PeerFamily::default, |family| {
                let v4 = |net: &IpNet| match net {
                    IpNet::V4(v4) => Some((v4.addr().octets(), v4.prefix_len())),
                    IpNet::V6(_) => None,
                };
                self.family_record(family, v4)
            }),
            v6: self.v6.map_or_else(PeerFamily::default, |family| {
                let v6 = |net: &IpNet| match net {
                    IpNet::V6(v6) => Some((v6.addr().octets(), v6.prefix_len())),
                    IpNet::V4(_) => None,
                };
                self.family_record(family, v6)
            }),
            state: self.state as u8,
            refusal: self.refusal as u8,
            _pad: [0; 2],
        }
    }

    /// `octets` tells address and prefix length of what is of the family.
    fn family_record<A: Copy + Default>(
        &self,
        family: PeerFamilyPlan,
        octets: impl Fn(&IpNet) -> Option<(A, u8)>,
    ) -> PeerFamily<A> {
        let hosts = self.addresses.iter().copied().map(IpNet::from);
        let address = hosts.filter_map(|host| octets(&host)).next();
        let pod_cidr = self.pod_cidrs.iter().find_map(&octets);
        let (pod_cidr, pod_cidr_len) = pod_cidr.unwrap_or_default();
        PeerFamily {
            pod_cidr,
            address: address.unwrap_or_default().0,
            mac: family.mac,
            pod_cidr_len,
            state: family.state as u8,
            refusal: family.refusal as u8,
            _pad: [0; 3],
        }
    }
}

/// Copies as much of a text as fits and leaves a zero behind it. The rest of `field` must be zeros.
fn fill(field: &mut [u8], text: &str) {
    let length = text.len().min(field.len() - 1);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// A node's key in the map `peers`. `None`: the name is none that a Node can have, and has no entry.
pub fn peer_key(name: &str) -> Option<PeerName> {
    let mut key = PeerName { name: [0; 256] };
    if name.is_empty() || name.len() >= key.name.len() || name.contains('\0') {
        return None;
    }
    fill(&mut key.name, name);
    Some(key)
}

/// The node's name in a key of the map `peers`. `None`: no key that [`peer_key`] makes.
pub fn peer_name(key: &PeerName) -> Option<&str> {
    let end = key.name.iter().position(|byte| *byte == 0)?;
    let (name, rest) = key.name.split_at(end);
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && rest.iter().all(|byte| *byte == 0)).then_some(name)
}

/// Writes this node's own podCIDRs into `settings`: the first [`MAX_POD_CIDRS`] of each family.
pub fn put_pod_cidrs(pod_cidrs: &[IpNet], settings: &mut Settings) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for cidr in pod_cidrs {
        match cidr {
            IpNet::V4(net) => v4.push(Block {
                network: net.network().octets(),
                mask: net.netmask().octets(),
            }),
            IpNet::V6(net) => v6.push(Block {
                network: net.network().octets(),
                mask: net.netmask().octets(),
            }),
        }
    }
    (settings.pod_cidrs_v4, settings.pod_cidrs_v4_len) = array(&v4);
    (settings.pod_cidrs_v6, settings.pod_cidrs_v6_len) = array(&v6);
}

fn array<B: Copy + Default>(blocks: &[B]) -> ([B; MAX_POD_CIDRS], u8) {
    let mut array = [B::default(); MAX_POD_CIDRS];
    let length = blocks.len().min(MAX_POD_CIDRS);
    array[..length].copy_from_slice(&blocks[..length]);
    (array, length as u8)
}

/// This node's own podCIDRs as they stand in `settings`, IPv4 first.
pub fn pod_cidrs_of(settings: &Settings) -> Vec<IpNet> {
    let v4 = settings.pod_cidrs_v4.iter().map(|block| {
        let (network, mask) = (Ipv4Addr::from(block.network), Ipv4Addr::from(block.mask));
        Ipv4Net::with_netmask(network, mask).map(IpNet::V4)
    });
    let v6 = settings.pod_cidrs_v6.iter().map(|block| {
        let (network, mask) = (Ipv6Addr::from(block.network), Ipv6Addr::from(block.mask));
        Ipv6Net::with_netmask(network, mask).map(IpNet::V6)
    });
    let v4 = v4.take(settings.pod_cidrs_v4_len.into());
    let v6 = v6.take(settings.pod_cidrs_v6_len.into());
    // A mask with holes is nothing that we have written.
    v4.chain(v6).flatten().collect()
}

#[cfg(test)]
mod tests {
    use underpass_common::peer::{PeerState, Refusal};
    use underpass_common::pod::{PodIngress, PodState};

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_peer_s_record_holds_the_first_of_each_family() {
        let peer = PeerPlan {
            pod_cidrs: nets(&["fd00::/64", "10.244.1.0/24", "10.244.2.0/25"]),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            v4: Some(PeerFamilyPlan {
                mac: [2, 0, 0, 0, 0, 1],
                uplink: 2,
                state: PeerState::WaitingForNeighbour,
                refusal: Refusal::None,
            }),
            v6: Some(PeerFamilyPlan {
                mac: [0; 6],
                uplink: 0,
                state: PeerState::Refused,
                refusal: Refusal::NoAddress,
            }),
            state: PeerState::WaitingForNeighbour,
            refusal: Refusal::None,
            detail: None,
        };
        let Peer {
            v4,
            v6,
            state,
            refusal,
            ..
        } = peer.record();
        assert_eq!((v4.pod_cidr, v4.pod_cidr_len), ([10, 244, 1, 0], 24));
        assert_eq!(
            (v6.pod_cidr[..2].to_vec(), v6.pod_cidr_len),
            (vec![0xfd, 0], 64)
        );
        assert_eq!((v4.address, v6.address), ([10, 0, 0, 1], [0; 16]));
        assert_eq!((v4.mac, v6.mac), ([2, 0, 0, 0, 0, 1], [0; 6]));
        assert_eq!((v4.state, v4.refusal), (2, 0));
        assert_eq!((v6.state, v6.refusal), (6, 2));
        assert_eq!((state, refusal), (2, 0));

        let without_v6 = PeerPlan { v6: None, ..peer };
        assert_eq!(without_v6.record().v6, PeerFamily::default());
    }

    #[test]
    fn a_pod_s_record_names_its_veth() {
        let pod = PodPlan {
            ifindex: 7,
            name: "veth0123456789a".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            state: PodState::Shaped,
            ingress: PodIngress::TcNoGro,
        };
        let record = pod.record();
        assert_eq!(&record.name, b"veth0123456789a\0");
        assert_eq!((record.mac, record.state), ([2, 0, 0, 0, 0, 1], 2));
        assert_eq!(record.ingress, 2);
    }

    #[test]
    fn names_survive_the_map_and_only_names() {
        let longest = "n".repeat(255);
        for name in ["worker-1", longest.as_str()] {
            assert_eq!(peer_name(&peer_key(name).unwrap()), Some(name));
        }
        for name in ["", "a\0b", &"n".repeat(256)] {
            assert_eq!(peer_key(name), None);
        }
        let mut key = peer_key("a").unwrap();
        key.name[9] = 1;
        assert_eq!(peer_name(&key), None, "bytes behind the end");
        assert_eq!(peer_name(&PeerName { name: [0; 256] }), None);
        assert_eq!(peer_name(&PeerName { name: [b'a'; 256] }), None);
    }

    #[test]
    fn own_pod_cidrs_survive_the_settings() {
        let mut settings = Settings::default();
        assert_eq!(pod_cidrs_of(&settings), []);
        let cidrs = nets(&["10.244.1.0/24", "10.244.9.0/28", "fd00:10:244:1::/64"]);
        put_pod_cidrs(&cidrs, &mut settings);
        assert_eq!(pod_cidrs_of(&settings), cidrs);
        assert!(settings.pod_cidrs_v4[0].contains(&[10, 244, 1, 9]));
        assert!(!settings.pod_cidrs_v4[0].contains(&[10, 244, 2, 9]));
        put_pod_cidrs(&cidrs[1..2], &mut settings);
        assert_eq!(pod_cidrs_of(&settings), &cidrs[1..2]);
        let many: Vec<IpNet> = (0..9)
            .map(|n| format!("10.{n}.0.0/16").parse().unwrap())
            .collect();
        put_pod_cidrs(&many, &mut settings);
        assert_eq!(pod_cidrs_of(&settings), &many[..MAX_POD_CIDRS]);
    }
}
