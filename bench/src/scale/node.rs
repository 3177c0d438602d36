//! A Node of the size and shape that kubelets really write: dozens of images, five conditions, the labels and
//! annotations of a cloud, and managedFields that name every one of those fields.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// Images in a Node's status, of the 50 that kubelet writes at the most (`nodeStatusMaxImages`).
const IMAGES: usize = 42;
const CONDITIONS: [(&str, &str, &str, &str); 5] = [
    (
        "NetworkUnavailable",
        "False",
        "FlannelIsUp",
        "Flannel is running on this node",
    ),
    (
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ),
    (
        "DiskPressure",
        "False",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    ),
    (
        "PIDPressure",
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ),
    (
        "Ready",
        "True",
        "KubeletReady",
        "kubelet is posting ready status",
    ),
];

/// The Node; `beat` counts its kubelet's heartbeats.
pub(super) fn node(name: &str, addresses: &[IpAddr], pod_cidrs: &[IpNet], beat: u64) -> Value {
    let number: u64 = name.bytes().map(u64::from).sum();
    let mut shown: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    shown.push(json!({"type": "Hostname", "address": name}));
    let labels = labels(name);
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": format!("6e3c0f6e-52a1-4f5e-9d0b-{number:012x}"),
            "creationTimestamp": "2026-01-12T08:14:03Z",
            "managedFields": managed_fields(&labels),
            "labels": labels,
            "annotations": {
                "csi.volume.kubernetes.io/nodeid": format!("{{\"csi.example.com\":\"{name}\"}}"),
                "flannel.alpha.coreos.com/backend-data": "null",
                "flannel.alpha.coreos.com/backend-type": "host-gw",
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
                "flannel.alpha.coreos.com/public-ip": addresses[0],
                "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock",
                "node.alpha.kubernetes.io/ttl": "300",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {
            "podCIDR": pod_cidrs[0], "podCIDRs": pod_cidrs,
            "providerID": format!("example:///{name}"),
        },
        "status": {
            "addresses": shown,
            "allocatable": {
                "cpu": "15890m", "ephemeral-storage": "95551679124", "hugepages-1Gi": "0",
                "hugepages-2Mi": "0", "memory": "61841712Ki", "pods": "110",
            },
            "capacity": {
                "cpu": "16", "ephemeral-storage": "103684464Ki", "hugepages-1Gi": "0",
                "hugepages-2Mi": "0", "memory": "64947504Ki", "pods": "110",
            },
            "conditions": conditions(beat),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images(),
            "nodeInfo": {
                "architecture": "amd64", "bootID": "5b1c4e3e-7a80-4f0e-8a0c-1f2d3c4b5a69",
                "containerRuntimeVersion": "containerd://2.1.4", "kernelVersion": "6.12.48-cloud-amd64",
                "kubeProxyVersion": "", "kubeletVersion": "v1.34.1", "machineID": "c0ffee00c0ffee00c0ffee00c0ffee00",
                "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13 (trixie)",
                "systemUUID": "ec2b8e0f-1111-2222-3333-445566778899",
            },
        },
    })
}

/// Only the times of heartbeats change between two of them.
fn conditions(beat: u64) -> Value {
    let (hours, minutes, seconds) = (beat / 3600 % 24, beat / 60 % 60, beat % 60);
    let heard = format!("2026-02-03T{hours:02}:{minutes:02}:{seconds:02}Z");
    let all = CONDITIONS.iter().map(|(kind, status, reason, message)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": heard, "lastTransitionTime": "2026-01-12T08:14:44Z",
        })
    });
    all.collect()
}

fn labels(name: &str) -> Map<String, Value> {
    let pairs = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/instance-type", "m.4xlarge"),
        ("beta.kubernetes.io/os", "linux"),
        ("failure-domain.beta.kubernetes.io/region", "eu-north-1"),
        ("failure-domain.beta.kubernetes.io/zone", "eu-north-1b"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("node.example.com/pool", "general-purpose"),
        ("node.kubernetes.io/instance-type", "m.4xlarge"),
        ("topology.kubernetes.io/region", "eu-north-1"),
        ("topology.kubernetes.io/zone", "eu-north-1b"),
    ];
    let pairs = pairs.into_iter();
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn images() -> Value {
    let all = (0..IMAGES).map(|number| {
        let digest = format!("{:064x}", (number as u128 + 1) * 0x9e37_79b9_7f4a_7c15);
        let image = format!(
            "registry.example.com/team-{}/service-{number:02}",
            number % 7
        );
        json!({
            "names": [format!("{image}@sha256:{digest}"), format!("{image}:v1.{number}.3")],
            "sizeBytes": 12_345_678 + number * 1_000_003,
        })
    });
    all.collect()
}

fn managed_fields(labels: &Map<String, Value>) -> Value {
    let names = labels.keys();
    let f_labels: Map<String, Value> = names.map(|key| (format!("f:{key}"), json!({}))).collect();
    let f_conditions: Map<String, Value> = CONDITIONS
        .iter()
        .map(|(kind, ..)| {
            let fields = json!({
                ".": {}, "f:lastHeartbeatTime": {}, "f:lastTransitionTime": {}, "f:message": {},
                "f:reason": {}, "f:status": {}, "f:type": {},
            });
            (format!("k:{{\"type\":\"{kind}\"}}"), fields)
        })
        .collect();
    let entry = |manager: &str, subresource: &str, fields: Value| {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1",
            "time": "2026-02-03T10:11:12Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
            "subresource": subresource,
        })
    };
    json!([
        entry(
            "kubelet",
            "",
            json!({"f:metadata": {
                "f:annotations": {".": {}, "f:volumes.kubernetes.io/controller-managed-attach-detach": {}},
                "f:labels": f_labels,
            }})
        ),
        entry(
            "kube-controller-manager",
            "",
            json!({
                "f:metadata": {"f:annotations": {"f:node.alpha.kubernetes.io/ttl": {}}},
                "f:spec": {"f:podCIDR": {}, "f:podCIDRs": {".": {}, "v:\"10.244.0.0/24\"": {}}},
            })
        ),
        entry(
            "flanneld",
            "status",
            json!({"f:status": {"f:conditions": f_conditions}})
        ),
        entry(
            "kubelet",
            "status",
            json!({"f:status": {
                "f:allocatable": {"f:memory": {}, "f:ephemeral-storage": {}},
                "f:capacity": {"f:memory": {}}, "f:conditions": f_conditions, "f:images": {},
            }})
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Peer;
    use super::*;

    #[test]
    fn it_is_as_large_as_real_ones_and_a_heartbeat_changes_little() {
        let peer = Peer(4321);
        let at = |beat| node(&peer.name(), &peer.addresses(), &peer.pod_cidrs(), beat).to_string();
        let size = at(0).len();
        assert!((13_000..16_000).contains(&size), "{size} bytes");
        assert_eq!(at(1).len(), size);
        assert_ne!(at(1), at(0));
    }
}
