//! `underpass flows`: what the kernel has been seen to forward.

mod choose;

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use underpass_common::flow::{
    Direction, Flow, FlowKey, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, confirmed,
};
use underpass_common::settings::Settings;

use super::peers;
use super::print::{self, grouped, interface, table};
use crate::cli::{FlowOrder, FlowsArgs, Output};
use crate::datapath::{Maps, Pins};
use crate::plan::pod_cidrs_of;

/// A flow, seen from its pod.
#[derive(Debug, Serialize)]
pub struct FlowReport {
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    pub protocol: String,
    /// The local pod; in transit that of another node.
    pub pod: IpAddr,
    /// Its port; for ICMP echo the identifier.
    pub pod_port: u16,
    /// The far end.
    pub remote: IpAddr,
    /// Its port; absent for ICMP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// For ICMP echo: who asks, `pod` or `remote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<&'static str>,
    /// It goes from one uplink to another, and its answers are a flow of their own.
    pub transit: bool,
    /// From the pod to the wire.
    pub egress: DirectionReport,
    /// From the wire to the pod; never confirmed in transit.
    pub ingress: DirectionReport,
}

/// One direction of a flow.
#[derive(Debug, Serialize)]
pub struct DirectionReport {
    /// Whether packets of it may be fast.
    pub confirmed: bool,
    /// It was confirmed in mid-stream: FIN and RST go by the kernel.
    pub mid_stream: bool,
    /// Where its packets leave.
    pub device: Option<String>,
}

/// Home, and everything from there on erased (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs `underpass flows`.
///
/// # Errors
/// Where the maps cannot be read, or no peer is called as the filter says.
pub fn run(args: &FlowsArgs) -> Result<()> {
    let Some(seconds) = args.watch else {
        return print::write(&block(args)?).map(drop);
    };
    let in_place = args.read.output == Output::Text && io::stdout().is_terminal();
    let (mut before, between) = match in_place {
        true => (CLEAR, CLEAR),
        false => ("", "\n"),
    };
    while print::write(&format!("{before}{}", block(args)?))? {
        before = between;
        thread::sleep(Duration::from_secs(seconds));
    }
    Ok(())
}

/// What is printed at once. The pins are opened each time: an agent may have put others there.
fn block(args: &FlowsArgs) -> Result<String> {
    let maps = super::open(&Pins::new(&args.read.pins.bpffs))?;
    let mut flows = read(&maps)?;
    let all = flows.len();
    let peers = match args.only.peer {
        Some(_) => peers::read(&maps)?,
        None => Vec::new(),
    };
    let chosen = choose::Chosen::new(&args.only, &peers)?;
    flows.retain(|flow| chosen.holds(flow));
    choose::sort(&mut flows, args.sort);
    let matching = flows.len();
    flows.truncate(args.limit.map_or(matching, |limit| limit as usize));
    print::form(args.read.output, &flows, |flows| {
        match (flows.len(), matching, all) {
            (0, 0, 1..) => format!("no such flow, of {}", grouped(all as u64)),
            (shown, ..) if shown < matching => {
                let [shown, matching] = [shown, matching].map(|count| grouped(count as u64));
                format!("{}{shown} of {matching} flows", show(flows))
            }
            _ => show(flows),
        }
    })
}

/// All flows, in the usual order.
///
/// # Errors
/// Where the maps cannot be read.
pub fn read(maps: &Maps) -> Result<Vec<FlowReport>> {
    let settings = maps.settings()?;
    let mut flows: Vec<_> = maps
        .flows()?
        .iter()
        .map(|(key, flow)| report(key, flow, &settings))
        .collect();
    choose::sort(&mut flows, FlowOrder::Pod);
    Ok(flows)
}

/// Protocol, pod and far end as they are shown.
pub(super) fn named(key: &FlowKey<IpAddr>) -> [String; 3] {
    ends(&report(key, &Flow::default(), &Settings::default()))
}

fn ends(flow: &FlowReport) -> [String; 3] {
    [
        flow.protocol.clone(),
        SocketAddr::new(flow.pod, flow.pod_port).to_string(),
        match (flow.remote_port, flow.asked_by) {
            (Some(port), _) => SocketAddr::new(flow.remote, port).to_string(),
            (None, Some("pod")) => format!("{} (asked)", flow.remote),
            (None, _) => format!("{} (asks)", flow.remote),
        },
    ]
}

