//! What this process may do.

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};

/// What the agent needs: BPF and PERFMON to load the programs (Linux 5.8), NET_ADMIN to attach them
/// and for netlink.
const NEEDED: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
];

/// The needed capabilities that are not there.
///
/// # Errors
/// Where the kernel does not tell.
pub fn missing() -> Result<Vec<Capability>> {
    let effective = caps::read(None, CapSet::Effective).context("cannot read the capabilities")?;
    Ok(missing_of(&effective))
}

/// Whether a capability is there.
///
/// # Errors
/// Where the kernel does not tell.
pub fn has(capability: Capability) -> Result<bool> {
    caps::has_cap(None, CapSet::Effective, capability).context("cannot read the capabilities")
}

fn missing_of(effective: &CapsHashSet) -> Vec<Capability> {
    let has = |capability: &Capability| {
        // CAP_SYS_ADMIN stands in for those that were once part of it.
        let stands_in = *capability != Capability::CAP_NET_ADMIN
            && effective.contains(&Capability::CAP_SYS_ADMIN);
        effective.contains(capability) || stands_in
    };
    NEEDED.into_iter().filter(|one| !has(one)).collect()
}

/// Stops where one is missing: what the kernel would say later is hard to read.
///
/// # Errors
/// Names what is missing.
pub fn require() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this process lacks {}: run it as root, or give it these capabilities",
        names(&missing)
    )
}

/// `CAP_BPF, CAP_PERFMON`.
pub fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_in_for_all_but_net_admin() {
        let of = |capabilities: &[Capability]| missing_of(&capabilities.iter().copied().collect());
        assert_eq!(of(&NEEDED), []);
        assert_eq!(
            of(&[Capability::CAP_SYS_ADMIN]),
            [Capability::CAP_NET_ADMIN]
        );
        assert_eq!(of(&[]), NEEDED);
        assert_eq!(
            names(&[Capability::CAP_BPF, Capability::CAP_PERFMON]),
            "CAP_BPF, CAP_PERFMON"
        );
    }
}
