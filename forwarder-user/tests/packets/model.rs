//! The rules of the entrances once more, written from the design over plain bytes and with none of
//! the datapath's code: what a frame must look like to go past the kernel, and how it comes out.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use underpass_common::flow::{Direction, Flow, FlowKey, WayOut, confirmed};
use underpass_common::verdict::Hook;

use crate::builder::{ACK, FIN, RST, SYN};
use crate::cast::{MTU, NARROW_MTU, NARROW_UPLINK, OTHER_VETH, POD_VETH, UPLINK, UPLINK_MAC};
use crate::transport::internet_checksum;
use crate::world::World;

/// A frame, and where it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub hook: Hook,
    pub ifindex: u32,
    /// Payload bytes of each segment of a train; 0 for a single packet.
    pub gso_size: u32,
    pub frame: &'a [u8],
}

/// The frame that goes past the kernel; `None`: the kernel has it, as it came.
pub fn fast_frame(world: &World, arrival: Arrival<'_>) -> Option<Vec<u8>> {
    let packet = Ip::read(arrival)?;
    let direction = packet.direction(world, arrival)?;
    let way_out = if direction.generation == world.settings.generation {
        direction.way_out
    } else {
        packet.looked_up(world, arrival.hook)?
    };
    let fits = packet.fits(arrival, mtu(way_out.ifindex)?);
    (packet.ttl > 1 && fits).then(|| packet.forwarded(arrival.frame, way_out))
}

/// An IPv4 packet with nothing unusual about it.
struct Ip {
    total_len: usize,
    headers_len: usize,
    ttl: u8,
    src: [u8; 4],
    dst: [u8; 4],
    protocol: u8,
    /// Source and destination port; twice an echo's identifier.
    ports: [[u8; 2]; 2],
    icmp_type: u8,
    tcp_flags: u8,
}

impl Ip {
    fn read(
        Arrival {
            hook,
            gso_size,
            frame,
            ..
        }: Arrival<'_>,
    ) -> Option<Self> {
        let ip = &frame[14..];
        let is_multicast = frame[0] & 1 == 1;
        let is_for_us = hook == Hook::FromPod || frame[..6] == UPLINK_MAC;
        let is_plain_ipv4 = frame[12..14] == [8, 0] && ip.len() >= 20 && ip[0] == 0x45;
        let is_from_a_station = frame[6] & 1 == 0 && frame[6..12] != [0; 6];
        if is_multicast || !is_from_a_station || !is_for_us || !is_plain_ipv4 {
            return None;
        }
        let is_fragment = ip[6] & 0x3f != 0 || ip[7] != 0;
        let total_len = usize::from(be16(&ip[2..]));
        let is_padded = total_len < ip.len();
        if is_fragment
            || internet_checksum(&ip[..20]) != 0
            || total_len > ip.len()
            || (is_padded && gso_size != 0)
        {
            return None;
        }
        let transport = ip[..total_len].get(20..)?;
        let (headers_len, ports, icmp_type, tcp_flags) = match ip[9] {
            6 => {
                let len = usize::from(*transport.get(12)? >> 4) * 4;
                let header = transport.get(..len).filter(|header| header.len() >= 20)?;
                (len, [two(header), two(&header[2..])], 0, header[13])
            }
            17 => {
                let header = transport.get(..8)?;
                (8, [two(header), two(&header[2..])], 0, 0)
            }
            1 => {
                let header = transport.get(..8)?;
                let is_echo = matches!(header[0], 0 | 8) && header[1] == 0;
                is_echo.then(|| (8, [two(&header[4..]); 2], header[0], 0))?
            }
            _ => return None,
        };
        Some(Self {
            total_len,
            headers_len: 20 + headers_len,
            ttl: ip[8],
            src: ip[12..16].try_into().expect("four bytes"),
            dst: ip[16..20].try_into().expect("four bytes"),
            protocol: ip[9],
            ports,
            icmp_type,
            tcp_flags,
        })
    }

