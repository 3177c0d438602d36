//! Frames by chance: whatever comes, an entrance leaves it to the kernel untouched, or makes of it
//! exactly what the model says.

mod mutate;
mod transit;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use underpass_common::flow::{Direction, Flow, WayOut, confirmed};
use underpass_common::route::Route;
use underpass_common::verdict::{Count, Hook, Verdict};

use crate::builder::{
    ACK, ETHERNET, FIN, PSH, Packet, RST, SYN, echo_reply, echo_request, error_about, tcp, udp,
};
use crate::cast::{
    CONFIRMED, EPOCH, FAR, GENERATION, NARROW_UPLINK, NO_DEVICE, NODE, OTHER_VETH, PEER, POD,
    POD_VETH, ROUTER, TO_PEER, TO_POD, UPLINK, macs_at,
};
use crate::confirmed::opposite;
use crate::family::{Family, Twin as _};
use crate::launcher::Metadata;
use crate::model::{self, Arrival};
use crate::parsing::toward;
use crate::rig::{Rig, with_rig};
use crate::table::{Hex, NEXT, PASS, REDIRECT, XDP_REDIRECT};
use crate::world::{World, prefix};
use mutate::{mutation, repair};

const CASES: u32 = 6_000;
/// On a machine that has much else to do, fewer are enough.
const TIME: Duration = Duration::from_secs(8);

/// What packets come with: none that forwarding gives.
const PRIORITY: u32 = 5;

#[test]
fn from_pod_agrees_with_the_model() {
    with_rig("from_pod_agrees_with_the_model", |rig| {
        agree(rig, Hook::FromPod)
    });
}

#[test]
fn from_wire_agrees_with_the_model() {
    with_rig("from_wire_agrees_with_the_model", |rig| {
        agree(rig, Hook::FromWire)
    });
}

#[test]
fn from_wire_of_several_agrees_with_the_model() {
    with_rig("from_wire_of_several_agrees_with_the_model", |rig| {
        agree_in(rig, Hook::FromWire, transit::world(), transit::frames());
    });
}

fn agree(rig: &mut Rig, hook: Hook) {
    agree_in(rig, hook, world(), frames(hook));
}

/// Runs mutations of frames, and noise, in a world: first frames of flows, then errors about them.
fn agree_in(rig: &mut Rig, hook: Hook, world: World, frames: [Vec<Vec<u8>>; 2]) {
    rig.put(&world).expect("maps");
    let rig = RefCell::new(rig);
    let tried = Cell::new(0);
    let carried = Cell::new(0);
    let fast = RefCell::new(BTreeMap::new());
    let end = Instant::now() + TIME;
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let result =
        TestRunner::new(config).run(&arrivals(hook, frames), |(frame, ifindex, gso_size)| {
            if Instant::now() > end {
                return Ok(());
            }
            let mut rig = rig.borrow_mut();
            // A SYN of an earlier case may have cleared flows.
            rig.put_flows(&world.flows)
                .map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            let arrival = Arrival {
                hook,
                ifindex,
                gso_size,
                frame: &frame,
            };
            tried.update(|tried| tried + 1);
            if hook == Hook::FromWire && gso_size == 0 {
                let is_carried = check_express(&mut rig, &world, arrival)?;
                carried.update(|carried| carried + u32::from(is_carried));
            }
            if let Some(kind) = check(&rig, &world, arrival)? {
                *fast.borrow_mut().entry(kind).or_insert(0) += 1;
            }
            Ok(())
        });
    if let Err(error) = result {
        panic!("{error}");
    }
    let carried = carried.get();
    println!("{}: {carried} of {} by XDP", hook.name(), tried.get());
    if hook == Hook::FromWire {
        assert!(carried > tried.get() / 20, "{carried} of {}", tried.get());
    }
    // A model that gives everything to the kernel would prove nothing.
    let (tried, fast) = (tried.get(), fast.into_inner());
    println!("{}: {fast:?} of {tried} frames were fast", hook.name());
    for family in Family::ALL {
        let of = |is_error| fast.get(&(family, is_error)).copied().unwrap_or(0);
        assert!(of(false) > tried / 20, "{family:?}: {fast:?} of {tried}");
        assert!(of(true) > tried / 200, "{family:?}: {fast:?} of {tried}");
    }
}

