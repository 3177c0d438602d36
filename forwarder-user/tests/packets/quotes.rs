//! What ICMP errors quote: only what a fast packet could have been, and enough of it, names a flow.

use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ACK, echo_request, error_about, icmp, protocol, tcp, udp};
use crate::cast::{CONFIRMED, FAR, POD};
use crate::confirmed::way_out;
use crate::family::{Family, Twin as _};
use crate::icmp_error::{about, subject};
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn quotes_of_errors_from_pods_name_flows() {
    with_rig("quotes_of_errors_from_pods_name_flows", |rig| {
        drop(run(rig, &rows(Hook::FromPod)))
    });
}

#[test]
fn quotes_of_errors_from_the_wire_name_flows() {
    with_rig("quotes_of_errors_from_the_wire_name_flows", |rig| {
        drop(run(rig, &rows(Hook::FromWire)))
    });
}

pub fn rows(hook: Hook) -> Vec<Row> {
    let mut rows = quotes(hook);
    rows.extend(cut_quotes(hook));
    rows
}

/// What is quoted must be what fast packets are.
fn quotes(hook: Hook) -> Vec<Row> {
    let row = |name, packet| {
        at(hook, name, about(hook, packet))
            .flow(CONFIRMED)
            .kernel(Verdict::Icmp)
    };
    let mut rows = vec![
        row("a first fragment", udp().fragment(0, true)),
        row("a last fragment", udp().fragment(370, false)),
        row("IP options", udp().options(&[7, 7, 4, 0, 0, 0, 0, 0])),
        row("a header of four words", udp().header_words(4)).no_twin(),
        row("the other family's version", udp().version(6)),
        row("no version", udp().version(0)),
        row("SCTP", protocol(132)),
        row("IPv6 in IPv4, or in IPv6", protocol(41)),
        at(hook, "an error about an error", about(hook, icmp(3, 3, 0)))
            .world(|world| {
                let ping = echo_request(0).tuple().expect("an IP packet").from_pod();
                world.flows.push((ping, CONFIRMED));
            })
            .kernel(Verdict::Icmp),
        at(hook, "about a ping with a code", about(hook, icmp(8, 1, 7)))
            .world(|world| {
                let ping = echo_request(7).tuple().expect("an IP packet").from_pod();
                world.flows.push((ping, CONFIRMED));
            })
            .kernel(Verdict::Icmp),
        row("another port", udp()).world(|world| {
            world.flows[0].0 = udp()
                .from(POD, 40_001)
                .tuple()
                .expect("an IP packet")
                .from_pod();
        }),
        row("the same ports by TCP", udp()).world(|world| {
            world.flows[0].0 = tcp(ACK)
                .to(FAR, 53)
                .tuple()
                .expect("an IP packet")
                .from_pod();
        }),
    ];
    for number in [0, 43, 44, 51, 60, 135, 139, 140] {
        let subject = subject(hook, udp()).in_v6().extension(number, [0; 7]);
        let name = format!("the extension header {number}");
        rows.push(
            at(hook, name, error_about(&subject, 1, 4))
                .flow(CONFIRMED)
                .kernel(Verdict::Icmp),
        );
    }
    rows
}

/// An error quotes at least the eight bytes behind the IP header (RFC 792); less names no flow.
fn cut_quotes(hook: Hook) -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let enough = family.header_len() + 8;
        for len in 0..enough + 2 {
            let cut = |packet| about(hook, packet).in_family(family).quote_cut_at(len);
            for (what, packet) in [
                ("UDP", udp()),
                ("TCP", tcp(ACK)),
                ("a ping", echo_request(7)),
            ] {
                let row = at(hook, format!("{len} bytes of {what}"), cut(packet))
                    .flow(CONFIRMED)
                    .no_twin();
                rows.push(match len < enough {
                    true => row.kernel(Verdict::Icmp),
                    false => row.fast(way_out(hook)),
                });
            }
        }
        let padded = about(hook, udp())
            .in_family(family)
            .quote_cut_at(enough - 1)
            .trailing(20);
        rows.push(
            at(hook, "padding is no part of the quote", padded)
                .flow(CONFIRMED)
                .no_twin()
                .kernel(Verdict::Icmp),
        );
    }
    rows
}
