//! A row run through its program, and what is not as it should be.

use underpass_common::flow::Entrance;
use underpass_common::tag;
use underpass_common::verdict::{Count, Hook, Verdict};

use crate::builder::Packet;
use crate::family::{Family, Twin as _};
use crate::launcher::{Metadata, Run};
use crate::rig::Rig;
use crate::world::World;

use super::{Fate, Hex, Row, Witness};

/// A row in one family.
pub(super) struct Case<'a> {
    pub(super) row: &'a Row,
    pub(super) packet: Packet,
    pub(super) before: World,
    after: World,
}

impl Row {
    /// The row as it is written, and its twin.
    pub(super) fn cases(&self) -> Vec<Case<'_>> {
        let mut after = self.world.clone();
        (self.after)(&mut after);
        let written = Case {
            row: self,
            packet: self.packet.clone(),
            before: self.world.clone(),
            after,
        };
        if !self.has_twin {
            return vec![written];
        }
        let twin = Case {
            row: self,
            packet: written.packet.twin(),
            before: written.before.twin(),
            after: written.after.twin(),
        };
        vec![written, twin]
    }
}

impl Case<'_> {
    fn tag(&self, entrance: &Entrance) -> u16 {
        self.tag_of(&self.packet, entrance)
    }

    fn tag_of(&self, packet: &Packet, entrance: &Entrance) -> u16 {
        let tuple = packet.tuple().expect("an IP packet");
        tag::tag(self.before.settings.tag_seed, &tuple, entrance)
    }

    /// Where this packet comes in, if this hook is an entrance.
    fn entrance(&self) -> Entrance {
        match self.row.hook {
            Hook::FromPod => Entrance {
                ifindex: self.row.device.ifindex,
                mac: self.packet.dst_mac(),
                _pad: [0; 2],
            },
            _ => wire(&self.before, self.row.device.ifindex),
        }
    }

    /// What `tc_index` is to hold afterwards. An entrance stamps what it understands and leaves to
    /// the kernel; an exit takes the stamp off.
    fn witness_after(&self) -> u16 {
        match (self.row.hook, self.row.verdict()) {
            (Hook::ToWire | Hook::ToPod, _) => tag::NONE,
            (Hook::FromPod, Some(Verdict::Fast)) => tag::FAST,
            (_, Some(Verdict::Fast)) if self.row.is_in_transit => tag::FAST,
            (_, Some(verdict)) if is_stamped(verdict) => self.tag(&self.entrance()),
            _ => tag::NONE,
        }
    }

    /// Forwarding sets the priority of IPv4 by its type of service, and leaves IPv6's alone.
    fn priority_after(&self) -> u32 {
        match (self.row.fate, self.packet.family()) {
            (Fate::Fast(_), Some(Family::V4)) => self.packet.forwarding_priority(),
            _ => self.row.device.priority,
        }
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            witness: match &self.row.witness {
                Witness::From(entrance) => self.tag(entrance),
                Witness::Translated(packet, entrance) => match self.packet.family() {
                    Some(Family::V6) => self.tag_of(&packet.in_v6(), entrance),
                    _ => self.tag_of(packet, entrance),
                },
                Witness::Exactly(witness) => *witness,
            },
            gso_size: match self.row.segments_of {
                Some(ip_len) => (ip_len - self.packet.headers_len()) as u32,
                None => 0,
            },
            ..self.row.device
        }
    }

    /// Runs it and tells what is not as it should be.
    pub(super) fn run(&self, rig: &mut Rig) -> Result<(), String> {
        let hook = self.row.hook;
        let frame = self.packet.bytes();
        let told = |error: anyhow::Error| format!("{error:#}");
        rig.put(&self.before).map_err(told)?;
        let before = rig.counts().map_err(told)?;
        let run = rig.run(hook, &frame, &self.metadata()).map_err(told)?;
        let counted: Vec<_> = rig
            .counts()
            .map_err(told)?
            .into_iter()
            .map(|(place, count)| (place, since(count, before[&place])))
            .filter(|(_, count)| *count != Count::default())
            .collect();
        let bytes = self.bytes_after(&frame);
        let count = Count {
            packets: 1,
            bytes: bytes.len() as u64,
        };
        let expected: Vec<_> = self
            .row
            .verdict()
            .map(|verdict| ((hook, verdict), count))
            .into_iter()
            .collect();
        same("counts", &counted, &expected)?;
        same("answer", &run.answer, &self.row.answer())?;
        same("bytes", &Hex(&run.bytes), &Hex(&bytes))?;
        same("witness", &run.witness, &self.witness_after())?;
        same("priority", &run.priority, &self.priority_after())?;
        self.check_maps(rig, &run)
    }

    pub(super) fn bytes_after(&self, frame: &[u8]) -> Vec<u8> {
        match self.row.fate {
            Fate::Fast(way_out) => {
                let routed = self.packet.clone().routed(way_out.dst_mac, way_out.src_mac);
                routed.bytes()
            }
            _ => frame.to_vec(),
        }
    }

    fn check_maps(&self, rig: &Rig, run: &Run) -> Result<(), String> {
        let mut found = rig.world().map_err(|error| format!("{error:#}"))?;
        found.last_stamped = self.after.last_stamped;
        same("maps", &found.in_order(), &self.after.clone().in_order())?;
        let notes = rig.notes().map_err(|error| format!("{error:#}"))?;
        let is_noted = self.row.hook == Hook::FromPod && run.witness & !tag::FAST != 0;
        let changed: Vec<_> = notes
            .into_iter()
            .filter(|note| *note != self.before.last_stamped)
            .collect();
        let expected = if is_noted {
            vec![self.entrance()]
        } else {
            vec![]
        };
        same("last stamped", &changed, &expected)
    }
}

/// The entrance of what comes in by an uplink.
pub(super) fn wire(world: &World, uplink: u32) -> Entrance {
    Entrance {
        ifindex: if world.settings.transit == 0 {
            0
        } else {
            uplink
        },
        ..Entrance::WIRE
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

pub(super) fn since(now: Count, before: Count) -> Count {
    Count {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
    }
}

pub(super) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!(
            "{what}: found {found:?},\n    expected {expected:?}"
        )),
    }
}
