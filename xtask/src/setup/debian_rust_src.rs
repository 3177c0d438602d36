//! Debian's package `rust-src`, of exactly one version, fetched beside the machine's own apt configuration:
//! lists, cache and package lie in a folder of ours, which needs no root and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail};

use super::apt_sources::{self, DebianMirror, Source};
use crate::process::{capture_slow, find_program, read, run};
use crate::workspace;

/// Debian's suites in which to look, those first that are small and keep several versions of Rust.
const SUITES: [&str; 4] = ["trixie-backports", "trixie", "forky", "sid"];

/// Debian's keyring, under its names over the years: it verifies every suite, where the one of a machine's
/// entry may be for its own suite only.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Where the sources of all versions lie.
fn home() -> PathBuf {
    workspace::tools_dir().join("rust-src")
}

/// Whether a link in a toolchain leads to sources that this module fetched, in this workspace or another.
pub fn is_ours(target: &Path) -> bool {
    target
        .parent()
        .is_some_and(|dir| dir.ends_with("target/tools/rust-src"))
}

/// Fetches the sources that belong to rustc `version`: the folder that holds `library`.
///
/// # Errors
/// Not a machine with apt, the version is in no suite in reach, or a download failed.
pub fn fetch(version: &str) -> Result<PathBuf> {
    let place = home().join(version);
    if place.join("library").exists() {
        return Ok(place);
    }
    for tool in ["apt-get", "apt-cache", "dpkg"] {
        if find_program(tool).is_none() {
            bail!("this machine has no {tool}");
        }
    }
    let scratch = home().join(format!("fetching-{}", process::id()));
    let result = fetch_into(&scratch, version, &place);
    // The scratch folder matters to nobody; the result does.
    let _ = fs::remove_dir_all(&scratch);
    result.map(|()| place)
}

fn fetch_into(scratch: &Path, version: &str, place: &Path) -> Result<()> {
    let package = download(scratch, version)?;
    let unpacked = scratch.join("unpacked");
    run(Command::new("dpkg").arg("-x").args([&package, &unpacked]))?;
    // The package holds the compiler and its tools too, six times as much as the library.
    let library = unpacked.join(format!("usr/src/rustc-{version}/library"));
    fs::create_dir_all(place).with_context(|| format!("making {}", place.display()))?;
    fs::rename(&library, place.join("library"))
        .with_context(|| format!("taking {} out of {}", library.display(), package.display()))
}

/// Downloads the package from the first archive that has the version.
fn download(scratch: &Path, version: &str) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let mut complaint = String::new();
    for archive in archives()? {
        let apt = Apt::new(&archive, &scratch.join(tried.len().to_string()))?;
        complaint = apt.update(&archive.name)?.unwrap_or(complaint);
        if let Some(full) = apt.find(version)? {
            return apt.download(&full);
        }
        tried.push(archive.name);
    }
    if !complaint.is_empty() {
        complaint = format!(" (apt: {complaint})");
    }
    bail!(
        "no package rust-src {version} in {}{complaint}",
        tried.join(", ")
    )
}

/// Where to look for the package.
struct Archive {
    name: String,
    /// apt's description of it; without one it is whatever the machine's own apt is set up for.
    entry: Option<String>,
}

/// The machine's own archives, then Debian's suites on the mirrors that the machine uses.
fn archives() -> Result<Vec<Archive>> {
    let mut archives = vec![Archive {
        name: "this machine's own suites".to_owned(),
        entry: None,
    }];
    for mirror in apt_sources::debian_mirrors(&machine_sources()?) {
        archives.extend(SUITES.map(|suite| Archive {
            name: format!("Debian's {suite}"),
            entry: Some(entry(&mirror, suite)),
        }));
    }
    Ok(archives)
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

/// apt with lists and cache of its own.
struct Apt {
    dir: PathBuf,
    options: Vec<String>,
}

impl Apt {
    fn new(archive: &Archive, dir: &Path) -> Result<Self> {
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
    fn update(&self, name: &str) -> Result<Option<String>> {
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

    /// The package's full version that belongs to rustc `version`.
    fn find(&self, version: &str) -> Result<Option<String>> {
        let table = read(self.command("apt-cache").args(["madison", "rust-src"]))?;
        Ok(choose_version(&table, version).map(str::to_owned))
    }

    fn download(&self, full_version: &str) -> Result<PathBuf> {
        let package = format!("rust-src={full_version}");
        let mut command = self.command("apt-get");
        let output = capture_slow(
            &format!("downloading {package}"),
            command.args(["-qq", "download", &package]),
        )?;
        let files =
            fs::read_dir(&self.dir).with_context(|| format!("listing {}", self.dir.display()))?;
        let found = files
            .flatten()
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|it| it == "deb"));
        match found {
            Some(path) if output.status.success() => Ok(path),
            _ => bail!(
                "{package} is listed, but not to be had: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }
    }
}

/// Chooses from the table of `apt-cache madison` the version `<rustc version>+dfsg...`: the same sources, less
/// what is not free; another compiler's library does not compile.
fn choose_version<'a>(table: &'a str, rustc: &str) -> Option<&'a str> {
    let prefix = format!("{rustc}+dfsg");
    let versions = table
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim);
    versions
        .into_iter()
        .find(|version| version.starts_with(&prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  rust-src | 1.97.1+dfsg1-1 | http://mirror.example/debian sid/main amd64 Packages\n\
                         rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian trixie-backports/main amd64 Packages\n\
                         rust-src | 1.9.0+dfsg1-1 | http://mirror.example/debian old/main amd64 Packages\n";

    #[test]
    fn only_the_very_version_is_chosen() {
        assert_eq!(
            choose_version(TABLE, "1.95.0"),
            Some("1.95.0+dfsg1-2~bpo13+1")
        );
        assert_eq!(choose_version(TABLE, "1.97.1"), Some("1.97.1+dfsg1-1"));
        assert_eq!(choose_version(TABLE, "1.95.1"), None);
        assert_eq!(choose_version(TABLE, "1.97.1-nightly"), None);
        assert_eq!(choose_version("", "1.95.0"), None);
    }

    #[test]
    fn our_links_are_known() {
        assert!(is_ours(Path::new(
            "/somewhere/target/tools/rust-src/1.95.0"
        )));
        assert!(!is_ours(Path::new("../../../src/rustc-1.95.0")));
    }
}
