//! Packets that the programs tell of (`--trace-packets`): which, what of them, how many; and that programs which are
//! to tell of none know nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use aya::maps::{Map, PerCpuArray};
use aya_log::EbpfLogger;
use aya_obj::generated::{bpf_cmd, bpf_prog_info};
use log::{Log, Metadata as LogMetadata, Record};
use underpass::datapath::load::{TRACE_LINES, program};
use underpass::datapath::{LoadOptions, bpf, load};
use underpass::packet_trace::{Line, PacketFilter};
use underpass_common::map_names;
use underpass_common::packet_trace::{Filter, LINES_PER_SECOND, Traced};
use underpass_common::verdict::Hook;

use crate::builder::{Packet, SYN, echo_request, frame, tcp, udp};
use crate::cast::{device_at, macs_at};
use crate::launcher::Metadata;
use crate::rig::{OwnPins, Rig, with_rig, with_rig_on};
use crate::world::World;

/// Runs a test with programs that trace.
fn with_tracing(test: &str, filter: &str, body: impl FnOnce(&mut Rig) + Send) {
    let filter: PacketFilter = filter.parse().expect("a filter");
    let make = |pins: OwnPins| {
        let options = LoadOptions {
            max_flows: 1024,
            packet_trace: filter.to_programs(),
            ..LoadOptions::default()
        };
        Rig::of(load(&pins.0, options)?, pins)
    };
    with_rig_on(test, make, |rig| {
        rig.put(&World::usual()).expect("maps");
        body(rig);
    });
}

/// What aya-log hands on.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Log for Heard {
    fn enabled(&self, _: &LogMetadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = Line::read(&record.args().to_string(), |ifindex| format!("#{ifindex}"));
        let line = line.expect("a record").to_string();
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(line);
    }

    fn flush(&self) {}
}

/// Reads what the programs of a rig write.
struct Reader {
    logger: EbpfLogger<Heard>,
    heard: Heard,
}

impl Reader {
    fn of(rig: &mut Rig) -> Self {
        let heard = Heard::default();
        let logger = EbpfLogger::init_with_logger(&mut rig.loaded.ebpf, heard.clone());
        Self {
            logger: logger.expect("a ring buffer"),
            heard,
        }
    }

    /// What has been written since the last time.
    fn lines(&mut self) -> Vec<String> {
        self.logger.flush();
        let mut heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *heard)
    }
}

/// Each kind of packet that there is, with the line that it gets but for its length.
fn packets() -> Vec<(&'static str, Hook, Packet, &'static str)> {
    vec![
        (
            "out",
            Hook::FromPod,
            udp(),
            "from_pod on #20: unconfirmed: udp 10.244.1.2:40000 -> 10.244.2.2:53",
        ),
        (
            "in",
            Hook::FromWire,
            udp().back(),
            "from_wire on #10: unconfirmed: udp 10.244.2.2:53 -> 10.244.1.2:40000",
        ),
        (
            "leaving",
            Hook::ToWire,
            udp(),
            "to_wire on #10: unwitnessed: udp 10.244.1.2:40000 -> 10.244.2.2:53",
        ),
        (
            "arriving",
            Hook::ToPod,
            udp().back(),
            "to_pod on #20: unwitnessed: udp 10.244.2.2:53 -> 10.244.1.2:40000",
        ),
        (
            "syn",
            Hook::FromPod,
            tcp(SYN),
            "from_pod on #20: tcp_opening: tcp 10.244.1.2:40000 -> 10.244.2.2:80",
        ),
        (
            "ping",
            Hook::FromPod,
            echo_request(7),
            "from_pod on #20: unconfirmed: icmp 10.244.1.2 -> 10.244.2.2, identifier 7",
        ),
        (
            "fragment",
            Hook::FromPod,
            udp().fragment(8, true),
            "from_pod on #20: fragment: udp 10.244.1.2 -> 10.244.2.2",
        ),
        (
            "arp",
            Hook::FromPod,
            frame(0x0806, &[0; 28]),
            "from_pod on #20: not_ip: no addresses",
        ),
    ]
}

fn run(rig: &Rig, hook: Hook, packet: Packet) -> usize {
    let metadata = Metadata {
        ifindex: device_at(hook),
        ..Metadata::default()
    };
    let frame = packet.or_macs(macs_at(hook)).bytes();
    rig.run(hook, &frame, &metadata).expect("a run");
    frame.len()
}

#[test]
fn each_packet_is_told_with_its_verdict() {
    with_tracing("each_packet_is_told_with_its_verdict", "all", |rig| {
        let mut reader = Reader::of(rig);
        for (name, hook, packet, line) in packets() {
            let len = run(rig, hook, packet);
            assert_eq!(reader.lines(), [format!("{line}, {len} bytes")], "{name}");
        }
        // A packet that has gone past the kernel, in IPv6.
        let mut tell = |packet: Packet| {
            let len = run(rig, Hook::FromPod, packet);
            (reader.lines(), len)
        };
        let (lines, len) = tell(udp().in_v6());
        let line = &lines[0];
        assert!(
            line.starts_with("from_pod on #20: unconfirmed: udp [fd"),
            "{line}"
        );
        assert!(line.ends_with(&format!("]:53, {len} bytes")), "{line}");
    });
}