pub(super) fn report(key: &FlowKey<IpAddr>, flow: &Flow, settings: &Settings) -> FlowReport {
    let icmp = matches!(key.protocol, PROTOCOL_ICMP | PROTOCOL_ICMPV6);
    FlowReport {
        protocol: match key.protocol {
            PROTOCOL_TCP => "tcp".into(),
            PROTOCOL_UDP => "udp".into(),
            PROTOCOL_ICMP => "icmp".into(),
            PROTOCOL_ICMPV6 => "icmpv6".into(),
            other => other.to_string(),
        },
        pod: key.pod,
        pod_port: u16::from_be_bytes(key.pod_port),
        remote: key.remote,
        remote_port: (!icmp).then(|| u16::from_be_bytes(key.remote_port)),
        asked_by: icmp.then_some(match key.icmp_type {
            ICMP_ECHO_REQUEST | ICMPV6_ECHO_REQUEST => "pod",
            _ => "remote",
        }),
        transit: settings.has_transit() && !is_own(key.pod, settings),
        egress: direction(&flow.egress, settings),
        ingress: direction(&flow.ingress, settings),
    }
}

/// True where an address is a pod's of this node.
fn is_own(pod: IpAddr, settings: &Settings) -> bool {
    pod_cidrs_of(settings).iter().any(|own| own.contains(&pod))
}

/// Whether packets of a direction may be fast.
pub(super) fn is_confirmed(direction: &Direction, settings: &Settings) -> bool {
    direction.confirmed != confirmed::NO && direction.epoch == settings.epoch
}

fn direction(direction: &Direction, settings: &Settings) -> DirectionReport {
    let is_confirmed = is_confirmed(direction, settings);
    DirectionReport {
        confirmed: is_confirmed,
        mid_stream: is_confirmed && direction.confirmed == confirmed::MID_STREAM,
        device: is_confirmed.then(|| interface(direction.way_out.ifindex)),
    }
}

/// The table for people.
pub fn show(flows: &[FlowReport]) -> String {
    if flows.is_empty() {
        return "no flows: the kernel has not been seen to forward any yet".into();
    }
    let way = |direction: &DirectionReport| match (&direction.device, direction.mid_stream) {
        (None, _) => "kernel".to_owned(),
        (Some(device), false) => format!("fast, {device}"),
        (Some(device), true) => format!("fast, {device} (mid-stream)"),
    };
    table(
        ["PROTO", "POD", "FAR END", "FROM POD", "TO POD"],
        flows.iter().map(|flow| {
            let [protocol, pod, far_end] = ends(flow);
            [
                protocol,
                pod,
                far_end,
                way(&flow.egress),
                match flow.transit {
                    true => "(in transit)".to_owned(),
                    false => way(&flow.ingress),
                },
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str, protocol: u8, icmp_type: u8) -> FlowKey<IpAddr> {
        FlowKey {
            pod: address.parse().unwrap(),
            remote: address.parse().unwrap(),
            pod_port: 40_000u16.to_be_bytes(),
            remote_port: 80u16.to_be_bytes(),
            protocol,
            icmp_type,
            _pad: [0; 2],
        }
    }

    #[test]
    fn flows_of_both_families_are_shown_as_people_write_them() {
        let flow = Flow::default();
        let line = |address, protocol, icmp_type| {
            let key = key(address, protocol, icmp_type);
            let shown = show(&[report(&key, &flow, &Settings::default())]);
            let line = shown.lines().nth(1).unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            words.join(" ")
        };
        for (protocol, address, icmp_type, wanted) in [
            (
                6,
                "10.0.0.9",
                0,
                "tcp 10.0.0.9:40000 10.0.0.9:80 kernel kernel",
            ),
            (
                17,
                "fd00::9",
                0,
                "udp [fd00::9]:40000 [fd00::9]:80 kernel kernel",
            ),
            (
                1,
                "10.0.0.9",
                8,
                "icmp 10.0.0.9:40000 10.0.0.9 (asked) kernel kernel",
            ),
            (
                1,
                "10.0.0.9",
                0,
                "icmp 10.0.0.9:40000 10.0.0.9 (asks) kernel kernel",
            ),
            (
                58,
                "fd00::9",
                128,
                "icmpv6 [fd00::9]:40000 fd00::9 (asked) kernel kernel",
            ),
            (
                58,
                "fd00::9",
                129,
                "icmpv6 [fd00::9]:40000 fd00::9 (asks) kernel kernel",
            ),
        ] {
            assert_eq!(line(address, protocol, icmp_type), wanted);
        }
    }

    #[test]
    fn a_flow_between_the_pods_of_others_is_in_transit() {
        let key = key("10.244.9.9", PROTOCOL_UDP, 0);
        let flow = Flow::default();
        let mut settings = Settings::default();
        assert!(!report(&key, &flow, &settings).transit);
        settings.transit = 1;
        let report_of = |settings: &Settings| report(&key, &flow, settings);
        assert!(report_of(&settings).transit);
        let shown = show(&[report_of(&settings)]);
        assert!(shown.ends_with("kernel    (in transit)\n"), "{shown}");
        crate::plan::put_pod_cidrs(&["10.244.9.0/24".parse().unwrap()], &mut settings);
        assert!(!report_of(&settings).transit);
    }
}
