//! Which packets are traced, in the words of an operator: `pod=10.244.1.11,port=80,proto=tcp`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum as _;
use ipnet::IpNet;
use underpass_common::addr::Block;
use underpass_common::flow::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP};
use underpass_common::packet_trace::Filter;
use underpass_common::verdict::{Hook, Verdict};

use crate::cli::Protocol;

/// The word for every packet.
const ALL: &str = "all";

/// Which packets are traced. What is given must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketFilter {
    /// Either end lies in this block.
    pub address: Option<IpNet>,
    /// The pod of this node does: who sends at `from_pod` and `to_wire`, who receives at the others.
    pub pod: Option<IpNet>,
    /// The far end does.
    pub remote: Option<IpNet>,
    /// Port at either end; for ICMP echo the identifier.
    pub port: Option<u16>,
    /// Protocol.
    pub proto: Option<Protocol>,
    /// Where it is looked at.
    pub hook: Option<Hook>,
    /// What became of it there.
    pub verdict: Option<Verdict>,
}

impl PacketFilter {
    /// As the programs take it.
    pub fn to_programs(&self) -> Filter {
        let number = |number: u32| number as u8 + 1;
        Filter {
            is_on: 1,
            protocol: self.proto.map_or(0, |proto| match proto {
                Protocol::Tcp => PROTOCOL_TCP,
                Protocol::Udp => PROTOCOL_UDP,
                Protocol::Icmp => PROTOCOL_ICMP,
            }),
            hook: self.hook.map_or(0, |hook| number(hook as u32)),
            verdict: self.verdict.map_or(0, |verdict| number(verdict as u32)),
            has_port: u8::from(self.port.is_some()),
            _pad: 0,
            port: self.port.unwrap_or_default().to_be_bytes(),
            pod: block(self.pod),
            remote: block(self.remote),
            address: block(self.address),
        }
    }

    /// Adds what a word asks for.
    fn add(&mut self, word: &str) -> Result<(), String> {
        let Some((name, value)) = word.split_once('=') else {
            return Err(format!("{word:?}: {KNOWN}"));
        };
        let is_new = match name {
            "address" => put(&mut self.address, net(name, value)?),
            "pod" => put(&mut self.pod, net(name, value)?),
            "remote" => put(&mut self.remote, net(name, value)?),
            "port" => put(&mut self.port, port(value)?),
            "proto" => put(&mut self.proto, proto(value)?),
            "hook" => put(&mut self.hook, hook(value)?),
            "verdict" => put(&mut self.verdict, verdict(value)?),
            _ => return Err(format!("{name:?} is no word of a filter: {KNOWN}")),
        };
        match is_new {
            true => Ok(()),
            false => Err(format!("{name} is given twice")),
        }
    }

    /// An address of each family is in no packet.
    fn check(&self) -> Result<(), String> {
        let nets = [self.address, self.pod, self.remote];
        let mut nets = nets.into_iter().flatten();
        let first_is_v4 = nets.next().map(|net| net.addr().is_ipv4());
        if nets.any(|net| Some(net.addr().is_ipv4()) != first_is_v4) {
            return Err("addresses of both IPv4 and IPv6: no packet has them".to_owned());
        }
        Ok(())
    }
}

/// What an error says of the words that there are.
const KNOWN: &str = "`all`, or with commas between them `address=IP[/LEN]`, `pod=IP[/LEN]`, `remote=IP[/LEN]`, \
                     `port=N`, `proto=tcp|udp|icmp`, `hook=NAME`, `verdict=NAME`";

/// False where there is one already.
fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

fn net(name: &str, value: &str) -> Result<IpNet, String> {
    let net = value.parse::<IpAddr>().map(IpNet::from);
    let net = net.or_else(|_| value.parse::<IpNet>());
    net.map(|net| net.trunc()).map_err(|_| {
        format!("{name}={value}: an IP address is needed, or a prefix as 10.244.2.0/24")
    })
}

fn port(value: &str) -> Result<u16, String> {
    let wanted = || format!("port={value}: a number from 0 to 65535 is needed");
    value.parse().map_err(|_| wanted())
}

fn proto(value: &str) -> Result<Protocol, String> {
    Protocol::from_str(value, false).map_err(|_| format!("proto={value}: it is tcp, udp or icmp"))
}

fn hook(value: &str) -> Result<Hook, String> {
    let names = Hook::ALL.map(Hook::name).join(", ");
    let found = Hook::ALL.into_iter().find(|one| one.name() == value);
    found.ok_or_else(|| format!("hook={value}: it is one of {names}"))
}

fn verdict(value: &str) -> Result<Verdict, String> {
    let all = Verdict::ALL.iter().copied();
    let names: Vec<_> = all.clone().map(Verdict::name).collect();
    let found = all.into_iter().find(|one| one.name() == value);
    found.ok_or_else(|| format!("verdict={value}: it is one of {}", names.join(", ")))
}

