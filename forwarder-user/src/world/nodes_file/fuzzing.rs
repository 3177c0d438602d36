//! Any bytes as a nodes file.

use serde_json::{Value, json};

use super::{Nodes, NodesFile};
use crate::fuzzing::assert_one_line;
use crate::world::cluster::Node;

pub(crate) fn run(input: &[u8]) {
    match parse(input) {
        Err(told) => assert_told(&told),
        Ok(nodes) => {
            for warning in &nodes.warnings {
                assert_told(warning);
            }
            survives_being_written(&nodes.nodes);
            is_read_alike(input, &nodes);
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Nodes, String> {
    NodesFile::new("nodes.yaml")
        .parse(bytes.to_vec())
        .map_err(|error| error.to_string())
}

fn assert_told(text: &str) {
    assert!(text.starts_with("nodes file nodes.yaml: "), "{text:?}");
    assert_one_line(text);
}

/// Nodes that were read, written down as the API server would, are read as the same nodes, by the
/// parser of JSON and by that of YAML.
fn survives_being_written(nodes: &[Node]) {
    let items: Vec<Value> = nodes.iter().map(written).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    assert_holds(&list, nodes);
    // What does not begin with a brace is taken for YAML, of which JSON is a part.
    if list.chars().all(is_yaml) {
        assert_holds(&format!("# YAML\n{list}"), nodes);
    }
    if let [node] = nodes {
        assert_holds(&written(node).to_string(), nodes);
    }
}

fn written(node: &Node) -> Value {
    let addresses: Vec<Value> = node
        .internal_ips
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .collect();
    let annotations = json!({
        "flannel.alpha.coreos.com/public-ip": node.public_ip,
        "flannel.alpha.coreos.com/public-ipv6-overwrite": node.public_ipv6,
    });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "annotations": annotations},
        "spec": {"podCIDR": node.pod_cidrs.first(), "podCIDRs": node.pod_cidrs},
        "status": {"addresses": addresses},
    })
}

fn assert_holds(text: &str, nodes: &[Node]) {
    let read = parse(text.as_bytes());
    let expected = Nodes {
        nodes: nodes.to_vec(),
        warnings: Vec::new(),
    };
    assert_eq!(read.as_ref(), Ok(&expected), "{text}");
}

/// White space and the order of fields mean nothing.
fn is_read_alike(input: &[u8], nodes: &Nodes) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let pretty = serde_json::to_string_pretty(&value).expect("a Value can be written");
    assert_eq!(parse(pretty.as_bytes()).as_ref(), Ok(nodes), "{pretty}");
    if let Some(items) = value["items"].as_array()
        && value["kind"] != "Node"
    {
        says_what_stands_there(items, nodes);
    }
}

/// Text by text, where a Node's fields are of the types that the API server gives them.
fn says_what_stands_there(items: &[Value], nodes: &Nodes) {
    let is_node = |item: &&Value| {
        let kind = item.get("kind").unwrap_or(&Value::Null);
        item["metadata"]["name"].is_string() && (kind.is_null() || kind == "Node")
    };
    let items: Vec<&Value> = items.iter().filter(is_node).collect();
    assert_eq!(items.len(), nodes.nodes.len());
    for (item, node) in items.iter().zip(&nodes.nodes) {
        assert_eq!(item["metadata"]["name"], *node.name);
        let cidrs = item["spec"]["podCIDRs"].as_array();
        if let Some(cidrs) = cidrs.filter(|cidrs| !cidrs.is_empty())
            && cidrs
                .iter()
                .all(|cidr| cidr.as_str().is_some_and(|text| !text.is_empty()))
        {
            assert_eq!(*cidrs, node.pod_cidrs);
        }
    }
}

/// True for characters that may stand in YAML as they are (YAML 1.2.2, 5.1), within one line.
fn is_yaml(c: char) -> bool {
    let breaks = ['\u{85}', '\u{2028}', '\u{2029}'];
    !(c.is_control() || breaks.contains(&c) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}'))
}
