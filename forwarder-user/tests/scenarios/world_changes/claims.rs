//! Nodes that claim what isn't theirs, or what makes no sense.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass_bench::lab::{AgentOptions, AgentProcess, Family, NodeEntry, names};
use underpass_bench::{Lab, root_or_skip, wait_for};

use super::view::{lines_since, trie, wait_for_no_peer, wait_for_peer};
use crate::common::{DEADLINE, lab, start_agents, with_families};
use crate::streams::{expect_unharmed, stream};
use crate::talk::{Road, Talk};

/// An address that is not on the nodes' segment, so that nobody is looked for there.
fn far(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.99.0.1",
        Family::V6 => "fd00:99::1",
    }
}

/// Waits for the one line that tells of a node, with these words about it.
fn expect_one_line(lab: &Lab, agent: &AgentProcess, since: usize, words: &[&str]) -> Result<()> {
    let file = lab.nodes_file();
    wait_for(DEADLINE, &format!("one line with {words:?}"), || {
        let mut lines = lines_since(agent, since, "WARN");
        lines.retain(|line| words.iter().all(|word| line.contains(word)));
        let [line] = &lines[..] else {
            anyhow::bail!("{lines:#?}");
        };
        ensure!(line.contains(&*file.to_string_lossy()), "{line}");
        Ok(())
    })
    .with_context(|| agent.log()[since..].to_owned())
}

#[test]
fn duplicate_podcidr() -> Result<()> {
    if !root_or_skip("duplicate_podcidr") {
        return Ok(());
    }
    with_families(two_nodes_claim_one_range)
}

