//! An entry of the flow table that the kernel has given to another flow while a program still had a
//! pointer to it: its check is that of another key.

use underpass_common::flow::{Flow, confirmed};
use underpass_common::tag;
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::udp;
use crate::cast::{CONFIRMED, POD_ENTRANCE, TAG_SEED, device_at, macs_at};
use crate::launcher::Metadata;
use crate::parsing::toward;
use crate::rig::{Rig, with_rig};
use crate::table::NEXT;
use crate::world::World;

/// Puts a confirmed flow under the packet's key, and another key's check into it.
fn put_strange(rig: &mut Rig) {
    rig.put(&World::usual()).expect("maps");
    let key = udp().tuple().expect("an IP packet").from_pod();
    let key_check = key.check() ^ 1;
    let flow = Flow {
        key_check,
        ..CONFIRMED
    };
    rig.put_flow(&key, &flow).expect("a flow");
}

fn flow(rig: &Rig) -> Flow {
    let flows = rig.loaded.maps.flows().expect("flows");
    assert_eq!(flows.len(), 1);
    flows[0].1
}

#[test]
fn an_entry_of_another_flow_is_not_followed() {
    with_rig("an_entry_of_another_flow_is_not_followed", |rig| {
        for hook in [Hook::FromPod, Hook::FromWire] {
            put_strange(rig);
            let before = flow(rig);
            let with = Metadata {
                ifindex: device_at(hook),
                ..Metadata::default()
            };
            let counts = rig.counts().expect("counts");
            let frame = toward(hook, udp()).or_macs(macs_at(hook)).bytes();
            let run = rig.run(hook, &frame, &with).expect("a run");
            assert_eq!((run.answer, run.bytes), (NEXT, frame), "{hook:?}");
            let now = rig.counts().expect("counts");
            let place = (hook, Verdict::Unconfirmed);
            assert_eq!(now[&place].packets, counts[&place].packets + 1, "{hook:?}");
            assert_eq!(flow(rig), before, "{hook:?} wrote into it");
        }
    });
}

#[test]
fn a_confirmation_written_into_another_flow_s_entry_is_taken_back() {
    const TEST: &str = "a_confirmation_written_into_another_flow_s_entry_is_taken_back";
    with_rig(TEST, |rig| {
        put_strange(rig);
        let tuple = udp().tuple().expect("an IP packet");
        let with = Metadata {
            ifindex: device_at(Hook::ToWire),
            witness: tag::tag(TAG_SEED, &tuple, &POD_ENTRANCE),
            ..Metadata::default()
        };
        let (dst, src) = macs_at(Hook::ToWire);
        let frame = udp().routed(dst, src).bytes();
        rig.run(Hook::ToWire, &frame, &with).expect("a run");
        let after = flow(rig);
        assert_eq!(after.egress.confirmed, confirmed::NO);
        assert_eq!(
            after.ingress.confirmed,
            confirmed::FROM_START,
            "the other stays"
        );
    });
}