#[test]
fn a_filter_holds_what_it_says() {
    const TEST: &str = "a_filter_holds_what_it_says";
    let v4 = [
        "out", "in", "leaving", "arriving", "syn", "ping", "fragment",
    ];
    let v6 = [
        "v6 out",
        "v6 in",
        "v6 leaving",
        "v6 arriving",
        "v6 syn",
        "v6 ping",
        "v6 fragment",
    ];
    let both = [&v4[..], &v6[..]].concat();
    for (filter, expected) in [
        ("address=0.0.0.0/0", v4.to_vec()),
        ("address=::/0", [&both[..], &["arp"]].concat()),
        ("pod=10.244.1.2", v4.to_vec()),
        ("pod=10.244.2.2", vec![]),
        ("remote=10.244.2.0/24", v4.to_vec()),
        ("remote=10.244.1.2", vec![]),
        ("address=10.244.2.2", v4.to_vec()),
        ("address=10.244.1.0/31", vec![]),
        ("address=10.244.1.0/30", v4.to_vec()),
        (
            "port=53,address=0.0.0.0/0",
            vec!["out", "in", "leaving", "arriving"],
        ),
        ("port=80", vec!["syn", "v6 syn"]),
        ("port=7", vec!["ping", "v6 ping"]),
        ("proto=icmp", vec!["ping", "v6 ping"]),
        ("proto=tcp,port=53", vec![]),
        ("proto=tcp,port=40000,pod=10.244.1.2", vec!["syn"]),
        ("hook=to_wire", vec!["leaving", "v6 leaving"]),
        ("verdict=fragment", vec!["fragment", "v6 fragment"]),
        ("verdict=not_ip", vec!["arp"]),
        ("hook=from_wire,verdict=fragment", vec![]),
    ] {
        with_tracing(TEST, filter, |rig| {
            let mut reader = Reader::of(rig);
            let mut told = Vec::new();
            for in_v6 in [false, true] {
                for (name, hook, packet, _) in packets() {
                    let (name, packet) = match (in_v6, packet.family()) {
                        (false, _) => (name.to_owned(), packet),
                        (true, Some(_)) => (format!("v6 {name}"), packet.in_v6()),
                        (true, None) => continue,
                    };
                    run(rig, hook, packet);
                    told.extend(reader.lines().iter().map(|_| name.clone()));
                }
            }
            let mut expected = expected.clone();
            told.sort();
            expected.sort_unstable();
            assert_eq!(told, expected, "{filter}");
        });
    }
}

/// Of all CPUs.
fn left_out(rig: &Rig) -> u64 {
    let traced = rig.loaded.ebpf.map(map_names::TRACED).expect("a map");
    let traced = PerCpuArray::<_, Traced>::try_from(traced).expect("a map of CPUs");
    traced
        .get(&0, 0)
        .expect("an entry")
        .iter()
        .map(|cpu| cpu.left_out)
        .sum()
}

/// A second begins for each CPU.
fn next_second(rig: &mut Rig) {
    let traced = rig.loaded.ebpf.map_mut(map_names::TRACED).expect("a map");
    let mut traced = PerCpuArray::<_, Traced>::try_from(traced).expect("a map of CPUs");
    let mut cpus = traced.get(&0, 0).expect("an entry").to_vec();
    cpus.iter_mut().for_each(|cpu| cpu.since_ns = 0);
    traced
        .set(0, cpus.try_into().expect("of each CPU"), 0)
        .expect("an entry");
}

#[test]
fn lines_are_bounded_and_what_is_left_out_is_counted() {
    const TEST: &str = "lines_are_bounded_and_what_is_left_out_is_counted";
    with_tracing(TEST, "all", |rig| {
        let mut reader = Reader::of(rig);
        let packets = 3 * LINES_PER_SECOND;
        let mut written = 0;
        for second in 1..=2 {
            next_second(rig);
            for _ in 0..packets {
                run(rig, Hook::FromPod, udp());
            }
            let lines = reader.lines().len() as u64;
            written += lines;
            assert!(lines >= LINES_PER_SECOND, "{lines} in second {second}");
            // All of them at once, or nearly: a slow machine may need more than a second.
            assert_eq!(
                written + left_out(rig),
                second * packets,
                "each is told or counted"
            );
        }
        assert_eq!(
            rig.counts()
                .expect("counts")
                .values()
                .map(|count| count.packets)
                .sum::<u64>(),
            2 * packets
        );
    });
}

