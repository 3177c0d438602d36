//! A row of a table: what stands in the maps, a packet, and what becomes of both.

mod case;
mod express;

pub use express::{PASS, REDIRECT as XDP_REDIRECT};

use std::collections::BTreeSet;
use std::net::IpAddr;

use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Entrance, Flow, FlowKey, WayOut};
use underpass_common::route::Route;
use underpass_common::settings::Settings;
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::Packet;
use crate::cast::{self, POD_ENTRANCE};
use crate::family::Family;
use crate::launcher::Metadata;
use crate::rig::Rig;
use crate::world::{World, prefix};

/// `TCX_NEXT`: the kernel has it.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// What packets come with: none that forwarding gives.
const PRIORITY: u32 = 5;

/// What `tc_index` holds when an exit sees a packet.
#[derive(Clone, Debug)]
pub enum Witness {
    /// The tag that the entrance of the packet's own tuple would have stamped, at this place.
    From(Entrance),
    /// Likewise, on another packet, which the kernel has made this one of.
    Translated(Box<Packet>, Entrance),
    /// Exactly this.
    Exactly(u16),
}

/// What is to become of the packet.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The kernel has it, byte for byte.
    Kernel(Verdict),
    /// Redirected with the MACs of this way out.
    Fast(WayOut),
    /// Lost.
    Dropped,
    /// An exit lets it pass without a look, and without counting it again.
    Unseen,
}

/// One row. Where its packet is one of IPv4, it has a twin in IPv6, which is run after it.
pub struct Row {
    hook: Hook,
    name: String,
    world: World,
    packet: Packet,
    device: Metadata,
    /// Length of the IP packet that each segment of a train is sent as.
    segments_of: Option<usize>,
    witness: Witness,
    fate: Fate,
    has_twin: bool,
    /// Between pods of other nodes: each direction is a flow of its own.
    is_in_transit: bool,
    after: Box<dyn Fn(&mut World)>,
}

/// Begins a row: a packet comes to a hook of the usual world.
pub fn at(hook: Hook, name: impl Into<String>, packet: Packet) -> Row {
    let entrance = match hook {
        Hook::ToWire => POD_ENTRANCE,
        _ => Entrance::WIRE,
    };
    Row {
        hook,
        name: name.into(),
        world: World::usual(),
        has_twin: packet.family() == Some(Family::V4),
        packet: packet.or_macs(cast::macs_at(hook)),
        device: Metadata {
            ifindex: cast::device_at(hook),
            priority: PRIORITY,
            ..Metadata::default()
        },
        segments_of: None,
        witness: match hook.is_entrance() {
            true => Witness::Exactly(tag::NONE),
            false => Witness::From(entrance),
        },
        fate: Fate::Unseen,
        is_in_transit: false,
        after: Box::new(|_| {}),
    }
}

impl Row {
    /// The row is about what IPv4 alone has.
    pub fn no_twin(mut self) -> Self {
        self.has_twin = false;
        self
    }

    /// The flow table holds this flow under the packet's own name, or an ICMP error's under that of the
    /// packet that it quotes.
    pub fn flow(self, flow: Flow) -> Self {
        let key = self.key();
        self.world(|world| world.flows.push((key, flow)))
    }

    /// The node has several uplinks, and the packet is of a flow between other nodes' pods.
    pub fn in_transit(mut self) -> Self {
        self.is_in_transit = true;
        self.settings(|settings| settings.transit = 1)
    }

    pub fn settings(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.world(|world| change(&mut world.settings))
    }

    pub fn route(self, text: &str, route: Route) -> Self {
        self.world(|world| {
            world.routes.insert(prefix(text), route);
        })
    }

    pub fn endpoint(self, pod: impl Into<IpAddr>, endpoint: Endpoint) -> Self {
        self.world(|world| {
            world.endpoints.insert(pod.into(), endpoint);
        })
    }

    pub fn no_routes(self) -> Self {
        self.world(|world| world.routes.clear())
    }

    pub fn no_endpoints(self) -> Self {
        self.world(|world| world.endpoints.clear())
    }

