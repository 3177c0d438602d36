use super::*;
use crate::plan::fixtures::{config, node, world};
use crate::plan::plan;
use crate::world::World;

fn told(world: &World) -> Vec<Notice> {
    let plan = plan(&config(), world).unwrap();
    notices(&plan, "node-1").into_iter().collect()
}

#[test]
fn a_healthy_cluster_is_worth_none() {
    assert_eq!(told(&world(3)), []);
}

#[test]
fn a_refused_claim_is_told_of_the_node_that_makes_it() {
    let mut world = world(3);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("twin-a", &["10.244.70.0/24"], &["10.0.0.70"]));
    nodes.push(node("twin-b", &["10.244.70.0/24"], &["10.0.0.71"]));
    let notices = told(&world);
    let about: Vec<_> = notices.iter().map(|one| one.node.as_str()).collect();
    assert_eq!(about, ["twin-a", "twin-b"]);
    assert_eq!(
        notices[0],
        Notice {
            node: "twin-a".to_owned(),
            kind: Kind::Warning,
            reason: "PodCIDRRefused",
            note: "Traffic to its pods is left to the kernel: node twin-a: spec.podCIDR \
                   10.244.70.0/24 overlaps 10.244.70.0/24 of node twin-b"
                .to_owned(),
        }
    );
}

#[test]
fn a_node_that_only_begins_is_worth_none() {
    let mut world = world(3);
    let nodes = world.nodes.as_mut().unwrap();
    nodes.push(node("new", &[], &["10.0.0.70"]));
    nodes.push(node("newer", &["10.244.71.0/24"], &[]));
    assert_eq!(told(&world), []);
}

#[test]
fn nodes_off_the_segment_are_told_of_together() {
    let mut world = world(3);
    let nodes = world.nodes.as_mut().unwrap();
    for n in 0..12 {
        let (cidr, address) = (format!("10.244.1{n:02}.0/24"), format!("192.0.2.{n}"));
        nodes.push(node(&format!("far-{n:02}"), &[&cidr], &[&address]));
    }
    let notices = told(&world);
    let [notice] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert_eq!(
        (notice.node.as_str(), notice.kind),
        ("node-1", Kind::Normal)
    );
    assert!(notice.note.contains("far-00, far-01"), "{}", notice.note);
    assert!(
        notice
            .note
            .contains("far-09 and 2 more (node far-00: its address 192.0.2.0"),
        "{}",
        notice.note
    );
    assert!(!notice.note.contains("far-10"), "{}", notice.note);
}

#[test]
fn what_is_wrong_with_this_node_is_told_of_it() {
    let mut world = world(3);
    world.nodes.as_mut().unwrap()[0].pod_cidrs = vec!["10.244.1.0/33".to_owned()];
    let notices = told(&world);
    let about: Vec<_> = notices
        .iter()
        .map(|one| (one.node.as_str(), one.reason))
        .collect();
    assert_eq!(about, [("node-1", "PodTrafficLeftToKernel")]);
}

#[test]
fn a_note_is_cut_between_characters() {
    let long = "\u{20ac}".repeat(1000);
    let notice = Notice::new("node-1", Kind::Normal, "Test", &long);
    assert_eq!(notice.note.len(), 1023);
}
