//! What the API server says, reduced to the fields that are used: pages of a list and events of a watch.
//!
//! A Node of 14 KB leaves a few hundred bytes; everything else is skipped while it is being read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::world::cluster::Node;
use crate::world::nodes_file::{fit_for_a_line, node_of};

/// The annotation of the bookmark that ends a streaming list (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its Nodes.
    pub nodes: Vec<Node>,
    /// One line for each item that is not a Node.
    pub warnings: Vec<String>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<String>,
    /// The version that the list shows, to watch from.
    pub version: String,
}

/// An event of a watch.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A Node is new or has changed.
    Applied(Node, String),
    /// A Node is gone.
    Deleted(Node, String),
    /// Nothing but a version; `true`: a streaming list is complete with it.
    Bookmark(String, bool),
    /// The server ends the watch, and why: the HTTP status code and one line.
    Error(u16, String),
}

/// Reads a page.
///
/// # Errors
/// Where it is not a list: one line.
pub fn page(text: &[u8]) -> Result<Page, String> {
    let list: List<Object<Slim>> = match serde_json::from_slice(text) {
        Ok(Object(list)) => list,
        Err(error) if error.is_data() => return page_in_full(text),
        Err(error) => return Err(format!("not valid JSON: {error}")),
    };
    let items = list.items.unwrap_or_default();
    page_of(
        list.metadata.0,
        items.into_iter().map(|Object(item)| item.into_value()),
    )
}

/// A page in which something has an unexpected type: slower, with everything that it holds.
///
/// # Errors
/// As [`page`].
pub(super) fn page_in_full(text: &[u8]) -> Result<Page, String> {
    let Object::<List<Value>>(list) =
        serde_json::from_slice(text).map_err(|error| match error.is_data() {
            true => format!("not a list of Nodes: {error}"),
            false => format!("not valid JSON: {error}"),
        })?;
    page_of(list.metadata.0, list.items.unwrap_or_default().into_iter())
}

fn page_of(metadata: ListMeta, items: impl Iterator<Item = Value>) -> Result<Page, String> {
    let mut page = Page {
        next: metadata.next.filter(|token| !token.is_empty()),
        version: metadata.resource_version,
        ..Page::default()
    };
    for (index, item) in items.enumerate() {
        match node_of(&item) {
            Ok(node) => page.nodes.push(node),
            Err(why) => {
                let text = format!("items[{index}]: {why}; left out");
                page.warnings.push(fit_for_a_line(&text));
            }
        }
    }
    if page.version.is_empty() {
        return Err("not a list of Nodes: metadata.resourceVersion is missing".to_owned());
    }
    Ok(page)
}

/// Reads a line of a watch.
///
/// # Errors
/// Where it is not an event about a Node: one line.
pub fn event(line: &[u8]) -> Result<Event, String> {
    match serde_json::from_slice::<Object<Line<Object<Slim>>>>(line) {
        Ok(Object(line)) => event_of(&line.kind, &line.object.0.into_value()),
        Err(error) if error.is_data() => event_in_full(line),
        Err(error) => Err(format!("not valid JSON: {error}")),
    }
}

/// An event in which something has an unexpected type.
///
/// # Errors
/// As [`event`].
pub(super) fn event_in_full(line: &[u8]) -> Result<Event, String> {
    let Object::<Line<Value>>(line) =
        serde_json::from_slice(line).map_err(|error| match error.is_data() {
            true => format!("not an event of a watch: {error}"),
            false => format!("not valid JSON: {error}"),
        })?;
    event_of(&line.kind, &line.object)
}

fn event_of(kind: &str, object: &Value) -> Result<Event, String> {
    if kind == "ERROR" {
        return Ok(error_of(object));
    }
    let version = match object.pointer("/metadata/resourceVersion") {
        Some(Value::String(version)) if !version.is_empty() => version.clone(),
        _ => return Err(format!("event {kind:?} without metadata.resourceVersion")),
    };
    match kind {
        "ADDED" | "MODIFIED" => Ok(Event::Applied(node_of(object)?, version)),
        "DELETED" => Ok(Event::Deleted(node_of(object)?, version)),
        "BOOKMARK" => {
            let ends = &object["metadata"]["annotations"][INITIAL_EVENTS_END];
            Ok(Event::Bookmark(version, !ends.is_null()))
        }
        _ => Err(format!("event {kind:?} is none of a watch")),
    }
}

/// A `Status` in the place of a Node.
fn error_of(status: &Value) -> Event {
    let code = status["code"]
        .as_u64()
        .and_then(|code| code.try_into().ok());
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let message = text("message").or_else(|| text("reason"));
    Event::Error(
        code.unwrap_or(0),
        message.unwrap_or("no reason given").to_owned(),
    )
}

/// A JSON object. serde alone would also take an array, for its values in the order of the fields.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default)]
    metadata: Object<ListMeta>,
    #[serde(default = "none")]
    items: Option<Vec<T>>,
}

fn none<T>() -> Option<T> {
    None
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ListMeta {
    #[serde(rename = "resourceVersion")]
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Line<T> {
    #[serde(rename = "type")]
    kind: String,
    object: T,
}

/// A Node, a bookmark or a Status: what is used of any of them.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Slim {
    kind: Value,
    metadata: Object<SlimMeta>,
    spec: Object<SlimSpec>,
    status: Object<SlimStatus>,
    code: Value,
    message: Value,
    reason: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimMeta {
    name: Value,
    resource_version: Value,
    annotations: Option<Object<SlimAnnotations>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimAnnotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: Value,
    #[serde(rename = "flannel.alpha.coreos.com/public-ip")]
    public_ip: Value,
    #[serde(rename = "flannel.alpha.coreos.com/public-ip-overwrite")]
    public_ip_overwrite: Value,
    #[serde(rename = "flannel.alpha.coreos.com/public-ipv6")]
    public_ipv6: Value,
    #[serde(rename = "flannel.alpha.coreos.com/public-ipv6-overwrite")]
    public_ipv6_overwrite: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Value,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlimStatus {
    addresses: Value,
}

impl Slim {
    /// The same as a value, so that Nodes of the API and of files are judged by the same code.
    fn into_value(self) -> Value {
        let (Object(metadata), Object(spec), Object(status)) =
            (self.metadata, self.spec, self.status);
        let Object(annotations) = metadata.annotations.unwrap_or_default();
        json!({
            "kind": self.kind,
            "metadata": {
                "name": metadata.name,
                "resourceVersion": metadata.resource_version,
                "annotations": {
                    INITIAL_EVENTS_END: annotations.initial_events_end,
                    "flannel.alpha.coreos.com/public-ip": annotations.public_ip,
                    "flannel.alpha.coreos.com/public-ip-overwrite": annotations.public_ip_overwrite,
                    "flannel.alpha.coreos.com/public-ipv6": annotations.public_ipv6,
                    "flannel.alpha.coreos.com/public-ipv6-overwrite": annotations.public_ipv6_overwrite,
                },
            },
            "spec": {"podCIDR": spec.pod_cidr, "podCIDRs": spec.pod_cidrs},
            "status": {"addresses": status.addresses},
            "code": self.code,
            "message": self.message,
            "reason": self.reason,
        })
    }
}
