//! The image, unpacked and run as a container runtime runs it: nothing else is needed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use underpass_bench::lab::{Container, Host};
use underpass_bench::{Lab, root_or_skip, skip, wait_until};

use crate::common::{DEADLINE, Datapath, lab};
use crate::container::{OnNode, PROGRAM};
use crate::dns;
use crate::manifest::{AGENT, DETACH, PodSpec};
use crate::talk::{Road, Talk};

/// The archive that `cargo xtask image` wrote.
const ARCHIVE: &str = "UNDERPASS_IMAGE";
/// Why there is none.
const LACKING: &str = "UNDERPASS_IMAGE_LACKING";

/// Where the kubelet mounts a pod's identity.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An image in a folder: what the archive holds, and the root file system that it makes.
struct Image {
    root: PathBuf,
    name: Vec<String>,
    config: Value,
}

impl Image {
    /// Unpacks the image below a folder of the lab; none is there, and the test is skipped.
    fn unpack(test: &str, lab: &Lab) -> Result<Option<Self>> {
        let Some(archive) = std::env::var_os(ARCHIVE) else {
            let why = std::env::var(LACKING)
                .unwrap_or_else(|_| format!("{ARCHIVE} names none; `cargo xtask image` makes one"));
            skip(test, &format!("no image: {why}"));
            return Ok(None);
        };
        let (parts, root) = (lab.file("image"), lab.file("image-root"));
        untar(Path::new(&archive), &parts)?;
        let manifest = &read(&parts.join("manifest.json"))?[0];
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        let texts =
            |value: &Value| -> Option<Vec<_>> { value.as_array()?.iter().map(text).collect() };
        let layers = texts(&manifest["Layers"]).context("no layers")?;
        for layer in &layers {
            untar(&parts.join(layer), &root)?;
        }
        let config = text(&manifest["Config"]).context("no configuration")?;
        Ok(Some(Self {
            root,
            name: texts(&manifest["RepoTags"]).context("no name")?,
            config: read(&parts.join(config))?,
        }))
    }

    /// As a container without anything of its own mounted.
    fn container(&self) -> Result<Container> {
        Container::new(&self.root)
    }
}

fn untar(archive: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-xf").arg(archive).arg("-C").arg(into).status()?;
    ensure!(status.success(), "tar cannot unpack {}", archive.display());
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let file = File::open(path).with_context(|| format!("no {}", path.display()))?;
    Ok(serde_json::from_reader(file)?)
}

/// Every file below a folder, as the image's own paths.
fn files(root: &Path) -> Result<Vec<String>> {
    let found = Command::new("find")
        .arg(root)
        .args(["-mindepth", "1", "-printf", "/%P\n"])
        .output()?;
    let list = String::from_utf8(found.stdout)?;
    Ok(list.lines().map(str::to_owned).collect())
}

#[test]
fn the_image_holds_the_program_and_nothing_else() -> Result<()> {
    const TEST: &str = "the_image_holds_the_program_and_nothing_else";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = lab().nodes(1).build()?;
    let Some(image) = Image::unpack(TEST, &lab)? else {
        return Ok(());
    };
    assert_eq!(files(&image.root)?, [PROGRAM]);
    let mode = fs::metadata(image.root.join("underpass"))?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);

    let config = &image.config["config"];
    assert_eq!(config["Entrypoint"], json!([PROGRAM]));
    ensure!(config.get("Cmd").is_none_or(Value::is_null), "{config}");
    let labels = &config["Labels"];
    let version = &labels["org.opencontainers.image.version"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let revision = &labels["org.opencontainers.image.revision"];
    ensure!(revision.as_str().is_some_and(|it| !it.is_empty()));
    // The name that the manifests ask for, as runtimes complete it.
    let wanted = &PodSpec::of_file(AGENT)?.containers[0].image;
    let complete = format!("docker.io/library/{wanted}");
    ensure!(
        image
            .name
            .iter()
            .any(|name| name == wanted || *name == complete),
        "{:?}",
        image.name
    );
    Ok(())
}

#[test]
fn the_image_carries_traffic() -> Result<()> {
    const TEST: &str = "the_image_carries_traffic";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = lab().conntrack(true).build()?;
    let Some(image) = Image::unpack(TEST, &lab)? else {
        return Ok(());
    };
    let pod = PodSpec::of_file(AGENT)?;
    let place = |node| {
        let container = image.container()?;
        OnNode::with_root(&lab, lab.node(node), &pod, &pod.containers[0], container)
    };
    let version = place(1)?.exec(&["--version"])?;
    assert_eq!(
        version.trim(),
        concat!("underpass ", env!("CARGO_PKG_VERSION"))
    );
    place(1)?.exec(&["check"])?;

    let mut agents = [place(1)?.start_agent()?, place(2)?.start_agent()?];
    for (agent, node) in agents.iter_mut().zip(lab.nodes()) {
        agent.wait_ready(DEADLINE)?;
        let datapath = Datapath::of(&lab, node)?;
        wait_until(DEADLINE, "a route to the other node", || {
            datapath
                .maps
                .routes()
                .is_ok_and(|routes| routes.values().any(|route| route.ifindex != 0))
        })?;
    }
    Talk::new(&lab, lab.pod(1, 1), lab.pod(2, 1))?.wait_for(Road::Fast)?;
    for command in ["status", "peers", "pods", "flows"] {
        place(1)?.exec(&[command])?;
    }
    for agent in agents {
        agent.terminate()?;
    }
    let pod = PodSpec::of_file(DETACH)?;
    let (node, container) = (lab.node(1), image.container()?);
    OnNode::with_root(&lab, node, &pod, &pod.init_containers[0], container)?.run()?;
    ensure!(!lab.bpffs(node).exists());
    Ok(())
}

/// A static binary brings its resolver along: it reads what the kubelet writes into a pod's `/etc/resolv.conf`. And
/// nothing of the system's is asked for: the API server is known by what its ServiceAccount has.
#[test]
fn the_image_resolves_names() -> Result<()> {
    const TEST: &str = "the_image_resolves_names";
    const NAME: &str = "api.cluster.test";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = lab().nodes(1).build()?;
    let Some(image) = Image::unpack(TEST, &lab)? else {
        return Ok(());
    };
    let node: &Host = lab.node(1);
    let server = dns::Server::start(node, NAME)?;
    let resolv = lab.file("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\n")?;
    let pod = PodSpec::of_file(AGENT)?;
    let root = image
        .container()?
        .mount_read_only(&resolv, "/etc/resolv.conf")?
        .mount_read_only(service_account(&lab)?, SERVICE_ACCOUNT)?;
    let mut agent = OnNode::with_root(&lab, lab.node(1), &pod, &pod.containers[0], root)?
        .env("KUBERNETES_SERVICE_HOST", NAME)
        .env("KUBERNETES_SERVICE_PORT", "6443")
        .start_agent_with(&[])?;
    // Nobody listens at the address that the name stands for: so it was found.
    let refused = format!("{NAME} is asked for, and its address tried");
    wait_until(DEADLINE, &refused, || {
        agent.log().contains("Connection refused")
    })
    .with_context(|| agent.log())?;
    ensure!(server.was_asked(), "{}", agent.log());
    ensure!(agent.is_running());
    Ok(())
}

/// What the kubelet mounts there, in a folder of the lab.
fn service_account(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.file("service-account");
    fs::create_dir(&dir)?;
    for (name, text) in [
        ("ca.crt", include_str!("ca.crt")),
        ("namespace", "kube-system"),
        ("token", "none"),
    ] {
        fs::write(dir.join(name), text)?;
    }
    Ok(dir)
}
