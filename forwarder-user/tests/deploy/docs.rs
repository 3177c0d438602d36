//! `docs/kubernetes.md`: what it says to type is tried as far as there is no cluster for it, and what it says of
//! capabilities and values is what the manifests and the chart have.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use caps::Capability;
use serde_json::Value;
use underpass_bench::lab::Families;
use underpass_bench::root_or_skip;

use crate::capabilities::start_agents;
use crate::common::lab;
use crate::container::OnNode;
use crate::documented::commands;
use crate::manifest::{AGENT, DETACH, PREFLIGHT, PodSpec, deploy, objects};
use crate::tools::{helm, kustomize};

const DOCUMENT: &str = include_str!("../../../docs/kubernetes.md");

/// What asks a running pod of the DaemonSet.
const EXEC: &str = "kubectl -n kube-system exec daemonset/underpass -- /underpass ";

/// What no test can run without a cluster of that kind.
const OF_CLUSTERS: [&str; 5] = [
    "ctr -n k8s.io images import underpass-",
    "k3s ctr images import underpass-",
    "kind load image-archive target/container-image/underpass-",
    "for node in $(kind get nodes); do docker exec",
    "kubectl -n default get events --field-selector involvedObject.kind=Node",
];

#[test]
fn every_command_names_what_there_is() -> Result<()> {
    const TEST: &str = "every_command_names_what_there_is";
    let commands = commands(DOCUMENT);
    ensure!(
        commands.len() > 20,
        "it has lost its commands: {commands:?}"
    );
    for command in commands {
        look_at(TEST, command).with_context(|| format!("it says `{command}`"))?;
    }
    Ok(())
}

fn look_at(test: &str, command: &str) -> Result<()> {
    if let Some(made) = command.strip_suffix(" | kubectl apply -f -") {
        return has_another_image(test, made);
    }
    let words: Vec<_> = command.split(' ').collect();
    match words[..] {
        // The image's own tests run it.
        ["cargo", "xtask", "image"] => Ok(()),
        ["kubectl", "apply" | "delete", "-k", folder]
        | ["k3s", "kubectl", "apply", "-k", folder] => {
            let folder = folder.strip_prefix("deploy/").context("not in deploy/")?;
            let file = deploy(folder).join("kustomization.yaml");
            ensure!(file.exists(), "there is no {}", file.display());
            kustomize(test, folder).map(drop)
        }
        ["kubectl", "-n", "kube-system", "rollout", "status", name]
        | [
            "kubectl",
            "-n",
            "kube-system",
            "rollout",
            "status",
            name,
            "--timeout=2m",
        ]
        | ["kubectl", "-n", "kube-system", "logs", name] => is_a_daemon_set(name),
        // overlays.rs looks at what the label does.
        [
            "kubectl",
            "label",
            "node",
            "NODE",
            "underpass=off" | "underpass-",
        ] => Ok(()),
        [
            "kubectl",
            "-n",
            "kube-system",
            "logs",
            "-c",
            "check",
            "--tail=-1",
            "--prefix",
            "-l",
            label,
        ]
        | [
            "kubectl",
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            label,
            "-o",
            "wide",
            "--field-selector",
            "spec.nodeName=NODE",
        ] => {
            let name = label.strip_prefix("app.kubernetes.io/name=");
            is_a_daemon_set(&format!("daemonset/{}", name.context("another label")?))
        }
        [
            "helm",
            "install" | "upgrade",
            "underpass" | "underpass-preflight" | "underpass-detach",
            "deploy/helm/underpass",
            "--namespace",
            "kube-system",
            ref settings @ ..,
        ] => {
            let settings: Vec<_> = settings
                .iter()
                .copied()
                .filter(|word| !["--set", "--reuse-values"].contains(word))
                .collect();
            helm(test, &settings).map(drop)
        }
        [
            "helm",
            "uninstall",
            "underpass" | "underpass-preflight" | "underpass-detach",
            "--namespace",
            "kube-system",
        ] => Ok(()),
        // Run by the test below.
        _ if command.starts_with(EXEC) => Ok(()),
        _ if OF_CLUSTERS.iter().any(|start| command.starts_with(start)) => Ok(()),
        _ => bail!("nobody looks at it"),
    }
}

