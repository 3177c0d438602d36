//! Where the check has the other nodes from, without an agent or with one.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::cli::CheckArgs;
use crate::datapath::{Maps, Pins};
use crate::inspect;
use crate::world::Node;
use crate::world::kubernetes::{Access, KubernetesNodes, Patience};
use crate::world::nodes_file::NodesFile;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What tells of the nodes.
pub enum Nodes {
    /// Node objects, and where they are from.
    Objects(String, Vec<Node>),
    /// The maps of an agent.
    Maps(Box<Maps>),
    /// Nobody.
    Nobody,
    /// It should, and does not: why.
    Failed(String),
}

/// Reads them: from the file or by the kubeconfig that was named, else from the maps of an agent that ran
/// here, else, in a pod, from the Kubernetes API.
pub async fn read(args: &CheckArgs, pins: &Pins) -> Nodes {
    if let Some(path) = &args.nodes_file {
        return match NodesFile::new(path).read() {
            Ok(read) => Nodes::Objects(format!("nodes file {}", path.display()), read.nodes),
            Err(error) => Nodes::Failed(error.to_string()),
        };
    }
    if args.kubeconfig.is_none() {
        match inspect::open(pins) {
            Ok(maps) if maps.agent().is_ok_and(|agent| agent.uplink_ifindex != 0) => {
                return Nodes::Maps(Box::new(maps));
            }
            _ => {}
        }
    }
    match Access::choose(args.kubeconfig.clone()) {
        Access::Kubeconfig(None) => Nodes::Nobody,
        access => match ask(access).await {
            Ok(nodes) => Nodes::Objects("Kubernetes API".into(), nodes),
            Err(error) => Nodes::Failed(error),
        },
    }
}

/// Asks until there is an answer, or until it takes too long.
async fn ask(access: Access) -> Result<Vec<Node>, String> {
    let deadline = Instant::now() + PATIENCE;
    let follow = KubernetesNodes::follow(access, Patience::default());
    let mut nodes = follow.await.map_err(|error| format!("{error:#}"))?;
    let mut error = None;
    loop {
        let late = timeout_at(deadline, nodes.changed()).await.is_err();
        let reading = nodes.read();
        if let Some(nodes) = reading.nodes {
            return Ok(nodes);
        }
        error = reading.error.or(error);
        if late {
            let seconds = PATIENCE.as_secs();
            return Err(error.unwrap_or_else(|| {
                format!(
                    "the Kubernetes API {} says nothing for {seconds} s",
                    nodes.url()
                )
            }));
        }
    }
}

/// The name of the Node that is this one: the one that was told, else the one with an address of ours.
pub fn own_name(told: Option<&str>, nodes: &[Node], ours: &[IpAddr]) -> Option<String> {
    if let Some(name) = told {
        return Some(name.to_owned());
    }
    let is_ours = |text: &String| text.parse().is_ok_and(|address| ours.contains(&address));
    let own = nodes
        .iter()
        .find(|node| node.internal_ips.iter().any(is_ours))?;
    Some(own.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_node_is_the_one_that_was_named_or_the_one_with_our_address() {
        let node = |name: &str, address: &str| Node {
            name: name.into(),
            internal_ips: vec![address.into()],
            ..Node::default()
        };
        let nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "?")];
        let ours: [IpAddr; 2] = ["127.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(own_name(None, &nodes, &ours).as_deref(), Some("b"));
        assert_eq!(own_name(Some("a"), &nodes, &ours).as_deref(), Some("a"));
        assert_eq!(own_name(None, &nodes, &ours[..1]), None);
    }
}
