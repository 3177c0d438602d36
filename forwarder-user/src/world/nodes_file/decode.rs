//! From text to Nodes, an item at a time: what is not used is dropped before the next item is read,
//! and a bad item does not spoil the rest.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::MAX_BYTES;
use crate::world::cluster::Node;

#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub nodes: Vec<Node>,
    /// One line for each item left out.
    pub warnings: Vec<String>,
}

/// Decodes a List of Nodes, a single Node, or several documents of either. `None`: the text holds
/// no document. The error says in one line what is wrong and where.
pub(super) fn decode(text: &str) -> Result<Option<Decoded>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let documents = if text.trim_start().starts_with('{') {
        // JSON is YAML too, but its own parser is faster and its messages fit better. What begins
        // with a brace and is no JSON may still be YAML in flow style.
        match serde_json::from_str(text) {
            Ok(document) => vec![document],
            Err(error) if error.is_data() => return Err(format!("{NOT_A_LIST}: {error}")),
            Err(error) => yaml(text).map_err(|_| format!("not valid JSON: {error}"))?,
        }
    } else {
        yaml(text)?
    };
    if documents.is_empty() {
        return Ok(None);
    }
    let several = documents.len() > 1;
    let mut decoded = Decoded::default();
    for (index, document) in documents.into_iter().enumerate() {
        let place = if several {
            format!("document {}: ", index + 1)
        } else {
            String::new()
        };
        document
            .add_to(&mut decoded, &place)
            .map_err(|detail| format!("{place}{detail}"))?;
    }
    Ok(Some(decoded))
}

const NOT_A_LIST: &str = "not a Kubernetes List of Nodes";

fn yaml(text: &str) -> Result<Vec<Document>, String> {
    yaml_documents(text).map_err(|error| {
        let any: Result<Vec<IgnoredAny>, _> = yaml_documents(text);
        let what = any.map_or("not valid YAML", |_| NOT_A_LIST);
        format!("{what}: {error}")
    })
}

fn yaml_documents<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
    // What stands in the text is bounded by its size. What aliases could make of it is not, and
    // kubectl writes none: a little for those who write by hand.
    let size = MAX_BYTES as usize;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: size,
            max_nodes: size,
            max_total_scalar_bytes: size,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 8 << 20,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        with_snippet: false,
        emit_comments: false,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| one_line(&error.render_with_formatter(&UserMessageFormatter)))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A document of the file, whatever its kind turns out to be: `kind` may well stand after `items`.
#[derive(serde::Deserialize)]
struct Document {
    #[serde(rename = "apiVersion")]
    api_version: Option<Value>,
    kind: Option<Value>,
    items: Option<Items>,
    metadata: Option<Value>,
    spec: Option<Value>,
    status: Option<Value>,
}

impl Document {
    fn add_to(self, decoded: &mut Decoded, place: &str) -> Result<(), String> {
        let kind = text_field("kind", self.kind.as_ref())?;
        if !["List", "NodeList", "Node"].contains(&kind) {
            return Err(format!(
                "kind is {kind:?}; expected \"List\" or \"NodeList\", as `kubectl get nodes -o yaml` prints"
            ));
        }
        let api_version = text_field("apiVersion", self.api_version.as_ref())?;
        if api_version != "v1" {
            return Err(format!("apiVersion is {api_version:?}; expected \"v1\""));
        }
        let items = if kind == "Node" {
            let (metadata, spec, status) = (self.metadata, self.spec, self.status);
            let node = serde_json::json!({"metadata": metadata, "spec": spec, "status": status});
            vec![node_of(&node)]
        } else {
            match self.items {
                Some(Items::List(items)) => items,
                Some(Items::Other(what)) => return Err(format!("items is {what}, not a list")),
                None => return Err("items is missing".to_owned()),
            }
        };
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Ok(node) => decoded.nodes.push(node),
                Err(detail) if kind == "Node" => {
                    decoded.warnings.push(format!("{place}{detail}; left out"));
                }
                Err(detail) => decoded
                    .warnings
                    .push(format!("{place}items[{index}]: {detail}; left out")),
            }
        }
        Ok(())
    }
}

fn text_field<'a>(name: &str, value: Option<&'a Value>) -> Result<&'a str, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{name} is {}, not text", what(other))),
        None => Err(format!(
            "{name} is missing; expected what `kubectl get nodes -o yaml` prints"
        )),
    }
}

/// The list's items, each reduced to a Node as soon as it has been read.
enum Items {
    List(Vec<Result<Node, String>>),
    Other(&'static str),
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Nodes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Value>()? {
            items.push(node_of(&item));
        }
        Ok(Items::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Items::Other("a map"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Items, E> {
        Ok(Items::Other("text"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Items, E> {
        Ok(Items::Other("true or false"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Items, E> {
        Ok(Items::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Items, E> {
        Ok(Items::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Items, E> {
        Ok(Items::Other("a number"))
    }
}

/// Reduces an item to the fields that are used. Values of a wrong type are kept as their text, for
/// the plan to refuse by name; only an item that names no node is an error.
pub(in crate::world) fn node_of(item: &Value) -> Result<Node, String> {
    if !item.is_object() {
        return Err(format!("it is {}, not a Node", what(item)));
    }
    let name = match item.pointer("/metadata/name") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Null) | None => return Err("metadata.name is missing".to_owned()),
        Some(other) => {
            return Err(format!(
                "metadata.name is {} ({other}), not text; put it in quotes",
                what(other)
            ));
        }
    };
    match item.get("kind") {
        // Where items stand in a NodeList they have no kind.
        None | Some(Value::Null) => {}
        Some(kind) if kind == "Node" => {}
        Some(kind) => return Err(format!("{name:?}: kind is {kind}, not \"Node\"")),
    }
    let mut pod_cidrs = texts(item.pointer("/spec/podCIDRs"));
    if pod_cidrs.is_empty() {
        pod_cidrs = texts(item.pointer("/spec/podCIDR"));
    }
    Ok(Node {
        name,
        pod_cidrs,
        internal_ips: internal_ips(item.pointer("/status/addresses")),
        public_ip: flannel(item, ["public-ip-overwrite", "public-ip"]),
        public_ipv6: flannel(item, ["public-ipv6-overwrite", "public-ipv6"]),
    })
}

/// The first of these annotations of Flannel that says anything: one that somebody set by hand comes
/// before the one that flanneld wrote.
fn flannel(item: &Value, names: [&str; 2]) -> Option<String> {
    let annotations = item.pointer("/metadata/annotations")?.as_object()?;
    names.into_iter().find_map(|name| {
        let value = annotations.get(&format!("flannel.alpha.coreos.com/{name}"));
        texts(value).into_iter().next()
    })
}

fn internal_ips(addresses: Option<&Value>) -> Vec<String> {
    let Some(Value::Array(addresses)) = addresses else {
        return Vec::new();
    };
    addresses
        .iter()
        .filter(|address| address.get("type").is_some_and(|kind| kind == "InternalIP"))
        .flat_map(|address| texts(address.get("address")))
        .collect()
}

/// The text of one value or of a list of them. An empty text is Kubernetes' way to say "not set".
fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.iter().flat_map(|v| texts(Some(v))).collect(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(other) => vec![other.to_string()],
    }
}

fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
