//! Running test programs and counting what they report.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::HOST_PACKAGES;
use super::stream;
use super::tally::Results;
use crate::process::{as_root, name_of, read, search_path};
use crate::setup::KubeAssets;
use crate::tasks::executables::Executable;
use crate::tasks::image::ForTests;
use crate::{terminal, workspace};

/// Variables that reach the tests also where they run as root by sudo, which drops what it isn't told of.
const PASSED_ON: [&str; 5] = [
    "RUST_BACKTRACE",
    INGRESS,
    "UNDERPASS_ORACLE_PACKETS",
    "UNDERPASS_ORACLE_SEED",
    "UNDERPASS_SEED",
];
/// With `xdp`, the agents of the scenarios use XDP.
const INGRESS: &str = "UNDERPASS_INGRESS";
/// The file in which a test notes that it cannot run on this machine.
const SKIP_LOG: &str = "UNDERPASS_SKIP_LOG";

/// The folders in which tests find the programs of Kubernetes, and what is missing there and why.
const KUBE_ASSETS: &str = "UNDERPASS_KUBE_ASSETS";
const KUBE_ASSETS_LACKING: &str = "UNDERPASS_KUBE_ASSETS_LACKING";
/// The archive of the image that tests unpack, or why there is none.
const IMAGE: &str = "UNDERPASS_IMAGE";
const IMAGE_LACKING: &str = "UNDERPASS_IMAGE_LACKING";

/// With it set, the tests that try random input try a great deal of it.
const LONG: &str = "UNDERPASS_LONG";

/// How to call the test programs.
pub struct Libtest<'a> {
    pub filter: Option<&'a str>,
    pub more: &'a [String],
    pub skip_log: &'a Path,
    pub long: bool,
    /// The programs of Kubernetes, where a test of the run needs them.
    pub kube_assets: Option<KubeAssets>,
    /// The container image, where a test of the run unpacks it.
    pub image: Option<ForTests>,
}

impl Libtest<'_> {
    /// The names of a program's tests that are to be run.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn names(&self, test: &Executable) -> Result<Vec<String>> {
        let mut command = Command::new(&test.path);
        command.arg("--list").args(self.filter).args(self.more);
        let list = read(command.current_dir(&test.package_dir))?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(names.map(str::to_owned).collect())
    }

    /// Runs test programs as the user who calls, one after the other.
    ///
    /// # Errors
    /// A program cannot be started.
    pub fn run_all(&self, tests: &[Executable]) -> Result<Results> {
        let mut sum = Results::default();
        for test in tests {
            println!("-- {}", test.title());
            let mut command = Command::new(&test.path);
            command.envs(self.env(test)).current_dir(&test.package_dir);
            sum += self.run(&mut command)?;
        }
        Ok(sum)
    }

    /// Runs a test program as root.
    ///
    /// # Errors
    /// It cannot be started, or root is out of reach.
    pub fn run_as_root(&self, test: &Executable) -> Result<Results> {
        self.run_as_root_with(test, self.env(test))
    }

    /// The same once more, with agents that have XDP before TC on their uplinks.
    ///
    /// # Errors
    /// As [`run_as_root`](Self::run_as_root).
    pub fn run_by_xdp(&self, test: &Executable) -> Result<Results> {
        let mut env = self.env(test);
        env.retain(|(name, _)| *name != INGRESS);
        env.push((INGRESS, "xdp".into()));
        self.run_as_root_with(test, env)
    }

    fn run_as_root_with(
        &self,
        test: &Executable,
        mut env: Vec<(&'static str, OsString)>,
    ) -> Result<Results> {
        env.push(("PATH", search_path()));
        let purpose = format!("run the tests `{}` in network namespaces", test.target);
        let mut command = as_root(&test.path, &env, &purpose)?;
        self.run(command.current_dir(&test.package_dir))
    }

    /// Has cargo run the examples in the documentation.
    ///
    /// # Errors
    /// cargo cannot be started.
    pub fn run_doc_tests(&self) -> Result<Results> {
        let mut command = workspace::cargo();
        command
            .args(["test", "--quiet", "--doc"])
            .args(HOST_PACKAGES)
            .arg("--")
            .env(SKIP_LOG, self.skip_log);
        self.run(&mut command)
    }

    /// What cargo tells the tests that it runs, and what we do.
    fn env(&self, test: &Executable) -> Vec<(&'static str, OsString)> {
        let mut env = vec![
            (SKIP_LOG, self.skip_log.into()),
            ("CARGO_MANIFEST_DIR", test.package_dir.clone().into()),
        ];
        env.extend(self.long.then(|| (LONG, "1".into())));
        if let Some(assets) = &self.kube_assets {
            env.push((KUBE_ASSETS, assets.path.clone()));
            let lacking = assets.lacking.as_ref();
            env.extend(lacking.map(|why| (KUBE_ASSETS_LACKING, why.into())));
        }
        env.extend(self.image.as_ref().map(|image| match image {
            ForTests::Built(archive) => (IMAGE, archive.into()),
            ForTests::Lacking(why) => (IMAGE_LACKING, why.into()),
        }));
        let passed_on = PASSED_ON.into_iter();
        env.extend(passed_on.filter_map(|name| Some((name, std::env::var_os(name)?))));
        env
    }

    /// Runs a command that ends in libtest's arguments, shows its output as it comes, and counts.
    fn run(&self, command: &mut Command) -> Result<Results> {
        command.args(self.filter).args(self.more);
        if terminal::colours_on_stdout() {
            command.args(["--color", "always"]);
        }
        let mut results = Results::default();
        let status = stream::for_each_line(command, |line| {
            println!("{line}");
            results.absorb(line);
        })?;
        if !status.success() && results.tally.failed == 0 {
            // It crashed before it could count: no test of it is proven.
            results.tally.failed = 1;
            let failure = format!("{} ended early: {status}", name_of(command));
            results.failures.push(failure);
        }
        Ok(results)
    }
}