impl FromStr for PacketFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        if text != ALL {
            for word in text.split(',') {
                filter.add(word.trim())?;
            }
        }
        filter.check()?;
        Ok(filter)
    }
}

impl fmt::Display for PacketFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        let nets = [
            ("address", self.address),
            ("pod", self.pod),
            ("remote", self.remote),
        ];
        for (name, net) in nets {
            words.extend(net.map(|net| format!("{name}={}", show(net))));
        }
        words.extend(self.port.map(|port| format!("port={port}")));
        words.extend(self.proto.and_then(|proto| {
            let value = proto.to_possible_value()?;
            Some(format!("proto={}", value.get_name()))
        }));
        words.extend(self.hook.map(|hook| format!("hook={}", hook.name())));
        words.extend(self.verdict.map(|one| format!("verdict={}", one.name())));
        match words.is_empty() {
            true => f.write_str(ALL),
            false => f.write_str(&words.join(",")),
        }
    }
}

/// An address without its length where it is one.
fn show(net: IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

/// A block of addresses of either family, IPv4's mapped into IPv6's; `None`: every address lies in it.
fn block(net: Option<IpNet>) -> Block<[u8; 16]> {
    let Some(net) = net else {
        return Block::default();
    };
    let (address, len) = match net {
        IpNet::V4(v4) => (v4.addr().to_ipv6_mapped(), 96 + u32::from(v4.prefix_len())),
        IpNet::V6(v6) => (v6.addr(), u32::from(v6.prefix_len())),
    };
    // A shift by all 128 bits is none.
    let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
    Block {
        network: address.octets(),
        mask: mask.to_be_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PacketFilter {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn words_are_read_and_shown_as_they_are_written() {
        for text in [
            "all",
            "address=10.244.2.0/24",
            "pod=10.244.1.5,remote=10.244.2.0/24,port=80,proto=tcp",
            "pod=fd00:1::5,proto=icmp",
            "hook=from_wire,verdict=no_endpoint",
            "address=0.0.0.0/0",
            "port=0",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(
            parsed("proto=udp, pod=10.244.1.5/24").to_string(),
            "pod=10.244.1.0/24,proto=udp"
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, told) in [
            ("", "`all`, or"),
            ("all,port=80", "\"all\": `all`, or"),
            ("prot=tcp", "\"prot\" is no word of a filter"),
            ("peer=node2", "\"peer\" is no word of a filter"),
            ("pod=10.244.1", "pod=10.244.1: an IP address is needed"),
            ("pod=10.244.1.0/33", "an IP address is needed, or a prefix"),
            ("port=65536", "port=65536: a number from 0 to 65535"),
            ("proto=sctp", "proto=sctp: it is tcp, udp or icmp"),
            ("hook=from-pod", "it is one of from_pod, to_wire"),
            ("verdict=slow", "it is one of fast, off"),
            ("port=80,port=81", "port is given twice"),
            ("pod=10.244.1.5,remote=fd00::1", "both IPv4 and IPv6"),
        ] {
            let error = text.parse::<PacketFilter>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn programs_get_addresses_of_both_families_in_one_form() {
        let block = |text: &str| parsed(&format!("pod={text}")).to_programs().pod;
        let v4 = block("10.244.1.0/24");
        assert_eq!(v4.network[10..], [0xff, 0xff, 10, 244, 1, 0]);
        assert_eq!(v4.mask[..15], [0xff; 15]);
        assert_eq!(v4.mask[15], 0);
        let every_v4 = block("0.0.0.0/0");
        assert_eq!(every_v4.mask[..12], [0xff; 12], "and no IPv6");
        assert_eq!(every_v4.mask[12..], [0; 4]);
        let v6 = block("fd00:1::/64");
        assert_eq!(
            (&v6.mask[..8], &v6.mask[8..]),
            (&[0xff; 8][..], &[0; 8][..])
        );
        assert_eq!(block("::/0"), Block::default());
        assert_eq!(block("fd00::1").mask, [0xff; 16]);
    }

    #[test]
    fn numbers_are_one_more_so_that_zero_is_any() {
        let filter = parsed("hook=from_pod,verdict=fast,proto=icmp,port=80").to_programs();
        assert_eq!((filter.hook, filter.verdict), (1, 1));
        assert_eq!((filter.protocol, filter.has_port), (PROTOCOL_ICMP, 1));
        assert_eq!(filter.port, [0, 80]);
        let all = parsed("all").to_programs();
        let expected = Filter {
            is_on: 1,
            ..Filter::OFF
        };
        assert_eq!(all, expected);
    }
}
