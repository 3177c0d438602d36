//! Debian's kernels of other versions, to be booted in qemu: the image, the modules that a lab may need, and a
//! static busybox for the guest, unpacked in a folder of the workspace.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail, ensure};

use super::apt::{self, Apt, Archive};
use crate::process::run;
use crate::terminal::Progress;
use crate::workspace;

/// Suites that keep to one kernel version.
const SETTLED: [(&str, &str); 3] = [
    ("bullseye", "5.10"),
    ("bookworm", "6.1"),
    ("trixie", "6.12"),
];

/// Suites whose kernel moves on.
const MOVING: [&str; 4] = ["trixie-backports", "forky", "sid", "bookworm-backports"];

/// The package that always depends on the suite's present kernel.
const META_PACKAGE: &str = "linux-image-amd64";

/// A kernel's own packages: at times one, at times several, each followed by its release.
const PARTS: [&str; 3] = ["linux-image-", "linux-modules-", "linux-binary-"];

/// What the guest's first program is.
const BUSYBOX: &str = "busybox-static";

/// Folders of modules that are kept, under `kernel/`: network, and what a virtual machine is made of. The rest,
/// most of it drivers, is ten times as much.
const MODULES: [&str; 13] = [
    "net",
    "crypto",
    "arch/x86/crypto",
    "arch/x86/lib",
    "drivers/net/veth",
    "drivers/net/bonding",
    "drivers/net/dummy",
    "drivers/net/ifb",
    "drivers/virtio",
    "fs/9p",
    "fs/netfs",
    "fs/fscache",
    "lib",
];

/// Beside a kernel: which of its modules were kept.
const KEPT: &str = "kept-modules";

/// A kernel that can be booted.
pub struct Kernel {
    dir: PathBuf,
    /// As `uname -r` will show it.
    pub release: String,
}

/// What a search for a kernel comes to.
pub enum Search {
    Found(Kernel),
    /// Not on this machine, for this reason.
    Vain(String),
}

impl Kernel {
    /// Fetches the newest kernel of a version such as `6.1` that Debian offers, unless it is there. The search is
    /// in vain on a machine without apt and a mirror of Debian, where none of Debian's suites has the version, and
    /// where a download fails.
    ///
    /// # Errors
    /// The packages are not as they should be, or cannot be unpacked.
    pub fn fetch(version: &str) -> Result<Search> {
        let dir = workspace::tools_dir().join("kernels").join(version);
        if !has_all_modules(&dir) {
            let scratch = dir.with_file_name(format!("fetching-{}", process::id()));
            let unpacked = match download(&scratch, version) {
                Ok(packages) => Ok(unpack(&packages, &scratch, &dir)),
                Err(error) => Err(format!("{error:#}")),
            };
            // The scratch folder matters to nobody; the result does.
            let _ = fs::remove_dir_all(&scratch);
            match unpacked {
                Ok(result) => result?,
                Err(complaint) if !dir.exists() => return Ok(Search::Vain(complaint)),
                // With fewer modules it will do; the tests that miss one say so.
                Err(_) => {}
            }
        }
        let release = only_entry(&dir.join("modules"))?;
        Ok(Search::Found(Self { dir, release }))
    }

    /// The image that qemu boots.
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// What stands for `/lib/modules`.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("modules")
    }

    /// A program that needs no library.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
    }
}

/// Whether a kernel is there, with all modules that are wanted: an earlier checkout may have kept fewer.
fn has_all_modules(dir: &Path) -> bool {
    fs::read_to_string(dir.join(KEPT)).is_ok_and(|kept| kept == MODULES.join("\n"))
}

/// The name of the only entry of a folder.
fn only_entry(dir: &Path) -> Result<String> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    match names.as_slice() {
        [name] => Ok(name.to_string_lossy().into_owned()),
        _ => bail!("{} holds {} entries, not one", dir.display(), names.len()),
    }
}

fn unpack(packages: &[PathBuf], scratch: &Path, place: &Path) -> Result<()> {
    let unpacked = scratch.join("unpacked");
    for package in packages {
        apt::unpack(package, &unpacked)?;
    }
    let assembled = scratch.join("assembled");
    assemble(&unpacked, &assembled)?;
    let kept = assembled.join(KEPT);
    fs::write(&kept, MODULES.join("\n")).with_context(|| format!("writing {}", kept.display()))?;
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("removing {}", place.display()))?;
    }
    fs::rename(&assembled, place).with_context(|| format!("making {}", place.display()))
}

/// The suites in which to look for a version, the likely ones first.
fn suites(version: &str) -> Vec<&'static str> {
    let settled = SETTLED.iter().filter(|(_, kernel)| *kernel == version);
    settled.map(|(suite, _)| *suite).chain(MOVING).collect()
}

/// Downloads a kernel's packages, and busybox, from the first suite that has the version.
fn download(scratch: &Path, version: &str) -> Result<Vec<PathBuf>> {
    ensure!(
        ARCH == "x86_64",
        "the kernels are Debian's for amd64, and this machine is {ARCH}"
    );
    apt::check()?;
    let mut seen = Vec::new();
    for archive in Archive::of_debian(&suites(version))? {
        let apt = Apt::new(&archive, &scratch.join(seen.len().to_string()))?;
        let complaint = apt.update(&archive.name)?;
        let versions = apt.versions(META_PACKAGE)?;
        if let Some(full) = versions.iter().find(|full| is_of(full, version)) {
            let mut packages = parts(&apt, full)?;
            packages.push(BUSYBOX.to_owned());
            return apt.download(&packages);
        }
        let offer = match (versions.first(), complaint) {
            (Some(other), _) => other.clone(),
            (None, Some(complaint)) => complaint,
            (None, None) => "none".to_owned(),
        };
        seen.push(format!("{}: {offer}", archive.name));
    }
    if seen.is_empty() {
        bail!("this machine's apt names no mirror of Debian to fetch a kernel from");
    }
    bail!("Debian offers no kernel {version} ({})", seen.join("; "))
}

