//! Running things inside a host.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use underpass_bench::lab::{AgentOptions, NodeEntry};
use underpass_bench::{Lab, wait_until};

use crate::{SOON, lab_test};

lab_test!(a_commands_failure_tells_all, {
    let lab = Lab::builder().nodes(1).build()?;
    let error = lab
        .node(1)
        .run(&["ip", "link", "show", "eth9"])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("node1: ip link show eth9: exit code 1: "),
        "{error}"
    );
    assert!(error.contains("eth9\" does not exist"), "{error}");
    let error = lab
        .node(1)
        .ip("link set lo up\nlink set eth9 up\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("node1: ip link set eth9 up: Cannot find device"),
        "{error}"
    );
    let error = format!("{:#}", lab.node(1).run(&["/no/such/tool"]).unwrap_err());
    assert!(
        error.contains("node1: cannot run /no/such/tool: No such file"),
        "{error}"
    );
    Ok(())
});

lab_test!(only_the_network_is_another, {
    let lab = Lab::builder().nodes(1).build()?;
    // Unlike `ip netns exec`, which would hide the BPF file system.
    let inside = lab.node(1).run(&["readlink", "/proc/self/ns/mnt"])?;
    let ours = std::fs::read_link("/proc/self/ns/mnt")?;
    assert_eq!(inside.trim(), ours.display().to_string());
    Ok(())
});

lab_test!(a_closure_runs_in_the_host_and_its_panic_comes_out, {
    let lab = Lab::builder().nodes(1).build()?;
    let mut seen = String::new();
    lab.node(1).enter(|| {
        seen = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        Ok(())
    })?;
    assert!(seen.contains("vethpod1"), "{seen}");
    let ours = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    assert!(!ours.contains("vethpod1"), "this thread was moved");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lab.node(1).enter::<(), _>(|| panic!("with this"))
    }));
    let cause = panicked.unwrap_err();
    assert_eq!(cause.downcast_ref::<&str>(), Some(&"with this"));
    Ok(())
});

lab_test!(a_sysctl_is_the_hosts_own, {
    let lab = Lab::builder().build()?;
    let key = "net.ipv4.ip_forward";
    lab.node(1).sysctl(key, "0")?;
    assert_eq!(lab.node(1).read_sysctl(key)?, "0");
    assert_eq!(lab.node(2).read_sysctl(key)?, "1");
    let error = lab
        .node(1)
        .sysctl("net.ipv4.nonsense", "1")
        .unwrap_err()
        .to_string();
    assert_eq!(error, "node1: cannot set net.ipv4.nonsense to 1");
    Ok(())
});

lab_test!(a_process_ends_with_its_guard, {
    let lab = Lab::builder().nodes(1).build()?;
    let mut command = Command::new("sh");
    // It says when it runs, and stays.
    command
        .args(["-c", "echo here; exec sleep 600"])
        .stdout(Stdio::piped());
    let mut process = lab.node(1).spawn(command)?;
    let mut said = [0; 5];
    process
        .child()
        .stdout
        .take()
        .expect("a pipe")
        .read_exact(&mut said)?;
    let pid = process.pid();
    let inside = || {
        lab.node(1)
            .run(&["ip", "netns", "pids", lab.node(1).namespace()])
    };
    assert_eq!(inside()?.lines().next(), Some(pid.to_string().as_str()));
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    Ok(())
});

lab_test!(an_agent_that_ends_at_once_is_told_with_its_log, {
    let lab = Lab::builder().nodes(1).underpass("/bin/echo").build()?;
    let options = AgentOptions::default()
        .offload("always")
        .args(["--routes", "manage"]);
    let mut agent = lab.start_agent(lab.node(1), &options)?;
    let error = format!("{:#}", agent.wait_ready(SOON).unwrap_err());
    assert!(
        error.contains("the agent on node1 has ended: exit code 0"),
        "{error}"
    );
    let expected = format!(
        "agent --node-name node1 --iface eth0 --listen 127.0.0.1:9911 --bpffs /sys/fs/bpf/{}/node1 \
         --offload always --routes manage --nodes-file {}",
        lab.name(),
        lab.nodes_file().display()
    );
    assert_eq!(agent.log().trim(), expected);
    assert!(error.contains(&expected), "{error}");
    let printed = lab.underpass(lab.node(1), &["status"])?;
    assert_eq!(
        printed.trim(),
        format!("status --bpffs /sys/fs/bpf/{}/node1", lab.name())
    );
    Ok(())
});

lab_test!(an_agent_that_never_gets_ready_is_told_by_the_deadline, {
    let lab = Lab::builder().nodes(1).build()?;
    let script = lab.file("stubborn");
    std::fs::write(&script, "#!/bin/sh\necho not yet >&2\nexec sleep 600\n")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut agent = lab.start_agent(lab.node(1), &AgentOptions::default().binary(&script))?;
    wait_until(SOON, "the script speaks", || {
        agent.log().contains("not yet")
    })?;
    let error = format!(
        "{:#}",
        agent.wait_ready(Duration::from_millis(50)).unwrap_err()
    );
    assert!(
        error.contains("in vain: the agent on node1 is ready"),
        "{error}"
    );
    assert!(
        error.contains("nobody listens on 127.0.0.1:9911"),
        "{error}"
    );
    assert!(error.contains("not yet"), "{error}");
    let status = agent.terminate()?;
    assert!(!status.success());
    Ok(())
});

lab_test!(the_nodes_file_holds_the_lab_and_changes_at_one_blow, {
    let lab = Lab::builder().build()?;
    let text = std::fs::read_to_string(lab.nodes_file())?;
    for part in [
        "kind: List",
        "name: node2",
        "10.244.2.0/24",
        "192.168.77.2",
        "InternalIP",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let changed = lab.nodes_list().without("node1").with(NodeEntry::new(
        "node9",
        "10.244.9.0/24",
        "192.168.77.9",
    ));
    lab.write_nodes_file(&changed)?;
    let text = std::fs::read_to_string(lab.nodes_file())?;
    assert!(text.contains("node9") && !text.contains("node1"), "{text}");
    lab.write_nodes_text("not: [yaml")?;
    assert_eq!(std::fs::read_to_string(lab.nodes_file())?, "not: [yaml");
    Ok(())
});

lab_test!(a_pods_processes_go_with_it, {
    let lab = Lab::builder().nodes(1).build()?;
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut process = lab.pod(1, 1).spawn(command)?;
    assert!(process.is_running());
    lab.remove_pod(lab.pod(1, 1))?;
    assert!(!process.is_running());
    Ok(())
});
