//! A flow table that takes no other entry.
//!
//! An LRU table makes room by evicting, and refuses only where every entry is in use at that moment.
//! So a plain hash with room for one flow stands in its place: to the programs it is the same.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use aya::{EbpfLoader, include_bytes_aligned};
use aya_obj::generated::bpf_map_type;
use underpass::datapath::load::program;
use underpass::datapath::{Loaded, Maps};
use underpass_common::flow::{Flow, FlowKey};
use underpass_common::map_names;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{Packet, udp};
use crate::cast::{CONFIRMED, EGRESS, INGRESS, NO_DIRECTION, POD};
use crate::parsing::toward;
use crate::rig::{OwnPins, Rig, with_rig_on};
use crate::table::{Given, Row, at, run};

/// The object that `underpass::datapath` embeds.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/underpass.o"));

#[test]
fn a_full_flow_table_leaves_flows_to_the_kernel() {
    with_full_table("a_full_flow_table_leaves_flows_to_the_kernel", |rig| {
        run_with_full_table(rig);
    });
}

pub fn with_full_table(test: &str, body: impl FnOnce(&mut Rig) + Send) {
    with_rig_on(test, rig, body);
}

pub fn run_with_full_table(rig: &mut Rig) -> BTreeSet<Given> {
    run(rig, &rows())
}

fn rig(pins: OwnPins) -> Result<Rig> {
    pins.0.create()?;
    let kind = bpf_map_type::BPF_MAP_TYPE_HASH as u32;
    for (name, key) in [
        (map_names::FLOWS_V4, size_of::<FlowKey<[u8; 4]>>()),
        (map_names::FLOWS_V6, size_of::<FlowKey<[u8; 16]>>()),
    ] {
        let map = aya_obj::Map::new_from_params(kind, key as u32, size_of::<Flow>() as u32, 1, 0);
        MapData::create(map, name, None)?.pin(pins.0.map(name))?;
    }
    let names = underpass::datapath::load::map_names()?;
    let mut loader = EbpfLoader::new();
    for name in &names {
        loader.map_pin_path(name, pins.0.map(name));
    }
    let mut ebpf = loader.load(OBJECT)?;
    for hook in Hook::TC {
        program(&mut ebpf, hook)?
            .load()
            .with_context(|| hook.name())?;
    }
    let maps = Maps::open(&pins.0)?;
    Rig::of(
        Loaded {
            ebpf,
            maps,
            xdp_refused: None,
            started_afresh: None,
        },
        pins,
    )
}

fn rows() -> Vec<Row> {
    let other = udp().from(POD, 1).tuple().expect("an IP packet").from_pod();
    let row = |hook, name, packet: Packet| at(hook, name, toward(hook, packet));
    vec![
        row(Hook::ToWire, "no room to confirm", udp())
            .world(move |world| world.flows.push((other, CONFIRMED)))
            .kernel(Verdict::FlowTableFull),
        row(Hook::ToPod, "no room to confirm", udp())
            .world(move |world| world.flows.push((other, CONFIRMED)))
            .kernel(Verdict::FlowTableFull),
        row(Hook::ToWire, "room for one", udp())
            .kernel(Verdict::Confirmed)
            .after_flow(Flow {
                key_check: 0,
                egress: EGRESS,
                ingress: NO_DIRECTION,
            }),
        row(Hook::ToPod, "an entry that is there is used", udp())
            .flow(Flow {
                key_check: 0,
                egress: EGRESS,
                ingress: NO_DIRECTION,
            })
            .kernel(Verdict::Confirmed)
            .after_flow(Flow {
                key_check: 0,
                egress: EGRESS,
                ingress: INGRESS,
            }),
    ]
}
