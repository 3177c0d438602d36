//! What tests need besides themselves, where any test of the run needs it: the first time it takes minutes.

use super::libtest::Libtest;
use super::report::Report;
use super::tests_of;
use crate::setup::{self, KubeAssets};
use crate::tasks::executables::Executable;
use crate::tasks::image::{self, ForTests};

/// The integration tests that run programs of Kubernetes.
const KUBERNETES_TESTS: [&str; 2] = ["cluster", "deploy"];
/// The integration tests that unpack the container image: their program, and what their names begin with.
const IMAGE_TESTS: (&str, &str) = ("deploy", "image::");

/// The programs of Kubernetes.
pub fn kube_assets(
    report: &mut Report,
    libtest: &Libtest<'_>,
    built: &[Executable],
) -> Option<KubeAssets> {
    let needs_them = |it: &&Executable| KUBERNETES_TESTS.contains(&it.target.as_str());
    let mut needing = tests_of(built).filter(needs_them);
    // A program that cannot even list its tests says so when they are run.
    needing.find(|it| libtest.names(it).map_or(true, |names| !names.is_empty()))?;
    let name = "programs of Kubernetes";
    match setup::kube_assets::ensure_there() {
        Ok(assets) => {
            if let Some(why) = &assets.lacking {
                report.left_out(name, why);
            }
            Some(assets)
        }
        Err(error) => report.value(name, || Err(error)),
    }
}

/// The container image.
pub fn image(report: &mut Report, libtest: &Libtest<'_>, built: &[Executable]) -> Option<ForTests> {
    let (program, tests) = IMAGE_TESTS;
    let test = tests_of(built).find(|it| it.target == program)?;
    let names = libtest.names(test).unwrap_or_default();
    names.iter().find(|name| name.starts_with(tests))?;
    report.value("container image", image::for_tests)
}