/// Runs a frame through the XDP program: it leaves it as it is, or makes of it what the model says, but
/// of no ICMP error. True where it has carried it.
fn check_express(
    rig: &mut Rig,
    world: &World,
    arrival: Arrival<'_>,
) -> Result<bool, TestCaseError> {
    let told = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
    let before = rig.counts().map_err(told)?;
    let (answer, bytes) = rig.run_xdp(arrival.frame).map_err(told)?;
    let after = rig.counts().map_err(told)?;
    let fast = Hook::FromWireXdp;
    let added = after[&(fast, Verdict::Fast)].packets - before[&(fast, Verdict::Fast)].packets;
    if answer == PASS {
        prop_assert_eq!(Hex(&bytes), Hex(arrival.frame));
        prop_assert!(before == after);
        return Ok(false);
    }
    prop_assert_eq!(answer, XDP_REDIRECT);
    prop_assert_eq!(added, 1);
    // The one device that XDP is on is the uplink.
    let arrival = Arrival {
        ifindex: UPLINK,
        ..arrival
    };
    let expected = model::fast(world, arrival);
    let Some(expected) = expected.filter(|expected| !expected.is_error) else {
        return Err(TestCaseError::fail(
            "XDP carries what the kernel should have",
        ));
    };
    prop_assert_eq!(Hex(&bytes), Hex(&expected.frame));
    Ok(true)
}

/// Runs a frame, and compares. Tells of a fast one its family, and whether it was an ICMP error.
fn check(
    rig: &Rig,
    world: &World,
    arrival: Arrival<'_>,
) -> Result<Option<(Family, bool)>, TestCaseError> {
    let told = |error: anyhow::Error| TestCaseError::fail(format!("{error:#}"));
    let Arrival {
        hook,
        ifindex,
        gso_size,
        frame,
    } = arrival;
    let before = rig.counts().map_err(told)?;
    let metadata = Metadata {
        ifindex,
        gso_size,
        priority: PRIORITY,
        ..Metadata::default()
    };
    let run = rig.run(hook, frame, &metadata).map_err(told)?;
    let mut counted = rig.counts().map_err(told)?;
    counted.retain(|place, count| *count != before[place]);
    let expected = model::fast(world, arrival);
    let (answer, bytes, priority) = match &expected {
        Some(fast) => (REDIRECT, fast.frame.as_slice(), fast.priority),
        None => (NEXT, frame, None),
    };
    prop_assert_eq!(run.answer, answer, "{:?} {:?}", counted, Hex(frame));
    prop_assert_eq!(Hex(&run.bytes), Hex(bytes));
    prop_assert_eq!(run.priority, priority.unwrap_or(PRIORITY));
    prop_assert_eq!(counted.len(), 1, "{:?}", counted);
    let (
        &(counted_hook, verdict),
        &Count {
            packets,
            bytes: counted_bytes,
        },
    ) = counted.first_key_value().expect("one");
    prop_assert_eq!(counted_hook, hook);
    prop_assert_eq!(verdict == Verdict::Fast, expected.is_some());
    let was = before[&(hook, verdict)];
    prop_assert_eq!(packets - was.packets, 1);
    prop_assert_eq!(counted_bytes - was.bytes, bytes.len() as u64);
    Ok(expected.map(|fast| match frame[12..14] {
        [0x86, 0xdd] => (Family::V6, fast.is_error),
        _ => (Family::V4, fast.is_error),
    }))
}

/// Packets of flows in every state that a flow can be in.
fn packets() -> Vec<(Packet, Flow)> {
    let both = |change: fn(&mut Direction)| {
        let mut flow = CONFIRMED;
        change(&mut flow.egress);
        change(&mut flow.ingress);
        flow
    };
    let through = |ifindex| Flow {
        key_check: 0,
        egress: Direction {
            way_out: WayOut { ifindex, ..TO_PEER },
            ..CONFIRMED.egress
        },
        ingress: Direction {
            way_out: WayOut { ifindex, ..TO_POD },
            ..CONFIRMED.ingress
        },
    };
    let mid_stream = both(|direction| direction.confirmed = confirmed::MID_STREAM);
    let outdated = both(|direction| direction.generation = GENERATION - 1);
    let other_epoch = both(|direction| direction.epoch = EPOCH - 1);
    vec![
        (udp(), CONFIRMED),
        (udp().payload(b""), CONFIRMED),
        (udp().ip_len(1490), CONFIRMED),
        (tcp(ACK), CONFIRMED),
        (tcp(ACK | PSH).tcp_options(&[1; 12]), CONFIRMED),
        (tcp(FIN | ACK), CONFIRMED),
        (tcp(SYN), CONFIRMED),
        (tcp(ACK).from(POD, 40_001), mid_stream),
        (tcp(RST | ACK).from(POD, 40_001), mid_stream),
        (echo_request(7), CONFIRMED),
        (echo_reply(7), CONFIRMED),
        (udp().from(POD, 40_002), outdated),
        // Of these two, the trie leaves the second to the kernel.
        (udp().to([10, 244, 2, 130], 1), outdated),
        (udp().to([10, 244, 2, 194], 1), outdated),
        (udp().from(POD, 40_003), other_epoch),
        (udp().from(POD, 40_004), through(NO_DEVICE)),
        (udp().from(POD, 40_005).ip_len(1280), through(NARROW_UPLINK)),
        (
            udp().from(POD, 40_006).to(FAR, 9),
            both(|direction| direction.generation = 0),
        ),
    ]
}