#[test]
fn nothing_is_lost_unseen_where_nobody_reads() {
    with_tracing("nothing_is_lost_unseen_where_nobody_reads", "all", |rig| {
        let mut reader = Reader::of(rig);
        let seconds = 10;
        for _ in 0..seconds {
            next_second(rig);
            for _ in 0..LINES_PER_SECOND {
                run(rig, Hook::FromPod, udp());
            }
        }
        let left_out = left_out(rig);
        assert!(left_out > 0, "the ring buffer is not as large as that");
        let written = reader.lines().len() as u64;
        assert_eq!(written + left_out, seconds * LINES_PER_SECOND);
    });
}

/// The instructions of a hook's program as the kernel runs them before its JIT (`bpf_insn` of
/// include/uapi/linux/bpf.h).
fn instructions(rig: &mut Rig, hook: Hook) -> Result<Vec<[u8; 8]>> {
    let program = program(&mut rig.loaded.ebpf, hook)?.fd()?.try_clone()?;
    // SAFETY: a structure of integers, for which zeros are values.
    let mut info: bpf_prog_info = unsafe { bpf::info(program.as_fd()) }?;
    let mut instructions = vec![[0_u8; 8]; info.xlated_prog_len as usize / 8];
    // SAFETY: as above.
    let len = std::mem::replace(&mut info, unsafe { std::mem::zeroed() }).xlated_prog_len;
    info.xlated_prog_len = len;
    info.xlated_prog_insns = instructions.as_mut_ptr() as u64;
    let mut attr = bpf::nothing_said();
    attr.info.bpf_fd = program.as_fd().as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the members that this command reads; `info` and what it points to live until it is done.
    unsafe { bpf::call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(instructions)
}

/// Where the kernel's functions are; `None`: it does not tell.
fn addresses(names: [&str; 2]) -> Result<Option<[u64; 2]>> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    let known: BTreeMap<_, _> = symbols
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((words.nth(1)?, address))
        })
        .filter(|(_, address)| *address != 0)
        .collect();
    let [first, second] = names.map(|name| known.get(name).copied());
    Ok(first.zip(second).map(|(first, second)| [first, second]))
}

/// How often a program calls the helper at this distance from `__bpf_call_base`: so the kernel tells of calls.
fn calls(instructions: &[[u8; 8]], distance: i32) -> usize {
    const CALL: u8 = 0x85;
    let is_call = |it: &&[u8; 8]| {
        it[0] == CALL && it[1] == 0 && i32::from_ne_bytes([it[4], it[5], it[6], it[7]]) == distance
    };
    instructions.iter().filter(is_call).count()
}

/// How large each program is, and how often it asks for room in the ring buffer.
fn sizes_and_calls(rig: &mut Rig, distance: i32) -> Vec<(usize, usize)> {
    let look = |hook| {
        let instructions = instructions(rig, hook).expect("instructions");
        (instructions.len(), calls(&instructions, distance))
    };
    Hook::TC.into_iter().map(look).collect()
}

#[test]
fn tracing_that_is_off_is_not_in_the_programs() {
    const TEST: &str = "tracing_that_is_off_is_not_in_the_programs";
    if !underpass_bench::root_or_skip(TEST) {
        return;
    }
    let Some([base, reserve]) =
        addresses(["__bpf_call_base", "bpf_ringbuf_reserve"]).expect("symbols")
    else {
        return underpass_bench::skip(TEST, "this kernel does not tell where its functions are");
    };
    let distance = reserve.wrapping_sub(base) as i32;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    with_rig(TEST, |rig| off = sizes_and_calls(rig, distance));
    with_tracing(TEST, "all", |rig| on = sizes_and_calls(rig, distance));
    for ((hook, off), on) in Hook::TC.iter().zip(&off).zip(&on) {
        println!(
            "{:9} {:5} instructions, with tracing {:5}",
            hook.name(),
            off.0,
            on.0
        );
        assert_eq!((off.1, on.1), (0, 1), "{}", hook.name());
        assert!(off.0 < on.0, "{}", hook.name());
    }
}

#[test]
fn tracing_that_is_off_has_no_more_memory_than_a_page() {
    const TEST: &str = "tracing_that_is_off_has_no_more_memory_than_a_page";
    let size = |rig: &mut Rig| match rig.loaded.ebpf.map(TRACE_LINES) {
        Some(Map::RingBuf(map)) => map
            .info()
            .expect("the kernel tells of its maps")
            .max_entries(),
        other => panic!("no ring buffer: {other:?}"),
    };
    // SAFETY: a function without side effects.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    with_rig(TEST, |rig| {
        assert_eq!(i64::from(size(rig)), page);
        assert_eq!(LoadOptions::default().packet_trace, Filter::OFF);
    });
    with_tracing(TEST, "all", |rig| assert_eq!(size(rig), 128 * 1024));
}
