//! The XDP program before `from_wire`: it carries what that would carry, byte for byte, or lets it pass
//! without a trace.

use underpass_common::flow::{Direction, WayOut, confirmed};
use underpass_common::settings::Offload;
use underpass_common::verdict::Hook;
use underpass_common::xdp::Lease;

use crate::builder::{ACK, ETHERNET, FIN, Packet, echo_request, tcp, udp};
use crate::cast::{
    GENERATION, MTU, NARROW_MTU, NARROW_UPLINK, OTHER_VETH, POD_VETH, STRANGER_MAC, TO_POD, UPLINK,
    macs_at,
};
use crate::confirmed::but;
use crate::family::{Family, Twin as _};
use crate::parsing::toward;
use crate::rig::{LEASE, RECEIVER, Rig, with_rig};
use crate::table::{PASS, Row, XDP_REDIRECT, run_express};
use crate::world::World;
use crate::{
    always, confirmed as rows_confirmed, entrances, icmp_error, ipv6, key_check, mtu, parsing,
    quotes, sources, tcp as rows_tcp,
};

const HOOK: Hook = Hook::FromWire;

/// What TC carries and XDP leaves to it, by the row's name.
fn is_left(name: &str) -> bool {
    [
        // TC looks the way out up again; the next packet goes by XDP.
        "an older generation is looked up again",
        "what was looked up is what counts",
        // Trains of segments.
        "TCP segments that just fit",
        "TCP options are in every segment",
        "UDP segments that just fit",
    ]
    .contains(&name)
}

#[test]
fn xdp_carries_what_from_wire_would() {
    with_rig("xdp_carries_what_from_wire_would", |rig| {
        let mut rows = parsing::rows(HOOK);
        rows.extend(always::rows(HOOK));
        rows.extend(rows_confirmed::rows(HOOK));
        rows.extend(mtu::rows(HOOK));
        rows.extend(rows_tcp::rows(HOOK));
        rows.extend(key_check::rows(HOOK));
        rows.extend(ipv6::rows(HOOK));
        rows.extend(entrances::rows().into_iter().filter(Row::is_from_wire));
        let carried = run_express(rig, &rows, is_left);
        println!(
            "{carried} of {} rows and their twins were carried",
            rows.len()
        );
        assert!(carried > 60, "{carried}");
    });
}

/// ICMP errors are TC's, all of them.
#[test]
fn xdp_lets_icmp_errors_pass() {
    with_rig("xdp_lets_icmp_errors_pass", |rig| {
        let mut rows = icmp_error::rows(HOOK);
        rows.extend(quotes::rows(HOOK));
        rows.extend(sources::rows().into_iter().filter(Row::is_from_wire));
        assert_eq!(run_express(rig, &rows, |_| true), 0);
    });
}

/// A frame of a confirmed flow as it arrives, of either family.
fn arriving(family: Family, packet: Packet) -> Packet {
    toward(HOOK, packet)
        .in_family(family)
        .or_macs(macs_at(HOOK))
}

/// A world in which a packet's flow is confirmed on its way in, but for what `change` does.
fn world_of(packet: &Packet, change: impl FnOnce(&mut Direction)) -> World {
    let mut world = World::usual();
    let key = packet.tuple().expect("an IP packet").to_pod();
    world.flows.push((key, but(HOOK, change)));
    world
}

/// Runs a frame: whether XDP has carried it. What it lets pass is as it was.
pub fn is_carried(rig: &mut Rig, frame: &[u8]) -> bool {
    let (answer, bytes) = rig.run_xdp(frame).expect("a run");
    match answer {
        XDP_REDIRECT => true,
        PASS => {
            assert_eq!(bytes, frame);
            false
        }
        other => panic!("XDP action {other}"),
    }
}