/// Whether a package's version is of a kernel version: `6.1.176-1` is of `6.1`, and not of `6.17`.
fn is_of(full: &str, version: &str) -> bool {
    full.strip_prefix(version)
        .is_some_and(|rest| rest.starts_with(['.', '-', '~']))
}

/// The packages that make up the kernel of the meta-package's version.
fn parts(apt: &Apt, full: &str) -> Result<Vec<String>> {
    let mut wanted = vec![META_PACKAGE.to_owned()];
    let mut at = 0;
    while let Some(package) = wanted.get(at) {
        let dependencies = apt.dependencies(package, full)?;
        let new: Vec<_> = dependencies
            .into_iter()
            .filter(|name| is_part(name) && !wanted.contains(name))
            .collect();
        wanted.extend(new);
        at += 1;
    }
    ensure!(
        wanted.len() > 1,
        "{META_PACKAGE} {full} depends on no kernel"
    );
    Ok(wanted
        .drain(1..)
        .map(|package| format!("{package}={full}"))
        .collect())
}

/// Whether a package is part of one kernel, not a meta-package of any.
fn is_part(package: &str) -> bool {
    PARTS.iter().any(|prefix| {
        package
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Takes out of the unpacked packages what is needed.
fn assemble(unpacked: &Path, into: &Path) -> Result<()> {
    let _progress = Progress::start("sorting the kernel's modules");
    // Older packages say /lib, newer ones /usr/lib.
    let roots = ["lib/modules", "usr/lib/modules"].map(|dir| unpacked.join(dir));
    let all = roots.iter().find(|dir| dir.exists());
    let all = all.context("the kernel's packages hold no modules")?;
    let release = only_entry(all)?;
    let all = all.join(&release);
    let kept = into.join("modules").join(&release);

    let images = [
        unpacked.join(format!("boot/vmlinuz-{release}")),
        all.join("vmlinuz"),
    ];
    take_first(&images, &into.join("vmlinuz"))?;
    let busybox = into.join("busybox");
    take_first(
        &["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path)),
        &busybox,
    )?;
    // What is built in: not every kernel's packages tell.
    let built_in = "modules.builtin";
    if all.join(built_in).exists() {
        take_first(&[all.join(built_in)], &kept.join(built_in))?;
    }
    for wanted in MODULES {
        // A module that the kernel has built in has no file.
        let candidates = ["", ".ko", ".ko.xz"].map(|end| format!("kernel/{wanted}{end}"));
        if let Some(path) = candidates.iter().find(|path| all.join(path).exists()) {
            take_first(&[all.join(path)], &kept.join(path))?;
        }
    }
    decompress(&busybox, &kept)?;
    let mut index = Command::new(&busybox);
    index.args(["depmod", "-b", "."]).arg(&release);
    index.current_dir(into);
    // It looks in lib/modules of the folder that it is given.
    let lib = into.join("lib");
    fs::create_dir(&lib)
        .and_then(|()| std::os::unix::fs::symlink("../modules", lib.join("modules")))
        .with_context(|| format!("making {}", lib.display()))?;
    run(&mut index)?;
    fs::remove_dir_all(&lib).with_context(|| format!("removing {}", lib.display()))
}

/// Moves the first of some files or folders that exists.
fn take_first(choices: &[PathBuf], to: &Path) -> Result<()> {
    let found = choices.iter().find(|path| path.exists());
    let Some(found) = found else {
        let names: Vec<_> = choices.iter().map(|it| it.display().to_string()).collect();
        bail!("the packages hold no {}", names.join(" and no "));
    };
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir)
        .and_then(|()| fs::rename(found, to))
        .with_context(|| format!("taking {} to {}", found.display(), to.display()))
}

/// Unpacks modules that are compressed: not every kernel, and not every busybox, can load those.
fn decompress(busybox: &Path, dir: &Path) -> Result<()> {
    let mut compressed = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("listing {}", dir.display()))?
                .path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == "xz") {
                compressed.push(path);
            }
        }
    }
    // A command line has an end.
    for some in compressed.chunks(200) {
        run(Command::new(busybox).args(["xz", "-d"]).args(some))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_not_the_beginning_of_another() {
        assert!(is_of("6.1.176-1", "6.1"));
        assert!(is_of("7.2~rc3-1~exp1", "7.2"));
        assert!(!is_of("6.12.95-1~bpo12+1", "6.1"));
        assert!(!is_of("6.1.176-1", "6.12"));
    }

    #[test]
    fn a_kernels_parts_have_its_release_in_their_names() {
        assert!(is_part("linux-image-6.1.0-50-amd64"));
        assert!(is_part("linux-modules-7.3.4+deb13-amd64"));
        assert!(!is_part("linux-modules-amd64"));
        assert!(!is_part("linux-base-7.3.4+deb13-amd64"));
        assert!(!is_part("initramfs-tools"));
    }

    #[test]
    fn likely_suites_come_first() {
        assert_eq!(suites("6.1")[0], "bookworm");
        assert_eq!(suites("7.2"), MOVING);
    }
}
