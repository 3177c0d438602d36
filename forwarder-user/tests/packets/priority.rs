//! The priority that forwarding gives a packet among those that wait in a queueing discipline: each row
//! of each table is checked for it, and here all types of service are.

use underpass_common::verdict::{Hook, Verdict};

use crate::builder::udp;
use crate::cast::CONFIRMED;
use crate::confirmed::way_out;
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn from_pod_sets_the_priority_by_the_type_of_service() {
    with_rig("from_pod_sets_the_priority_by_the_type_of_service", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_sets_the_priority_by_the_type_of_service() {
    with_rig(
        "from_wire_sets_the_priority_by_the_type_of_service",
        |rig| drop(run(rig, &rows(Hook::FromWire))),
    );
}

fn rows(hook: Hook) -> Vec<Row> {
    let row = |name, tos| at(hook, name, toward(hook, udp().tos(tos)));
    (0..=255)
        .flat_map(|tos| {
            [
                row(format!("type of service {tos:#04x}"), tos)
                    .flow(CONFIRMED)
                    .fast(way_out(hook)),
                row(format!("{tos:#04x}, left to the kernel"), tos).kernel(Verdict::Unconfirmed),
            ]
        })
        .collect()
}
