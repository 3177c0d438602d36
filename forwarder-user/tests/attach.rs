//! Attaching programs, by both mechanisms: newer kernels have TCX, and clsact too, which older ones
//! have alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use underpass::datapath::attach::{Device, Mechanism};
use underpass::datapath::{Attachments, LoadOptions, Loaded, Pins, load};
use underpass_bench::lab::Node;
use underpass_bench::traffic::Ping;
use underpass_bench::{Lab, root_or_skip, skip};
use underpass_common::verdict::{Hook, Verdict};

const OPTIONS: LoadOptions = LoadOptions { max_flows: 1024 };

/// A node of the lab with programs of our own, without an agent.
struct Bed {
    lab: Lab,
    mechanism: Mechanism,
}

impl Bed {
    fn new(mechanism: Mechanism) -> Self {
        let lab = Lab::builder().nodes(2).pods(1).build().unwrap();
        Self { lab, mechanism }
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Does something with the programs, within the node's namespace.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Attachments, &mut Loaded) -> Result<T> + Send + 'static,
    ) -> T {
        let pins = Pins::new(self.lab.bpffs(self.node()));
        let mechanism = self.mechanism;
        self.node()
            .enter(move || {
                let mut loaded = load(&pins, OPTIONS)?;
                work(&Attachments::new(pins, mechanism), &mut loaded)
            })
            .unwrap()
    }

    fn attach_all(&self) -> BTreeSet<(Hook, u32)> {
        let veth = self.lab.pod(1, 1).node_veth().to_owned();
        let uplink = self.node().uplink();
        self.with(move |attachments, loaded| {
            for (name, hooks) in [
                (uplink, [Hook::ToWire, Hook::FromWire]),
                (veth.as_str(), [Hook::ToPod, Hook::FromPod]),
            ] {
                let ifindex = nix::net::if_::if_nametoindex(name)?;
                for hook in hooks {
                    attachments.attach(&mut loaded.ebpf, hook, Device { ifindex, name })?;
                }
            }
            attachments.attached()
        })
    }

    /// Packets that each hook has counted: nobody has written settings, so all are the kernel's.
    fn counted(&self) -> Vec<(Hook, u64)> {
        self.with(|_, loaded| {
            let verdicts = loaded.maps.verdicts()?;
            let off = verdicts
                .into_iter()
                .filter(|(_, verdict, _)| *verdict == Verdict::Off);
            Ok(off.map(|(hook, _, count)| (hook, count.packets)).collect())
        })
    }

    /// The devices of the node that have a clsact qdisc.
    fn clsact_on(&self) -> Vec<String> {
        let shown = self.node().run(&["tc", "qdisc", "show"]).unwrap();
        let lines = shown.lines().filter(|line| line.contains("qdisc clsact"));
        let devices = lines.map(|line| line.split(' ').nth(4).unwrap().to_owned());
        devices.collect()
    }

    fn ping(&self) {
        let far = IpAddr::V4(self.lab.pod(2, 1).ipv4());
        Ping::to(far).count(3).expect(self.lab.pod(1, 1)).unwrap();
    }
}

/// Attached programs see every packet, are swapped in place by a second loader, and leave nothing.
fn lives_and_leaves(mechanism: Mechanism) {
    let bed = Bed::new(mechanism);
    let attached = bed.attach_all();
    assert_eq!(attached.len(), 4, "{attached:?}");
    bed.ping();
    for (hook, packets) in bed.counted() {
        assert!(
            packets >= 3,
            "{} has seen {packets} of 3 packets",
            hook.name()
        );
    }

    assert_eq!(
        bed.attach_all(),
        attached,
        "the second loader swaps what is there"
    );
    let before = bed.counted();
    bed.ping();
    for ((hook, before), (_, after)) in before.into_iter().zip(bed.counted()) {
        let more = after - before;
        // Twice as many where the first loader's program still ran beside the second's.
        assert!(
            (3..6).contains(&more),
            "{} has seen {more} of 3 packets",
            hook.name()
        );
    }

    let left = bed.with(|attachments, _| {
        attachments.detach_all()?;
        attachments.attached()
    });
    assert_eq!(left, BTreeSet::new());
    assert_eq!(bed.clsact_on(), [""; 0], "our own qdiscs go with us");
    let before = bed.counted();
    bed.ping();
    assert_eq!(bed.counted(), before, "detached programs see nothing");
}

#[test]
fn tcx_programs_live_and_leave() {
    let name = "tcx_programs_live_and_leave";
    if Mechanism::of_this_kernel() != Mechanism::Tcx {
        skip(name, "this kernel has no TCX: Linux 6.6 brought it");
    } else if root_or_skip(name) {
        lives_and_leaves(Mechanism::Tcx);
    }
}

#[test]
fn clsact_programs_live_and_leave() {
    if root_or_skip("clsact_programs_live_and_leave") {
        lives_and_leaves(Mechanism::Clsact);
    }
}

#[test]
fn a_clsact_qdisc_that_others_need_stays() {
    if !root_or_skip("a_clsact_qdisc_that_others_need_stays") {
        return;
    }
    let bed = Bed::new(Mechanism::Clsact);
    let tc = |command: &str| bed.node().run(&["sh", "-ec", command]).unwrap();
    // Theirs on the uplink; ours on the veth, where somebody comes to use it.
    tc("tc qdisc add dev eth0 clsact");
    bed.attach_all();
    tc("tc filter add dev vethpod1 egress bpf direct-action bytecode '1,6 0 0 0'");
    bed.with(|attachments, _| attachments.detach_all());
    assert_eq!(bed.clsact_on(), ["eth0", "vethpod1"]);

    // Now nobody needs it, but it is no longer ours to take.
    tc("tc filter del dev vethpod1 egress");
    bed.attach_all();
    bed.with(|attachments, _| attachments.detach_all());
    assert_eq!(bed.clsact_on(), ["eth0", "vethpod1"]);
}

#[test]
fn a_device_that_came_again_has_no_programs() {
    if !root_or_skip("a_device_that_came_again_has_no_programs") {
        return;
    }
    let bed = Bed::new(Mechanism::of_this_kernel());
    let pod = bed.lab.pod(1, 1);
    let attached = bed.attach_all();
    let veth = pod.node_veth().to_owned();
    let ifindex = bed
        .node()
        .enter(move || Ok(nix::net::if_::if_nametoindex(veth.as_str())?))
        .unwrap();
    bed.lab.remove_pod(pod).unwrap();
    let again = underpass_bench::lab::PodPlan::new(1, 1).veth_ifindex(ifindex);
    bed.lab.add_pod(again).unwrap();
    let uplink_only = bed.with(|attachments, _| attachments.attached());
    let expected: BTreeSet<_> = attached
        .into_iter()
        .filter(|(_, device)| *device != ifindex)
        .collect();
    assert_eq!(uplink_only, expected);
}
