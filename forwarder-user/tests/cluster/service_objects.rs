//! The Services and EndpointSlices of the tests: without selectors, as there are no controllers to follow them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use underpass_bench::Lab;
use underpass_bench::lab::{Family, Pod, names};

use crate::service_traffic::PORT;

/// A kind of service; there is one in each family.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    /// The number of its address.
    number: u16,
    /// What is special about it, as JSON.
    spec: &'static str,
}

/// The pod is on another node than the client's.
pub const FAR: Kind = Kind {
    name: "far",
    number: 10,
    spec: r#"{"type": "NodePort"}"#,
};
/// The pod is on the client's node.
pub const NEAR: Kind = Kind {
    name: "near",
    number: 11,
    spec: r#"{"type": "NodePort"}"#,
};
/// As [`FAR`], and only at home is it open to those outside.
pub const LOCAL: Kind = Kind {
    name: "local",
    number: 12,
    spec: r#"{"type": "NodePort", "externalTrafficPolicy": "Local"}"#,
};
/// Several pods, always the same one for a client.
pub const STICKY: Kind = Kind {
    name: "sticky",
    number: 13,
    spec: r#"{"sessionAffinity": "ClientIP"}"#,
};
/// Several pods.
pub const SPREAD: Kind = Kind {
    name: "spread",
    number: 14,
    spec: "{}",
};
/// The client's own.
pub const OWN: Kind = Kind {
    name: "own",
    number: 15,
    spec: "{}",
};

/// All of them.
pub const ALL: [Kind; 6] = [FAR, NEAR, LOCAL, STICKY, SPREAD, OWN];

impl Kind {
    /// Its ClusterIP and port.
    pub fn vip(self, family: Family) -> SocketAddr {
        SocketAddr::new(names::service_address(family, self.number), 80)
    }

    /// Its port of the nodes, where it has one. The families share their range.
    pub fn node_port(self, family: Family) -> Option<u16> {
        let first = match family {
            Family::V4 => 30_000,
            Family::V6 => 30_100,
        };
        let has_one = self.spec.contains("NodePort");
        has_one.then_some(first + self.number)
    }

    fn pods(self, lab: &Lab) -> Vec<&Pod> {
        match self.number {
            number if number == OWN.number => vec![lab.pod(1, 1)],
            number if number == NEAR.number => vec![lab.pod(1, 2)],
            number if number == FAR.number || number == LOCAL.number => vec![lab.pod(2, 1)],
            _ => several(lab).into(),
        }
    }

    fn object_name(self, family: Family) -> String {
        format!("{}-{}", self.name, family.to_string().to_lowercase())
    }
}

/// The pods behind the services that have several.
pub fn several(lab: &Lab) -> [&Pod; 3] {
    [lab.pod(1, 2), lab.pod(2, 1), lab.pod(2, 2)]
}

/// All services in both families, each with its EndpointSlice: a List.
pub fn services(lab: &Lab) -> Value {
    let kinds = ALL.into_iter();
    let items = kinds.flat_map(|kind| {
        Family::BOTH
            .into_iter()
            .flat_map(move |family| [service(kind, family), endpoints(lab, kind, family)])
    });
    json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}

fn service(kind: Kind, family: Family) -> Value {
    let port = |protocol: &str| {
        let mut port = json!({
            "name": protocol.to_lowercase(), "protocol": protocol, "port": 80, "targetPort": PORT,
        });
        if let Some(node_port) = kind.node_port(family) {
            port["nodePort"] = node_port.into();
        }
        port
    };
    let mut spec: Value = serde_json::from_str(kind.spec).expect("constant JSON");
    spec["clusterIP"] = kind.vip(family).ip().to_string().into();
    spec["ipFamilies"] = [family.to_string()].into();
    spec["ports"] = [port("TCP"), port("UDP")].into();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": kind.object_name(family), "namespace": "default"}, "spec": spec,
    })
}

/// What the controllers would write of the pods behind a service.
fn endpoints(lab: &Lab, kind: Kind, family: Family) -> Value {
    let endpoint = |pod: &Pod| {
        json!({
            "addresses": [pod.address_of(family)], "nodeName": lab.node(pod.node()).name(),
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    };
    let endpoints: Vec<_> = kind.pods(lab).into_iter().map(endpoint).collect();
    let port = |protocol: &str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT});
    let name = kind.object_name(family);
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "addressType": family.to_string(),
        "metadata": {
            "name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name},
        },
        "endpoints": endpoints, "ports": [port("TCP"), port("UDP")],
    })
}
