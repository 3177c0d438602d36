use super::*;
use crate::plan::fixtures::{ip, net, node};

/// No rules but those that always hold.
const NONE: Rules<'static> = Rules {
    own_name: "own",
    cluster_cidrs: &[],
    local_addresses: &[],
};

fn own() -> Node {
    node(
        "own",
        &["10.244.1.0/24", "fd00:244:1::/64"],
        &["10.0.0.1", "fd00::1"],
    )
}

fn good(n: u8) -> Node {
    let (cidr, address) = (format!("10.244.{n}.0/24"), format!("10.0.0.{n}"));
    node(&format!("n{n}"), &[&cidr], &[&address])
}

/// Judges `nodes` beside our own and one good one, which must stay accepted unless told otherwise.
fn refusals(rules: &Rules<'_>, nodes: &[Node]) -> BTreeMap<String, (Refusal, String)> {
    let nodes: Vec<Node> = [own()].into_iter().chain(nodes.iter().cloned()).collect();
    let claims = judge(&nodes, rules);
    let refused = claims.peers.into_iter().filter_map(|(name, claim)| {
        let refused = claim.refused?;
        Some((name, (refused.code, refused.detail)))
    });
    refused.collect()
}

fn codes(nodes: &[Node]) -> Vec<(String, Refusal)> {
    let refusals = refusals(&NONE, nodes);
    refusals
        .into_iter()
        .map(|(name, (code, _))| (name, code))
        .collect()
}

fn refused(list: &[(&str, Refusal)]) -> Vec<(String, Refusal)> {
    list.iter()
        .map(|&(name, code)| (name.to_owned(), code))
        .collect()
}