fn two_nodes_claim_one_range(family: Family) -> Result<()> {
    let lab = lab().families(family).nodes(3).build()?;
    let (here, robbed) = (lab.node(1), lab.node(2));
    let agents = start_agents(&lab, &AgentOptions::default())?;
    // The other nodes have no quarrel with this one.
    let talk = Talk::watched_at(&lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    let beside = Talk::new(&lab, lab.pod(1, 1), lab.pod(3, 1))?;
    talk.wait_for(Road::Fast)?;
    beside.wait_for(Road::Fast)?;

    let whole = robbed.pod_cidr().to_string();
    let halves = robbed.pod_cidr();
    let mut halves = halves.subnets(halves.prefix_len() + 1)?;
    let half = halves.nth(1).context("the second half")?.to_string();
    for claimed in [whole.as_str(), half.as_str()] {
        let stream = stream(&lab, 1, 2)?;
        let since = agents[0].log().len();
        let robber = NodeEntry::new("robber", claimed, far(family));
        lab.write_nodes_file(&lab.nodes_list().with(robber))?;

        // Nobody can tell who is right: the kernel knows.
        for (node, cidr, other) in [("node2", &*whole, "robber"), ("robber", claimed, "node2")] {
            let refused = wait_for_peer(&lab, here, node, "refused")?;
            assert_eq!(refused.refusal, Some("the podCIDR overlaps another node's"));
            let what = format!("node {node}: spec.podCIDR {cidr} overlaps");
            let whose = format!("of node {other}");
            expect_one_line(&lab, &agents[0], since, &[&what, &whose])?;
        }
        assert_eq!(trie(&lab, here)?, [lab.node(3).pod_cidr()].into());
        expect_unharmed(stream)?;
        assert_eq!(talk.road()?, Road::Kernel);
        assert_eq!(beside.road()?, Road::Fast);

        lab.write_nodes_file(&lab.nodes_list())?;
        wait_for_no_peer(&lab, here, "robber")?;
        talk.wait_for(Road::Fast)?;
        assert!(lines_since(&agents[0], since, "no longer so").len() >= 2);
    }
    Ok(())
}

/// Nodes that nobody should believe: name, podCIDR, address, and what must be said of them where
/// the cluster CIDR is 10.244.0.0/16.
const HOSTILE: &str = r#"
    all    0.0.0.0/0       10.99.0.1    spec.podCIDR "0.0.0.0/0" is too large
    half   128.0.0.0/1     10.99.0.1    spec.podCIDR "128.0.0.0/1" is too large
    loop   127.0.0.0/24    10.99.0.1    spec.podCIDR "127.0.0.0/24" is no range for pods
    group  224.1.0.0/16    10.99.0.1    spec.podCIDR "224.1.0.0/16" is no range for pods
    junk   not-a-cidr      10.99.0.1    spec.podCIDR "not-a-cidr" is not a CIDR
    length 10.244.9.0/33   10.99.0.1    spec.podCIDR "10.244.9.0/33" is not a CIDR
    bits   10.244.9.1/24   10.99.0.1    spec.podCIDR "10.244.9.1/24" is not a CIDR
    far    172.16.9.0/24   10.99.0.1    spec.podCIDR "172.16.9.0/24" lies outside the cluster
    wire   192.168.77.0/24 10.99.0.1    spec.podCIDR "192.168.77.0/24" lies outside the cluster
    own    10.244.1.128/25 10.99.0.1    spec.podCIDR 10.244.1.128/25 overlaps this node's own
    name   10.244.9.0/24   rack-three   status.addresses: InternalIP "rack-three" is not an IP
    local  10.244.9.0/24   127.0.0.1    status.addresses: InternalIP "127.0.0.1" is no node's
    mcast  10.244.9.0/24   224.0.0.1    status.addresses: InternalIP "224.0.0.1" is no node's
    me     10.244.9.0/24   192.168.77.1 status.addresses: InternalIP 192.168.77.1 is also
"#;

/// The same where it is fd00:10:244::/56.
const HOSTILE_V6: &str = r#"
    all    ::/0                  fd00:99::1 spec.podCIDR "::/0" is too large
    short  fd00::/16             fd00:99::1 spec.podCIDR "fd00::/16" is too large
    loop   ::1/128               fd00:99::1 spec.podCIDR "::1/128" is no range for pods
    group  ff0e::/64             fd00:99::1 spec.podCIDR "ff0e::/64" is no range for pods
    link   fe80::/64             fd00:99::1 spec.podCIDR "fe80::/64" is no range for pods
    junk   fd00:::/64            fd00:99::1 spec.podCIDR "fd00:::/64" is not a CIDR
    length fd00:10:244:9::/129   fd00:99::1 spec.podCIDR "fd00:10:244:9::/129" is not a CIDR
    bits   fd00:10:244:9::1/64   fd00:99::1 spec.podCIDR "fd00:10:244:9::1/64" is not a CIDR
    far    fd00:172:9::/64       fd00:99::1 spec.podCIDR "fd00:172:9::/64" lies outside the cluster
    wire   fd00:77::/64          fd00:99::1 spec.podCIDR "fd00:77::/64" lies outside the cluster
    own    fd00:10:244:1:8000::/65 fd00:99::1 spec.podCIDR fd00:10:244:1:8000::/65 overlaps this node's own
    name   fd00:10:244:9::/64    rack-three status.addresses: InternalIP "rack-three" is not an IP
    local  fd00:10:244:9::/64    ::1        status.addresses: InternalIP "::1" is no node's
    scope  fd00:10:244:9::/64    fe80::9    status.addresses: InternalIP "fe80::9" is no node's
    mcast  fd00:10:244:9::/64    ff02::1    status.addresses: InternalIP "ff02::1" is no node's
    me     fd00:10:244:9::/64    fd00:77::1 status.addresses: InternalIP fd00:77::1 is also
"#;

/// The hostile nodes, each with the one line that tells of it.
fn hostile(family: Family) -> Vec<(Value, String)> {
    let (table, good) = match family {
        Family::V4 => (HOSTILE, "10.244.9.0/24"),
        Family::V6 => (HOSTILE_V6, "fd00:10:244:9::/64"),
    };
    let far = far(family);
    let mut all: Vec<_> = table
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.trim().split_once(' ')?;
            let (pod_cidr, rest) = rest.trim().split_once(' ')?;
            let (address, why) = rest.trim().split_once(' ')?;
            let told = format!("node {name}: {}", why.trim());
            Some((node(name, pod_cidr, address), told))
        })
        .collect();
    let long = "9".repeat(100_000);
    let nameless = json!({"kind": "Node", "spec": {"podCIDR": good}});
    for (node, told) in [
        (
            node("none", "", far),
            "node none: spec.podCIDR and spec.podCIDRs are empty",
        ),
        (
            node("nowhere", good, ""),
            "node nowhere: status.addresses: no InternalIP",
        ),
        (
            node("forger", "10.9.0.0/16\nINFO ok", far),
            r#"node forger: spec.podCIDR "10.9.0.0/16\nINFO ok" is not"#,
        ),
        (
            node("endless", &long, far),
            r#"node endless: spec.podCIDR "999999"#,
        ),
        (
            node("two\nlines", good, far),
            r#"node "two\nlines": metadata.name must be"#,
        ),
        (node(&long, good, far), "\"…: metadata.name must be"),
        (nameless, "metadata.name is missing; left out"),
        (json!(42), "it is a number, not a Node; left out"),
    ] {
        all.push((node, told.to_owned()));
    }
    all
}

