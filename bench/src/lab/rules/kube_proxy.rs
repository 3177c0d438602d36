//! kube-proxy's rules (Kubernetes, `pkg/proxy/iptables` and `pkg/proxy/nftables`).

use std::fmt::Write;

use anyhow::{Result, ensure};
use ipnet::IpNet;

use super::{Backend, Service, load};
use crate::lab::{Family, Node, names};

/// What every node has before there is a service.
///
/// Invalid packets are dropped in both backends, though kube-proxy's nftables mode doesn't: the
/// harder case.
const IPTABLES: &str = "*filter
:KUBE-FORWARD - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-I INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
";

/// The same for nftables.
fn nftables(family: Family) -> String {
    let ip = family.nft();
    let addr = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    format!(
        "table {ip} kube-proxy {{
    map service-ips {{
        type {addr} . inet_proto . inet_service : verdict
    }}
    map service-nodeports {{
        type inet_proto . inet_service : verdict
    }}
    map no-endpoint-nodeports {{
        type inet_proto . inet_service : verdict
    }}
    chain mark-for-masquerade {{
        meta mark set mark or 0x4000
    }}
    chain services {{
        {ip} daddr . meta l4proto . th dport vmap @service-ips
        fib daddr type local meta l4proto . th dport vmap @service-nodeports
    }}
    chain nat-prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }}
    chain nat-output {{
        type nat hook output priority -100; policy accept;
        jump services
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority srcnat - 1; policy accept;
        meta mark & 0x4000 == 0 return
        meta mark set mark xor 0x4000
        masquerade fully-random
    }}
    chain filter-forward {{
        type filter hook forward priority filter - 1; policy accept;
        ct state invalid drop
        meta mark & 0x4000 != 0 accept
        ct state related,established accept
    }}
    chain filter-input {{
        type filter hook input priority -110; policy accept;
        ct state new fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports
    }}
}}
"
    )
}

/// Loads them on a node, in each family that it speaks.
pub(crate) fn apply(node: &Node, backend: Backend) -> Result<()> {
    node.families().each().try_for_each(|family| match backend {
        Backend::Iptables => load(node, backend, family, IPTABLES),
        Backend::Nftables => load(node, backend, family, &nftables(family)),
    })
}

/// The rules of these services, all of one family, on the node with these pods.
pub(super) fn services(backend: Backend, pods: IpNet, services: &[&Service]) -> Result<String> {
    let family = Family::of(pods.addr());
    for service in services {
        check(service, family)?;
    }
    let services = services.iter();
    Ok(match backend {
        Backend::Iptables => {
            let nat: String = services
                .clone()
                .map(|one| iptables_service(pods, one))
                .collect();
            let filter: String = services
                .filter(|one| has_no_way(pods, one))
                .filter_map(|one| Some((one, one.node_port?)))
                .map(|(one, port)| {
                    let protocol = one.protocol;
                    format!(
                        "-A KUBE-EXTERNAL-SERVICES -p {protocol} -m {protocol} --dport {port} \
                         -m addrtype --dst-type LOCAL -j DROP\n"
                    )
                })
                .collect();
            format!("*nat\n{nat}COMMIT\n*filter\n{filter}COMMIT\n")
        }
        Backend::Nftables => services.map(|one| nftables_service(pods, one)).collect(),
    })
}

/// The pods behind a service that are on the node itself, by their places among all of them.
fn local_backends(pods: IpNet, service: &Service) -> Vec<usize> {
    let places = 0..service.backends.len();
    places
        .filter(|&place| pods.contains(&service.backends[place].ip()))
        .collect()
}

/// True where the node drops what comes to the service from outside the cluster.
fn has_no_way(pods: IpNet, service: &Service) -> bool {
    service.is_local && local_backends(pods, service).is_empty()
}

fn check(service: &Service, family: Family) -> Result<()> {
    let Service { name, backends, .. } = service;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    // A chain's name has 28 characters at most.
    ensure!(
        (1..=16).contains(&name.len()) && name.chars().all(fits),
        "a service can't be called {name:?}: take 1 to 16 letters, digits and '-'"
    );
    ensure!(
        (1..100).contains(&backends.len()),
        "service {name} needs 1 to 99 pods behind it"
    );
    ensure!(
        backends.iter().all(|pod| Family::of(pod.ip()) == family),
        "service {name} has an {family} address: so must the pods behind it"
    );
    Ok(())
}

