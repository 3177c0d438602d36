//! What the programs cost the verifier, and how large they are.

use underpass::datapath::express;
use underpass::datapath::load::program;
use underpass_common::verdict::Hook;

use crate::rig::with_rig;

/// What a program may cost: a quarter more to verify than it does on Linux 6.18 or 6.1, whichever takes more (12,038,
/// 6,467, 25,086, 5,808 and 8,756), and a tenth more in size. `from_wire` holds two entrances: to this node's pods, and,
/// on a node with several uplinks, on to other nodes'. Who needs more says so here, and why.
///
/// The entrances are larger for reading IPv4 headers in place, of which `from_wire` has four copies: a call to a function
/// that does it took 8 ns of 62 to 102 (docs/benchmarks.md).
struct Budget {
    hook: Hook,
    /// Instructions that the verifier walks through, on all paths; it gives up at a million.
    verified: u32,
    /// Bytes of the program as the kernel runs it before its JIT, eight to an instruction.
    translated: u32,
}

const BUDGETS: [Budget; 5] = [
    Budget {
        hook: Hook::FromPod,
        verified: 15_000,
        translated: 26_700,
    },
    Budget {
        hook: Hook::ToWire,
        verified: 8_100,
        translated: 16_900,
    },
    Budget {
        hook: Hook::FromWire,
        verified: 31_400,
        translated: 55_600,
    },
    Budget {
        hook: Hook::ToPod,
        verified: 8_500,
        translated: 16_600,
    },
    Budget {
        hook: Hook::FromWireXdp,
        verified: 11_000,
        translated: 19_100,
    },
];

#[test]
fn the_programs_keep_to_their_budget() {
    const TEST: &str = "the_programs_keep_to_their_budget";
    with_rig(TEST, |rig| {
        println!("program        verified  of budget  translated  of budget");
        let mut over = Vec::new();
        let mut is_told = true;
        for budget in BUDGETS {
            let ebpf = &mut rig.loaded.ebpf;
            let info = match budget.hook.is_xdp() {
                true => express::program(ebpf).expect("a program").info(),
                false => program(ebpf, budget.hook).expect("a program").info(),
            };
            let info = info.expect("the kernel tells of its programs");
            // 0: a kernel before 5.16, which does not tell.
            let verified = info.verified_instruction_count().unwrap_or_default();
            is_told &= verified != 0;
            let translated = info.size_translated().unwrap_or_default();
            println!(
                "{:13} {verified:9} {:10} {translated:11} {:10}",
                budget.hook.name(),
                budget.verified,
                budget.translated
            );
            if verified > budget.verified || translated > budget.translated {
                over.push(budget.hook.name());
            }
        }
        assert!(over.is_empty(), "over budget: {over:?}");
        if !is_told {
            underpass_bench::skip(TEST, "this kernel does not count (Linux 5.16 brought it)");
        }
    });
}
