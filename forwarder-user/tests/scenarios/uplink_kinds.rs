//! Uplinks that are no plain interface: a bond, a bridge, a VLAN, and what belongs to another interface or carries
//! others. Each carries packets, or is told of in words.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use underpass_bench::lab::{AgentOptions, Family, Node, names};
use underpass_bench::{Lab, root_or_skip, skip, wait_for};

use crate::carried::{PINGS, ping};
use crate::common::{self, DEADLINE, start_agents, with_families};
use crate::talk::{Road, Talk};

const BOND: &str = "bond0";
const BRIDGE: &str = "br0";
const VLAN: &str = "eth0.5";
/// What the uplink's place was before.
const MEMBER: &str = names::UPLINK;
/// The bond's second member.
const SECOND: &str = "eth1";
/// True where the kernel makes such a device; otherwise the test is skipped, with the kernel's words.
fn kernel_has(kind: &str, test: &str) -> Result<bool> {
    let lab = common::lab().nodes(1).build()?;
    let line = match kind {
        "vlan" => format!("link add link {MEMBER} name {VLAN} type vlan id 5\n"),
        kind => format!("link add name test0 type {kind}\n"),
    };
    let made = lab.node(1).ip(&line);
    if let Err(error) = &made {
        let error = format!("{error:#}").replace('\n', " ");
        skip(test, &format!("this kernel has no device {kind} ({error})"));
    }
    Ok(made.is_ok())
}

/// True where the kernel tells which pods take frames from XDP.
fn kernel_tells_of_xdp(test: &str) -> bool {
    let told = underpass::world::netlink::xdp_features().is_ok_and(|features| features.is_some());
    if !told {
        skip(
            test,
            "this kernel does not tell who takes frames from XDP: Linux 6.3 brought that",
        );
    }
    told
}

/// Gives a device the place of the uplink: the node's addresses and all routes that left by the uplink. `make` has
/// the lines that make it; the uplink is down then.
fn put_in_place(lab: &Lab, node: &Node, device: &str, make: &str) -> Result<()> {
    let mut lines = format!("link set {MEMBER} down\naddr flush dev {MEMBER}\n{make}");
    let _ = writeln!(lines, "link set {MEMBER} up\nlink set {device} up");
    for family in node.families().each() {
        let (address, prefix) = (node.address_of(family), names::wire_prefix(family));
        let no_dad = common::no_dad(family);
        let router = names::outside_address(family);
        let _ = writeln!(lines, "addr add {address}/{prefix} dev {device} {no_dad}");
        let _ = writeln!(lines, "route replace default via {router} dev {device}");
        let others = lab.nodes().iter();
        for other in others.filter(|other| other.number() != node.number()) {
            let (cidr, next_hop) = (other.pod_cidr_of(family), other.address_of(family));
            let _ = writeln!(lines, "route replace {cidr} via {next_hop} dev {device}");
        }
    }
    node.ip(&lines)
}

/// A bond of two wires to the switch.
fn bond(lab: &Lab, node: &Node, mode: &str) -> Result<()> {
    let (switch, port) = (lab.switch(), format!("{}b", node.name()));
    node.ip(&format!(
        "link add name {SECOND} type veth peer name {port} netns {}\n",
        switch.namespace()
    ))?;
    switch.ip(&format!(
        "link set {port} master {} up\n",
        names::SWITCH_BRIDGE
    ))?;
    let make = format!(
        "link add name {BOND} type bond mode {mode} miimon 10\n\
         link set {MEMBER} master {BOND}\n\
         link set {SECOND} master {BOND}\n\
         link set {SECOND} up\n"
    );
    put_in_place(lab, node, BOND, &make)
}

/// A bridge with the uplink as its port.
fn bridge(lab: &Lab, node: &Node) -> Result<()> {
    let mac = underpass_common::addr::ShowMac(node.mac()).to_string();
    let make = format!(
        "link add name {BRIDGE} address {mac} type bridge forward_delay 0 mcast_snooping 0\n\
         link set {MEMBER} master {BRIDGE}\n"
    );
    put_in_place(lab, node, BRIDGE, &make)
}

/// A VLAN of the uplink.
fn vlan(lab: &Lab, node: &Node) -> Result<()> {
    let make = format!("link add link {MEMBER} name {VLAN} type vlan id 5\n");
    put_in_place(lab, node, VLAN, &make)
}

fn lab(family: Family) -> Result<Lab> {
    common::lab()
        .families(family)
        .whole_frames(true)
        .pod_gro(true)
        .build()
}

