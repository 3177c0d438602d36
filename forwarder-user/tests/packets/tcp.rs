//! Guards 1 and 4: how connections open and close, at both entrances alike.

use underpass_common::flow::{Flow, confirmed};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, PSH, RST, SYN, tcp};
use crate::cast::{CONFIRMED, EPOCH, OTHER_VETH};
use crate::confirmed::{but, own, way_out};
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn from_pod_minds_the_flags() {
    with_rig("from_pod_minds_the_flags", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn from_wire_minds_the_flags() {
    with_rig("from_wire_minds_the_flags", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = opening(hook);
    rows.extend(closing(hook));
    rows
}

/// A flow of which neither direction is confirmed any longer.
fn forgotten() -> Flow {
    let mut flow = CONFIRMED;
    flow.egress.confirmed = confirmed::NO;
    flow.ingress.confirmed = confirmed::NO;
    flow
}

fn opening(hook: Hook) -> Vec<Row> {
    let row = |name, flags| {
        at(hook, name, toward(hook, tcp(flags)))
            .flow(CONFIRMED)
            .kernel(Verdict::TcpOpening)
    };
    let own_forgotten = but(hook, |direction| direction.confirmed = confirmed::NO);
    let mut rows = vec![
        row("a SYN begins anew in both directions", SYN).after_flow(forgotten()),
        row("a SYN with data", SYN | PSH).after_flow(forgotten()),
        row("a SYN-ACK begins anew in its own direction", SYN | ACK).after_flow(own_forgotten),
        row("a SYN with RST", SYN | RST).after_flow(forgotten()),
        row("a RST without ACK", RST),
        row("a FIN without ACK", FIN),
        row("no flags", 0),
        row("a SYN of a flow that nobody knows", SYN).world(|world| world.flows.clear()),
        row("a SYN of a flow that is long forgotten", SYN)
            .world(|world| *world.flow() = forgotten()),
        row("a SYN of an older epoch", SYN)
            .world(|world| world.flow().egress.epoch = EPOCH - 1)
            .after_flow({
                let mut flow = forgotten();
                flow.egress.epoch = EPOCH - 1;
                flow
            }),
    ];
    if hook == Hook::FromPod {
        // The kernel decides what a spoofed SYN may do; the flow it names is at worst slower.
        rows.push(
            row("a SYN from another veth", SYN)
                .device(OTHER_VETH)
                .after_flow(forgotten()),
        );
    }
    rows
}

fn closing(hook: Hook) -> Vec<Row> {
    let begun = |name, flags| {
        at(hook, name, toward(hook, tcp(flags)))
            .flow(CONFIRMED)
            .fast(way_out(hook))
    };
    let joined = |name, flags| {
        let mid_stream = but(hook, |direction| {
            direction.confirmed = confirmed::MID_STREAM
        });
        at(hook, name, toward(hook, tcp(flags))).flow(mid_stream)
    };
    let mut rows = vec![
        begun("the FIN of a connection known from its start", FIN | ACK),
        begun("the RST of a connection known from its start", RST | ACK),
        begun(
            "a FIN where only the other direction was joined in mid-stream",
            FIN | ACK,
        )
        .world(|world| {
            let both = world.flow();
            let own_direction = *own(hook, both);
            both.egress.confirmed = confirmed::MID_STREAM;
            both.ingress.confirmed = confirmed::MID_STREAM;
            *own(hook, both) = own_direction;
        }),
        // Should the kernel not let it out, then the same packet, sent again, is fast.
        joined("the FIN of a connection joined in mid-stream", FIN | ACK)
            .kernel(Verdict::TcpClosing)
            .after_flow(CONFIRMED),
        joined("the RST of a connection joined in mid-stream", RST | ACK)
            .kernel(Verdict::TcpClosing)
            .after_flow(CONFIRMED),
        joined("a FIN with the last data", FIN | PSH | ACK)
            .kernel(Verdict::TcpClosing)
            .after_flow(CONFIRMED),
        joined("data in mid-stream", PSH | ACK).fast(way_out(hook)),
        joined("an ACK in mid-stream", ACK).fast(way_out(hook)),
    ];
    if hook == Hook::FromPod {
        rows.push(
            joined("a FIN from another veth", FIN | ACK)
                .device(OTHER_VETH)
                .kernel(Verdict::OtherEntrance),
        );
    }
    rows
}
