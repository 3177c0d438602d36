//! Frames by chance: whatever comes, an entrance leaves it to the kernel untouched, or makes of it
//! exactly what the model says.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use underpass_common::flow::{Direction, Flow, WayOut, confirmed};
use underpass_common::route::Route;
use underpass_common::verdict::{Count, Hook, Verdict};

use crate::builder::{
    ACK, ETHERNET, FIN, PSH, Packet, RST, SYN, echo_reply, echo_request, tcp, udp,
};
use crate::cast::{
    CONFIRMED, EPOCH, FAR, GENERATION, NARROW_UPLINK, NO_DEVICE, OTHER_VETH, POD, POD_VETH,
    TO_PEER, TO_POD, UPLINK, macs_at,
};
use crate::launcher::Metadata;
use crate::model::{Arrival, fast_frame};
use crate::parsing::toward;
use crate::rig::{Rig, with_rig};
use crate::table::{Hex, NEXT, REDIRECT};
use crate::transport::internet_checksum;
use crate::world::{World, prefix};

const CASES: u32 = 3_000;
/// On a machine that has much else to do, fewer are enough.
const TIME: Duration = Duration::from_secs(8);

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

fn agree(rig: &mut Rig, hook: Hook) {
    let world = world();
    rig.put(&world).expect("maps");
    let rig = RefCell::new(rig);
    let (tried, fast) = (Cell::new(0), Cell::new(0));
    let end = Instant::now() + TIME;
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&arrivals(hook), |(frame, ifindex, gso_size)| {
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
        let is_fast = check(&rig, &world, arrival)?;
        tried.update(|tried| tried + 1);
        fast.update(|fast| fast + u32::from(is_fast));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // A model that gives everything to the kernel would prove nothing.
    let (tried, fast) = (tried.get(), fast.get());
    assert!(fast > tried / 10, "only {fast} of {tried} were fast");
}

/// Runs a frame, and compares. True where it was fast.
fn check(rig: &Rig, world: &World, arrival: Arrival<'_>) -> Result<bool, TestCaseError> {
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
        ..Metadata::default()
    };
    let run = rig.run(hook, frame, &metadata).map_err(told)?;
    let mut counted = rig.counts().map_err(told)?;
    counted.retain(|place, count| *count != before[place]);
    let expected = fast_frame(world, arrival);
    let (answer, bytes) = match &expected {
        Some(bytes) => (REDIRECT, bytes.as_slice()),
        None => (NEXT, frame),
    };
    prop_assert_eq!(run.answer, answer, "{:?}", counted);
    prop_assert_eq!(Hex(&run.bytes), Hex(bytes));
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
    Ok(expected.is_some())
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

fn world() -> World {
    let mut world = World::usual();
    world
        .routes
        .insert(prefix("10.244.2.192/26"), Route::KERNEL);
    for (packet, flow) in packets() {
        let key = packet.tuple().expect("an IPv4 packet").from_pod();
        // The answer to a ping is a packet of the flow of that ping at one entrance, and of its
        // own at the other.
        if !world.flows.iter().any(|(one, _)| *one == key) {
            world.flows.push((key, flow));
        }
    }
    world
}

/// A frame, its device and its segment size.
fn arrivals(hook: Hook) -> impl Strategy<Value = (Vec<u8>, u32, u32)> {
    let packets: Vec<_> = packets()
        .into_iter()
        .map(|(packet, _)| toward(hook, packet).or_macs(macs_at(hook)).bytes())
        .collect();
    let mutated = (
        prop::sample::select(packets),
        vec(mutation(), 0..4),
        any::<bool>(),
    )
        .prop_map(|(mut frame, mutations, is_repaired)| {
            mutations
                .iter()
                .for_each(|mutation| mutation.apply(&mut frame));
            if is_repaired {
                repair(&mut frame);
            }
            frame
        });
    let noise = (
        vec(any::<u8>(), ETHERNET..120),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(move |(mut frame, is_ip, is_repaired)| {
            if is_ip && frame.len() > ETHERNET {
                let (dst, src) = macs_at(hook);
                let start = [&dst[..], &src[..], &[8, 0, 0x45]].concat();
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

#[derive(Clone, Debug)]
enum Mutation {
    Flip { bit: usize },
    Set { at: usize, to: u8 },
    Ttl(u8),
    Shorten(usize),
    Lengthen(Vec<u8>),
    TotalLen(i8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let header = ETHERNET + 40;
    prop_oneof![
        (0..header * 8).prop_map(|bit| Mutation::Flip { bit }),
        (0..header, any::<u8>()).prop_map(|(at, to)| Mutation::Set { at, to }),
        (0..4u8).prop_map(Mutation::Ttl),
        (1..40usize).prop_map(Mutation::Shorten),
        vec(any::<u8>(), 1..30).prop_map(Mutation::Lengthen),
        (-30..10i8).prop_map(Mutation::TotalLen),
    ]
}

impl Mutation {
    fn apply(&self, frame: &mut Vec<u8>) {
        let len = frame.len();
        match self {
            Self::Flip { bit } => frame[bit / 8 % len] ^= 1 << (bit % 8),
            Self::Set { at, to } => frame[at % len] = *to,
            Self::Ttl(ttl) => drop(frame.get_mut(ETHERNET + 8).map(|byte| *byte = *ttl)),
            Self::Shorten(by) => frame.truncate((len - by.min(&len)).max(ETHERNET)),
            Self::Lengthen(by) => frame.extend(by),
            Self::TotalLen(by) => {
                if let Some([high, low]) = frame.get_mut(ETHERNET + 2..ETHERNET + 4) {
                    let total = u16::from_be_bytes([*high, *low]).wrapping_add_signed((*by).into());
                    [*high, *low] = total.to_be_bytes();
                }
            }
        }
    }
}

/// Gives the frame a right IPv4 header checksum, so that it gets past the first check.
fn repair(frame: &mut [u8]) {
    if let Some(header) = frame.get_mut(ETHERNET..ETHERNET + 20) {
        header[10..12].fill(0);
        let checksum = internet_checksum(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}
