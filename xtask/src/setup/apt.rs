//! apt beside the machine's own configuration: lists, cache and packages lie in a folder of ours, which needs
//! no root and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt_sources::{self, DebianMirror, Source};
use crate::process::{capture_slow, find_program, read, run};

/// Debian's keyring, under its names over the years: it verifies every suite, where the one of a machine's
/// entry may be for its own suite only.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Where to look for a package.
pub struct Archive {
    pub name: String,
    /// apt's description of it; without one it is whatever the machine's own apt is set up for.
    entry: Option<String>,
}

impl Archive {
    /// What this machine's apt is set up for.
    pub fn of_machine() -> Self {
        Self {
            name: "this machine's own suites".to_owned(),
            entry: None,
        }
    }

    /// Debian's suites, in this order, on each of the mirrors that the machine uses; none where it uses none.
    ///
    /// # Errors
    /// apt's files cannot be listed.
    pub fn of_debian(suites: &[&str]) -> Result<Vec<Self>> {
        let mut archives = Vec::new();
        for mirror in apt_sources::debian_mirrors(&machine_sources()?) {
            archives.extend(suites.iter().map(|suite| Self {
                name: format!("Debian's {suite}"),
                entry: Some(entry(&mirror, suite)),
            }));
        }
        Ok(archives)
    }
}

fn entry(mirror: &DebianMirror, suite: &str) -> String {
    let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
    let signed_by = keyring
        .or(mirror.signed_by.as_deref())
        .map(|path| format!("Signed-By: {path}\n"));
    format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n{}",
        mirror.uri,
        signed_by.unwrap_or_default()
    )
}

/// What the machine's apt is set up for, from its files.
fn machine_sources() -> Result<Vec<Source>> {
    let apt = Path::new("/etc/apt");
    let mut files = vec![apt.join("sources.list")];
    if let Ok(dir) = fs::read_dir(apt.join("sources.list.d")) {
        for file in dir {
            files.push(file.context("listing /etc/apt/sources.list.d")?.path());
        }
    }
    files.sort();
    // A file that cannot be read (none there, or not for this user) has nothing to offer.
    let sources = files.iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => apt_sources::parse_one_line(&text),
            Some("sources") => apt_sources::parse_deb822(&text),
            _ => Vec::new(),
        }
    });
    Ok(sources.collect())
}

/// Whether packages can be fetched and unpacked here.
///
/// # Errors
/// A tool is missing: which one.
pub fn check() -> Result<()> {
    for tool in ["apt-get", "apt-cache", "dpkg"] {
        if find_program(tool).is_none() {
            bail!("this machine has no {tool}");
        }
    }
    Ok(())
}

/// Unpacks a package's files into a folder.
///
/// # Errors
/// dpkg failed.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    run(Command::new("dpkg").arg("-x").args([package, into]))
}

/// apt with lists and cache of its own.
pub struct Apt {
    dir: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// For one archive, in a folder of its own.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(archive: &Archive, dir: &Path) -> Result<Self> {
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))
                .with_context(|| format!("making {}", dir.join(sub).display()))?;
        }
        let mut options = vec![
            format!("Dir::State::lists={}", dir.join("lists").display()),
            format!("Dir::Cache={}", dir.join("cache").display()),
            // apt's own user may not enter our folder.
            "APT::Sandbox::User=root".to_owned(),
            // Only the list of packages is wanted, not translations and the catalogues of desktop software.
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        if let Some(entry) = &archive.entry {
            let file = dir.join("archive.sources");
            fs::write(&file, entry).with_context(|| format!("writing {}", file.display()))?;
            options.push(format!("Dir::Etc::sourcelist={}", file.display()));
            options.push("Dir::Etc::sourceparts=-".to_owned());
        }
        Ok(Self {
            dir: dir.to_owned(),
            options,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(self.options.iter().flat_map(|option| ["-o", option]))
            .current_dir(&self.dir)
            .env("LC_ALL", "C");
        command
    }

    /// Fetches the list of packages. `Some` is apt's complaint: that a part failed does not mean that ours did.
    ///
    /// # Errors
    /// apt cannot be started.
    pub fn update(&self, name: &str) -> Result<Option<String>> {
        let output = capture_slow(
            &format!("reading the packages of {name}"),
            self.command("apt-get").args(["-qq", "update"]),
        )?;
        let text = String::from_utf8_lossy(&output.stderr);
        Ok(text
            .lines()
            .find(|line| line.starts_with("E:") || line.starts_with("W:"))
            .map(str::to_owned))
    }

    /// The versions of a package that the archive has, newest first.
    ///
    /// # Errors
    /// apt failed.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = read(self.command("apt-cache").args(["madison", package]))?;
        Ok(versions_in(&table))
    }

    /// The names of the packages that one depends on, alternatives included.
    ///
    /// # Errors
    /// There is no such package.
    pub fn dependencies(&self, package: &str, version: &str) -> Result<Vec<String>> {
        let package = format!("{package}={version}");
        let record = read(
            self.command("apt-cache")
                .args(["show", "--no-all-versions", &package]),
        )?;
        Ok(dependencies_in(&record))
    }

    /// Downloads packages, each `name=version`: their files.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let names = packages.join(", ");
        let mut command = self.command("apt-get");
        let output = capture_slow(
            &format!("downloading {names}"),
            command.args(["-qq", "download"]).args(packages),
        )?;
        let files =
            fs::read_dir(&self.dir).with_context(|| format!("listing {}", self.dir.display()))?;
        let found: Vec<_> = files
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|it| it == "deb"))
            .collect();
        if !output.status.success() || found.len() < packages.len() {
            bail!(
                "{names}: listed, but not to be had: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(found)
    }
}

/// Reads the table of `apt-cache madison`: package, version, source.
fn versions_in(table: &str) -> Vec<String> {
    let versions = table.lines().filter_map(|line| line.split('|').nth(1));
    versions.map(|version| version.trim().to_owned()).collect()
}

/// Reads the field `Depends` of a package's record.
fn dependencies_in(record: &str) -> Vec<String> {
    let field = record
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))
        .unwrap_or_default();
    let names = field
        .split([',', '|'])
        .filter_map(|part| part.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_versions_is_read() {
        let table = "  rust-src | 1.97.1+dfsg1-1 | http://mirror.example/debian sid/main amd64 Packages\n\
                     rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(
            versions_in(table),
            ["1.97.1+dfsg1-1", "1.95.0+dfsg1-2~bpo13+1"]
        );
        assert!(versions_in("").is_empty());
    }

    #[test]
    fn dependencies_come_without_their_versions() {
        let record = "Package: linux-image-7.3.4+deb13-amd64\nPre-Depends: dpkg (>= 1.17)\n\
                      Depends: dracut | initramfs-tools (>= 0.120), linux-modules-7.3.4+deb13-amd64 (= 7.3.4-1)\n";
        assert_eq!(
            dependencies_in(record),
            [
                "dracut",
                "initramfs-tools",
                "linux-modules-7.3.4+deb13-amd64"
            ]
        );
        assert!(dependencies_in("Package: busybox-static\n").is_empty());
    }
}
