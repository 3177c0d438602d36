//! kube-proxy's rules (Kubernetes, `pkg/proxy/iptables` and `pkg/proxy/nftables`).

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::{Backend, Service, load};
use crate::lab::{Family, Node, names};

/// What every node has before there is a service.
///
/// Invalid packets are dropped in both backends, though kube-proxy's nftables mode doesn't: the
/// harder case.
const IPTABLES: &str = "*filter
:KUBE-FORWARD - [0:0]
-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
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

/// The rules of these services, all of one family.
pub(super) fn services(backend: Backend, family: Family, services: &[&Service]) -> Result<String> {
    for service in services {
        check(service, family)?;
    }
    let services = services.iter();
    Ok(match backend {
        Backend::Iptables => {
            let rules: String = services.map(|one| iptables_service(family, one)).collect();
            format!("*nat\n{rules}COMMIT\n")
        }
        Backend::Nftables => services.map(|one| nftables_service(family, one)).collect(),
    })
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

fn iptables_service(family: Family, service: &Service) -> String {
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
        // The first takes its share of all, the second its share of what is left, and so on.
        let share = match service.backends.len() - index {
            1 => String::new(),
            left => format!(
                "-m statistic --mode random --probability {:.10} ",
                1.0 / left as f64
            ),
        };
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
        let masquerade = if service.is_local {
            // What pods and the node itself ask is taken for the ClusterIP's.
            format!(
                "-A KUBE-EXT-{name} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ\n\
                 -A KUBE-EXT-{name} -s {cluster} -j KUBE-SVC-{name}\n"
            )
        } else {
            format!("-A KUBE-EXT-{name} -j KUBE-MARK-MASQ\n")
        };
        let _ = write!(
            out,
            ":KUBE-EXT-{name} - [0:0]
-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {node_port} -j KUBE-EXT-{name}
{masquerade}-A KUBE-EXT-{name} -j KUBE-SVC-{name}
"
        );
    }
    out
}

fn nftables_service(family: Family, service: &Service) -> String {
    let (ip, cluster) = (family.nft(), names::cluster_cidr(family));
    let Service { name, protocol, .. } = service;
    let (vip, port) = (service.address.ip(), service.address.port());
    let (mut endpoints, mut choices) = (String::new(), Vec::new());
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
        choices.push(format!("{index} : goto {chain}"));
    }
    let masquerade = if service.is_local {
        "fib saddr type local jump mark-for-masquerade"
    } else {
        "jump mark-for-masquerade"
    };
    let mut out = format!(
        "table {ip} kube-proxy {{
{endpoints}    chain service-{name} {{
        {ip} daddr {vip} {protocol} dport {port} {ip} saddr != {cluster} jump mark-for-masquerade
        numgen random mod {} vmap {{ {} }}
    }}
    chain external-{name} {{
        {masquerade}
        goto service-{name}
    }}
}}
add element {ip} kube-proxy service-ips {{ {vip} . {protocol} . {port} : goto service-{name} }}
",
        service.backends.len(),
        choices.join(", "),
    );
    if let Some(node_port) = service.node_port {
        let element = format!("{{ {protocol} . {node_port} : goto external-{name} }}");
        let _ = writeln!(
            out,
            "add element {ip} kube-proxy service-nodeports {element}"
        );
    }
    out
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

    #[test]
    fn backends_share_evenly() {
        let rules = services(Backend::Iptables, Family::V4, &[&web()]).unwrap();
        assert!(rules.contains("--probability 0.5000000000 -j KUBE-SEP-WEB-1"));
        assert!(rules.contains("-A KUBE-SVC-WEB -j KUBE-SEP-WEB-2"));
        let rules = services(Backend::Nftables, Family::V4, &[&web()]).unwrap();
        assert!(rules.contains("mod 2 vmap { 0 : goto endpoint-web-0, 1 : goto endpoint-web-1 }"));
    }

    #[test]
    fn a_service_that_no_chain_can_hold_is_refused() {
        let refused =
            |service: Service| services(Backend::Iptables, Family::V4, &[&service]).is_err();
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
            assert!(services(Backend::Nftables, family, &all).is_ok());
        }
    }
}
