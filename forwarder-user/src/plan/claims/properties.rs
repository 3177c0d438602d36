use proptest::prelude::*;

use super::*;
use crate::plan::fixtures::{ip, net, random};

fn overlaps(a: &[IpNet], b: &[IpNet]) -> bool {
    a.iter().any(|a| b.iter().any(|b| overlap(*a, *b)))
}

proptest! {
    #[test]
    fn nothing_that_is_taken_contradicts_anything_else(nodes in random::nodes()) {
        let cluster = [net("10.244.0.0/16")];
        let local = [ip("10.0.0.1")];
        let rules = Rules { own_name: "node-1", cluster_cidrs: &cluster, local_addresses: &local };
        let claims = judge(&nodes, &rules);
        let taken: Vec<(&String, &Claim)> =
            claims.peers.iter().filter(|(_, claim)| claim.refused.is_none()).collect();
        for (name, claim) in &taken {
            prop_assert!(!claim.pod_cidrs.is_empty() && !claim.addresses.is_empty());
            prop_assert_eq!(nodes.iter().filter(|node| node.name == **name).count(), 1);
            for cidr in &claim.pod_cidrs {
                prop_assert_eq!(cidr.trunc(), *cidr);
                prop_assert!(cidr.prefix_len() >= 8);
                prop_assert!(cidr.addr().is_ipv6() || cluster[0].contains(cidr));
                let held = nodes.iter().flat_map(|node| &node.internal_ips).any(|text| {
                    node_address(text).is_ok_and(|address| cidr.contains(&address))
                });
                prop_assert!(!held);
            }
            prop_assert!(!claim.addresses.contains(&ip("10.0.0.1")));
            if let Some(own) = claims.own.as_ref().filter(|own| own.refused.is_none()) {
                prop_assert!(!overlaps(&own.pod_cidrs, &claim.pod_cidrs));
            }
            for (other, others) in taken.iter().filter(|(other, _)| other != name) {
                prop_assert!(!overlaps(&claim.pod_cidrs, &others.pod_cidrs), "{} {}", name, other);
                prop_assert!(claim.addresses.iter().all(|a| !others.addresses.contains(a)));
            }
        }
        for claim in claims.peers.values() {
            let detail = claim.refused.as_ref().map_or("one line", |refused| &refused.detail);
            prop_assert_eq!(detail.lines().count(), 1);
        }
    }

    #[test]
    fn the_order_of_nodes_does_not_matter(nodes in random::nodes(), turn in 0usize..8) {
        let mut turned = nodes.clone();
        turned.rotate_left(turn.min(nodes.len()));
        let rules = Rules { own_name: "node-1", cluster_cidrs: &[], local_addresses: &[] };
        let (before, after) = (judge(&nodes, &rules), judge(&turned, &rules));
        // Of several Nodes with one name any may stand for all: they are refused.
        for (name, claim) in before.peers {
            prop_assert_eq!(claim.refused, after.peers[&name].refused.clone());
        }
    }
}
