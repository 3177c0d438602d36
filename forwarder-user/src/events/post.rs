//! An Event's form, and how it is sent.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};

use super::Notice;
use crate::world::kubernetes::{Access, explain};

/// Where Events about objects without a namespace go.
const NAMESPACE: &str = "default";
/// Who tells: `reportingController`.
const CONTROLLER: &str = "underpass";
/// The longest `reportingInstance`, in bytes.
const LONGEST_INSTANCE: usize = 128;
/// The longest name of an object, in bytes (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;

/// What became of an Event.
pub enum Outcome {
    /// It is written.
    Written,
    /// Somebody has told the same before.
    KnownAlready,
    /// It could not be written: one line.
    Failed(String),
}

/// Sends Events.
pub struct Poster {
    access: Access,
    own_name: String,
    api: Option<Api<Event>>,
}

impl Poster {
    /// In the name of the agent on the node `own_name`.
    pub fn new(access: Access, own_name: &str) -> Self {
        Self {
            access,
            own_name: own_name.to_owned(),
            api: None,
        }
    }

    /// Next time a connection is made anew, of fresh credentials.
    pub fn forget_connection(&mut self) {
        self.api = None;
    }

    /// Sends one.
    pub async fn post(&mut self, notice: &Notice) -> Outcome {
        let api = match &self.api {
            Some(api) => api,
            None => match self.access.client().await {
                Ok((client, _)) => self.api.insert(Api::namespaced(client, NAMESPACE)),
                Err(error) => return Outcome::Failed(error),
            },
        };
        let event = event(notice, &self.own_name, Timestamp::now());
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => Outcome::Written,
            Err(kube::Error::Api(status)) if status.code == 409 => Outcome::KnownAlready,
            Err(error) => {
                self.forget_connection();
                Outcome::Failed(explain::answer(&error, "create events.events.k8s.io"))
            }
        }
    }
}

/// As `kubectl describe node` looks for it: the kubelet's own Events, too, have the Node's name in the
/// place of its UID.
fn event(notice: &Notice, own_name: &str, now: Timestamp) -> Event {
    let instance = &own_name[..own_name.floor_char_boundary(LONGEST_INSTANCE)];
    Event {
        metadata: ObjectMeta {
            name: Some(name(notice)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        action: Some("LeaveToKernel".to_owned()),
        reason: Some(notice.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(notice.node.clone()),
            uid: Some(notice.node.clone()),
            ..ObjectReference::default()
        }),
        note: Some(notice.note.clone()),
        type_: Some(notice.kind.name().to_owned()),
        ..Event::default()
    }
}

/// The same for all who tell the same.
fn name(notice: &Notice) -> String {
    // Its keys are fixed: all agents of one build agree; those of another one tell it once more.
    let mut hasher = DefaultHasher::new();
    notice.hash(&mut hasher);
    let suffix = format!(".underpass.{:016x}", hasher.finish());
    let node = &notice.node;
    let end = node.floor_char_boundary(LONGEST_NAME - suffix.len());
    format!("{}{suffix}", &node[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Kind;

    fn notice(node: &str, note: &str) -> Notice {
        Notice::new(node, Kind::Warning, "PodCIDRRefused", note)
    }

    #[test]
    fn who_tells_the_same_tells_it_by_the_same_name() {
        let of = |node, note| name(&notice(node, note));
        assert_eq!(of("a", "why"), of("a", "why"));
        assert_ne!(of("a", "why"), of("a", "another why"));
        assert!(of("a", "why").starts_with("a.underpass."));
        assert_eq!(of(&"a".repeat(253), "why").len(), LONGEST_NAME);
    }

    #[test]
    fn an_event_has_what_the_api_asks_for() {
        let event = event(&notice("b", "why"), "a", Timestamp::UNIX_EPOCH);
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["apiVersion"], "events.k8s.io/v1");
        assert_eq!(json["eventTime"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(json["regarding"]["name"], "b");
        assert_eq!(json["regarding"]["uid"], "b");
        assert_eq!(json["reportingInstance"], "a");
        assert_eq!(json["type"], "Warning");
        assert_eq!(json["note"], "why");
    }
}
