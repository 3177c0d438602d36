//! A row of a table: what stands in the maps, a packet, and what becomes of both.

use std::collections::BTreeSet;
use std::net::IpAddr;

use underpass_common::endpoint::Endpoint;
use underpass_common::flow::{Entrance, Flow, FlowKey, Tuple, WayOut};
use underpass_common::route::Route;
use underpass_common::settings::Settings;
use underpass_common::tag;
use underpass_common::verdict::{Count, Hook, Verdict};

use crate::builder::Packet;
use crate::cast::{self, POD_ENTRANCE};
use crate::launcher::{Metadata, Run};
use crate::rig::Rig;
use crate::twin;
use crate::world::{World, prefix};

/// `TCX_NEXT`: the kernel has it.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
pub const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// What `tc_index` holds when an exit sees a packet.
#[derive(Clone, Copy, Debug)]
pub enum Witness {
    /// The tag that the entrance of the packet's own tuple would have stamped, at this place.
    From(Entrance),
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

/// One row.
pub struct Row {
    hook: Hook,
    name: &'static str,
    world: World,
    packet: Packet,
    device: Metadata,
    witness: Witness,
    fate: Fate,
    after: Box<dyn Fn(&mut World)>,
    only_in: Option<Family>,
}

/// Begins a row: a packet comes to a hook of the usual world.
pub fn at(hook: Hook, name: &'static str, packet: Packet) -> Row {
    let entrance = match hook {
        Hook::ToWire => POD_ENTRANCE,
        _ => Entrance::WIRE,
    };
    Row {
        hook,
        name,
        world: World::usual(),
        packet: packet.or_macs(cast::macs_at(hook)),
        device: Metadata {
            ifindex: cast::device_at(hook),
            ..Metadata::default()
        },
        witness: match hook.is_entrance() {
            true => Witness::Exactly(tag::NONE),
            false => Witness::From(entrance),
        },
        fate: Fate::Unseen,
        after: Box::new(|_| {}),
        only_in: None,
    }
}

impl Row {
    /// The flow table holds this flow under the packet's own name.
    pub fn flow(self, flow: Flow) -> Self {
        let key = self.key();
        self.world(|world| world.flows.push((key, flow)))
    }

    pub fn settings(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.world(|world| change(&mut world.settings))
    }

    pub fn route(self, text: &str, route: Route) -> Self {
        self.world(|world| {
            world.routes.insert(prefix(text), route);
        })
    }

