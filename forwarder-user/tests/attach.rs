//! Attaching programs, by both mechanisms: newer kernels have TCX, and clsact too, which older ones
//! have alone.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use underpass::datapath::attach::{Device, Mechanism};
use underpass::datapath::{Attachments, LoadOptions, Loaded, Pins, bpf, load};
use underpass_bench::lab::Node;
use underpass_bench::traffic::Ping;
use underpass_bench::{Lab, root_or_skip, skip};
use underpass_common::map_names;
use underpass_common::packet_trace::Filter;
use underpass_common::verdict::{Hook, Verdict};

const OPTIONS: LoadOptions = LoadOptions {
    max_flows: 1024,
    xdp: false,
    packet_trace: Filter::OFF,
};

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
                .filter(|(hook, verdict, _)| !hook.is_xdp() && *verdict == Verdict::Off);
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
    // Twice as many where the first loader's program still ran beside the second's.
    expect_each_sees_all(&bed);

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

/// Where one of the four programs of the bed belongs.
fn link_pin(bed: &Bed, hook: Hook, device: &'static str) -> std::path::PathBuf {
    let pins = Pins::new(bed.lab.bpffs(bed.node()));
    let index = move || Ok(nix::net::if_::if_nametoindex(device)?);
    pins.link(hook, bed.node().enter(index).unwrap())
}

/// Each program sees each of three packets, and once.
fn expect_each_sees_all(bed: &Bed) {
    let before = bed.counted();
    bed.ping();
    for ((hook, before), (_, after)) in before.into_iter().zip(bed.counted()) {
        let more = after - before;
        assert!(
            (3..6).contains(&more),
            "{} has seen {more} of 3 packets",
            hook.name()
        );
    }
}

/// An agent was killed between making a filter and pinning it.
#[test]
fn a_filter_without_a_pin_is_taken_over() {
    if !root_or_skip("a_filter_without_a_pin_is_taken_over") {
        return;
    }
    let bed = Bed::new(Mechanism::Clsact);
    let attached = bed.attach_all();
    bed.ping();
    fs::remove_file(link_pin(&bed, Hook::FromWire, "eth0")).unwrap();
    assert_eq!(bed.attach_all(), attached);
    expect_each_sees_all(&bed);
}

/// An agent was killed between the pin and the filter, or somebody has deleted the filter.
#[test]
fn a_filter_that_only_its_pin_tells_of_is_made_and_taken_out() {
    if !root_or_skip("a_filter_that_only_its_pin_tells_of_is_made_and_taken_out") {
        return;
    }
    let bed = Bed::new(Mechanism::Clsact);
    let attached = bed.attach_all();
    bed.ping();
    let delete = "tc filter del dev eth0 ingress; tc qdisc del dev vethpod1 clsact";
    bed.node().run(&["sh", "-ec", delete]).unwrap();
    let left = bed.with(|attachments, _| attachments.attached());
    let hooks: Vec<_> = left.iter().map(|(hook, _)| *hook).collect();
    assert_eq!(hooks, [Hook::ToWire]);
    assert_eq!(bed.attach_all(), attached);
    expect_each_sees_all(&bed);

    bed.node().run(&["sh", "-ec", delete]).unwrap();
    bed.with(|attachments, _| attachments.detach_all());
    assert_eq!(bed.clsact_on(), [""; 0]);
}

/// What stands where a link should be is looked at before it is used.
#[test]
fn what_is_no_link_of_ours_is_replaced() {
    let name = "what_is_no_link_of_ours_is_replaced";
    if Mechanism::of_this_kernel() != Mechanism::Tcx {
        return skip(name, "this kernel has no TCX: Linux 6.6 brought it");
    }
    if !root_or_skip(name) {
        return;
    }
    let bed = Bed::new(Mechanism::Tcx);
    let attached = bed.attach_all();
    bed.ping();
    let pins = Pins::new(bed.lab.bpffs(bed.node()));
    let pin = link_pin(&bed, Hook::FromWire, "eth0");
    // A map whose type has the number of TCX links; a program; a link on the other side; one on another device.
    let others = [
        pins.map(map_names::ROUTES_V4),
        pins.program(Hook::FromWire),
        link_pin(&bed, Hook::ToWire, "eth0"),
        link_pin(&bed, Hook::FromPod, "vethpod1"),
    ];
    for other in &others {
        fs::remove_file(&pin).unwrap();
        let object = bpf::open_pin(other).unwrap();
        bpf::pin(object.as_fd(), &pin).unwrap();
        drop(object);
        assert_eq!(bed.attach_all(), attached, "{}", other.display());
        expect_each_sees_all(&bed);
    }
    for other in others
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain([Path::new("/nonexistent")])
    {
        fs::remove_file(&pin).unwrap();
        symlink(other, &pin).unwrap();
        let found = bed.with(|attachments, _| attachments.attached());
        assert_eq!(found.len(), attached.len() - 1, "{}", other.display());
        assert_eq!(bed.attach_all(), attached, "{}", other.display());
        expect_each_sees_all(&bed);
    }
}

#[test]
fn a_device_that_came_again_has_no_programs() {
    if !root_or_skip("a_device_that_came_again_has_no_programs") {
        return;
    }
    for mechanism in [Mechanism::of_this_kernel(), Mechanism::Clsact] {
        none_on_the_next_device(&Bed::new(mechanism));
    }
}

fn none_on_the_next_device(bed: &Bed) {
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
