//! The Helm chart: what it makes by default is what the overlay makes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde_json::Value;
use underpass::cli::{Cli, Command, OffloadMode, RoutesMode};

use crate::manifest::PodSpec;
use crate::tools::{helm, kustomize};

#[test]
fn the_chart_makes_what_the_overlay_makes() -> Result<()> {
    const TEST: &str = "the_chart_makes_what_the_overlay_makes";
    for (overlays, settings) in [
        (&["overlays/beside"][..], &[][..]),
        (&["overlays/always"], &["offload=always"]),
        (&["detach"], &["detach=true"]),
        (
            &["detach-labelled"],
            &["detach=true", "nodeSelector.underpass=off"],
        ),
        (
            &["preflight"],
            &["preflight.enabled=true", "agent.enabled=false"],
        ),
        (
            &["overlays/beside", "preflight"],
            &["preflight.enabled=true"],
        ),
    ] {
        let Some(chart) = helm(TEST, settings)? else {
            return Ok(());
        };
        let mut made = Vec::new();
        for overlay in overlays {
            let Some(objects) = kustomize(TEST, &format!("kubernetes/{overlay}"))? else {
                return Ok(());
            };
            made.extend(objects);
        }
        assert_eq!(by_name(chart), by_name(made), "{settings:?}");
    }
    Ok(())
}

fn by_name(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let named = objects.into_iter().map(|object| {
        let metadata = &object["metadata"];
        let name = format!(
            "{} {}/{}",
            object["kind"], metadata["namespace"], metadata["name"]
        );
        (name, object)
    });
    named.collect()
}

/// The preflight looks at what the agent would take.
#[test]
fn the_charts_values_reach_the_preflight() -> Result<()> {
    let settings = [
        "preflight.enabled=true",
        "agent.enabled=false",
        "iface=eth1",
        "apiServer.host=api.example",
    ];
    let Some(objects) = helm("the_charts_values_reach_the_preflight", &settings)? else {
        return Ok(());
    };
    let daemon_set = objects.iter().find(|one| one["kind"] == "DaemonSet");
    let pod = PodSpec::of(daemon_set.context("there is no DaemonSet")?)?;
    for (container, stay) in [(&pod.init_containers[0], false), (&pod.containers[0], true)] {
        let words = container.args.iter().map(String::as_str);
        let cli = Cli::try_parse_from(["underpass"].into_iter().chain(words))?;
        let Command::Check(args) = cli.command else {
            anyhow::bail!("no check");
        };
        assert_eq!(
            (args.uplink.iface.as_deref(), args.stay),
            (Some("eth1"), stay)
        );
        let mut variables = container.env.iter();
        let host = variables.find(|one| one.name == "KUBERNETES_SERVICE_HOST");
        let host = host.and_then(|one| one.value.as_deref());
        assert_eq!(host, Some("api.example"));
    }
    Ok(())
}

#[test]
fn the_charts_values_reach_the_agent() -> Result<()> {
    let settings = [
        "offload=always",
        "routes=manage",
        "iface=eth1",
        "clusterCidrs={10.244.0.0/16,fd00:244::/48}",
        "extraArgs={--max-flows=1024}",
        "listen.host=127.0.0.2",
        "listen.port=9000",
        "image.repository=registry.example/underpass",
        "image.tag=1.2.3",
        "apiServer.host=api.example",
    ];
    let Some(objects) = helm("the_charts_values_reach_the_agent", &settings)? else {
        return Ok(());
    };
    let daemon_set = objects.iter().find(|one| one["kind"] == "DaemonSet");
    let daemon_set = daemon_set.context("there is no DaemonSet")?;
    let pod = PodSpec::of(daemon_set)?;
    let container = &pod.containers[0];
    assert_eq!(container.image, "registry.example/underpass:1.2.3");
    let variable = |name: &str| {
        let found = container.env.iter().find(|one| one.name == name)?;
        found.value.as_deref()
    };
    assert_eq!(variable("KUBERNETES_SERVICE_HOST"), Some("api.example"));
    assert_eq!(variable("KUBERNETES_SERVICE_PORT"), Some("6443"));

    let words = container.args.iter().map(String::as_str);
    let words = ["underpass"].into_iter().chain(words);
    let cli = Cli::try_parse_from(words.chain(["--node-name=node1"]))?;
    let Command::Agent(args) = cli.command else {
        anyhow::bail!("no agent");
    };
    assert_eq!(
        (args.offload, args.routes),
        (OffloadMode::Always, RoutesMode::Manage)
    );
    assert_eq!(args.uplink.iface.as_deref(), Some("eth1"));
    assert_eq!(args.cluster_cidr.len(), 2);
    assert_eq!(args.max_flows, 1024);
    assert_eq!(
        args.listen.map(|it| it.to_string()).as_deref(),
        Some("127.0.0.2:9000")
    );
    let probe = &daemon_set["spec"]["template"]["spec"]["containers"][0]["livenessProbe"];
    let asked: [&Value; 2] = ["host", "port"].map(|field| &probe["httpGet"][field]);
    assert_eq!(asked, [&Value::from("127.0.0.2"), &Value::from(9000)]);
    Ok(())
}
