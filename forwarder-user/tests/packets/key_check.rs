//! Entries that the kernel has given to another flow while a program still holds a pointer to them:
//! here they bear another key's check from the start.

use underpass_common::flow::{Direction, Flow, confirmed};
use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, FIN, echo_request, error_about, tcp, udp};
use crate::cast::{CONFIRMED, GENERATION, NO_DIRECTION};
use crate::confirmed::{but, opposite, own};
use crate::parsing::toward;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn an_entry_of_another_flow_is_not_followed() {
    with_rig("an_entry_of_another_flow_is_not_followed", |rig| {
        for hook in [Hook::FromPod, Hook::FromWire] {
            run(rig, &rows(hook));
        }
    });
}

#[test]
fn a_confirmation_in_another_flows_entry_is_taken_back() {
    with_rig(
        "a_confirmation_in_another_flows_entry_is_taken_back",
        |rig| {
            for hook in [Hook::ToWire, Hook::ToPod] {
                run(rig, &rows(hook));
            }
        },
    );
}

pub fn rows(hook: Hook) -> Vec<Row> {
    match hook {
        Hook::FromPod | Hook::FromWire | Hook::FromWireXdp => entrance(hook),
        Hook::ToWire | Hook::ToPod => exit(hook),
    }
}

/// How far the check is off: in its first bit, in its last, in all.
const ERRORS: [u32; 3] = [1, 1 << 31, u32::MAX];

/// The same flow under another's check.
const fn strange(flow: Flow) -> Flow {
    Flow {
        key_check: ERRORS[0],
        ..flow
    }
}

fn entrance(hook: Hook) -> Vec<Row> {
    let row = |name, packet, flow| {
        at(hook, name, toward(hook, packet))
            .flow(flow)
            .kernel(Verdict::Unconfirmed)
    };
    let mut rows: Vec<_> = ERRORS
        .into_iter()
        .map(|key_check| {
            let flow = Flow {
                key_check,
                ..CONFIRMED
            };
            row(
                format!("a check that is off by {key_check:#x}"),
                udp(),
                flow,
            )
        })
        .collect();
    let outdated = but(hook, |direction| direction.generation = GENERATION - 1);
    let mid_stream = but(hook, |direction| {
        direction.confirmed = confirmed::MID_STREAM
    });
    let name = String::from;
    rows.extend([
        row(name("TCP"), tcp(ACK), strange(CONFIRMED)),
        row(name("a ping"), echo_request(7), strange(CONFIRMED)),
        row(
            name("nothing is looked up for it"),
            udp(),
            strange(outdated),
        ),
        row(
            name("a FIN leaves it as it is"),
            tcp(FIN | ACK),
            strange(mid_stream),
        ),
        at(
            hook,
            "an ICMP error: conntrack has to see what the next is about",
            error_about(&toward(opposite(hook), udp()), 3, 3),
        )
        .flow(strange(CONFIRMED))
        .kernel(Verdict::Icmp)
        .after_flow(strange(but(opposite(hook), forget))),
    ]);
    rows
}

fn exit(hook: Hook) -> Vec<Row> {
    let row = |name, packet, flow| {
        at(hook, name, toward(hook, packet))
            .flow(strange(flow))
            .kernel(Verdict::Confirmed)
    };
    let mut nothing = CONFIRMED;
    *own(hook, &mut nothing) = NO_DIRECTION;
    let taken_back = strange(but(hook, forget));
    vec![
        row("a datagram", udp(), nothing).after_flow(taken_back),
        row("TCP", tcp(ACK), nothing).after_flow(taken_back),
        row("what was confirmed before", udp(), CONFIRMED).after_flow(taken_back),
    ]
}

fn forget(direction: &mut Direction) {
    direction.confirmed = confirmed::NO;
}