fn on(device: &str) -> AgentOptions {
    AgentOptions::default().iface(device)
}

fn by_xdp(device: &str) -> AgentOptions {
    on(device).args(["--ingress", "xdp"])
}

fn by_tc(device: &str) -> AgentOptions {
    on(device).args(["--ingress", "tc"])
}

/// Both pods reach each other past both kernels, in both directions.
fn expect_fast(lab: &Lab) -> Result<()> {
    for (from, to) in [(1, 2), (2, 1)] {
        Talk::new(lab, lab.pod(from, 1), lab.pod(to, 1))?.wait_for(Road::Fast)?;
    }
    Ok(())
}

/// Waits until XDP carries what comes to node 2's pod.
fn expect_xdp(lab: &Lab) -> Result<()> {
    wait_for(DEADLINE, "XDP carries packets to the pod", || {
        let carried = ping(lab, lab.node(2))?;
        // The first of them shows the way.
        ensure!(carried.by_xdp + 1 >= u64::from(PINGS), "{carried:?}");
        Ok(())
    })
}

/// What `underpass check` finds of a node's uplink.
fn checked(lab: &Lab, node: &Node, device: &str) -> Result<serde_json::Value> {
    let bpffs = lab.bpffs(node).with_file_name("unused");
    let words = [
        env!("CARGO_BIN_EXE_underpass"),
        "check",
        "-o",
        "json",
        "--bpffs",
        &bpffs.to_string_lossy(),
        "--iface",
        device,
    ];
    let output = node.output(&words)?;
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let found = findings.as_array().context("no list")?.iter();
    let found = found.clone().find(|one| one["name"] == "uplink");
    found.cloned().context("nobody looks at the uplink")
}

/// Agent and check name the device that is to be the uplink instead of its member.
fn expect_member_is_refused(lab: &Lab, node: &Node, device: &str) -> Result<()> {
    let told = format!("belongs to {device}, which takes what comes in by it: name {device}");
    let agent = lab.start_agent(node, &on(MEMBER))?;
    wait_for(DEADLINE, "the agent tells whose member it is", || {
        ensure!(agent.log().contains(&told), "{}", agent.log());
        Ok(())
    })?;
    ensure!(agent.log().matches(&told).count() == 1, "{}", agent.log());
    drop(agent);
    let found = checked(lab, node, MEMBER)?;
    let detail = found["detail"].as_str().unwrap_or_default();
    ensure!(
        found["outcome"] == "fail" && detail.contains(&told),
        "{found}"
    );
    let found = checked(lab, node, device)?;
    ensure!(found["outcome"] == "pass", "{found}");
    Ok(())
}

/// The log says in one line why there is no XDP, and everything goes fast all the same.
fn expect_tc_for_want_of_xdp(lab: &Lab, device: &str, why: &str) -> Result<()> {
    let agents = start_agents(lab, &by_xdp(device))?;
    wait_for(DEADLINE, "the agent tells why there is no XDP", || {
        let log = agents[1].log();
        let line = log.lines().find(|line| line.contains("no native XDP"));
        let line = line.with_context(|| format!("it is not told: {log}"))?;
        ensure!(
            line.contains(why) && line.contains("TC does its work"),
            "{line}"
        );
        Ok(())
    })?;
    let status = lab.underpass_json(lab.node(2), &["status"])?;
    let told = status["xdp_error"].as_str().unwrap_or_default();
    ensure!(told.contains(why), "{status}");
    expect_fast(lab)?;
    let carried = ping(lab, lab.node(2))?;
    ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
    Ok(())
}

#[test]
fn bond_as_uplink() -> Result<()> {
    const TEST: &str = "bond_as_uplink";
    if !root_or_skip(TEST) || !kernel_has("bond", TEST)? {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        for node in lab.nodes() {
            bond(&lab, node, "active-backup")?;
        }
        expect_member_is_refused(&lab, lab.node(1), BOND)?;
        let agents = start_agents(&lab, &by_tc(BOND))?;
        expect_fast(&lab)?;
        // The other member takes over.
        for node in lab.nodes() {
            node.ip(&format!("link set {MEMBER} down\n"))?;
        }
        expect_fast(&lab)?;
        drop(agents);
        Ok(())
    })
}

