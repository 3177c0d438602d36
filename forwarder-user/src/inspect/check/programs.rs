//! Programs and filters of others, where ours are or will be.

use underpass_common::verdict::Hook;

use super::Finding;
use super::facts::{Answer, Foreign};

/// How many are told in full.
const TOLD: usize = 4;

pub(super) fn finding(programs: &Answer<Vec<Foreign>>) -> Finding {
    let name = "programs of others";
    let programs = match programs {
        Ok(programs) if programs.is_empty() => {
            return Finding::pass(name, "none on the uplink and pods' veths");
        }
        Ok(programs) => programs,
        Err(error) => {
            let fix = "run the check as root, or with CAP_NET_ADMIN";
            return Finding::warn(name, format!("cannot be read: {error}"), fix);
        }
    };
    let told: Vec<_> = programs.iter().take(TOLD).map(tell).collect();
    let more = match programs.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Finding::warn(
        name,
        told.join("; ") + &more,
        "nothing where that is meant; else take them off with the tool that put them there (bpftool net show)",
    )
}

fn tell(program: &Foreign) -> String {
    let Foreign { device, what, .. } = program;
    let side = match program.hook.is_entrance() {
        true => "ingress",
        false => "egress",
    };
    let place = match program.before_ours {
        true => "before ours",
        false => "after ours",
    };
    let meaning = meaning(program.hook, program.before_ours);
    format!("{what} on {device} {side}, {place}: {meaning}")
}

/// What becomes of the two, in a few words.
fn meaning(hook: Hook, before_ours: bool) -> &'static str {
    match (hook, before_ours) {
        (Hook::FromPod | Hook::FromWire | Hook::FromWireXdp, true) => {
            "it sees every packet; one that it drops or redirects never comes to ours"
        }
        (Hook::FromPod | Hook::FromWire | Hook::FromWireXdp, false) => {
            "it does not see packets that go fast"
        }
        (Hook::ToWire, true) => "it sees every packet; what it does not pass on is never confirmed",
        (Hook::ToWire, false) => "it sees every packet",
        (Hook::ToPod, _) => "it does not see packets that go fast: they go straight into the pod",
    }
}