fn iptables_service(pods: IpNet, service: &Service) -> String {
    let family = Family::of(pods.addr());
    let (cluster, bits) = (names::cluster_cidr(family), family.bits());
    let name = service.name.to_uppercase();
    let (protocol, vip, port) = (
        service.protocol,
        service.address.ip(),
        service.address.port(),
    );
    let to_vip = format!("-d {vip}/{bits} -p {protocol} -m {protocol} --dport {port}");
    let mut out = format!(
        ":KUBE-SVC-{name} - [0:0]
-I KUBE-SERVICES {to_vip} -j KUBE-SVC-{name}
-A KUBE-SVC-{name} ! -s {cluster} {to_vip} -j KUBE-MARK-MASQ
"
    );
    for (index, pod) in service.backends.iter().enumerate() {
        let endpoint = format!("KUBE-SEP-{name}-{}", index + 1);
        let share = iptables_share(service.backends.len() - index);
        let _ = write!(
            out,
            ":{endpoint} - [0:0]
-A KUBE-SVC-{name} {share}-j {endpoint}
-A {endpoint} -s {}/{bits} -j KUBE-MARK-MASQ
-A {endpoint} -p {protocol} -m {protocol} -j DNAT --to-destination {pod}
",
            pod.ip()
        );
    }
    if let Some(node_port) = service.node_port {
        let _ = writeln!(
            out,
            ":KUBE-EXT-{name} - [0:0]
-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {node_port} -j KUBE-EXT-{name}"
        );
        out += &match service.is_local {
            true => iptables_local(pods, service, &name),
            false => format!(
                "-A KUBE-EXT-{name} -j KUBE-MARK-MASQ\n-A KUBE-EXT-{name} -j KUBE-SVC-{name}\n"
            ),
        };
    }
    out
}

/// The first takes its share of all, the second its share of what is left, and so on.
fn iptables_share(left: usize) -> String {
    match left {
        1 => String::new(),
        left => format!(
            "-m statistic --mode random --probability {:.10} ",
            1.0 / left as f64
        ),
    }
}

/// What comes from outside goes to a pod of this node and keeps its address; the cluster's own goes
/// to any.
fn iptables_local(pods: IpNet, service: &Service, name: &str) -> String {
    let cluster = names::cluster_cidr(Family::of(pods.addr()));
    let mut out = format!(
        ":KUBE-SVL-{name} - [0:0]
-A KUBE-EXT-{name} -s {cluster} -j KUBE-SVC-{name}
-A KUBE-EXT-{name} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A KUBE-EXT-{name} -m addrtype --src-type LOCAL -j KUBE-SVC-{name}
-A KUBE-EXT-{name} -j KUBE-SVL-{name}
"
    );
    let local = local_backends(pods, service);
    for (index, place) in local.iter().enumerate() {
        let share = iptables_share(local.len() - index);
        let endpoint = format!("KUBE-SEP-{name}-{}", place + 1);
        let _ = writeln!(out, "-A KUBE-SVL-{name} {share}-j {endpoint}");
    }
    out
}

fn nftables_service(pods: IpNet, service: &Service) -> String {
    let family = Family::of(pods.addr());
    let (ip, cluster) = (family.nft(), names::cluster_cidr(family));
    let Service { name, protocol, .. } = service;
    let (vip, port) = (service.address.ip(), service.address.port());
    let mut endpoints = String::new();
    for (index, pod) in service.backends.iter().enumerate() {
        let chain = format!("endpoint-{name}-{index}");
        let _ = write!(
            endpoints,
            "    chain {chain} {{
        {ip} saddr {} jump mark-for-masquerade
        meta l4proto {protocol} dnat to {pod}
    }}
",
            pod.ip()
        );
    }
    let all: Vec<_> = (0..service.backends.len()).collect();
    let external = match service.is_local {
        true => {
            let own = match local_backends(pods, service) {
                none if none.is_empty() => String::new(),
                local => nftables_choice(name, &local),
            };
            format!(
                "{ip} saddr {cluster} goto service-{name}
        fib saddr type local jump mark-for-masquerade
        fib saddr type local goto service-{name}
        {own}"
            )
        }
        false => format!("jump mark-for-masquerade\n        goto service-{name}"),
    };
    let mut out = format!(
        "table {ip} kube-proxy {{
{endpoints}    chain service-{name} {{
        {ip} daddr {vip} {protocol} dport {port} {ip} saddr != {cluster} jump mark-for-masquerade
        {}
    }}
    chain external-{name} {{
        {external}
    }}
}}
add element {ip} kube-proxy service-ips {{ {vip} . {protocol} . {port} : goto service-{name} }}
",
        nftables_choice(name, &all),
    );
    if let Some(node_port) = service.node_port {
        let element = format!("{{ {protocol} . {node_port} : goto external-{name} }}");
        let _ = writeln!(
            out,
            "add element {ip} kube-proxy service-nodeports {element}"
        );
        if has_no_way(pods, service) {
            let element = format!("{{ {protocol} . {node_port} : drop }}");
            let map = "no-endpoint-nodeports";
            let _ = writeln!(out, "add element {ip} kube-proxy {map} {element}");
        }
    }
    out
}

