//! An ICMP error in the making.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use underpass_common::flow::{Flow, WayOut};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ETHERNET, Packet};
use crate::cast::{CONFIRMED, FAR, POD, TO_PEER, TO_POD, device_at, macs_at};
use crate::launcher::Metadata;
use crate::rig::Rig;
use crate::table::{Family, Hex, NEXT, REDIRECT};
use crate::transport::internet_checksum;
use crate::twin;
use crate::world::World;

/// The peer node: whoever finds a packet too big for the far pod's link.
pub const PEER: [u8; 4] = [192, 168, 77, 2];

/// Bytes of an IP header and of the eight that follow it.
pub fn least_quote(family: Family) -> usize {
    match family {
        Family::V4 => 28,
        Family::V6 => 48,
    }
}

/// An ICMP error in the making.
#[derive(Clone)]
pub struct Error {
    pub name: String,
    pub family: Family,
    pub hook: Hook,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub kind: u8,
    /// The packet that it is about, in that packet's own direction.
    pub about: Packet,
    /// So many bytes of it are quoted.
    pub quote: usize,
    pub hops: u8,
    pub ifindex: u32,
    /// What becomes of the flow's two directions before.
    pub flow: Flow,
}

impl Error {
    /// About a pod's packet, from the peer node; or about one for a pod, from that pod.
    pub fn at(hook: Hook, family: Family, name: &str, about: Packet) -> Self {
        let (src, dst, about) = match hook {
            Hook::FromWire => (PEER, POD, about),
            _ => (POD, FAR, about.back()),
        };
        let kind = match family {
            Family::V4 => 3,
            Family::V6 => 2,
        };
        Self {
            name: name.to_owned(),
            family,
            hook,
            src,
            dst,
            kind,
            about,
            quote: 64,
            hops: 64,
            ifindex: device_at(hook),
            flow: CONFIRMED,
        }
    }

    pub fn but(mut self, name: &str, change: impl FnOnce(&mut Self)) -> Self {
        self.name = name.to_owned();
        change(&mut self);
        self
    }

    fn address(&self, v4: [u8; 4]) -> IpAddr {
        match self.family {
            Family::V4 => v4.into(),
            Family::V6 => twin::of_address(v4.into()).into(),
        }
    }

    fn quoted(&self) -> Vec<u8> {
        let frame = self.about.clone().or_macs(macs_at(self.hook)).bytes();
        let frame = match self.family {
            Family::V4 => frame,
            Family::V6 => twin::of_frame(&frame),
        };
        let packet = &frame[ETHERNET..];
        packet[..self.quote.min(packet.len())].to_vec()
    }

    pub fn frame(&self) -> Vec<u8> {
        let (dst_mac, src_mac) = macs_at(self.hook);
        let message = [&[self.kind, 0, 0, 0, 0, 0, 5, 0], &self.quoted()[..]].concat();
        let packet = match (self.address(self.src), self.address(self.dst)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => v4(src, dst, self.hops, &message),
            (IpAddr::V6(src), IpAddr::V6(dst)) => v6(src, dst, self.hops, &message),
            _ => unreachable!("of one family"),
        };
        let ethertype = match self.family {
            Family::V4 => [0x08, 0x00],
            Family::V6 => [0x86, 0xdd],
        };
        [&dst_mac[..], &src_mac, &ethertype, &packet].concat()
    }

    pub fn world(&self) -> World {
        let mut world = World::usual();
        let tuple = self.about.tuple().expect("an IP packet");
        let key = match self.hook {
            Hook::FromWire => tuple.from_pod(),
            _ => tuple.to_pod(),
        };
        world.flows.push((key, self.flow));
        match self.family {
            Family::V4 => world,
            Family::V6 => world.twin().expect("a world that has a twin"),
        }
    }

    /// Runs it: the way out that its frame went, or the verdict, and the flow as it is left.
    pub fn run(&self, rig: &mut Rig) -> (Result<WayOut, Verdict>, Flow) {
        rig.put(&self.world()).expect("maps");
        let before = rig.counts().expect("counts");
        let with = Metadata {
            ifindex: self.ifindex,
            ..Metadata::default()
        };
        let frame = self.frame();
        let run = rig.run(self.hook, &frame, &with).expect("a run");
        let counts = rig.counts().expect("counts");
        let mut changed = counts
            .iter()
            .filter(|(place, count)| **count != before[*place]);
        let (&(_, verdict), _) = changed.next().expect("one verdict");
        let flow = rig.world().expect("maps").flows[0].1;
        if verdict != Verdict::Fast {
            assert_eq!(run.answer, NEXT, "{}", self.name);
            assert_eq!(Hex(&run.bytes), Hex(&frame), "{}", self.name);
            return (Err(verdict), flow);
        }
        assert_eq!(run.answer, REDIRECT, "{}", self.name);
        let mac = |at: usize| run.bytes[at..at + 6].try_into().expect("six bytes");
        let way_out = WayOut {
            dst_mac: mac(0),
            src_mac: mac(6),
            ..way_out(self.hook)
        };
        // Behind the header nothing is changed.
        let payload = ETHERNET + if self.family == Family::V4 { 20 } else { 40 };
        assert_eq!(
            Hex(&run.bytes[payload..]),
            Hex(&frame[payload..]),
            "{}",
            self.name
        );
        (Ok(way_out), flow)
    }
}

pub const fn way_out(hook: Hook) -> WayOut {
    match hook {
        Hook::FromWire => TO_POD,
        _ => TO_PEER,
    }
}

fn v4(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, message: &[u8]) -> Vec<u8> {
    let len = (20 + message.len()) as u16;
    let mut header = vec![0x45, 0xc0];
    header.extend(len.to_be_bytes());
    header.extend([0x12, 0x34, 0, 0, ttl, 1, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let checksum = internet_checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, message].concat()
}

fn v6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let len = (message.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], 58, hop_limit];
    [&header[..], &src.octets(), &dst.octets(), message].concat()
}
