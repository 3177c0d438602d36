//! Which packet is meant.

use super::*;
use crate::cli::{Output, PinArgs, ReadArgs};

pub(super) fn args(to: &str, from: Option<&str>) -> TraceArgs {
    TraceArgs {
        read: ReadArgs {
            pins: PinArgs {
                bpffs: "/nowhere".into(),
            },
            output: Output::Text,
        },
        to: ip(to),
        from: from.map(ip),
        proto: Some(Protocol::Tcp),
        port: Some(80),
        from_port: Some(40_000),
    }
}

#[test]
fn the_ends_tell_the_direction() {
    let known = snapshot(Way::Out);
    let asked = |to, from| {
        let asked = Question::new(&args(to, from), &known).unwrap();
        let ports = (asked.pod_port.unwrap(), asked.remote_port.unwrap());
        (asked.way, asked.pod, asked.remote, ports)
    };
    let (pod, far) = (Some(ip(POD)), Some(ip(FAR)));
    let out = (Way::Out, pod, far, (40_000, 80));
    assert_eq!(asked(FAR, Some(POD)), out);
    assert_eq!(asked(FAR, None), out, "the pod that is known");
    let back = (Way::In, pod, far, (80, 40_000));
    assert_eq!(asked(POD, Some(FAR)), back);
    assert_eq!(asked(POD, None), (Way::In, pod, None, (80, 40_000)));
}

#[test]
fn a_pod_that_talks_there_is_taken_before_others() {
    let mut known = snapshot(Way::Out);
    known.endpoints.insert(ip("10.244.1.1"), endpoint());
    let taken = |known: &Snapshot, to| Question::new(&args(to, None), known).unwrap().pod;
    assert_eq!(taken(&known, FAR), Some(ip(POD)));
    assert_eq!(taken(&known, "10.244.2.99"), Some(ip("10.244.1.1")));
    assert_eq!(
        taken(&known, "fd00::9"),
        None,
        "none of that family is known"
    );
    known.flows.clear();
    known.endpoints.clear();
    assert_eq!(taken(&known, FAR), None);
    let text = unfolded(&walk(
        &Question::new(&args(FAR, None), &known).unwrap(),
        &known,
    ));
    assert!(text.contains("no pod's address is known yet"), "{text}");
}

#[test]
fn packets_that_cannot_be_are_refused() {
    let known = snapshot(Way::Out);
    let refused = |args: TraceArgs| Question::new(&args, &known).unwrap_err().to_string();
    let families = refused(args("fd00::9", Some(POD)));
    assert!(families.contains("two families"), "{families}");
    assert!(refused(args("224.0.0.1", None)).contains("224.0.0.1 is no address"));
    assert!(refused(args(FAR, Some("0.0.0.0"))).contains("0.0.0.0 is no address"));
    let mut ping = args(FAR, None);
    ping.proto = Some(Protocol::Icmp);
    assert!(refused(ping).contains("ICMP has no ports"));
}
