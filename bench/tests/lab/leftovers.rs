//! Nothing is left of a lab, whatever ended it; and what belongs to others is left alone.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use underpass_bench::lab::Process;
use underpass_bench::{Lab, wait_until};

use crate::{SOON, lab_test};

/// All that a lab can leave, by its name.
fn traces(lab: &str) -> Vec<PathBuf> {
    let begins = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with(&format!("{lab}-"))
    };
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut found: Vec<_> = namespaces
        .filter(begins)
        .map(|entry| entry.path())
        .collect();
    found.extend(
        [
            format!("/sys/fs/bpf/{lab}"),
            format!("/run/underpass-lab/{lab}"),
        ]
        .map(Into::into),
    );
    found.retain(|path| path.exists());
    found
}

lab_test!(a_dropped_lab_leaves_nothing, {
    let lab = Lab::builder().build()?;
    let name = lab.name().to_owned();
    assert_eq!(
        traces(&name).len(),
        1 + 2 + 2 + 2,
        "switch, nodes, pods, pins, record"
    );
    // An agent's directory with a pin in it.
    let pins = lab.bpffs(lab.node(1)).join("links");
    fs::create_dir_all(&pins)?;
    pin_a_map(&pins.join("map"))?;
    let mut stray = Command::new("sleep");
    stray.arg("600");
    let mut stray = lab.node(1).spawn(stray)?;
    drop(lab);
    assert_eq!(traces(&name), Vec::<PathBuf>::new());
    assert!(!stray.is_running());
    Ok(())
});

fn pin_a_map(path: &Path) -> Result<()> {
    let path = path.to_str().context("a path in UTF-8")?;
    let made = Command::new("bpftool")
        .args([
            "map", "create", path, "type", "array", "key", "4", "value", "4",
        ])
        .args(["entries", "1", "name", "lab_test"])
        .status();
    // Without bpftool the directories alone must do.
    if made.is_ok_and(|status| status.success()) {
        assert!(Path::new(path).exists());
    }
    Ok(())
}

lab_test!(a_lab_that_cannot_be_made_leaves_nothing, {
    let name = format!("broken{}", std::process::id());
    // No link has an MTU of a billion.
    let error = format!(
        "{:#}",
        Lab::builder().name(&name).mtu(1 << 30).build().unwrap_err()
    );
    assert!(
        error.contains(&format!("lab {name}: switch: ip link ")),
        "{error}"
    );
    assert_eq!(traces(&name), Vec::<PathBuf>::new());
    Ok(())
});

lab_test!(a_name_is_taken_once, {
    let lab = Lab::builder().nodes(1).build()?;
    let error = format!("{:#}", Lab::builder().name(lab.name()).build().unwrap_err());
    assert!(error.contains("there is a lab called"), "{error}");
    assert!(lab.node(1).netns_path().exists());
    Ok(())
});

/// Removes what a test made beside the lab.
struct Foreign(String);

impl Drop for Foreign {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "del", &self.0]).status();
        assert!(removed.is_ok_and(|status| status.success()));
    }
}

lab_test!(a_namespace_of_somebody_else_is_left_alone, {
    let name = format!("foreign{}", std::process::id());
    let foreign = Foreign(format!("{name}-node1"));
    Command::new("ip")
        .args(["netns", "add", &foreign.0])
        .status()?;
    let path = Path::new("/run/netns").join(&foreign.0);
    let error = format!("{:#}", Lab::builder().name(&name).build().unwrap_err());
    assert!(error.contains("is somebody else's"), "{error}");
    assert_eq!(traces(&name), [path]);
    Ok(())
});

lab_test!(pins_of_somebody_else_are_left_alone, {
    let name = format!("pins{}", std::process::id());
    // Where no lab has been made yet it may not be mounted.
    drop(Lab::builder().nodes(1).pods(0).build()?);
    let pins = Path::new("/sys/fs/bpf").join(&name);
    fs::create_dir(&pins)?;
    let built = Lab::builder().name(&name).build();
    let left = pins.exists();
    fs::remove_dir(&pins)?;
    assert!(format!("{:#}", built.unwrap_err()).contains("is somebody else's"));
    assert!(left);
    Ok(())
});

/// Set for the test program that another one runs.
const OTHER: &str = "UNDERPASS_LAB_OTHER_PROCESS";

/// This test program again, running [`makes_a_lab_and_waits`]. It is killed when this is dropped.
struct OtherProcess {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    lab: String,
    inside: u32,
}

impl OtherProcess {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "--ignored",
                "--exact",
                "leftovers::makes_a_lab_and_waits",
                "--nocapture",
            ])
            .env(OTHER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let line = stdout
            .by_ref()
            .lines()
            .find_map(|line| {
                line.ok()?
                    .split_once("lab up: ")
                    .map(|(_, told)| told.to_owned())
            })
            .context("the other process made no lab")?;
        let (name, pid) = line.split_once(' ').context("half a line")?;
        Ok(Self {
            child,
            _stdout: stdout,
            lab: name.to_owned(),
            inside: pid.parse()?,
        })
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Not a test, but what another process does for the tests below.
#[test]
#[ignore = "run by other tests"]
fn makes_a_lab_and_waits() -> Result<()> {
    if std::env::var_os(OTHER).is_none() {
        return Ok(());
    }
    let lab = Lab::builder().build()?;
    fs::create_dir(lab.bpffs(lab.node(1)))?;
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let sleep: Process = lab.node(1).spawn(sleep)?;
    println!("\nlab up: {} {}", lab.name(), sleep.pid());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

lab_test!(a_dead_owners_lab_is_swept, {
    let mut other = OtherProcess::start()?;
    let alive = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    let before = traces(&other.lab);
    assert_eq!(before.len(), 7, "{before:?}");
    assert!(alive(other.inside));
    // While its owner lives it is left alone.
    drop(Lab::builder().nodes(1).build()?);
    assert_eq!(traces(&other.lab), before);

    other.child.kill()?;
    other.child.wait()?;
    wait_until(
        SOON,
        "the process inside dies with the one that made it",
        || !alive(other.inside),
    )?;
    drop(Lab::builder().nodes(1).build()?);
    assert_eq!(traces(&other.lab), Vec::<PathBuf>::new());
    Ok(())
});

lab_test!(a_running_process_keeps_its_lab, {
    let mut other = OtherProcess::start()?;
    let error = underpass_bench::lab::down(&other.lab)
        .unwrap_err()
        .to_string();
    assert!(error.contains("which still runs"), "{error}");
    // Told to end, it takes its lab down itself.
    drop(other.child.stdin.take());
    assert!(other.child.wait()?.success());
    assert_eq!(traces(&other.lab), Vec::<PathBuf>::new());
    Ok(())
});