    pub fn endpoint(self, pod: [u8; 4], endpoint: Endpoint) -> Self {
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

    /// The packet is a train of segments with so many bytes of payload each.
    pub fn train_of(mut self, gso_size: u32) -> Self {
        self.device.gso_size = gso_size;
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

    /// The row is about one family: without this it is run in IPv4, and in IPv6 where it has a twin.
    pub fn only_in(mut self, family: Family) -> Self {
        self.only_in = Some(family);
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

    fn tuple(&self, family: Family) -> Tuple<IpAddr> {
        let tuple = self.packet.tuple().expect("an IPv4 packet");
        match family {
            Family::V4 => tuple,
            Family::V6 => twin::of_ends(&tuple),
        }
    }

    fn key(&self) -> FlowKey<IpAddr> {
        let tuple = self.tuple(Family::V4);
        match self.hook {
            Hook::FromPod | Hook::ToWire => tuple.from_pod(),
            Hook::FromWire | Hook::ToPod => tuple.to_pod(),
        }
    }

    fn tag(&self, family: Family, entrance: &Entrance) -> u16 {
        tag::tag(self.world.settings.tag_seed, &self.tuple(family), entrance)
    }

    fn families(&self) -> Vec<Family> {
        match self.only_in {
            Some(family) => vec![family],
            None if self.has_twin() => Family::BOTH.to_vec(),
            None => vec![Family::V4],
        }
    }

    /// True where the row can be run in IPv6 as well.
    fn has_twin(&self) -> bool {
        let mut after = self.world.clone();
        (self.after)(&mut after);
        // A tag that was computed for another tuple of IPv4 is none of its twin's.
        let is_witness_known = match self.witness {
            Witness::From(_) => true,
            Witness::Exactly(witness) => witness & !tag::FAST == 0,
        };
        // What makes a packet a tunnel's is a header of IPv4.
        is_witness_known
            && !self.device.is_tunnelled
            && self.packet.has_twin()
            && self.world.twin().is_some()
            && after.twin().is_some()
    }

    /// Where this packet comes in, if this hook is an entrance.
    fn entrance(&self) -> Entrance {
        match self.hook {
            Hook::FromPod => Entrance {
                ifindex: self.device.ifindex,
                mac: self.packet.dst_mac(),
                _pad: [0; 2],
            },
            _ => Entrance::WIRE,
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

    /// What `tc_index` is to hold afterwards. An entrance stamps what it understands and leaves to
    /// the kernel; an exit takes the stamp off.
    fn witness_after(&self, family: Family) -> u16 {
        match (self.hook, self.verdict()) {
            (Hook::ToWire | Hook::ToPod, _) => tag::NONE,
            (Hook::FromPod, Some(Verdict::Fast)) => tag::FAST,
            (_, Some(verdict)) if is_stamped(verdict) => self.tag(family, &self.entrance()),
            _ => tag::NONE,
        }
    }

    /// Runs the row in a family and tells what is not as it should be.
    fn run(&self, rig: &mut Rig, family: Family) -> Result<(), String> {
        let metadata = Metadata {
            witness: match self.witness {
                Witness::From(entrance) => self.tag(family, &entrance),
                Witness::Exactly(witness) => witness,
            },
            ..self.device
        };
        let frame = family.of_frame(self.packet.bytes());
        let told = |error: anyhow::Error| format!("{error:#}");
        rig.put(&family.of_world(self.world.clone()))
            .map_err(told)?;
        let before = rig.counts().map_err(told)?;
        let run = rig.run(self.hook, &frame, &metadata).map_err(told)?;
        let counted: Vec<_> = rig
            .counts()
            .map_err(told)?
            .into_iter()
            .map(|(place, count)| (place, since(count, before[&place])))
            .filter(|(_, count)| *count != Count::default())
            .collect();
        let bytes = self.bytes_after(family, &frame);
        let count = Count {
            packets: 1,
            bytes: bytes.len() as u64,
        };
        let expected: Vec<_> = self
            .verdict()
            .map(|verdict| ((self.hook, verdict), count))
            .into_iter()
            .collect();
        same("counts", &counted, &expected)?;
        same("answer", &run.answer, &self.answer())?;
        same("bytes", &Hex(&run.bytes), &Hex(&bytes))?;
        same("witness", &run.witness, &self.witness_after(family))?;
        self.check_maps(rig, family, &run)
    }

    fn bytes_after(&self, family: Family, frame: &[u8]) -> Vec<u8> {
        match self.fate {
            Fate::Fast(way_out) => {
                let routed = self.packet.clone().routed(way_out.dst_mac, way_out.src_mac);
                family.of_frame(routed.bytes())
            }
            _ => frame.to_vec(),
        }
    }

    fn answer(&self) -> i32 {
        match self.fate {
            Fate::Kernel(_) | Fate::Unseen => NEXT,
            Fate::Fast(_) => REDIRECT,
            Fate::Dropped => SHOT,
        }
    }

    fn check_maps(&self, rig: &Rig, family: Family, run: &Run) -> Result<(), String> {
        let mut expected = self.world.clone();
        (self.after)(&mut expected);
        let expected = family.of_world(expected);
        let mut found = rig.world().map_err(|error| format!("{error:#}"))?;
        found.last_stamped = expected.last_stamped;
        same("maps", &found, &expected)?;
        let notes = rig.notes().map_err(|error| format!("{error:#}"))?;
        let is_noted = self.hook == Hook::FromPod && run.witness & !tag::FAST != 0;
        let changed: Vec<_> = notes
            .into_iter()
            .filter(|note| *note != self.world.last_stamped)
            .collect();
        let expected = if is_noted {
            vec![self.entrance()]
        } else {
            vec![]
        };
        same("last stamped", &changed, &expected)
    }
}

/// True for what an entrance has understood, and leaves to the kernel nevertheless.
fn is_stamped(verdict: Verdict) -> bool {
    use Verdict::*;
    !matches!(
        verdict,
        Fast | Dropped | Off | NotIp | Malformed | NotForUs | NotPodTraffic | IpOptions | Fragment
    )
}

/// The family that a row is run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn of_frame(self, frame: Vec<u8>) -> Vec<u8> {
        match self {
            Self::V4 => frame,
            Self::V6 => twin::of_frame(&frame),
        }
    }

    fn of_world(self, world: World) -> World {
        match self {
            Self::V4 => world,
            Self::V6 => world.twin().expect("a world that has a twin"),
        }
    }
}

/// Runs every row, and its twin where IPv6 has one, then fails if one is not as it should be. Tells which
/// verdicts were given.
pub fn run(rig: &mut Rig, rows: &[Row]) -> BTreeSet<(Family, Hook, Verdict)> {
    let mut given = BTreeSet::new();
    let mut failures = Vec::new();
    for row in rows {
        for family in row.families() {
            match row.run(rig, family) {
                Ok(()) => given.extend(row.verdict().map(|verdict| (family, row.hook, verdict))),
                Err(why) => failures.push(format!(
                    "{}: {} ({family:?}):\n    {why}",
                    row.hook.name(),
                    row.name
                )),
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
    given
}

fn since(now: Count, before: Count) -> Count {
    Count {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!(
            "{what}: found {found:?},\n    expected {expected:?}"
        )),
    }
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
