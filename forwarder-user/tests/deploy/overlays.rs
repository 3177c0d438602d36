//! What becomes of the manifests: the overlays, and what they have in common with the manifest that detaches.

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde_json::{Value, json};
use underpass::cli::{self, Cli, OffloadMode, RoutesMode};

use crate::manifest::{AGENT, DETACH, PREFLIGHT, PodSpec};
use crate::tools::kustomize;

/// The DaemonSet among them.
fn daemon_set(objects: &[Value]) -> Result<&Value> {
    let mut found = objects.iter().filter(|one| one["kind"] == "DaemonSet");
    found.next().context("there is no DaemonSet")
}

/// The arguments of an overlay's agent, as the agent reads them.
fn agent_args(objects: &[Value]) -> Result<cli::AgentArgs> {
    let pod = PodSpec::of(daemon_set(objects)?)?;
    let args = pod.containers[0].args.iter().map(String::as_str);
    let words = ["underpass"].into_iter().chain(args);
    match Cli::try_parse_from(words.chain(["--node-name=node1"]))?.command {
        cli::Command::Agent(args) => Ok(*args),
        other => anyhow::bail!("no agent, but {other:?}"),
    }
}

#[test]
fn an_overlay_says_what_may_go_fast() -> Result<()> {
    for (overlay, offload) in [
        ("beside", OffloadMode::Confirmed),
        ("always", OffloadMode::Always),
    ] {
        let path = format!("kubernetes/overlays/{overlay}");
        let Some(objects) = kustomize("an_overlay_says_what_may_go_fast", &path)? else {
            return Ok(());
        };
        let args = agent_args(&objects)?;
        assert_eq!((args.offload, args.routes), (offload, RoutesMode::Observe));
        let kinds: Vec<_> = objects.iter().map(|object| &object["kind"]).collect();
        let expected = [
            "ClusterRole",
            "ClusterRoleBinding",
            "DaemonSet",
            "Role",
            "RoleBinding",
            "ServiceAccount",
        ];
        assert_eq!(kinds, expected, "{overlay}");
    }
    Ok(())
}

/// The probes ask where the agent listens.
#[test]
fn the_probes_find_the_agent() -> Result<()> {
    let Some(objects) = kustomize("the_probes_find_the_agent", "kubernetes/overlays/beside")?
    else {
        return Ok(());
    };
    let listen = agent_args(&objects)?.listen.context("it does not listen")?;
    let container = &daemon_set(&objects)?["spec"]["template"]["spec"]["containers"][0];
    for (probe, path) in [
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ] {
        let asks = &container[probe]["httpGet"];
        assert_eq!(asks["host"], listen.ip().to_string(), "{probe}");
        assert_eq!(asks["port"], listen.port(), "{probe}");
        assert_eq!(asks["path"], path, "{probe}");
    }
    Ok(())
}

/// Where the label is, no agent runs, and everything can be taken out: there and nowhere else.
#[test]
fn a_label_keeps_the_agent_off_a_node_and_has_it_taken_out() -> Result<()> {
    const TEST: &str = "a_label_keeps_the_agent_off_a_node_and_has_it_taken_out";
    let pod_of = |overlay: &str| -> Result<Option<Value>> {
        let Some(objects) = kustomize(TEST, &format!("kubernetes/{overlay}"))? else {
            return Ok(None);
        };
        Ok(Some(
            daemon_set(&objects)?["spec"]["template"]["spec"].clone(),
        ))
    };
    for overlay in ["overlays/beside", "overlays/always"] {
        let Some(pod) = pod_of(overlay)? else {
            return Ok(());
        };
        let required =
            &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let label = json!({ "key": "underpass", "operator": "NotIn", "values": ["off"] });
        let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [label] }] });
        assert_eq!(*required, terms, "{overlay}");
    }
    let Some(labelled) = pod_of("detach-labelled")? else {
        return Ok(());
    };
    let Some(mut all) = pod_of("detach")? else {
        return Ok(());
    };
    assert!(all["affinity"].is_null());
    all["nodeSelector"]["underpass"] = "off".into();
    assert_eq!(labelled, all);
    Ok(())
}

/// What takes everything out, and what looks before, sees the same of the node, may do the same, and is the same
/// program.
#[test]
fn what_detaches_or_checks_is_run_as_the_agent_is() -> Result<()> {
    for manifest in [DETACH, PREFLIGHT] {
        is_run_as_the_agent_is(manifest).with_context(|| manifest.to_owned())?;
    }
    Ok(())
}

fn is_run_as_the_agent_is(manifest: &str) -> Result<()> {
    let (agent_pod, other_pod) = (PodSpec::of_file(AGENT)?, PodSpec::of_file(manifest)?);
    let agent = &agent_pod.containers[0];
    let containers = [&other_pod.init_containers[0], &other_pod.containers[0]];
    for container in containers {
        assert_eq!(container.image, agent.image);
        assert_eq!(container.security_context, agent.security_context);
        assert_eq!(
            other_pod.mounts(container)?,
            agent_pod.mounts(agent)?,
            "mounts"
        );
        for variable in &container.env {
            let same = agent.env.iter().find(|other| other.name == variable.name);
            assert_eq!(same.map(|same| &same.value), Some(&variable.value));
        }
        let words = ["underpass"].into_iter();
        Cli::try_parse_from(words.chain(container.args.iter().map(String::as_str)))?;
    }
    let tag = agent.image.rsplit_once(':').map(|(_, tag)| tag);
    assert_eq!(tag, Some(env!("CARGO_PKG_VERSION")), "{}", agent.image);
    Ok(())
}

/// What it may ask of the API server is a part of what the agent may: to read Nodes.
#[test]
fn the_preflight_may_read_nodes_and_no_more() -> Result<()> {
    const TEST: &str = "the_preflight_may_read_nodes_and_no_more";
    let Some(preflight) = kustomize(TEST, "kubernetes/preflight")? else {
        return Ok(());
    };
    let Some(agent) = kustomize(TEST, "kubernetes/overlays/beside")? else {
        return Ok(());
    };
    let of_kind = |objects: &[Value], kind: &str| {
        let found = objects.iter().filter(|one| one["kind"] == kind);
        found.cloned().collect::<Vec<_>>()
    };
    let rules = |objects: &[Value]| of_kind(objects, "ClusterRole")[0]["rules"].clone();
    assert_eq!(rules(&preflight), rules(&agent));
    assert!(of_kind(&preflight, "Role").is_empty());
    let account = &daemon_set(&preflight)?["spec"]["template"]["spec"]["serviceAccountName"];
    let binding = &of_kind(&preflight, "ClusterRoleBinding")[0];
    assert_eq!(&binding["subjects"][0]["name"], account);
    assert_eq!(
        &of_kind(&preflight, "ServiceAccount")[0]["metadata"]["name"],
        account
    );
    Ok(())
}