#[test]
fn without_a_lease_xdp_carries_nothing() {
    with_rig("without_a_lease_xdp_carries_nothing", |rig| {
        for family in Family::ALL {
            let packet = arriving(family, udp());
            rig.put(&world_of(&packet, |_| {})).expect("maps");
            let frame = packet.bytes();
            let other_mac = Lease {
                uplink_mac: STRANGER_MAC,
                ..LEASE
            };
            // One nanosecond after the machine has started.
            let over = Lease {
                until_ns: 1,
                ..LEASE
            };
            for (lease, carried) in [
                (LEASE, true),
                (Lease::default(), false),
                (over, false),
                (other_mac, false),
                (LEASE, true),
            ] {
                let maps = &mut rig.loaded.maps;
                maps.set_xdp_lease(RECEIVER, &lease).expect("a lease");
                assert_eq!(is_carried(rig, &frame), carried, "{family:?}: {lease:?}");
            }
            // One of another device is none.
            rig.loaded.maps.remove_xdp_lease(RECEIVER).expect("maps");
            rig.loaded.maps.set_xdp_lease(UPLINK, &LEASE).expect("maps");
            assert!(!is_carried(rig, &frame), "{family:?}");
            rig.loaded.maps.remove_xdp_lease(UPLINK).expect("maps");
            rig.loaded
                .maps
                .set_xdp_lease(RECEIVER, &LEASE)
                .expect("maps");
        }
    });
}

#[test]
fn a_pod_that_takes_nothing_from_xdp_stays_with_tc() {
    with_rig("a_pod_that_takes_nothing_from_xdp_stays_with_tc", |rig| {
        for family in Family::ALL {
            let packet = arriving(family, udp());
            let frame = packet.bytes();
            rig.put(&world_of(&packet, |_| {})).expect("maps");
            rig.loaded.maps.remove_xdp_pod(POD_VETH).expect("maps");
            assert!(!is_carried(rig, &frame), "{family:?}");
            // Nor is it enough that another pod takes them.
            rig.loaded.maps.add_xdp_pod(OTHER_VETH).expect("maps");
            assert!(!is_carried(rig, &frame), "{family:?}");
            rig.loaded.maps.add_xdp_pod(POD_VETH).expect("maps");
            assert!(is_carried(rig, &frame), "{family:?}");

            let mut world = world_of(&packet, |_| {});
            world.settings.offload = Offload::Always as u8;
            world.flows.clear();
            rig.put(&world).expect("maps");
            assert!(is_carried(rig, &frame), "{family:?}: by the endpoint alone");
            world.endpoints.clear();
            rig.put(&world).expect("maps");
            assert!(!is_carried(rig, &frame), "{family:?}: no endpoint");
        }
    });
}

/// Where the checksum field stands in a frame.
fn checksum_at(family: Family, packet: &Packet) -> usize {
    let protocol = packet.tuple().expect("an IP packet").protocol;
    ETHERNET + family.header_len() + if protocol == 6 { 16 } else { 6 }
}

/// What a sender leaves in the field for a NIC to go on from: the sum over the pseudo header, written
/// down from RFC 9293 and RFC 8200.
fn unfinished(packet: &Packet) -> [u8; 2] {
    let tuple = packet.tuple().expect("an IP packet");
    let ip_len = packet.ip_bytes().len();
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let header = Family::of(tuple.src).header_len();
    let mut bytes = [octets(tuple.src), octets(tuple.dst)].concat();
    bytes.extend(((ip_len - header) as u32).to_be_bytes());
    bytes.extend(u32::from(tuple.protocol).to_be_bytes());
    (!crate::transport::internet_checksum(&bytes)).to_be_bytes()
}