    /// The confirmed direction that the packet belongs to.
    fn direction(&self, world: &World, arrival: Arrival<'_>) -> Option<Direction> {
        let is_tcp = self.protocol == 6;
        let has = |flag| self.tcp_flags & flag != 0;
        if is_tcp && (has(SYN) || !has(ACK)) {
            return None;
        }
        let key = self.key(arrival.hook);
        let (_, flow) = world.flows.iter().find(|(one, _)| *one == key)?;
        let Flow {
            egress, ingress, ..
        } = *flow;
        let (direction, ifindex, mac) = match arrival.hook {
            Hook::FromPod => (egress, arrival.ifindex, &arrival.frame[..6]),
            _ => (ingress, 0, &[0; 6][..]),
        };
        let closes_late =
            is_tcp && direction.confirmed == confirmed::MID_STREAM && (has(FIN) || has(RST));
        let is_confirmed = direction.confirmed != confirmed::NO
            && direction.epoch == world.settings.epoch
            && direction.generation != 0
            && direction.entrance.ifindex == ifindex
            && direction.entrance.mac == mac;
        let own = if arrival.hook == Hook::FromPod {
            self.src
        } else {
            self.dst
        };
        let is_own = own[..3] == [10, 244, 1];
        (is_own && is_confirmed && !closes_late).then_some(direction)
    }

    fn key(&self, hook: Hook) -> FlowKey<IpAddr> {
        let is_outgoing = hook == Hook::FromPod;
        let [src_port, dst_port] = self.ports;
        let (pod, remote, pod_port, remote_port) = match is_outgoing {
            true => (self.src, self.dst, src_port, dst_port),
            false => (self.dst, self.src, dst_port, src_port),
        };
        let is_icmp = self.protocol == 1;
        FlowKey {
            pod: pod.into(),
            remote: remote.into(),
            pod_port,
            remote_port: if is_icmp { [0; 2] } else { remote_port },
            protocol: self.protocol,
            // What the pod sends: 8 asks, 0 answers.
            icmp_type: if is_icmp && !is_outgoing {
                8 - self.icmp_type
            } else {
                self.icmp_type
            },
            _pad: [0; 2],
        }
    }

    fn looked_up(&self, world: &World, hook: Hook) -> Option<WayOut> {
        if hook == Hook::FromWire {
            let endpoint = world.endpoints.get(&self.dst.into())?;
            return Some(WayOut {
                ifindex: endpoint.ifindex,
                dst_mac: endpoint.pod_mac,
                src_mac: endpoint.gateway_mac,
            });
        }
        let dst = IpNet::from(IpAddr::from(Ipv4Addr::from(self.dst)));
        let holding = world
            .routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&dst));
        let (_, route) = holding.max_by_key(|(prefix, _)| prefix.prefix_len())?;
        (route.ifindex != 0).then_some(WayOut {
            ifindex: route.ifindex,
            dst_mac: route.peer_mac,
            src_mac: route.own_mac,
        })
    }

    fn fits(&self, arrival: Arrival<'_>, mtu: usize) -> bool {
        match arrival.gso_size as usize {
            0 => arrival.frame.len() <= 14 + mtu,
            segment => self.headers_len + segment <= mtu,
        }
    }

    fn forwarded(&self, frame: &[u8], way_out: WayOut) -> Vec<u8> {
        let mut frame = frame[..14 + self.total_len].to_vec();
        frame[..6].copy_from_slice(&way_out.dst_mac);
        frame[6..12].copy_from_slice(&way_out.src_mac);
        frame[14 + 8] -= 1;
        // One less in the high byte of a halfword: 0x0100 more in the ones' complement of the sum
        // (RFC 1141), where 0xffff is written as 0, as the kernel does.
        let sum = u32::from(be16(&frame[14 + 10..])) + 0x0100;
        let sum = (sum + u32::from(sum >= 0xffff)) as u16;
        frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// The MTU of the devices that there are.
fn mtu(ifindex: u32) -> Option<usize> {
    match ifindex {
        UPLINK | POD_VETH | OTHER_VETH => Some(MTU),
        NARROW_UPLINK => Some(NARROW_MTU),
        _ => None,
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(two(bytes))
}

fn two(bytes: &[u8]) -> [u8; 2] {
    [bytes[0], bytes[1]]
}
