//! Verdicts: what became of a packet, and why. The same names everywhere: programs, map, `status`,
//! metrics and docs.

/// The places where packets are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Hook {
    /// Ingress of a pod's host-side veth.
    FromPod = 0,
    /// Egress of the uplink.
    ToWire = 1,
    /// Ingress of the uplink.
    FromWire = 2,
    /// Egress of a pod's host-side veth.
    ToPod = 3,
    /// Ingress of the uplink by XDP (`--ingress xdp`), before [`FromWire`](Self::FromWire), which sees
    /// what it lets pass. Counted are fast packets alone.
    FromWireXdp = 4,
}

impl Hook {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::FromPod,
        Self::ToWire,
        Self::FromWire,
        Self::ToPod,
        Self::FromWireXdp,
    ];
    /// Those of TC, in the order of their numbers.
    pub const TC: [Self; 4] = [Self::FromPod, Self::ToWire, Self::FromWire, Self::ToPod];

    /// The name of the hook and of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToWire => "to_wire",
            Self::FromWire => "from_wire",
            Self::ToPod => "to_pod",
            Self::FromWireXdp => "from_wire_xdp",
        }
    }

    /// True for the hooks where a packet may be redirected; each packet has one verdict there. The
    /// others see, of the packets left to the kernel, those that come out again.
    pub const fn is_entrance(self) -> bool {
        matches!(self, Self::FromPod | Self::FromWire | Self::FromWireXdp)
    }

    /// True for XDP's, false for TC's.
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::FromWireXdp)
    }
}

/// Packets and bytes of one verdict at one hook on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets; a segment train (GSO) is one.
    pub packets: u64,
    /// Bytes, with the Ethernet header.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Count>() == 16);

/// Room for verdicts per hook in the map.
pub const MAX_VERDICTS: u32 = 32;
/// Entries of the map `verdicts`.
pub const COUNTS: u32 = Hook::ALL.len() as u32 * MAX_VERDICTS;

/// Key of a verdict's count in the map `verdicts`: `hook * 32 + verdict`.
#[inline(always)]
pub const fn index(hook: Hook, verdict: Verdict) -> u32 {
    hook as u32 * MAX_VERDICTS + verdict as u32
}

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// What became of a packet. All but [`Verdict::Fast`] and [`Verdict::Dropped`] mean: the
        /// kernel has it, untouched.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Verdict {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Verdict {
            /// All verdicts, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The verdict's name in metrics, JSON and docs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

verdicts! {
    /// Redirected past the kernel.
    Fast = 0, "fast";
    /// Offload is switched off, or the agent has not written its settings yet.
    Off = 1, "off";
    /// Not an IP packet of a family in use, or VLAN-tagged.
    NotIp = 2, "not_ip";
    /// Truncated, or its lengths, version or header checksum are wrong.
    Malformed = 3, "malformed";
    /// Not from one station to this node: multicast, broadcast, another station's, or from no station.
    NotForUs = 4, "not_for_us";
    /// Its address is not in this node's own podCIDRs.
    NotPodTraffic = 5, "not_pod_traffic";
    /// It carries IP options or extension headers.
    IpOptions = 6, "ip_options";
    /// A fragment.
    Fragment = 7, "fragment";
    /// Its TTL or hop limit ends here.
    TtlExpired = 8, "ttl_expired";
    /// Neither TCP, UDP nor ICMP.
    Protocol = 9, "protocol";
    /// A TCP packet that opens a connection, or has no ACK.
    TcpOpening = 10, "tcp_opening";
    /// A FIN or RST of a connection that conntrack holds as established.
    TcpClosing = 11, "tcp_closing";
    /// The kernel has not been seen to forward this direction of this flow.
    Unconfirmed = 12, "unconfirmed";
    /// It came by another veth or gateway than the one that was confirmed.
    OtherEntrance = 13, "other_entrance";
    /// No peer's podCIDR holds its destination, or the prefix is left to the kernel.
    NoRoute = 14, "no_route";
    /// The local pod's veth is not known.
    NoEndpoint = 15, "no_endpoint";
    /// Larger than the MTU of the way out.
    TooBig = 16, "too_big";
    /// The interface of the way out is gone.
    WayOutGone = 17, "way_out_gone";
    /// Lost after the first write: the packet could not be finished.
    Dropped = 18, "dropped";
    /// At an exit: the kernel sent it as it came in; the direction is confirmed.
    Confirmed = 19, "confirmed";
    /// At an exit: no tag, or that of another tuple or entrance: translated, local or the host's own.
    Unwitnessed = 20, "unwitnessed";
    /// At an exit: the kernel sends it to another next hop than the trie or the pod's veth.
    OtherNextHop = 21, "other_next_hop";
    /// At an exit: the flow table would not take another entry.
    FlowTableFull = 22, "flow_table_full";
    /// ICMP other than echo, and not an error about a flow that is confirmed in both directions.
    Icmp = 23, "icmp";
}

impl Verdict {
    /// The verdict of that number, where there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn verdicts_are_numbered_without_gaps_and_fit_the_map() {
        for (position, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, position);
            assert_eq!(Verdict::from_number(position as u32), Some(*verdict));
        }
        assert!(Verdict::ALL.len() <= MAX_VERDICTS as usize);
        assert_eq!(Verdict::from_number(Verdict::ALL.len() as u32), None);
    }

    #[test]
    fn names_are_unique_and_indexes_too() {
        let names: BTreeSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Verdict::ALL.len());
        let indexes: BTreeSet<_> = Hook::ALL
            .iter()
            .flat_map(|&hook| Verdict::ALL.iter().map(move |&v| index(hook, v)))
            .collect();
        assert_eq!(indexes.len(), Hook::ALL.len() * Verdict::ALL.len());
        assert!(indexes.iter().all(|&i| i < COUNTS));
    }
}