    pub fn world(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.world);
        self
    }

    pub fn packet(mut self, change: impl FnOnce(Packet) -> Packet) -> Self {
        self.packet = change(self.packet);
        self
    }

    /// The hook is that of another device.
    pub fn device(mut self, ifindex: u32) -> Self {
        self.device.ifindex = ifindex;
        self
    }

    /// The packet came to the node by this device, as an exit sees it.
    pub fn came_in_by(mut self, ifindex: u32) -> Self {
        self.device.came_in_by = ifindex;
        self
    }

    /// The packet is a train of segments, each of which is sent as an IP packet of so many bytes.
    pub fn segments_of(mut self, ip_len: usize) -> Self {
        self.segments_of = Some(ip_len);
        self
    }

    /// A VLAN tag travels beside the packet.
    pub fn vlan(mut self, id: u32) -> Self {
        self.device.vlan = id;
        self
    }

    /// The kernel holds the packet for a tunnel's.
    pub fn tunnelled(mut self) -> Self {
        self.device.is_tunnelled = true;
        self
    }

    pub fn witness(mut self, witness: Witness) -> Self {
        self.witness = witness;
        self
    }

    /// Untouched, for this reason.
    pub fn kernel(mut self, verdict: Verdict) -> Self {
        self.fate = Fate::Kernel(verdict);
        self
    }

    /// Redirected, with the MACs of this way out.
    pub fn fast(mut self, way_out: WayOut) -> Self {
        self.fate = Fate::Fast(way_out);
        self
    }

    /// Lost after the first write.
    pub fn dropped(mut self) -> Self {
        self.fate = Fate::Dropped;
        self
    }

    /// An exit lets it pass without a look.
    pub fn unseen(mut self) -> Self {
        self.fate = Fate::Unseen;
        self
    }

    /// What the packet changes in the maps; without this, nothing.
    pub fn after(mut self, change: impl Fn(&mut World) + 'static) -> Self {
        self.after = Box::new(change);
        self
    }

    /// The packet leaves a flow of its own name.
    pub fn after_flow(self, flow: Flow) -> Self {
        let key = self.key();
        self.after(move |world| {
            world.flows.retain(|(one, _)| *one != key);
            world.flows.push((key, flow));
        })
    }

    /// True for rows of the uplink's entrance.
    pub fn is_from_wire(&self) -> bool {
        self.hook == Hook::FromWire
    }

    /// The name of the flow that the packet is of, or tells of.
    fn key(&self) -> FlowKey<IpAddr> {
        let is_from_pod = matches!(self.hook, Hook::FromPod | Hook::ToWire) || self.is_in_transit;
        let (packet, is_from_pod) = match self.packet.quoted() {
            Some(quoted) => (quoted, !is_from_pod),
            None => (&self.packet, is_from_pod),
        };
        let tuple = packet.tuple().expect("an IP packet");
        match is_from_pod {
            true => tuple.from_pod(),
            false => tuple.to_pod(),
        }
    }

    /// The one verdict that is to be counted.
    fn verdict(&self) -> Option<Verdict> {
        match self.fate {
            Fate::Kernel(verdict) => Some(verdict),
            Fate::Fast(_) => Some(Verdict::Fast),
            Fate::Dropped => Some(Verdict::Dropped),
            Fate::Unseen => None,
        }
    }

    fn answer(&self) -> i32 {
        match self.fate {
            Fate::Kernel(_) | Fate::Unseen => NEXT,
            Fate::Fast(_) => REDIRECT,
            Fate::Dropped => SHOT,
        }
    }
}

/// A verdict that a packet of this family got at this hook.
pub type Given = (Family, Hook, Verdict);

/// Runs every row and every row's twin, then fails if one is not as it should be. Tells which verdicts
/// were given.
pub fn run(rig: &mut Rig, rows: &[Row]) -> BTreeSet<Given> {
    let mut given = BTreeSet::new();
    let mut failures = Vec::new();
    for case in rows.iter().flat_map(Row::cases) {
        let Row { hook, name, .. } = case.row;
        let family = case.packet.family();
        match case.run(rig) {
            Ok(()) => given.extend(
                family
                    .zip(case.row.verdict())
                    .map(|(family, verdict)| (family, *hook, verdict)),
            ),
            Err(why) => {
                let family = family.map_or("", Family::name);
                failures.push(format!("{}: {family}: {name}:\n    {why}", hook.name()));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    given
}

/// Runs every row of `from_wire` and every row's twin through the XDP program instead, in the rig's
/// world: what goes fast there is what goes fast here, byte for byte, but for the rows that `is_left`
/// names; all else passes without a trace. Tells how many were carried.
pub fn run_express(rig: &mut Rig, rows: &[Row], is_left: impl Fn(&str) -> bool) -> usize {
    let mut carried = 0;
    let mut failures = Vec::new();
    for case in rows.iter().flat_map(Row::cases) {
        let name = &case.row.name;
        match case.run_express(rig, is_left(name)) {
            Ok(is_carried) => carried += usize::from(is_carried),
            Err(why) => {
                let family = case.packet.family().map_or("", Family::name);
                failures.push(format!("{family}: {name}:\n    {why}"));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    carried
}

/// Bytes, shown as a packet dump shows them.
#[derive(PartialEq)]
pub struct Hex<'a>(pub &'a [u8]);

impl std::fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes ", self.0.len())?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