/// What is made of a folder, by `kubectl kustomize FOLDER | sed EXPRESSION`, has the image in another place.
fn has_another_image(test: &str, command: &str) -> Result<()> {
    let (folder, edit) = command.split_once(" | sed ").context("no sed")?;
    let folder = folder.strip_prefix("kubectl kustomize deploy/");
    let folder = folder.context("not in deploy/")?;
    kustomize(test, folder)?;
    let manifest = deploy(folder).join("daemonset.yaml");
    let edited = Command::new("sed")
        .arg(edit.trim_matches('\''))
        .arg(manifest)
        .output()?;
    let edited = String::from_utf8(edited.stdout)?;
    let images = edited.lines().filter(|line| line.contains("image: "));
    let images: Vec<_> = images.map(str::trim).collect();
    let elsewhere = format!(
        "image: registry.example/underpass:{}",
        env!("CARGO_PKG_VERSION")
    );
    ensure!(
        !images.is_empty() && images.iter().all(|image| *image == elsewhere),
        "{images:?}"
    );
    Ok(())
}

fn is_a_daemon_set(name: &str) -> Result<()> {
    for file in [AGENT, DETACH, PREFLIGHT] {
        let manifest = objects(&fs::read_to_string(deploy(file))?)?;
        let of_pods = |object: &&Value| object["kind"] == "DaemonSet";
        let found = manifest.iter().find(of_pods);
        let metadata = &found.context("no DaemonSet")?["metadata"];
        let full_name = metadata["name"]
            .as_str()
            .map(|name| format!("daemonset/{name}"));
        if metadata["namespace"] == "kube-system" && full_name.as_deref() == Some(name) {
            return Ok(());
        }
    }
    bail!("there is no {name} in kube-system")
}

#[test]
fn what_it_asks_a_pod_is_answered() -> Result<()> {
    if !root_or_skip("what_it_asks_a_pod_is_answered") {
        return Ok(());
    }
    let lab = lab().families(Families::Dual).build()?;
    let _agents = start_agents(&lab)?;
    let pod = PodSpec::of_file(AGENT)?;
    let place = OnNode::new(&lab, lab.node(1), &pod, &pod.containers[0])?;
    let asked: Vec<_> = commands(DOCUMENT)
        .into_iter()
        .filter_map(|command| command.strip_prefix(EXEC))
        .collect();
    ensure!(asked.contains(&"status") && asked.len() >= 5, "{asked:?}");
    for command in asked {
        let answer = place.exec(&command.split(' ').collect::<Vec<_>>())?;
        ensure!(!answer.trim().is_empty(), "{command} answers nothing");
    }
    Ok(())
}

#[test]
fn its_capabilities_are_the_manifests() -> Result<()> {
    let rows = DOCUMENT.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once("` |")?;
        format!("CAP_{name}").parse::<Capability>().ok()
    });
    let told: BTreeSet<_> = rows.map(|it| it.index()).collect();
    let given = PodSpec::of_file(AGENT)?.containers[0].capabilities()?;
    assert_eq!(told, given.iter().map(Capability::index).collect());
    Ok(())
}

/// A patch of where the agent listens meets that argument.
#[test]
fn its_patch_is_of_where_the_agent_listens() -> Result<()> {
    let args = PodSpec::of_file(AGENT)?.containers.remove(0).args;
    let at = args.iter().position(|arg| arg.starts_with("--listen="));
    let at = at.context("it does not listen")?;
    let patch = format!(
        "- op: replace\n        path: /spec/template/spec/containers/0/args/{at}\n        value: --listen="
    );
    ensure!(DOCUMENT.contains(&patch), "no such patch: {patch}");
    Ok(())
}

#[test]
fn its_values_are_the_charts() -> Result<()> {
    let values = objects(&fs::read_to_string(deploy("helm/underpass/values.yaml"))?)?;
    for name in [
        "offload",
        "image.repository",
        "image.tag",
        "apiServer.host",
        "apiServer.port",
        "listen.host",
        "seccompProfile.type",
        "agent.enabled",
        "preflight.enabled",
        "detach",
    ] {
        let told = [format!("`{name}`"), format!("{name}=")];
        ensure!(
            told.iter().any(|one| DOCUMENT.contains(one)),
            "it does not tell of {name}"
        );
        let found = name.split('.').try_fold(&values[0], |at, key| at.get(key));
        ensure!(found.is_some(), "the chart has no {name}");
    }
    Ok(())
}