#[test]
fn a_checksum_that_nobody_has_made_is_left_to_tc() {
    with_rig("a_checksum_that_nobody_has_made_is_left_to_tc", |rig| {
        for family in Family::ALL {
            for packet in [
                udp(),
                udp().payload(b""),
                udp().payload(b"odd").padded(),
                tcp(ACK),
                tcp(ACK).payload(b""),
                tcp(ACK).tcp_options(&[1; 12]),
                udp().ip_len(MTU),
                tcp(ACK).ip_len(MTU),
            ] {
                let packet = arriving(family, packet);
                rig.put(&world_of(&packet, |_| {})).expect("maps");
                let mut frame = packet.bytes();
                assert!(is_carried(rig, &frame), "{packet:?}");
                let at = checksum_at(family, &packet);
                frame[at..at + 2].copy_from_slice(&unfinished(&packet));
                assert!(!is_carried(rig, &frame), "{packet:?}");
                // The one beside it is a checksum like any other.
                frame[at + 1] ^= 1;
                assert!(is_carried(rig, &frame), "{packet:?}");
            }
        }
        // Of IPv4 alone: a datagram without one.
        let packet = arriving(Family::V4, udp());
        rig.put(&world_of(&packet, |_| {})).expect("maps");
        let mut frame = packet.bytes();
        let at = checksum_at(Family::V4, &packet);
        frame[at..at + 2].fill(0);
        assert!(is_carried(rig, &frame));
    });
}

/// Conntrack holds that connection as established, and is to see its end: TC knows how.
#[test]
fn the_end_of_a_connection_from_mid_stream_is_tcs() {
    with_rig("the_end_of_a_connection_from_mid_stream_is_tcs", |rig| {
        for family in Family::ALL {
            for (flags, confirmation, carried) in [
                (FIN | ACK, confirmed::MID_STREAM, false),
                (FIN | ACK, confirmed::FROM_START, true),
                (ACK, confirmed::MID_STREAM, true),
            ] {
                let packet = arriving(family, tcp(flags));
                let world = world_of(&packet, |direction| direction.confirmed = confirmation);
                rig.put(&world).expect("maps");
                assert_eq!(is_carried(rig, &packet.bytes()), carried, "{flags:#x}");
                assert_eq!(rig.world().expect("maps").flows, world.flows);
            }
        }
    });
}

/// Frames in several buffers: `BPF_PROG_TEST_RUN` cuts what does not fit a page.
#[test]
fn a_frame_in_several_buffers_is_measured_whole() {
    with_rig("a_frame_in_several_buffers_is_measured_whole", |rig| {
        let jumbo = 9000;
        for family in Family::ALL {
            let packet = arriving(family, udp().ip_len(jumbo));
            rig.put(&world_of(&packet, |_| {})).expect("maps");
            let frame = packet.bytes();
            assert!(!is_carried(rig, &frame), "{family:?}: the MTU is {MTU}");
            crate::devices::set_mtu(POD_VETH, jumbo).expect("an MTU");
            let (answer, bytes) = rig.run_xdp(&frame).expect("a run");
            assert_eq!(answer, XDP_REDIRECT, "{family:?}");
            let routed = packet.routed(TO_POD.dst_mac, TO_POD.src_mac).bytes();
            assert!(bytes == routed, "{family:?}: other bytes");
            let longer = arriving(family, udp().ip_len(jumbo + 1));
            assert!(!is_carried(rig, &longer.bytes()), "{family:?}");
            crate::devices::set_mtu(POD_VETH, MTU).expect("an MTU");
        }
    });
}

#[test]
fn a_changed_way_out_is_tcs_to_look_up() {
    with_rig("a_changed_way_out_is_tcs_to_look_up", |rig| {
        for family in Family::ALL {
            for packet in [udp(), tcp(ACK), echo_request(7)] {
                let packet = arriving(family, packet);
                let old = |direction: &mut Direction| direction.generation = GENERATION - 1;
                rig.put(&world_of(&packet, old)).expect("maps");
                assert!(!is_carried(rig, &packet.bytes()), "{packet:?}");
                let narrow = WayOut {
                    ifindex: NARROW_UPLINK,
                    ..TO_POD
                };
                let world = world_of(&packet, |direction| direction.way_out = narrow);
                rig.put(&world).expect("maps");
                assert!(is_carried(rig, &packet.bytes()), "{packet:?}");
            }
            let packet = arriving(family, udp().ip_len(NARROW_MTU + 1));
            let world = world_of(&packet, |direction| {
                direction.way_out.ifindex = NARROW_UPLINK
            });
            rig.put(&world).expect("maps");
            assert!(!is_carried(rig, &packet.bytes()));
        }
    });
}