/// Of both families.
fn world() -> World {
    let mut world = World::usual();
    let exception = prefix("10.244.2.192/26");
    for family in Family::ALL {
        world
            .routes
            .insert(exception.in_family(family), Route::KERNEL);
        for (packet, flow) in packets() {
            let key = packet.tuple().expect("an IP packet").from_pod();
            let key = key.in_family(family);
            // The answer to a ping is a packet of the flow of that ping at one entrance, and of its
            // own at the other.
            if !world.flows.iter().any(|(one, _)| *one == key) {
                world.flows.push((key, flow));
            }
        }
    }
    world
}

/// Frames of those flows at a hook, and ICMP errors about them from those who may send them, and who
/// may not.
fn frames(hook: Hook) -> [Vec<Vec<u8>>; 2] {
    let bytes = |packet: Packet| packet.or_macs(macs_at(hook)).bytes();
    let mut of_flows = Vec::new();
    let mut errors = Vec::new();
    for family in Family::ALL {
        for (packet, _) in packets() {
            let packet = packet.in_family(family);
            let subject = toward(opposite(hook), packet.clone());
            of_flows.push(bytes(toward(hook, packet)));
            let kinds: &[(u8, u8)] = match family {
                Family::V4 => &[(3, 4), (11, 0), (12, 0), (5, 0)],
                Family::V6 => &[(1, 4), (2, 0), (3, 0), (4, 1), (137, 0)],
            };
            for &(kind, code) in kinds {
                errors.push(bytes(error_about(&subject, kind, code)));
            }
            if hook == Hook::FromWire {
                let sources = [PEER, ROUTER, NODE, [198, 51, 100, 7], [203, 0, 113, 7]];
                errors.extend(sources.map(|source| {
                    let source = IpAddr::from(source).in_family(family);
                    bytes(error_about(&subject, 3, 0).src(source))
                }));
            }
        }
    }
    [of_flows, errors]
}

/// A frame, its device and its segment size.
fn arrivals(
    hook: Hook,
    [of_flows, errors]: [Vec<Vec<u8>>; 2],
) -> impl Strategy<Value = (Vec<u8>, u32, u32)> {
    let frames = prop_oneof![
        2 => prop::sample::select(of_flows),
        1 => prop::sample::select(errors),
    ];
    let mutated = (frames, vec(mutation(), 0..4), any::<bool>()).prop_map(
        |(mut frame, mutations, is_repaired)| {
            mutations
                .iter()
                .for_each(|mutation| mutation.apply(&mut frame));
            if is_repaired {
                repair(&mut frame);
            }
            frame
        },
    );
    let noise = (
        vec(any::<u8>(), ETHERNET..120),
        prop::option::of(prop::sample::select(Family::ALL.to_vec())),
        any::<bool>(),
    )
        .prop_map(move |(mut frame, family, is_repaired)| {
            if let Some(family) = family
                && frame.len() > ETHERNET
            {
                let (dst, src) = macs_at(hook);
                let ethertype = family.ethertype().to_be_bytes();
                let version = match family {
                    Family::V4 => 0x45,
                    Family::V6 => 0x60,
                };
                let start = [&dst[..], &src[..], &ethertype, &[version]].concat();
                frame[..start.len()].copy_from_slice(&start);
            }
            if is_repaired {
                repair(&mut frame);
            }
            frame
        });
    let devices = match hook {
        Hook::FromPod => [POD_VETH, OTHER_VETH],
        _ => [UPLINK, NARROW_UPLINK],
    };
    let device = prop_oneof![9 => Just(devices[0]), 1 => Just(devices[1])];
    let gso_size = prop_oneof![9 => Just(0), 1 => 1..3000u32];
    (prop_oneof![9 => mutated, 1 => noise], device, gso_size)
}
