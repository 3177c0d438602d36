//! The system's programs that lab, tests and comparisons run. Debian's and Ubuntu's packages are installed; on
//! other systems people are told what to install.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::Outcome;
use crate::process::{as_root, capture, find_program, read, run};
use crate::terminal::confirm;

/// A program, and the packages that bring it.
struct Program {
    name: &'static str,
    purpose: &'static str,
    /// Choices, best first; of each, those packages are installed that the system knows.
    packages: &'static [&'static [&'static str]],
}

const PROGRAMS: [Program; 14] = [
    of(
        "ip",
        "namespaces, links and routes of the lab",
        &[&["iproute2"]],
    ),
    of(
        "tc",
        "delays in the lab's wires, filters on old kernels",
        &[&["iproute2"]],
    ),
    of("ss", "sockets of the lab's hosts", &[&["iproute2"]]),
    of(
        "iptables",
        "Flannel's and kube-proxy's rules",
        &[&["iptables"]],
    ),
    of("nft", "policy rules in nftables", &[&["nftables"]]),
    // Ubuntu had it among the kernel's tools, one build for each kernel.
    of(
        "bpftool",
        "looking into the maps",
        &[&["bpftool"], &KERNEL_TOOLS],
    ),
    of(
        "xdp-loader",
        "XDP programs as others see them",
        &[&["xdp-tools"]],
    ),
    of("iperf3", "measuring streams", &[&["iperf3"]]),
    of("ethtool", "offloads of the lab's links", &[&["ethtool"]]),
    of("tcpdump", "frames as they are on the wire", &[&["tcpdump"]]),
    of(
        "conntrack",
        "what connection tracking holds",
        &[&["conntrack"]],
    ),
    of("sysctl", "switches of the kernel", &[&["procps"]]),
    of("ping", "ICMP echo between pods", &[&["iputils-ping"]]),
    of("mandoc", "checking the manual's pages", &[&["mandoc"]]),
];

/// What the comparisons run besides.
const BENCH: [Program; 1] = [of("wrk", "measuring connections", &[&["wrk"]])];

/// What boots other kernels.
const EMULATOR: [Program; 1] = [of(
    EMULATOR_NAME,
    "booting other kernels",
    &[&["qemu-system-x86"]],
)];

/// What builds the container image, where there is no docker either.
const IMAGE_BUILDER: [Program; 1] = [of(
    "buildah",
    "building the container image",
    &[&["buildah"]],
)];

/// What compiles the parts in C of a static binary.
static COMPILERS: [Program; 3] = [
    of(CC_MUSL, "compiling for musl", &[&["musl-tools"]]),
    of(
        CC_AMD64,
        "compiling for amd64",
        &[&["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"]],
    ),
    of(
        CC_ARM64,
        "compiling for arm64",
        &[&["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]],
    ),
];

/// The C compiler for musl, for this machine.
pub const CC_MUSL: &str = "musl-gcc";
/// The C compiler for amd64 on other machines.
pub const CC_AMD64: &str = "x86_64-linux-gnu-gcc";
/// The C compiler for arm64 on other machines.
pub const CC_ARM64: &str = "aarch64-linux-gnu-gcc";

/// The program that boots other kernels.
pub const EMULATOR_NAME: &str = "qemu-system-x86_64";

/// Ubuntu's packages of kernel tools.
const KERNEL_TOOLS: [&str; 3] = ["linux-tools-common", "linux-tools-generic", OF_KERNEL];

/// Stands for the package that belongs to the running kernel.
const OF_KERNEL: &str = "linux-tools-RELEASE";

const fn of(
    name: &'static str,
    purpose: &'static str,
    packages: &'static [&'static [&'static str]],
) -> Program {
    Program {
        name,
        purpose,
        packages,
    }
}

/// What lab, tests and comparisons run.
pub fn ensure() -> Result<Outcome> {
    ensure_all(&PROGRAMS)
}

/// What the comparisons run besides.
pub fn ensure_bench() -> Result<Outcome> {
    ensure_all(&BENCH)
}

/// What boots other kernels.
pub fn ensure_emulator() -> Result<Outcome> {
    ensure_all(&EMULATOR)
}

/// What builds the container image: docker is as good, where its daemon runs.
pub fn ensure_image_builder() -> Result<Outcome> {
    match find_program("docker") {
        Some(docker) if docker_refusal(&docker)?.is_none() => Ok(Outcome::Present(String::new())),
        _ => ensure_all(&IMAGE_BUILDER),
    }
}

/// Why docker can build nothing, in its own words: the program alone does not, its daemon must answer.
pub fn docker_refusal(docker: &Path) -> Result<Option<String>> {
    let answer = capture(Command::new(docker).args(["info", "--format", "{{.ID}}"]))?;
    let said = || String::from_utf8_lossy(&answer.stderr).trim().to_owned();
    Ok((!answer.status.success()).then(said))
}

/// One of the C compilers for a static binary.
pub fn ensure_compiler(name: &str) -> Result<Outcome> {
    let found = COMPILERS.iter().filter(|program| program.name == name);
    found
        .map(|program| ensure_all(std::slice::from_ref(program)))
        .next()
        .unwrap_or_else(|| bail!("nobody knows a compiler {name}"))
}

fn ensure_all(programs: &'static [Program]) -> Result<Outcome> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(Outcome::Present(String::new()));
    }
    if find_program("apt-get").is_none() || !Path::new("/var/lib/dpkg").exists() {
        return Ok(Outcome::Lacking(format!(
            "not a Debian or Ubuntu, so please install: {}",
            describe(&missing)
        )));
    }
    let question = format!(
        "These programs are missing: {}. Install their packages?",
        describe(&missing)
    );
    if confirm(&question)? == Some(false) {
        return Ok(Outcome::Lacking(format!(
            "not installed, as you wish: {}",
            names(&missing)
        )));
    }
    let installed = install(&missing);
    let left = self::missing(programs);
    Ok(match installed {
        Ok(packages) if left.is_empty() => Outcome::Installed(packages.join(", ")),
        Ok(_) => Outcome::Lacking(format!(
            "no package in reach of this machine's apt brings: {}",
            describe(&left)
        )),
        Err(error) => Outcome::Lacking(format!("{error:#}; still missing: {}", names(&left))),
    })
}

fn missing(programs: &'static [Program]) -> Vec<&'static Program> {
    programs
        .iter()
        .filter(|program| find_program(program.name).is_none())
        .collect()
}

fn names(programs: &[&Program]) -> String {
    programs
        .iter()
        .map(|program| program.name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn describe(programs: &[&Program]) -> String {
    programs
        .iter()
        .map(|program| format!("{} ({})", program.name, program.purpose))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Installs what brings the programs, as far as apt knows it: the packages.
fn install(programs: &[&Program]) -> Result<Vec<String>> {
    let purpose = format!("install the packages of {}", names(programs));
    let mut update = as_root("apt-get", &[], &purpose)?;
    // One archive out of reach does not spoil the others.
    if let Err(error) = run(update.args(["-qq", "update"])) {
        eprintln!("  {error:#}; going on with the packages known so far");
    }
    let packages = packages_for(programs)?;
    if packages.is_empty() {
        return Ok(packages);
    }
    let env = [("DEBIAN_FRONTEND", "noninteractive".into())];
    let mut install = as_root("apt-get", &env, &format!("install {}", packages.join(", ")))?;
    // Another apt may be at work, as one often is on a machine just started.
    install.args([
        "-o",
        "DPkg::Lock::Timeout=300",
        "-q",
        "-y",
        "--no-install-recommends",
    ]);
    run(install.arg("install").args(&packages))?;
    Ok(packages)
}

/// The packages to install, by what apt knows.
fn packages_for(programs: &[&Program]) -> Result<Vec<String>> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let choices = wanted(programs, release.trim());
    let mut policy = Command::new("apt-cache");
    // In another language its words are other ones.
    policy
        .arg("policy")
        .args(choices.iter().flatten().flatten())
        .env("LC_ALL", "C");
    Ok(choose(&choices, &candidates(&read(&mut policy)?)))
}

/// The packages of each program, as choices, for the kernel `release`.
fn wanted(programs: &[&Program], release: &str) -> Vec<Vec<Vec<String>>> {
    let name = |package: &&str| match *package {
        OF_KERNEL => format!("linux-tools-{release}"),
        other => other.to_owned(),
    };
    let choices = |program: &&Program| {
        program
            .packages
            .iter()
            .map(|choice| choice.iter().map(name).collect())
            .collect()
    };
    programs.iter().map(choices).collect()
}

/// The packages that can be installed, from the words of `apt-cache policy`.
fn candidates(policy: &str) -> Vec<&str> {
    let mut package = "";
    let mut known = Vec::new();
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if line
            .trim()
            .strip_prefix("Candidate: ")
            .is_some_and(|version| version != "(none)")
        {
            known.push(package);
        }
    }
    known
}

/// Of each program the first choice of which something is known, each package once.
fn choose(programs: &[Vec<Vec<String>>], known: &[&str]) -> Vec<String> {
    let mut packages = Vec::new();
    for choices in programs {
        let of_choice = |choice: &Vec<String>| -> Vec<String> {
            choice
                .iter()
                .filter(|package| known.contains(&package.as_str()))
                .cloned()
                .collect()
        };
        packages.extend(
            choices
                .iter()
                .map(of_choice)
                .find(|known| !known.is_empty())
                .unwrap_or_default(),
        );
    }
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(names: &[&str], policy: &str) -> Vec<String> {
        let programs: Vec<_> = PROGRAMS
            .iter()
            .filter(|program| names.contains(&program.name))
            .collect();
        choose(&wanted(&programs, "6.8.0-40-generic"), &candidates(policy))
    }

    #[test]
    fn a_package_for_two_programs_is_installed_once() {
        let policy = "iproute2:\n  Installed: (none)\n  Candidate: 6.1.0-3\n  Version table:\n";
        assert_eq!(packages(&["ip", "tc"], policy), ["iproute2"]);
    }

    #[test]
    fn ubuntu_has_bpftool_among_the_kernel_tools() {
        let policy = "bpftool:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                      linux-tools-common:\n  Installed: (none)\n  Candidate: 6.8.0-40.40\n\
                      linux-tools-6.8.0-40-generic:\n  Installed: (none)\n  Candidate: 6.8.0-40.40\n";
        assert_eq!(
            packages(&["bpftool"], policy),
            ["linux-tools-6.8.0-40-generic", "linux-tools-common"]
        );
    }

    #[test]
    fn an_unknown_package_is_left_out() {
        assert!(packages(&["iperf3"], "").is_empty());
    }
}
