use super::*;

#[test]
fn what_is_wrong_with_our_own_node_is_told() {
    let table: [(&str, Vec<Node>, &str); 5] = [
        (
            "missing",
            vec![],
            "no Node is named \"node-1\", as --node-name says this one is",
        ),
        (
            "no podCIDR",
            vec![node("node-1", &[], &["10.0.0.1"])],
            "node node-1: spec.podCIDR and spec.podCIDRs are empty",
        ),
        (
            "malformed",
            vec![node("node-1", &["x"], &["10.0.0.1"])],
            "node node-1: spec.podCIDR \"x\" is not a CIDR",
        ),
        (
            "too large",
            vec![node(
                "node-1",
                &["10.244.1.0/24", "10.0.0.0/6"],
                &["10.0.0.1"],
            )],
            "node node-1: spec.podCIDRs[1] \"10.0.0.0/6\" is not a CIDR",
        ),
        (
            "twice",
            vec![
                node("node-1", &["10.244.1.0/24"], &["10.0.0.1"]),
                node("node-1", &["10.244.7.0/24"], &["10.0.0.7"]),
            ],
            "node node-1: metadata.name: 2 Nodes have this name",
        ),
    ];
    for (what, own, part) in table {
        let mut world = world(2);
        world.nodes.as_mut().unwrap().splice(..1, own);
        let plan = planned(&config(), &world);
        assert_eq!(plan.own_pod_cidrs, [], "{what}");
        assert_eq!(plan.pods, BTreeMap::new(), "{what}");
        assert_eq!(plan.problems.len(), 1, "{what}: {:?}", plan.problems);
        assert_eq!(plan.problems[0].subject, Subject::OwnNode);
        let text = &plan.problems[0].text;
        assert!(text.contains(part), "{what}: {text}");
        assert!(
            text.contains("nothing is carried to this node's pods"),
            "{text}"
        );
        assert_eq!(
            plan.routes.len(),
            1,
            "the way to the peers is known: {what}"
        );
    }
}

#[test]
fn our_own_address_may_be_missing() {
    let mut world = world(2);
    world.nodes.as_mut().unwrap()[0].internal_ips.clear();
    let plan = planned(&config(), &world);
    assert_eq!(texts(&plan), [""; 0]);
    assert_eq!(plan.own_pod_cidrs.len(), 1);
    assert_eq!(
        plan.main_uplink().unwrap().name,
        "eth0",
        "by the default route"
    );
}

#[test]
fn more_own_pod_cidrs_than_the_datapath_holds_are_told() {
    let mut world = world(2);
    let cidrs = (0..MAX_POD_CIDRS + 2).map(|n| format!("10.245.{n}.0/24"));
    world.nodes.as_mut().unwrap()[0].pod_cidrs = cidrs.collect();
    let plan = planned(&config(), &world);
    assert_eq!(plan.own_pod_cidrs.len(), MAX_POD_CIDRS);
    assert!(
        texts(&plan)[0].contains("spec.podCIDRs has 6 IPv4 CIDRs; only the first 4 are carried")
    );
}

#[test]
fn a_rule_that_splits_flows_leaves_its_family_to_the_kernel() {
    let rule = |is_ipv6| PolicyRule {
        text: "IPv4 70: from all tos 0x10 lookup 100".to_owned(),
        is_ipv6,
        splits_flows: true,
    };
    let mut world = dual_stack(2);
    let whole = planned(&config(), &world);
    assert_eq!(whole.own_pod_cidrs.len(), 2);
    for (is_ipv6, left) in [
        (false, whole.own_pod_cidrs[1]),
        (true, whole.own_pod_cidrs[0]),
    ] {
        world.kernel.rules = vec![rule(is_ipv6)];
        let plan = planned(&config(), &world);
        assert_eq!(plan.own_pod_cidrs, [left]);
        assert_eq!(plan.problems.len(), 1, "{:?}", plan.problems);
        assert!(plan.problems[0].text.contains("tos 0x10"));
    }
    world.kernel.rules = vec![PolicyRule {
        splits_flows: false,
        ..rule(false)
    }];
    let plan = planned(&config(), &world);
    assert_eq!(plan.own_pod_cidrs, whole.own_pod_cidrs);
}
