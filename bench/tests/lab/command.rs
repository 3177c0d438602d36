//! The program `underpass-lab`.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use underpass_bench::Lab;
use underpass_bench::lab::LabDescription;

use crate::lab_test;

fn underpass_lab(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_underpass-lab"))
        .args(arguments)
        .output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

lab_test!(a_lab_stays_from_up_to_down, {
    let name = format!("hand{}", std::process::id());
    let up = underpass_lab(&[
        "up",
        "--name",
        &name,
        "--nodes",
        "2",
        "--pods",
        "1",
        "--families",
        "dual",
        "--flannel",
    ])?;
    let shown = text(&up.stdout);
    assert!(up.status.success(), "{}", text(&up.stderr));
    for part in [
        "node2-pod1     10.244.2.11",
        "pods 10.244.1.0/24",
        "fd00:77::1       pods fd00:10:244:1::/64",
        "fd00:10:244:2::11\n",
        "nodes.yaml",
        "--node-name",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }

    // Its maker is gone, and yet it isn't swept.
    drop(Lab::builder().nodes(1).build()?);
    let list = underpass_lab(&["list", "--json"])?;
    let labs: Vec<LabDescription> = serde_json::from_slice(&list.stdout)?;
    let lab = labs.iter().find(|lab| lab.name == name);
    let lab = lab.expect("the lab in the list");
    assert_eq!(lab.hosts.len(), 1 + 2 + 2);
    let node = lab.hosts.iter().find(|host| host.name == "node1");
    let node = node.expect("node1 in the list");
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.168.77.1", "fd00:77::1"]);
    assert_eq!(node.pod_cidrs, ["10.244.1.0/24", "fd00:10:244:1::/64"]);

    let exec = |host: &str, script: &str| {
        underpass_lab(&["exec", "--name", &name, host, "--", "sh", "-c", script])
    };
    let ran = exec("node2-pod1", "ip -brief address show eth0; exit 7")?;
    assert_eq!(ran.status.code(), Some(7));
    assert!(
        text(&ran.stdout).contains("10.244.2.11/24"),
        "{}",
        text(&ran.stdout)
    );
    let wrong = exec("node3", "true")?;
    assert!(text(&wrong.stderr).contains("has no host node3, but switch, node1"));

    let down = underpass_lab(&["down", "--name", &name])?;
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(
        !Path::new("/run/netns")
            .join(format!("{name}-node1"))
            .exists()
    );
    let again = underpass_lab(&["down", "--name", &name])?;
    assert!(
        text(&again.stderr).contains("there is no lab called"),
        "{}",
        text(&again.stderr)
    );
    Ok(())
});
