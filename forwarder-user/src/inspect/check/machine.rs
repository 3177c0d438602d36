//! The kernel, and what this process may do there.

use super::Finding;
use super::facts::{Answer, Machine};

/// bpf_check_mtu(), which says whether a packet fits its way out, came with it.
const OLDEST: [u16; 3] = [5, 12, 0];

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![
        kernel(machine),
        features(machine),
        tcx(&machine.tcx),
        btf(machine.btf),
        bpffs(&machine.bpffs),
        capabilities(machine),
    ]
}

fn kernel(machine: &Machine) -> Finding {
    let (name, release) = ("kernel", &machine.release);
    match &machine.version {
        Ok(version) if *version < OLDEST => Finding::fail(
            name,
            format!("{release}; 5.12 is the oldest that can work"),
            "boot a newer kernel, best 6.6 or later",
        ),
        Ok(_) => Finding::pass(name, release.clone()),
        Err(error) => Finding::warn(
            name,
            format!("{release}, version unknown: {error}"),
            "see to it that it is 5.12 or later",
        ),
    }
}

fn features(machine: &Machine) -> Finding {
    let name = "BPF features";
    let of = |wanted: fn(&Answer<bool>) -> bool| -> Vec<&str> {
        let features = machine.features.iter();
        let chosen = features.filter(|feature| wanted(&feature.there));
        chosen.map(|feature| feature.name).collect()
    };
    let missing = of(|there| *there == Ok(false));
    if !missing.is_empty() {
        return Finding::fail(
            name,
            format!("the kernel lacks {}", missing.join(", ")),
            "boot a kernel with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT, 5.12 or later",
        );
    }
    let error = machine
        .features
        .iter()
        .find_map(|one| one.there.as_ref().err());
    if let Some(error) = error {
        let untold = of(Result::is_err).join(", ");
        return Finding::warn(
            name,
            format!("cannot be tried ({untold}): {error}"),
            "run the check as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        );
    }
    Finding::pass(
        name,
        format!("tried and there: {}", of(|_| true).join(", ")),
    )
}

fn tcx(tcx: &Answer<bool>) -> Finding {
    let name = "TCX";
    match tcx {
        Ok(true) => Finding::pass(name, "programs are attached by it, and exchanged in place"),
        Ok(false) => Finding::warn(
            name,
            "not in this kernel: programs are filters of a clsact qdisc, among those of others by priority",
            "nothing has to be done; Linux 6.6 or later has it",
        ),
        Err(error) => Finding::warn(
            name,
            format!("cannot be tried: {error}"),
            "run the check as root, or with CAP_NET_ADMIN",
        ),
    }
}

fn btf(there: bool) -> Finding {
    let name = "BTF";
    match there {
        true => Finding::pass(name, "the kernel describes its types"),
        false => Finding::warn(
            name,
            "none in the kernel: bpftool will show maps as hex",
            "nothing has to be done; a kernel with CONFIG_DEBUG_INFO_BTF has it",
        ),
    }
}

fn bpffs(bpffs: &Answer<String>) -> Finding {
    let name = "bpffs";
    match bpffs {
        Ok(path) => Finding::pass(name, path.clone()),
        Err(error) => Finding::fail(
            name,
            error.clone(),
            "mount -t bpf bpf /sys/fs/bpf, or name another place with --bpffs",
        ),
    }
}

fn capabilities(machine: &Machine) -> Finding {
    let name = "capabilities";
    match &machine.missing_capabilities {
        Ok(missing) if missing.is_empty() => Finding::pass(name, "all that are needed"),
        Ok(missing) => Finding::fail(
            name,
            format!("missing: {}", crate::capabilities::names(missing)),
            "run it as root, or give it these capabilities",
        ),
        Err(error) => Finding::warn(name, error.clone(), "is /proc mounted?"),
    }
}