#[test]
fn good_claims_are_taken_as_they_are() {
    let nodes = [own(), good(2), good(3)];
    let claims = judge(&nodes, &NONE);
    let own = claims.own.unwrap();
    assert_eq!(
        own.pod_cidrs,
        [net("10.244.1.0/24"), net("fd00:244:1::/64")]
    );
    assert_eq!(own.addresses, [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(own.refused, None);
    assert_eq!(claims.peers.len(), 2);
    let peer = &claims.peers["n2"];
    assert_eq!(peer.pod_cidrs, [net("10.244.2.0/24")]);
    assert_eq!(peer.addresses, [ip("10.0.0.2")]);
    assert_eq!(peer.refused, None);
}

#[test]
fn of_several_addresses_the_first_of_each_family_counts() {
    let several = node(
        "n2",
        &["fd00:244:2::/64", "10.244.2.0/24", "10.244.2.0/24"],
        &["fd00::2", "fd00::3", "10.0.0.2", "10.0.0.3"],
    );
    let claims = judge(&[several], &NONE);
    let peer = &claims.peers["n2"];
    assert_eq!(peer.addresses, [ip("10.0.0.2"), ip("fd00::2")]);
    assert_eq!(
        peer.pod_cidrs,
        [net("fd00:244:2::/64"), net("10.244.2.0/24")]
    );
    assert_eq!(claims.own, None);
}

#[test]
fn a_bad_claim_is_refused_alone_and_named() {
    use Refusal::*;
    let table: &[(&[&str], &[&str], Refusal, &str)] = &[
        (
            &[],
            &["10.0.0.9"],
            NoPodCidr,
            "spec.podCIDR and spec.podCIDRs are empty",
        ),
        (&["10.244.9.0/24"], &[], NoAddress, "no InternalIP"),
        (
            &["10.244.9.0/24"],
            &["fd00::9"],
            NoAddress,
            "no InternalIP of its podCIDR's family",
        ),
        (
            &["10.244.9.0/33"],
            &["10.0.0.9"],
            Malformed,
            "spec.podCIDR \"10.244.9.0/33\" is not a CIDR",
        ),
        (
            &["10.244.9.0/24", "x\ny"],
            &["10.0.0.9"],
            Malformed,
            "spec.podCIDRs[1] \"x\\ny\" is not a CIDR",
        ),
        (
            &["10.244.9.0/24"],
            &["127.0.0.1"],
            Malformed,
            "InternalIP \"127.0.0.1\" is no node's address",
        ),
        (
            &["10.244.9.0/24"],
            &["node"],
            Malformed,
            "InternalIP \"node\" is not an IP address",
        ),
        (
            &["0.0.0.0/0"],
            &["10.0.0.9"],
            TooShort,
            "spec.podCIDR \"0.0.0.0/0\" is too large",
        ),
        (
            &["10.244.9.0/24", "::/0"],
            &["10.0.0.9"],
            TooShort,
            "spec.podCIDRs[1] \"::/0\" is too large",
        ),
        (
            &["10.0.0.0/24"],
            &["10.0.0.9"],
            HoldsNodeAddress,
            "holds the InternalIP 10.0.0.1 of node own",
        ),
        (
            &["10.0.0.2/32"],
            &["10.0.0.9"],
            HoldsNodeAddress,
            "holds the InternalIP 10.0.0.2 of node n2",
        ),
        (
            &["10.0.0.9/32"],
            &["10.0.0.9"],
            HoldsNodeAddress,
            "holds the InternalIP 10.0.0.9 of node bad",
        ),
        (
            &["10.0.0.0/8"],
            &["10.0.0.9"],
            HoldsNodeAddress,
            "10.0.0.0/8 holds",
        ),
        (
            &["10.244.1.0/24"],
            &["10.0.0.9"],
            OverlapsOwn,
            "overlaps this node's own 10.244.1.0/24",
        ),
        (
            &["10.244.1.64/26"],
            &["10.0.0.9"],
            OverlapsOwn,
            "overlaps this node's own 10.244.1.0/24",
        ),
        (
            &["10.244.9.0/24", "fd00:244:1::/64"],
            &["10.0.0.9"],
            OverlapsOwn,
            "overlaps this node's own fd00:244:1::/64",
        ),
        (
            &["10.244.9.0/24"],
            &["10.244.1.7"],
            Malformed,
            "lies in this node's own podCIDR 10.244.1.0/24",
        ),
        (
            &["10.244.9.0/24"],
            &["10.0.0.1"],
            Duplicate,
            "10.0.0.1 is also the one of node own",
        ),
    ];
    for (cidrs, addresses, code, part) in table {
        let refusals = refusals(&NONE, &[good(2), node("bad", cidrs, addresses)]);
        let (name, (got, detail)) = refusals.iter().next().unwrap();
        assert_eq!((refusals.len(), name.as_str()), (1, "bad"), "{refusals:?}");
        assert_eq!(got, code, "{detail}");
        assert!(detail.starts_with("node bad: "), "{detail}");
        assert!(detail.contains(part), "{detail}");
        assert_eq!(detail.lines().count(), 1);
    }
}

#[test]
fn what_two_nodes_claim_neither_gets() {
    use Refusal::*;
    let n = |name, cidr, address| node(name, &[cidr], &[address]);
    let table = [
        (
            "one podCIDR",
            vec![
                n("a", "10.244.8.0/24", "10.0.0.8"),
                n("b", "10.244.8.0/24", "10.0.0.9"),
            ],
            refused(&[("a", OverlapsPeer), ("b", OverlapsPeer)]),
        ),
        (
            "one inside the other, a third one aside",
            vec![
                n("a", "10.244.8.0/23", "10.0.0.8"),
                n("b", "10.244.9.128/25", "10.0.0.9"),
                n("c", "10.244.10.0/24", "10.0.0.10"),
            ],
            refused(&[("a", OverlapsPeer), ("b", OverlapsPeer)]),
        ),
        (
            "one that lacks an address, too",
            vec![
                n("a", "10.244.8.0/24", "10.0.0.8"),
                node("b", &["10.244.8.0/24"], &[]),
            ],
            refused(&[("a", OverlapsPeer), ("b", NoAddress)]),
        ),
        (
            "one that reaches into our own, too",
            vec![
                n("a", "10.244.2.0/24", "10.0.0.8"),
                n("b", "10.244.0.0/22", "10.0.0.9"),
            ],
            refused(&[("a", OverlapsPeer), ("b", OverlapsOwn)]),
        ),
        (
            "one address",
            vec![
                n("a", "10.244.8.0/24", "10.0.0.8"),
                n("b", "10.244.9.0/24", "10.0.0.8"),
            ],
            refused(&[("a", Duplicate), ("b", Duplicate)]),
        ),
        (
            "one address, the second of one of them",
            vec![
                n("a", "10.244.8.0/24", "10.0.0.8"),
                node("b", &["10.244.9.0/24"], &["10.0.0.9", "10.0.0.8"]),
            ],
            refused(&[("a", Duplicate), ("b", Duplicate)]),
        ),
        (
            "one name",
            vec![
                n("a", "10.244.8.0/24", "10.0.0.8"),
                n("a", "10.244.9.0/24", "10.0.0.9"),
            ],
            refused(&[("a", Duplicate)]),
        ),
    ];
    for (what, nodes, wanted) in table {
        assert_eq!(codes(&nodes), wanted, "{what}");
        let reversed: Vec<Node> = nodes.into_iter().rev().collect();
        assert_eq!(codes(&reversed), wanted, "{what}, the other way round");
    }
}

#[test]
fn a_claim_that_is_absurd_by_itself_takes_nobody_down() {
    let hostile = [
        node("a", &["0.0.0.0/0"], &["10.0.0.21"]),
        node("b", &["10.0.0.0/8"], &["10.0.0.22"]),
        node("c", &["10.244.2.0/24", "junk"], &["10.0.0.23"]),
        node("d", &["10.244.2.0/24"], &["127.0.0.1"]),
        good(2),
    ];
    let refusals = refusals(&NONE, &hostile);
    assert!(!refusals.contains_key("n2"), "{refusals:?}");
    assert_eq!(refusals.len(), 4);
}

#[test]
fn a_cluster_cidr_binds_its_own_family_alone() {
    let v4 = [net("10.244.0.0/16"), net("10.245.0.0/16")];
    let rules = Rules {
        cluster_cidrs: &v4,
        ..NONE
    };
    let dual = node(
        "dual",
        &["10.244.7.0/24", "fd00:244:7::/64"],
        &["10.0.0.7", "fd00::7"],
    );
    let nodes = [
        dual,
        node("second", &["10.245.7.0/24"], &["10.0.0.8"]),
        node("outside", &["10.246.7.0/24"], &["10.0.0.9"]),
        node("around", &["10.244.0.0/15"], &["10.0.0.10"]),
    ];
    let refusals = refusals(&rules, &nodes);
    let names: Vec<&String> = refusals.keys().collect();
    assert_eq!(names, ["around", "outside"]);
    let (code, detail) = &refusals["outside"];
    assert_eq!(*code, Refusal::OutsideClusterCidr);
    assert_eq!(
        detail,
        "node outside: spec.podCIDR \"10.246.7.0/24\" lies outside the cluster CIDR 10.244.0.0/16, 10.245.0.0/16"
    );
}

#[test]
fn what_this_machine_really_has_is_not_given_away() {
    let local = [ip("10.0.5.5"), ip("10.244.6.1"), ip("10.244.1.1")];
    let rules = Rules {
        local_addresses: &local,
        ..NONE
    };
    let nodes = [
        node("holds", &["10.244.6.0/24"], &["10.0.0.6"]),
        node("same", &["10.244.7.0/24"], &["10.0.5.5"]),
        node("copy", &["10.244.1.0/24"], &["10.0.0.8"]),
    ];
    let refusals = refusals(&rules, &nodes);
    assert_eq!(refusals["holds"].0, Refusal::HoldsNodeAddress);
    assert!(
        refusals["holds"]
            .1
            .ends_with("holds this machine's address 10.244.6.1")
    );
    assert_eq!(refusals["same"].0, Refusal::Duplicate);
    assert!(
        refusals["same"]
            .1
            .ends_with("10.0.5.5 is this machine's own")
    );
    assert_eq!(refusals["copy"].0, Refusal::OverlapsOwn);
}

#[test]
fn names_must_be_fit_for_a_line_and_a_map() {
    let long = "x".repeat(LONGEST_NAME);
    let too_long = "x".repeat(LONGEST_NAME + 1);
    let nodes = [
        node("", &["10.244.2.0/24"], &["10.0.0.2"]),
        node("a b", &["10.244.3.0/24"], &["10.0.0.3"]),
        node("a\nb", &["10.244.4.0/24"], &["10.0.0.4"]),
        node(&long, &["10.244.5.0/24"], &["10.0.0.5"]),
        node(&too_long, &["10.244.6.0/24"], &["10.0.0.6"]),
    ];
    let refusals = refusals(&NONE, &nodes);
    let names: Vec<&String> = refusals.keys().collect();
    assert_eq!(names, ["", "a\nb", "a b", too_long.as_str()]);
    for (code, detail) in refusals.values() {
        assert_eq!(*code, Refusal::Malformed);
        assert!(detail.contains("metadata.name"), "{detail}");
        assert_eq!(detail.lines().count(), 1, "{detail}");
    }
}

#[test]
fn our_own_node_is_judged_as_well() {
    let own = |cidrs: &[&str], addresses: &[&str]| {
        let nodes = [node("own", cidrs, addresses), good(2)];
        let refused = judge(&nodes, &NONE).own.unwrap().refused;
        refused.map(|refused| refused.code)
    };
    assert_eq!(own(&["10.244.1.0/24"], &["10.0.0.1"]), None);
    assert_eq!(
        own(&["10.0.0.0/8"], &["10.0.0.1"]),
        Some(Refusal::HoldsNodeAddress)
    );
    assert_eq!(own(&["10.0.0.0/7"], &["10.0.0.1"]), Some(Refusal::TooShort));
    assert_eq!(own(&[], &["10.0.0.1"]), Some(Refusal::NoPodCidr));
    assert_eq!(own(&["10.244.1.0/24"], &[]), Some(Refusal::NoAddress));
    let twice = judge(&[self::own(), self::own(), good(2)], &NONE);
    assert_eq!(twice.own.unwrap().refused.unwrap().code, Refusal::Duplicate);
    // Our own podCIDR is not taken away by a peer that claims it, or an address in it.
    let claims = judge(
        &[self::own(), node("a", &["10.244.0.0/16"], &["10.244.1.9"])],
        &NONE,
    );
    assert_eq!(claims.own.unwrap().refused, None);
    assert!(claims.peers["a"].refused.is_some());
}