/// A Node that claims this podCIDR and this address.
fn node(name: &str, pod_cidr: &str, address: &str) -> Value {
    json!({
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pod_cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

/// Writes the lab's nodes and these into the nodes file.
fn write_with(lab: &Lab, others: Vec<Value>) -> Result<()> {
    let good = lab.nodes().iter();
    let good = good.map(|n| {
        node(
            n.name(),
            &n.pod_cidr().to_string(),
            &n.address().to_string(),
        )
    });
    let items: Vec<_> = good.chain(others).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    lab.write_nodes_text(&list.to_string())
}

#[test]
fn hostile_nodes() -> Result<()> {
    if !root_or_skip("hostile_nodes") {
        return Ok(());
    }
    with_families(nobody_believes_them)
}

fn nobody_believes_them(family: Family) -> Result<()> {
    let lab = lab().families(family).build()?;
    let (here, good) = (lab.node(1), lab.node(2));
    let cluster = names::cluster_cidr(family).to_string();
    let options = AgentOptions::default().args(["--cluster-cidr", &cluster]);
    let mut agents = start_agents(&lab, &options)?;
    // Some claims are about this node: they make the other one doubt it, but not this one the
    // other.
    let talk = Talk::watched_at(&lab, &[here], lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    let stream = stream(&lab, 1, 2)?;
    let since = agents[0].log().len();

    let hostile = hostile(family);
    let mut claims: Vec<_> = hostile.iter().map(|(node, _)| node.clone()).collect();
    // Absurdly many, none of them near.
    claims.extend((0..2000).map(|n| {
        let (high, low) = (128 + n / 256, n % 256);
        let (pods, address) = match family {
            Family::V4 => (
                format!("10.244.{high}.{low}/32"),
                format!("10.98.{high}.{low}"),
            ),
            Family::V6 => (
                format!("fd00:10:244:{high:x}::{low:x}/128"),
                format!("fd00:98::{high:x}:{low:x}"),
            ),
        };
        node(&format!("many{n}"), &pods, &address)
    }));
    write_with(&lab, claims)?;

    for (_, told) in &hostile {
        expect_one_line(&lab, &agents[0], since, &[told])?;
    }
    let warnings = lines_since(&agents[0], since, "WARN");
    assert_eq!(warnings.len(), hostile.len(), "{warnings:#?}");
    ensure!(
        warnings.iter().all(|line| line.len() < 500),
        "{warnings:#?}"
    );
    assert_eq!(
        wait_for_peer(&lab, here, "many1999", "not_on_link")?.refusal,
        None
    );

    assert_eq!(trie(&lab, here)?, [good.pod_cidr()].into());
    expect_unharmed(stream)?;
    assert_eq!(talk.road()?, Road::Fast);
    for agent in &mut agents {
        ensure!(agent.is_running());
        assert_eq!(agent.get("/readyz")?.0, 200);
    }
    // What the other node thinks of this one is not lost either.
    write_with(&lab, Vec::new())?;
    Talk::new(&lab, lab.pod(2, 1), lab.pod(1, 1))?.wait_for(Road::Fast)
}
