//! Whom an ICMP error from the wire may come from. Not only the far pod reports errors, any router on
//! the way does: so the datapath asks what the kernel would, whether the way to its source leads back
//! where it came in.

use std::net::IpAddr;

use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{Packet, udp};
use crate::cast::{
    CONFIRMED, FAR, NARROW_UPLINK, NODE, OTHER_POD, PEER, POD, ROUTER, TO_POD, UPLINK,
};
use crate::devices::{device_name, set_forwarding};
use crate::family::{Family, Twin as _};
use crate::icmp_error::about;
use crate::rig::with_rig;
use crate::table::{Row, at, run};

#[test]
fn errors_come_from_where_the_kernel_would_send_answers() {
    with_rig(
        "errors_come_from_where_the_kernel_would_send_answers",
        |rig| drop(run(rig, &rows())),
    );
}

#[test]
fn errors_are_the_kernels_where_it_does_not_forward() {
    with_rig("errors_are_the_kernels_where_it_does_not_forward", |rig| {
        let [v4, v6] = Family::ALL.map(|family| IpAddr::from(FAR).in_family(family));
        let uplink = device_name(UPLINK);
        run(rig, &[fast(v4), fast(v6)]);
        set_forwarding(Family::V4, &uplink, false).expect("a switch");
        run(rig, &[kernel(v4), fast(v6)]);
        set_forwarding(Family::V6, &uplink, false).expect("a switch");
        run(rig, &[kernel(v4), kernel(v6)]);
        set_forwarding(Family::V4, &uplink, true).expect("a switch");
        run(rig, &[fast(v4), kernel(v6)]);
    });
}

pub fn rows() -> Vec<Row> {
    let mut rows = routed();
    rows.extend(martians());
    rows
}

/// An error about what the pod sent, from this address.
fn error(source: IpAddr) -> Packet {
    about(Hook::FromWire, udp())
        .in_family(Family::of(source))
        .src(source)
}

fn row(source: IpAddr) -> Row {
    at(
        Hook::FromWire,
        format!("an error from {source}"),
        error(source),
    )
    .flow(CONFIRMED)
}

fn fast(source: IpAddr) -> Row {
    row(source).fast(TO_POD).no_twin()
}

fn kernel(source: IpAddr) -> Row {
    row(source).kernel(Verdict::Icmp).no_twin()
}

/// In both families, by the kernel's routes (`KERNEL_ROUTES`).
fn routed() -> Vec<Row> {
    let elsewhere = [198, 51, 100, 7];
    let blackholed = [203, 0, 113, 7];
    let mut rows = Vec::new();
    for family in Family::ALL {
        let of = |address: [u8; 4]| IpAddr::from(address).in_family(family);
        rows.extend([
            fast(of(FAR)),
            fast(of([10, 244, 2, 99])),
            fast(of(PEER)),
            fast(of(ROUTER)),
            fast(of([8, 8, 8, 8])),
            kernel(of(NODE)),
            kernel(of(POD)),
            kernel(of(OTHER_POD)),
            kernel(of(elsewhere)),
            kernel(of(blackholed)),
            kernel(of(FAR)).device(NARROW_UPLINK),
            fast(of(elsewhere)).device(NARROW_UPLINK),
        ]);
    }
    rows
}

/// Sources that no route makes right, and their neighbours.
fn martians() -> Vec<Row> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let martians = [
        "0.0.0.0",
        "0.255.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::2",
        "febf:ffff::2",
        "ff02::1",
        "ff0e::1",
        "ffff::1",
    ];
    let neighbours = [
        "1.0.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "223.255.255.255",
        "::2",
        "::1:0:1",
        "1::1",
        "fe7f::2",
        "fec0::2",
        "fdff::2",
        "fe00::1",
    ];
    martians
        .map(|text| kernel(address(text)))
        .into_iter()
        .chain(neighbours.map(|text| fast(address(text))))
        .collect()
}
