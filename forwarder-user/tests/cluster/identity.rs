//! Who the agents are, and what they may.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use underpass_bench::lab::AgentOptions;
use underpass_bench::lab::kubernetes::{Assets, ControlPlane};

use crate::cluster::{ACCOUNT, Cluster, NAMESPACE};
use crate::common::{self, DEADLINE};
use crate::talk::{Road, Talk};
use crate::view::{trie, wait_for_line};

#[test]
fn a_service_account_is_all_that_an_agent_needs() -> Result<()> {
    let test = "a_service_account_is_all_that_an_agent_needs";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let lab = &cluster.lab;
    let mut agents = Vec::new();
    for node in lab.nodes() {
        let token = cluster.request_token(NAMESPACE, ACCOUNT)?;
        let access = cluster.pod_access(node.name(), NAMESPACE, &token)?;
        agents.push(lab.start_agent(node, &AgentOptions::default().in_pod(&access))?);
    }
    for agent in &mut agents {
        agent.wait_ready(DEADLINE)?;
    }
    let talk = Talk::new(lab, lab.pod(1, 1), lab.pod(2, 1))?;
    talk.wait_for(Road::Fast)?;
    assert_eq!(trie(lab, lab.node(1))?, [lab.node(2).pod_cidr()].into());
    assert_eq!(trie(lab, lab.node(2))?, [lab.node(1).pod_cidr()].into());
    Ok(())
}

/// What the API lets everybody do who is known to it: ask who and what they are.
const EVERYBODY: [&str; 3] = [
    "create selfsubjectaccessreviews.authorization.k8s.io",
    "create selfsubjectreviews.authentication.k8s.io",
    "create selfsubjectrulesreviews.authorization.k8s.io",
];

/// What the agents do.
const OURS: [&str; 3] = ["get nodes", "list nodes", "watch nodes"];
/// What they do besides in the namespace `default`, where Events about Nodes go.
const OURS_IN_DEFAULT: &str = "create events.events.k8s.io";

/// Calls that would do harm, or tell secrets.
const FORBIDDEN: [&str; 10] = [
    "get secrets --all-namespaces",
    "get pods --all-namespaces",
    "get configmaps --namespace=kube-system",
    "get events --all-namespaces",
    "label node node2 ours=yes",
    "patch node node1 --subresource=status --patch={\"status\":{\"addresses\":[]}}",
    "delete node node2",
    "create token underpass --namespace=kube-system",
    "create clusterrolebinding ours --clusterrole=cluster-admin --serviceaccount=kube-system:underpass",
    "create namespace ours",
];

#[test]
fn what_an_agent_does_not_need_is_forbidden_to_it() -> Result<()> {
    let test = "what_an_agent_does_not_need_is_forbidden_to_it";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start(common::lab(), &assets)?;
    let token = cluster.request_token(NAMESPACE, ACCOUNT)?;
    // By the names of the rights, all of them ...
    for (namespace, more) in [(NAMESPACE, None), ("default", Some(OURS_IN_DEFAULT))] {
        let mut rights = rights(&cluster, &token, namespace)?;
        rights.retain(|right| !EVERYBODY.contains(&right.as_str()));
        let ours = OURS.into_iter().chain(more);
        assert_eq!(rights, ours.map(str::to_owned).collect());
    }
    // ... and by trying.
    cluster.kubectl_as(&token, &["get", "nodes"])?;
    for call in FORBIDDEN {
        let words: Vec<_> = call.split(' ').collect();
        let Err(error) = cluster.kubectl_as(&token, &words) else {
            anyhow::bail!("kubectl {call}: not forbidden");
        };
        let error = format!("{error:#}");
        // In brackets, or in a sentence.
        let is_forbidden = error.contains("(Forbidden)") || error.contains(" is forbidden: ");
        ensure!(is_forbidden, "kubectl {call}: {error}");
    }
    Ok(())
}

/// What the holder of a token may do in a namespace, as the API server itself tells: `get nodes` and so on.
fn rights(cluster: &Cluster, token: &str, namespace: &str) -> Result<BTreeSet<String>> {
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let arguments = ["create", "--raw", path, "-f", "-"];
    let answer = cluster.kubectl_as_with_input(token, &arguments, &question.to_string())?;
    let answer: Value = serde_json::from_str(&answer)?;
    let status = &answer["status"];
    ensure!(status["incomplete"] == false, "not all of it: {answer}");
    let words = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in status["resourceRules"].as_array().into_iter().flatten() {
        for verb in words(&rule["verbs"]) {
            for resource in words(&rule["resources"]) {
                for group in words(&rule["apiGroups"]) {
                    let right = format!("{verb} {resource}.{group}");
                    rights.insert(right.trim_end_matches('.').to_owned());
                }
            }
        }
    }
    Ok(rights)
}

/// An agent that is there before its rights: it says what it lacks, and is ready once it has it.
#[test]
fn an_agent_waits_for_its_rights() -> Result<()> {
    let test = "an_agent_waits_for_its_rights";
    let Some(assets) = Assets::or_skip(test, &ControlPlane::PROGRAMS) else {
        return Ok(());
    };
    let cluster = Cluster::start_without_rights(common::lab(), &assets)?;
    let lab = &cluster.lab;
    cluster.kubectl(&["create", "serviceaccount", "early", "--namespace=default"])?;
    let token = cluster.request_token("default", "early")?;
    let access = cluster.pod_access("early", "default", &token)?;
    let options = AgentOptions::default().in_pod(&access);
    let mut agent = lab.start_agent(lab.node(1), &options)?;
    wait_for_line(&agent, "403")?;
    assert_eq!(agent.get("/readyz")?.0, 503);
    let log = agent.log();
    ensure!(
        log.contains(r#"User "system:serviceaccount:default:early" cannot"#),
        "{log}"
    );

    let role = [
        "create",
        "clusterrole",
        "early",
        "--verb=get,list,watch",
        "--resource=nodes",
    ];
    cluster.kubectl(&role)?;
    let binding = [
        "create",
        "clusterrolebinding",
        "early",
        "--clusterrole=early",
    ];
    cluster.kubectl(&[&binding[..], &["--serviceaccount=default:early"]].concat())?;
    agent.wait_ready(DEADLINE)
}
