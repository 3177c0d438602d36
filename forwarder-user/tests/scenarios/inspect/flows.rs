//! `underpass flows` shows what it is asked for.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::lab::{AgentOptions, Family};
use underpass_bench::traffic::{Ping, UdpFlow};
use underpass_bench::{Lab, root_or_skip};

use crate::common::{self, DEADLINE, start_agents, with_families};

const PORT: u16 = 5001;

#[test]
fn flows_as_they_are_asked_for() -> Result<()> {
    if !root_or_skip("flows_as_they_are_asked_for") {
        return Ok(());
    }
    with_families(|family| {
        let lab = common::lab().families(family).nodes(3).build()?;
        let _agents = start_agents(&lab, &AgentOptions::default())?;
        let pod = lab.pod(1, 1);
        let far = [lab.pod(2, 1).address(), lab.pod(3, 1).address()];
        for to in far {
            Ping::to(to).identifier(7).timeout(DEADLINE).expect(pod)?;
        }
        let one_way = UdpFlow::to(SocketAddr::new(far[0], PORT)).packets(10);
        one_way.run(pod, lab.pod(2, 1))?;
        let flows = |arguments: &[&str]| -> Result<Vec<(String, IpAddr)>> {
            let shown = lab.underpass_json(lab.node(1), &[&["flows"], arguments].concat())?;
            let shown = shown.as_array().context("no list of flows")?;
            let name = |flow: &Value| {
                Some((
                    flow["protocol"].as_str()?.to_owned(),
                    flow["remote"].as_str()?.parse().ok()?,
                ))
            };
            shown
                .iter()
                .map(|flow| name(flow).context("no flow"))
                .collect()
        };
        assert_eq!(flows(&["--confirmed"])?.len(), 3);
        let icmp = match family {
            Family::V4 => "icmp",
            Family::V6 => "icmpv6",
        };
        let [second, third] = far;
        let [ping2, ping3, udp] =
            [(icmp, second), (icmp, third), ("udp", second)].map(|(one, to)| (one.to_owned(), to));
        let all = [ping2.clone(), udp.clone(), ping3.clone()];
        assert_eq!(flows(&[])?, all);
        assert_eq!(flows(&["--peer", "node2"])?, all[..2]);
        assert_eq!(
            flows(&["--peer", &lab.node(3).address().to_string()])?,
            all[2..]
        );
        assert_eq!(flows(&["--proto", "icmp"])?, [ping2, ping3.clone()]);
        assert_eq!(flows(&["--port", "5001"])?, all[1..2]);
        assert_eq!(
            flows(&["--pod", &pod.address().to_string(), "--limit", "1"])?,
            all[..1]
        );
        assert_eq!(flows(&["--pod", &second.to_string()])?, []);
        assert_eq!(flows(&["--unconfirmed"])?, []);
        assert_eq!(flows(&["--sort", "road", "--limit", "1"])?, [udp]);
        watched(&lab)
    })
}

/// A block now, another one later, and an end when nobody reads any more.
fn watched(lab: &Lab) -> Result<()> {
    let (binary, pins) = (env!("CARGO_BIN_EXE_underpass"), lab.bpffs(lab.node(1)));
    // Header, three flows, a blank line, and the next header.
    let line = format!(
        "{binary} flows --watch 1 --bpffs {} | head -n 6",
        pins.display()
    );
    let shown = lab.node(1).run(&["sh", "-c", &line])?;
    let lines: Vec<_> = shown.lines().collect();
    ensure!(lines.len() == 6 && lines[4].is_empty(), "{shown}");
    ensure!(
        lines[0].starts_with("PROTO") && lines[0] == lines[5],
        "{shown}"
    );
    Ok(())
}
