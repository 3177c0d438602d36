//! A line for each packet that the agent was told to trace (`--trace-packets`), at the place where it is counted.
//!
//! What is traced stands in read-only data: the verifier knows the values, and where tracing is off it takes
//! [`line`] out of the programs.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_log_ebpf::macro_support::AYA_LOGS;
use underpass_common::{
    addr::Block,
    flow::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP},
    packet_trace::{Filter, LINES_PER_SECOND, Names, RECORD_SIZE, Record},
    verdict::Hook,
};

use crate::{
    family::{Family, IpVersion, V4, V6},
    maps,
    packet::{Buffer, ETHERNET, Frame},
    parse,
};

/// Overwritten before the programs are loaded.
#[unsafe(no_mangle)]
static PACKET_TRACE: Filter = Filter::OFF;

/// `BPF_RB_AVAIL_DATA` and `BPF_RB_RING_SIZE`.
const UNREAD: u64 = 0;
const SIZE: u64 = 1;
/// Room for what other CPUs write while this one looks whether there is any.
const SPARE: u64 = 16 * 1024;

const SECOND_NS: u64 = 1_000_000_000;

/// Tells of a packet and the number of its verdict, where it is to be traced.
#[inline(always)]
pub fn packet<B: Buffer>(buffer: B, hook: Hook, verdict: u32) {
    if setting(&raw const PACKET_TRACE.is_on) != 0 {
        line(buffer, hook as u32, verdict);
    }
}

/// Reads what the loader has put there: not what the compiler sees.
#[inline(always)]
fn setting<T: Copy>(field: *const T) -> T {
    // SAFETY: a field of `PACKET_TRACE`, or a word of one.
    unsafe { field.read_volatile() }
}

/// A packet's addresses, IPv4-mapped where they are IPv4's, and ports.
struct Headers {
    src: [u32; 4],
    dst: [u32; 4],
    /// As in [`parse::Names`].
    ports: u32,
    protocol: u8,
    names: Names,
}

/// A function of its own: it has its own stack, and the verifier drops it as a whole.
#[inline(never)]
fn line<B: Buffer>(buffer: B, hook: u32, verdict: u32) {
    if is_another(setting(&raw const PACKET_TRACE.hook), hook)
        || is_another(setting(&raw const PACKET_TRACE.verdict), verdict)
    {
        return;
    }
    let frame = buffer.frame(0);
    let headers = match buffer.family() {
        Some(IpVersion::V4) => v4(&frame),
        Some(IpVersion::V6) => v6(&frame),
        None => None,
    };
    let headers = headers.unwrap_or(Headers {
        src: [0; 4],
        dst: [0; 4],
        ports: 0,
        protocol: 0,
        names: Names::Nothing,
    });
    let pod_sends = hook == Hook::FromPod as u32 || hook == Hook::ToWire as u32;
    if !is_wanted(&headers, pod_sends) || !has_line_left() {
        return;
    }
    write(&record(buffer, &headers, hook, verdict));
}

/// Whether a filter's number, which is one more or 0 for any, is not this.
#[inline(always)]
fn is_another(wanted: u8, number: u32) -> bool {
    wanted != 0 && u32::from(wanted) != number + 1
}

#[inline(always)]
fn is_wanted(headers: &Headers, pod_sends: bool) -> bool {
    let (pod, remote) = match pod_sends {
        true => (&headers.src, &headers.dst),
        false => (&headers.dst, &headers.src),
    };
    let address = &raw const PACKET_TRACE.address;
    is_protocol(headers.protocol)
        && is_port(headers)
        && is_in(&raw const PACKET_TRACE.pod, pod)
        && is_in(&raw const PACKET_TRACE.remote, remote)
        && (is_in(address, pod) || is_in(address, remote))
}

#[inline(always)]
fn is_protocol(protocol: u8) -> bool {
    let wanted = setting(&raw const PACKET_TRACE.protocol);
    let is_icmp = wanted == PROTOCOL_ICMP && protocol == PROTOCOL_ICMPV6;
    wanted == 0 || wanted == protocol || is_icmp
}

#[inline(always)]
fn is_port(headers: &Headers) -> bool {
    let wanted = u32::from(u16::from_ne_bytes(setting(&raw const PACKET_TRACE.port)));
    let has_ports = headers.names as u8 >= Names::Ports as u8;
    setting(&raw const PACKET_TRACE.has_port) == 0
        || has_ports && (headers.ports & 0xffff == wanted || headers.ports >> 16 == wanted)
}