/// One of the pods behind a service, by their places, each as likely as any other.
fn nftables_choice(name: &str, places: &[usize]) -> String {
    let choices: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(index, place)| format!("{index} : goto endpoint-{name}-{place}"))
        .collect();
    let number = choices.len();
    format!(
        "numgen random mod {number} vmap {{ {} }}",
        choices.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::Protocol;
    use super::*;

    fn web() -> Service {
        Service::new("web", Protocol::Tcp, "10.96.0.10:80".parse().unwrap())
            .backend("10.244.1.11".parse().unwrap(), 8080)
            .backend("10.244.2.11".parse().unwrap(), 8080)
    }

    fn own_pods() -> IpNet {
        names::pod_cidr(Family::V4, 1)
    }

    #[test]
    fn a_local_service_takes_from_outside_only_for_the_nodes_own_pods() {
        let local = web().node_port(30_080).local();
        let of_node = |backend, node| {
            services(backend, names::pod_cidr(Family::V4, node), &[&local]).unwrap()
        };
        let rules = of_node(Backend::Iptables, 2);
        assert!(rules.contains("-A KUBE-SVL-WEB -j KUBE-SEP-WEB-2"));
        assert!(!rules.contains("-A KUBE-SVL-WEB -j KUBE-SEP-WEB-1") && !rules.contains("DROP"));
        let rules = of_node(Backend::Nftables, 2);
        assert!(
            rules.contains("mod 1 vmap { 0 : goto endpoint-web-1 }") && !rules.contains("drop")
        );
        assert!(of_node(Backend::Iptables, 3).contains("--dport 30080 -m addrtype"));
        assert!(of_node(Backend::Nftables, 3).contains("{ tcp . 30080 : drop }"));
    }

    #[test]
    fn backends_share_evenly() {
        let rules = services(Backend::Iptables, own_pods(), &[&web()]).unwrap();
        assert!(rules.contains("--probability 0.5000000000 -j KUBE-SEP-WEB-1"));
        assert!(rules.contains("-A KUBE-SVC-WEB -j KUBE-SEP-WEB-2"));
        let rules = services(Backend::Nftables, own_pods(), &[&web()]).unwrap();
        assert!(rules.contains("mod 2 vmap { 0 : goto endpoint-web-0, 1 : goto endpoint-web-1 }"));
    }

    #[test]
    fn a_service_that_no_chain_can_hold_is_refused() {
        let refused =
            |service: Service| services(Backend::Iptables, own_pods(), &[&service]).is_err();
        let long = "a-name-of-many-letters";
        assert!(refused(Service {
            name: long.into(),
            ..web()
        }));
        assert!(refused(Service {
            backends: Vec::new(),
            ..web()
        }));
        assert!(refused(web().backend("fd00::1".parse().unwrap(), 80)));
    }

    #[test]
    fn dummies_all_differ() {
        for family in Family::BOTH {
            let all: Vec<_> = (0..5000)
                .map(|number| Service::dummy(family, number))
                .collect();
            let addresses: std::collections::BTreeSet<_> =
                all.iter().map(|service| service.address).collect();
            assert_eq!(addresses.len(), all.len());
            let all: Vec<_> = all.iter().collect();
            assert!(services(Backend::Nftables, names::pod_cidr(family, 1), &all).is_ok());
        }
    }
}
