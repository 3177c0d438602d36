//! `underpass pods`: the pods of this node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;
use underpass_common::addr::{NO_MAC, ShowMac};
use underpass_common::endpoint::Endpoint;
use underpass_common::pod::{Pod, PodIngress, PodState};

use super::print::{self, table};
use crate::cli::ReadArgs;
use crate::datapath::{Maps, Pins};

/// A pod's veth.
#[derive(Debug, Serialize)]
pub struct PodReport {
    /// The host's end.
    pub veth: String,
    /// Its interface index.
    pub ifindex: u32,
    /// `attached`, `shaped`, `peer_unknown`, `attach_failed` or `other_mtu`.
    pub state: &'static str,
    /// How packets of confirmed flows reach it: `tc`, `xdp`, or `tc_no_gro` where XDP is there and GRO is off at the
    /// pod's end.
    pub ingress: &'static str,
    /// MAC of the pod's end.
    pub mac: Option<String>,
    /// Addresses that the kernel has been seen to deliver there; empty: none yet.
    pub addresses: Vec<IpAddr>,
    /// The MAC that the pod sees its node with.
    pub gateway_mac: Option<String>,
}

/// Runs `underpass pods`.
///
/// # Errors
/// Where the maps cannot be read.
pub fn run(args: &ReadArgs) -> Result<()> {
    let pods = read(&super::open(&Pins::new(&args.pins.bpffs))?)?;
    print::print(args.output, &pods, |pods| show(pods))
}

/// All veths that the agent knows, by interface index.
///
/// # Errors
/// Where the maps cannot be read.
pub fn read(maps: &Maps) -> Result<Vec<PodReport>> {
    Ok(reports(&maps.pods()?, &maps.endpoints()?))
}

pub(super) fn reports(
    pods: &BTreeMap<u32, Pod>,
    endpoints: &BTreeMap<IpAddr, Endpoint>,
) -> Vec<PodReport> {
    pods.iter()
        .map(|(&ifindex, pod)| {
            let learned = || endpoints.iter().filter(move |(_, e)| e.ifindex == ifindex);
            PodReport {
                veth: print::text(&pod.name),
                ifindex,
                state: PodState::from_number(pod.state).map_or("unknown", PodState::name),
                ingress: PodIngress::from_number(pod.ingress).map_or("unknown", PodIngress::name),
                mac: (pod.mac != NO_MAC).then(|| ShowMac(pod.mac).to_string()),
                addresses: learned().map(|(&address, _)| address).collect(),
                gateway_mac: learned()
                    .next()
                    .map(|(_, endpoint)| ShowMac(endpoint.gateway_mac).to_string()),
            }
        })
        .collect()
}

/// The table for people.
pub fn show(pods: &[PodReport]) -> String {
    if pods.is_empty() {
        return "no pods' veths found".into();
    }
    table(
        ["VETH", "POD MAC", "LEARNED ADDRESSES", "STATE"],
        pods.iter().map(|pod| {
            let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
            [
                pod.veth.clone(),
                pod.mac.clone().unwrap_or_else(|| "-".into()),
                match addresses.is_empty() {
                    true => "none yet".into(),
                    false => addresses.join(" "),
                },
                match pod.ingress {
                    "tc" => pod.state.replace('_', " "),
                    "xdp" => format!("{}, by XDP", pod.state),
                    _ => format!("{}, by TC: GRO is off in the pod", pod.state),
                },
            ]
        }),
    )
}