/// True where no bit that the mask asks for differs; a mask of zeros asks for none.
#[inline(always)]
fn is_in(block: *const Block<[u8; 16]>, address: &[u32; 4]) -> bool {
    let words = block.cast::<u32>();
    let mut differs = 0;
    let mut word = 0;
    while word < 4 {
        // The network's words, and behind them the mask's.
        let network = setting(words.wrapping_add(word));
        let mask = setting(words.wrapping_add(4 + word));
        differs |= (address[word] ^ network) & mask;
        word += 1;
    }
    differs == 0
}

#[inline(always)]
fn v4(frame: &Frame) -> Option<Headers> {
    let header = frame.bytes::<{ V4::HEADER }>(ETHERNET).ok()?;
    let mapped = |address| [0, 0, 0xffff_u32.to_be(), address];
    // Version 4 with five words of header, and neither an offset nor more fragments.
    let is_plain =
        header.load_u8::<0>() == 0x45 && u16::from_be(header.load_u16::<6>()) & 0x3fff == 0;
    let protocol = header.load_u8::<9>();
    let (names, ports) = names::<V4>(frame, protocol, is_plain);
    Some(Headers {
        src: mapped(header.load_u32::<12>()),
        dst: mapped(header.load_u32::<16>()),
        ports,
        protocol,
        names,
    })
}

#[inline(always)]
fn v6(frame: &Frame) -> Option<Headers> {
    let header = frame.bytes::<{ V6::HEADER }>(ETHERNET).ok()?;
    let protocol = header.load_u8::<6>();
    let (names, ports) = names::<V6>(frame, protocol, true);
    Some(Headers {
        src: [
            header.load_u32::<8>(),
            header.load_u32::<12>(),
            header.load_u32::<16>(),
            header.load_u32::<20>(),
        ],
        dst: [
            header.load_u32::<24>(),
            header.load_u32::<28>(),
            header.load_u32::<32>(),
            header.load_u32::<36>(),
        ],
        ports,
        protocol,
        names,
    })
}

/// What the transport header behind an IP header without options adds.
#[inline(always)]
fn names<F: Family>(frame: &Frame, protocol: u8, is_plain: bool) -> (Names, u32) {
    let start = ETHERNET + F::HEADER;
    let (names, of) = match protocol {
        _ if !is_plain => return (Names::Addresses, 0),
        PROTOCOL_TCP | PROTOCOL_UDP => (parse::Names::of_ports(frame, start).ok(), Names::Ports),
        protocol if protocol == F::ICMP => (
            parse::Names::of_echo::<F>(frame, start).ok().flatten(),
            Names::Identifier,
        ),
        _ => return (Names::Addresses, 0),
    };
    match names {
        Some(found) => (of, found.ports),
        None => (Names::Addresses, 0),
    }
}

/// Takes one of the lines that this CPU may write in this second; where there is none, or no room for it, the packet
/// counts as left out.
#[inline(always)]
fn has_line_left() -> bool {
    let Some(traced) = maps::TRACED.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: this CPU's own entry, and programs are not preempted by others of their kind.
    let traced = unsafe { &mut *traced };
    if now.wrapping_sub(traced.since_ns) >= SECOND_NS {
        traced.since_ns = now;
        traced.lines = 0;
    }
    // Of a ring buffer that nobody reads nothing is lost unseen.
    if traced.lines >= LINES_PER_SECOND || AYA_LOGS.query(UNREAD) + SPARE > AYA_LOGS.query(SIZE) {
        traced.left_out = traced.left_out.wrapping_add(1);
        return false;
    }
    traced.lines += 1;
    true
}

#[inline(always)]
fn record<B: Buffer>(buffer: B, headers: &Headers, hook: u32, verdict: u32) -> Record {
    let [src_low, src_high, dst_low, dst_high] = headers.ports.to_ne_bytes();
    Record {
        src: bytes(&headers.src),
        dst: bytes(&headers.dst),
        src_port: [src_low, src_high],
        dst_port: [dst_low, dst_high],
        len: buffer.len(),
        ifindex: buffer.ifindex(),
        hook: hook as u8,
        verdict: verdict as u8,
        protocol: headers.protocol,
        names: headers.names as u8,
    }
}

#[inline(always)]
fn bytes(words: &[u32; 4]) -> [u8; 16] {
    // SAFETY: the same bytes.
    unsafe { core::mem::transmute(*words) }
}

/// Writes a record. Its words are made in user space: what is formatted here costs stack.
#[inline(always)]
fn write(record: &Record) {
    // SAFETY: a structure without padding.
    let bytes: &[u8] =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast(), RECORD_SIZE) };
    aya_log_ebpf::info!((), target: "packets", "{:x}", bytes);
}