#[test]
fn xdp_on_a_bond() -> Result<()> {
    const TEST: &str = "xdp_on_a_bond";
    if !root_or_skip(TEST) || !kernel_has("bond", TEST)? || !kernel_tells_of_xdp(TEST) {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        for node in lab.nodes() {
            bond(&lab, node, "active-backup")?;
        }
        let agents = start_agents(&lab, &by_xdp(BOND))?;
        expect_fast(&lab)?;
        expect_xdp(&lab)?;
        let node = lab.node(2);
        let shown = node.run(&["ip", "link", "show", "dev", BOND])?;
        ensure!(shown.contains("name from_wire_xdp"), "{shown}");
        // The other member takes over, and its driver runs the program, too.
        node.ip(&format!("link set {MEMBER} down\n"))?;
        expect_xdp(&lab)?;
        drop(agents);
        Ok(())
    })
}

/// Where a bond's mode allows it the program is there, elsewhere the agent says which modes do.
#[test]
fn bonding_modes_and_xdp() -> Result<()> {
    const TEST: &str = "bonding_modes_and_xdp";
    if !root_or_skip(TEST) || !kernel_has("bond", TEST)? {
        return Ok(());
    }
    for (mode, has_xdp) in [
        ("balance-rr", true),
        ("active-backup", true),
        ("balance-xor", true),
        ("802.3ad", true),
        ("broadcast", false),
        ("balance-tlb", false),
        ("balance-alb", false),
    ] {
        let lab = lab(Family::V4)?;
        for node in lab.nodes() {
            bond(&lab, node, mode)?;
        }
        if has_xdp {
            let agents = start_agents(&lab, &by_xdp(BOND)).context(mode)?;
            let attached = format!("from_wire_xdp to {BOND}");
            wait_for(DEADLINE, &attached, || {
                let log = agents[1].log();
                ensure!(log.contains(&attached), "{mode}: {log}");
                Ok(())
            })?;
            expect_fast(&lab).context(mode)?;
        } else {
            let why = format!(
                "a bond has no native XDP in the mode {mode} \
                 (active-backup, balance-rr, balance-xor, 802.3ad have)"
            );
            expect_tc_for_want_of_xdp(&lab, BOND, &why).context(mode)?;
        }
    }
    Ok(())
}

#[test]
fn bridge_as_uplink() -> Result<()> {
    const TEST: &str = "bridge_as_uplink";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        for node in lab.nodes() {
            bridge(&lab, node)?;
        }
        expect_member_is_refused(&lab, lab.node(1), BRIDGE)?;
        expect_tc_for_want_of_xdp(&lab, BRIDGE, "a bridge has no native XDP")
    })
}

#[test]
fn vlan_as_uplink() -> Result<()> {
    const TEST: &str = "vlan_as_uplink";
    if !root_or_skip(TEST) || !kernel_has("vlan", TEST)? {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        for node in lab.nodes() {
            vlan(&lab, node)?;
        }
        expect_tc_for_want_of_xdp(&lab, VLAN, "a VLAN has no native XDP")
    })
}

/// The uplink carries a VLAN beside the nodes' own traffic: its frames would look like the uplink's to XDP.
#[test]
fn vlans_on_the_uplink_keep_xdp_off() -> Result<()> {
    const TEST: &str = "vlans_on_the_uplink_keep_xdp_off";
    if !root_or_skip(TEST) || !kernel_has("vlan", TEST)? {
        return Ok(());
    }
    with_families(|family| {
        let lab = lab(family)?;
        let node = lab.node(2);
        let agents = start_agents(&lab, &by_xdp(MEMBER))?;
        expect_fast(&lab)?;
        let error = || {
            let status = lab.underpass_json(node, &["status"])?;
            let error = status["xdp_error"].as_str().unwrap_or_default();
            anyhow::Ok(error.to_owned())
        };
        ensure!(error()?.is_empty(), "{}", error()?);
        let why = format!("{MEMBER} carries VLANs ({VLAN}), whose tags XDP would not see");
        node.ip(&format!(
            "link add link {MEMBER} name {VLAN} type vlan id 5\n"
        ))?;
        wait_for(DEADLINE, "XDP leaves the uplink", || {
            ensure!(error()? == why, "{:?}", error()?);
            Ok(())
        })?;
        expect_fast(&lab)?;
        let carried = ping(&lab, lab.node(2))?;
        ensure!(carried.by_xdp == 0 && carried.by_tc > 0, "{carried:?}");
        node.ip(&format!("link del {VLAN}\n"))?;
        wait_for(DEADLINE, "XDP comes back", || {
            ensure!(error()?.is_empty(), "{}", error()?);
            Ok(())
        })?;
        ensure!(
            agents[1].log().matches(&why).count() >= 1,
            "{}",
            agents[1].log()
        );
        Ok(())
    })
}
