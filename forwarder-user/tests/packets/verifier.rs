//! What the programs cost the verifier.

use underpass::datapath::load::program;
use underpass_common::verdict::Hook;

use crate::rig::with_rig;

/// Instructions that the verifier may walk through for one program; it gives up at a million.
const BUDGET: u32 = 100_000;

#[test]
fn the_programs_are_far_from_the_verifiers_limit() {
    with_rig("the_programs_are_far_from_the_verifiers_limit", |rig| {
        for hook in Hook::ALL {
            let program = program(&mut rig.loaded.ebpf, hook).expect("a program");
            let info = program.info().expect("the kernel tells of its programs");
            // None: a kernel before 5.16, which does not tell.
            let verified = info.verified_instruction_count().unwrap_or_default();
            println!("{}: {verified} instructions verified", hook.name());
            assert!(verified < BUDGET, "{}: {verified}", hook.name());
        }
    });
}
