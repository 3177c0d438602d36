//! The first files of a guest: busybox, the modules that lead to the files of the machine outside, and a plan of
//! what to run there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::suite::Call;
use crate::process::name_of;
use crate::setup::Kernel;

/// The guest's first program.
const INIT: &str = include_str!("init.sh");

/// What the guest loads before it can see any other file.
const FIRST_MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "9p"];

/// What a guest is to do.
pub struct Plan<'a> {
    pub kernel: &'a Kernel,
    /// The binary `underpass`, which says whether the kernel is fit at all.
    pub program: &'a Path,
    pub calls: Vec<Call>,
    /// How many times longer than on a machine without an emulator things may take.
    pub patience: u32,
}

impl Plan<'_> {
    /// Writes the initramfs into a folder: its path.
    ///
    /// # Errors
    /// A file cannot be written, or busybox fails.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let tree = dir.join("initramfs");
        let busybox = self.kernel.busybox();
        put(&tree.join("init"), INIT.as_bytes(), 0o755)?;
        put(&tree.join("plan"), self.script().as_bytes(), 0o644)?;
        copy(&busybox, &tree.join("bin/busybox"))?;
        self.put_modules(&tree)?;
        let archive = dir.join("initramfs.cpio");
        pack(&busybox, &tree, &archive)?;
        Ok(archive)
    }

    /// The modules that are loaded first, with those that they need; those built in have no file.
    fn put_modules(&self, tree: &Path) -> Result<()> {
        let from = self.kernel.modules().join(&self.kernel.release);
        let to = tree.join("lib/modules").join(&self.kernel.release);
        let dependencies = from.join("modules.dep");
        copy(&dependencies, &to.join("modules.dep"))?;
        let dependencies = fs::read_to_string(&dependencies)
            .with_context(|| format!("reading {}", dependencies.display()))?;
        for module in closure(&dependencies, &FIRST_MODULES) {
            copy(&from.join(module), &to.join(module))?;
        }
        Ok(())
    }

    /// What `init` reads.
    fn script(&self) -> String {
        let modules = quote(self.kernel.modules().as_os_str());
        let program = quote(self.program.as_os_str());
        let calls = self.calls.iter().map(|call| {
            let mut words = vec![OsStr::new(&call.title), call.dir.as_os_str()];
            words.push(call.program.as_os_str());
            words.extend(call.arguments.iter().map(OsStr::new));
            let words: Vec<_> = words.into_iter().map(quote).collect();
            format!("    run {}\n", words.join(" "))
        });
        format!(
            "modules={modules}\nprogram={program}\npatience={}\ntests() {{\n    :\n{}}}\n",
            self.patience,
            calls.collect::<String>()
        )
    }
}

/// A word that the shell takes as it is.
fn quote(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// The files of the modules named, and of all that they need, by the lines of `modules.dep`:
/// `path/of/module.ko: path/of/another.ko ...`.
fn closure<'a>(dependencies: &'a str, names: &[&str]) -> BTreeSet<&'a str> {
    let mut files = BTreeSet::new();
    for line in dependencies.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        let name = Path::new(file).file_stem().and_then(OsStr::to_str);
        // In file names and in module names dash and underscore are the same.
        let name = name.unwrap_or_default().replace('-', "_");
        if names.contains(&name.as_str()) {
            files.insert(file);
            // The list is complete: those that are needed by what is needed stand in it too.
            files.extend(needs.split_whitespace());
        }
    }
    files
}

fn put(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    make_parent(path)?;
    fs::write(path, contents)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("writing {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

fn make_parent(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

/// Packs a folder in the form that the kernel unpacks.
fn pack(busybox: &Path, tree: &Path, archive: &Path) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("writing {}", archive.display()))?;
    let mut command = Command::new("sh");
    // cpio reads the names of files from its standard input, and tells their size on its standard error.
    command
        .args(["-c", r#""$0" find . | "$0" cpio -o -H newc 2> /dev/null"#])
        .arg(busybox)
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(file);
    let status = command
        .status()
        .with_context(|| format!("starting {}", name_of(&command)))?;
    ensure!(status.success(), "packing {}: {status}", tree.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_bring_what_they_need() {
        let dependencies = "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n\
                            kernel/net/9p/9pnet.ko:\nkernel/net/dsa.ko: kernel/net/bridge.ko\n\
                            kernel/drivers/virtio/virtio-pci.ko:\n";
        let files: Vec<_> = closure(dependencies, &["9p", "virtio_pci", "built_in"])
            .into_iter()
            .collect();
        assert_eq!(
            files,
            [
                "kernel/drivers/virtio/virtio-pci.ko",
                "kernel/fs/9p/9p.ko",
                "kernel/fs/netfs/netfs.ko",
                "kernel/net/9p/9pnet.ko"
            ]
        );
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        let word = "it's a $HOME \"here\"";
        let mut echo = Command::new("sh");
        echo.args(["-c", &format!("printf %s {}", quote(OsStr::new(word)))]);
        assert_eq!(crate::process::read(&mut echo).unwrap(), word);
    }
}
