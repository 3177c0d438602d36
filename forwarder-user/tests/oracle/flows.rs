//! Flows that packets belong to: most between pods here and there, some to everything else.

use std::net::IpAddr;

use underpass_bench::lab::names;
use underpass_common::addr::Mac;

use super::cast::{
    BLACKHOLED, Family, OVERRIDDEN, PROHIBITED, Place, ROUTER_MAC, node_addresses, outside, remote,
    remote_pods, special,
};
use super::dice::Dice;
use super::packet::Packet;
use super::transport::{ACK, PSH, Transport};

/// How many flows of a family are in the pool.
const POOL: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    /// An echo whose request comes from the pod, or from the far end.
    Echo {
        from_pod: bool,
    },
}

/// A flow between a pod and something else.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pod: Place,
    remote: IpAddr,
    protocol: Protocol,
    pod_port: u16,
    remote_port: u16,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromPod,
    ToPod,
}

/// The flows of a family.
#[derive(Clone, Debug)]
pub struct Flows {
    flows: Vec<Flow>,
}

impl Flows {
    pub fn new(family: Family, dice: &mut Dice) -> Self {
        Self {
            flows: (0..POOL).map(|_| Flow::random(family, dice)).collect(),
        }
    }

    /// One of them; now and then a new one takes the place of an old one first.
    pub fn pick(&mut self, dice: &mut Dice) -> Flow {
        let place = dice.below(POOL);
        if dice.once_in(100) {
            let family = self.flows[place].family();
            self.flows[place] = Flow::random(family, dice);
        }
        self.flows[place]
    }
}

impl Flow {
    fn random(family: Family, dice: &mut Dice) -> Self {
        let pod = dice.pick(&Place::NEAR);
        let protocol = match dice.below(8) {
            0..=2 => Protocol::Tcp,
            3..=5 => Protocol::Udp,
            _ => Protocol::Echo {
                from_pod: dice.once_in(2),
            },
        };
        Self {
            pod,
            remote: far_end(family, dice),
            protocol,
            // Few ports, so that flows are close to each other.
            pod_port: 40_000 + dice.below(64) as u16,
            remote_port: dice.pick(&[53, 80, 443, 8080]),
        }
    }

    /// True where it goes from one wire to the other.
    pub fn is_in_transit(&self) -> bool {
        self.pod == Place::OtherWire && matches!(node_of(self.remote), Some(2 | 3))
    }

    fn family(&self) -> Family {
        Family::of(self.remote)
    }

    /// Where packets of this direction come in.
    pub fn entrance(&self, direction: Direction) -> Place {
        match direction {
            Direction::FromPod => self.pod,
            Direction::ToPod if node_of(self.remote) == Some(4) => Place::OtherWire,
            Direction::ToPod => Place::Wire,
        }
    }

    /// A faultless packet without payload.
    pub fn packet(&self, direction: Direction, dice: &mut Dice) -> Packet {
        let pod = self.pod.address(self.family());
        let entrance = self.entrance(direction);
        let (ends, ports, src_mac) = match direction {
            Direction::FromPod => (
                [pod, self.remote],
                [self.pod_port, self.remote_port],
                self.pod.mac(),
            ),
            Direction::ToPod => (
                [self.remote, pod],
                [self.remote_port, self.pod_port],
                peer_mac(self.remote),
            ),
        };
        let transport = match self.protocol {
            Protocol::Udp => Transport::Udp {
                ports,
                length: None,
            },
            Protocol::Tcp => Transport::Tcp {
                ports,
                seq: dice.u32(),
                flags: dice.pick(&[ACK, ACK | PSH]),
                options: Vec::new(),
                offset: None,
            },
            Protocol::Echo { from_pod } => {
                let is_request = from_pod == (direction == Direction::FromPod);
                let [id, sequence] = [self.pod_port, dice.u16()].map(u16::to_be_bytes);
                Transport::Icmp {
                    kind: echo_type(self.family(), is_request),
                    code: 0,
                    rest: [id[0], id[1], sequence[0], sequence[1]],
                }
            }
        };
        let mut packet = Packet::new([entrance.gateway_mac(), src_mac], ends, transport);
        packet.id = dice.u32() & 0xffff;
        packet
    }
}

fn echo_type(family: Family, is_request: bool) -> u8 {
    match (family, is_request) {
        (Family::V4, true) => 8,
        (Family::V4, false) => 0,
        (Family::V6, true) => 128,
        (Family::V6, false) => 129,
    }
}

/// A pod of another node in most cases.
fn far_end(family: Family, dice: &mut Dice) -> IpAddr {
    match dice.below(32) {
        0 | 1 => dice.pick(&outside(family)),
        2 => dice.pick(&Place::PODS).address(family),
        3 => dice.pick(&node_addresses(family)),
        4 => remote(family, 3, dice.pick(&[OVERRIDDEN, BLACKHOLED, PROHIBITED])),
        // A pod of this node that is not there.
        5 => remote(family, 1, 50 + dice.below(8) as u8),
        6 => dice.pick(&special(family)),
        // A peer itself, and a node that nobody knows.
        7 => Place::Wire.address(family),
        8 => remote(family, 7, 11),
        _ => dice.pick(&remote_pods(family)),
    }
}

/// The station that packets from there come from.
fn peer_mac(address: IpAddr) -> Mac {
    node_of(address).map_or(ROUTER_MAC, names::node_mac)
}

/// The node whose podCIDR holds an address.
fn node_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(v4) if v4.octets()[..2] == [10, 244] => Some(v4.octets()[2].into()),
        IpAddr::V6(v6) if v6.segments()[..3] == [0xfd00, 0x10, 0x244] => {
            Some(usize::from(v6.segments()[3] as u8))
        }
        _ => None,
    }
}
