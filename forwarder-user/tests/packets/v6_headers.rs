//! IPv6 headers that IPv4 has no twin of: extension headers, lying lengths, cut frames.

use underpass_common::verdict::{Hook, Verdict};

use crate::builder::{ETHERNET, udp};
use crate::cast::{CONFIRMED, device_at, macs_at};
use crate::launcher::Metadata;
use crate::parsing::toward;
use crate::rig::{Rig, with_rig};
use crate::table::{Hex, NEXT};
use crate::twin;
use crate::world::World;

const VERSION: usize = ETHERNET;
const PAYLOAD_LEN: usize = ETHERNET + 4;
const NEXT_HEADER: usize = ETHERNET + 6;
const HEADER: usize = 40;

/// Each belongs to a confirmed flow but for what is changed, and is left to the kernel as it came.
fn check(rig: &Rig, hook: Hook, name: &str, frame: &[u8], why: Verdict) {
    let with = Metadata {
        ifindex: device_at(hook),
        ..Metadata::default()
    };
    let before = rig.counts().expect("counts");
    let run = rig.run(hook, frame, &with).expect("a run");
    let mut counts = rig.counts().expect("counts");
    counts.retain(|place, count| *count != before[place]);
    let given: Vec<_> = counts.keys().copied().collect();
    assert_eq!(given, [(hook, why)], "{name}");
    assert_eq!((run.answer, Hex(&run.bytes)), (NEXT, Hex(frame)), "{name}");
}

/// A frame of the flow at every hook, in the world where the flow is confirmed.
fn at_every_hook(test: &str, rows: impl Fn(&Rig, Hook, &[u8]) + Sync) {
    with_rig(test, |rig| {
        let mut world = World::usual();
        let key = udp().tuple().expect("an IP packet").from_pod();
        world.flows.push((key, CONFIRMED));
        rig.put(&world.twin().expect("a world that has a twin"))
            .expect("maps");
        for hook in Hook::ALL {
            let frame = toward(hook, udp()).or_macs(macs_at(hook)).bytes();
            rows(rig, hook, &twin::of_frame(&frame));
        }
    });
}

#[test]
fn extension_headers_are_the_kernels() {
    at_every_hook("extension_headers_are_the_kernels", |rig, hook, frame| {
        for (name, number, why) in [
            ("hop by hop", 0, Verdict::IpOptions),
            ("routing", 43, Verdict::IpOptions),
            ("fragment", 44, Verdict::Fragment),
            ("authentication", 51, Verdict::IpOptions),
            ("destination options", 60, Verdict::IpOptions),
            ("mobility", 135, Verdict::IpOptions),
            ("HIP", 139, Verdict::IpOptions),
            ("SHIM6", 140, Verdict::IpOptions),
        ] {
            let mut frame = frame.to_vec();
            frame[NEXT_HEADER] = number;
            check(rig, hook, name, &frame, why);
        }
    });
}

#[test]
fn lying_headers_are_the_kernels() {
    at_every_hook("lying_headers_are_the_kernels", |rig, hook, frame| {
        let payload = (frame.len() - ETHERNET - HEADER) as u16;
        for (name, len) in [
            ("one byte more than there is", payload + 1),
            ("far more than there is", u16::MAX),
            ("no payload, as a jumbogram says", 0),
            ("less than a UDP header", 7),
        ] {
            let mut frame = frame.to_vec();
            frame[PAYLOAD_LEN..PAYLOAD_LEN + 2].copy_from_slice(&len.to_be_bytes());
            check(rig, hook, name, &frame, Verdict::Malformed);
        }
        for version in [0, 4, 5, 7, 15] {
            let mut frame = frame.to_vec();
            frame[VERSION] = version << 4 | frame[VERSION] & 0xf;
            check(rig, hook, "another version", &frame, Verdict::Malformed);
        }
        for len in ETHERNET + HEADER..frame.len() {
            check(rig, hook, "cut off", &frame[..len], Verdict::Malformed);
        }
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0x00, 0, 5]);
        tagged.extend(&frame[12..]);
        check(
            rig,
            hook,
            "a VLAN tag in the frame",
            &tagged,
            Verdict::NotIp,
        );
    });
}
