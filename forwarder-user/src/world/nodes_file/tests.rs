use tempfile::TempDir;

use super::*;

const KUBECTL: &str = include_str!("testdata/kubectl-nodes.yaml");

struct Written {
    directory: TempDir,
}

impl Written {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let written = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(written.path(), text).unwrap();
        written
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("nodes.yaml")
    }

    fn read(&self) -> Result<Nodes, NodesFileError> {
        NodesFile::new(self.path()).read()
    }
}

fn node(name: &str, pod_cidrs: &[&str], internal_ips: &[&str]) -> Node {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    Node {
        name: name.to_owned(),
        pod_cidrs: owned(pod_cidrs),
        internal_ips: owned(internal_ips),
        public_ip: None,
        public_ipv6: None,
    }
}

fn read(text: &str) -> Nodes {
    Written::new(text).read().unwrap()
}

/// The error, with the file's own path taken out.
fn error(text: impl AsRef<[u8]>) -> String {
    let written = Written::new(text);
    let error = written.read().unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    let path = written.path().display().to_string();
    assert!(error.contains(&path), "{error}");
    error.replace(&format!("nodes file {path}: "), "")
}

#[test]
fn what_kubectl_prints_is_read() {
    let nodes = read(KUBECTL);
    assert_eq!(nodes.warnings, Vec::<String>::new());
    assert_eq!(
        nodes.nodes,
        [
            Node {
                public_ip: Some("192.168.56.10".to_owned()),
                ..node(
                    "control-1",
                    &["10.244.0.0/24", "fd00:10:244::/64"],
                    &["192.168.56.10", "fd00:56::10"]
                )
            },
            node("worker-1", &["10.244.1.0/24"], &["192.168.56.11"]),
        ]
    );
}

#[test]
fn json_and_yaml_say_the_same() {
    let value: serde_json::Value = serde_saphyr::from_str(KUBECTL).unwrap();
    let json = serde_json::to_string_pretty(&value).unwrap();
    assert!(json.starts_with('{'));
    assert_eq!(read(&json), read(KUBECTL));
    assert_eq!(read(&format!("\u{feff}\n{json}")), read(KUBECTL));
    assert_eq!(read(&format!("---\n{KUBECTL}...\n")), read(KUBECTL));
}

#[test]
fn shapes_that_are_accepted() {
    let one = [node("a", &["10.244.1.0/24"], &["10.0.0.1"])];
    let table = [
        (
            "a NodeList, whose items have no kind; podCIDR without podCIDRs",
            "{apiVersion: v1, kind: NodeList, items: [{metadata: {name: a}, spec: {podCIDR: 10.244.1.0/24},
              status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}]}",
        ),
        (
            "a single Node",
            "apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [10.244.1.0/24]}\n\
             status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n",
        ),
        (
            "several documents, an empty one among them",
            "---\n# nothing\n---\napiVersion: v1\nkind: List\nitems: []\n---\napiVersion: v1\nkind: Node\n\
             metadata: {name: a}\nspec: {podCIDR: '', podCIDRs: [10.244.1.0/24]}\n\
             status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: InternalDNS, address: x}]}\n",
        ),
        (
            "an anchor and its alias",
            "apiVersion: v1\nkind: List\nitems:\n- kind: &kind Node\n  metadata: {name: a, labels: {x: *kind}}\n\
             \x20 spec: {podCIDR: 10.244.1.0/24}\n\
             \x20 status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n",
        ),
        (
            "numbers and keys of every sort in fields that are not used",
            "apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a, x: .nan, y: 1e999, 1: 2, true: null}\n\
             \x20 spec: {podCIDR: 10.244.1.0/24}\n\
             \x20 status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}\n",
        ),
    ];
    for (what, text) in table {
        let nodes = read(text);
        assert_eq!(nodes.nodes, one, "{what}");
        assert_eq!(nodes.warnings, Vec::<String>::new(), "{what}");
    }
    assert_eq!(
        read("apiVersion: v1\nkind: List\nitems: []\n"),
        Nodes::default()
    );
}

#[test]
fn a_broken_file_gives_one_clear_line() {
    let list = "apiVersion: v1\nkind: List\n";
    let table: &[(&str, &[&str])] = &[
        (
            "",
            &["empty; expected what `kubectl get nodes -o yaml` prints"],
        ),
        (" \n\n", &["empty;"]),
        ("# nothing yet\n", &["empty;"]),
        ("---\n---\n", &["empty;"]),
        (
            "hello",
            &["not a Kubernetes List of Nodes: expected mapping"],
        ),
        (
            "- a\n- b\n",
            &["not a Kubernetes List of Nodes: expected mapping"],
        ),
        (
            "[{\"kind\": \"Node\"}]",
            &["not a Kubernetes List of Nodes: expected mapping"],
        ),
        (
            "{\"kind\": 1, \"kind\": 2}",
            &["not a Kubernetes List of Nodes: duplicate"],
        ),
        ("a: [1, 2\nb: {", &["not valid YAML", "line 2"]),
        ("\u{0}\u{1}", &["not valid YAML"]),
        (
            "{\"kind\": \"List\", ",
            &["not valid JSON", "line 1 column"],
        ),
        ("items: []\n", &["kind is missing"]),
        ("kind: 3\n", &["kind is a number, not text"]),
        (
            "apiVersion: v1\nkind: PodList\nitems: []\n",
            &["kind is \"PodList\"; expected \"List\" or \"NodeList\""],
        ),
        ("kind: List\nitems: []\n", &["apiVersion is missing"]),
        (
            "apiVersion: v2\nkind: List\nitems: []\n",
            &["apiVersion is \"v2\"; expected \"v1\""],
        ),
        (list, &["items is missing"]),
        (&format!("{list}items:\n"), &["items is missing"]),
        (
            &format!("{list}items: {{a: {{b: c}}}}\n"),
            &["items is a map, not a list"],
        ),
        (
            &format!("{list}items: nodes\n"),
            &["items is text, not a list"],
        ),
        (
            &format!("{list}items: 3\n"),
            &["items is a number, not a list"],
        ),
        (
            &format!("{list}items: []\n---\nkind: Pod\n"),
            &["document 2: kind is \"Pod\""],
        ),
        (
            &format!("{list}kind: List\nitems: []\n"),
            &["duplicate mapping key: kind", "line 3"],
        ),
    ];
    for (text, wanted) in table {
        let error = error(text);
        for part in *wanted {
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
    assert!(error(b"kind: \xff\xfe".as_slice()).contains("not text in UTF-8 (byte 6)"));
}

#[test]
fn a_bad_item_does_not_spoil_the_rest() {
    let text = "apiVersion: v1\nkind: List\nitems:\n\
        - {kind: Node, metadata: {name: good}}\n\
        - {kind: Node, metadata: {labels: {}}}\n\
        - {kind: Node, metadata: {name: 7}}\n\
        - {kind: Pod, metadata: {name: pod}}\n\
        - just text\n\
        - null\n\
        - {kind: Node, metadata: text}\n\
        - {kind: Node, metadata: {name: last}}\n";
    let written = Written::new(text);
    let nodes = written.read().unwrap();
    assert_eq!(
        nodes.nodes,
        [node("good", &[], &[]), node("last", &[], &[])]
    );
    let file = format!("nodes file {}", written.path().display());
    assert_eq!(
        nodes.warnings,
        [
            format!("{file}: items[1]: metadata.name is missing; left out"),
            format!(
                "{file}: items[2]: metadata.name is a number (7), not text; put it in quotes; left out"
            ),
            format!("{file}: items[3]: \"pod\": kind is \"Pod\", not \"Node\"; left out"),
            format!("{file}: items[4]: it is text, not a Node; left out"),
            format!("{file}: items[5]: it is null, not a Node; left out"),
            format!("{file}: items[6]: metadata.name is missing; left out"),
        ]
    );
}

#[test]
fn values_of_a_wrong_type_are_kept_for_the_plan_to_refuse() {
    let nodes = read(
        "apiVersion: v1\nkind: List\nitems:\n\
         - {metadata: {name: a}, spec: {podCIDRs: [12, {b: c}]}, status: {addresses: [{type: InternalIP, address: 7}]}}\n\
         - {metadata: {name: b}, spec: text, status: {addresses: 10.0.0.1}}\n\
         - {metadata: {name: c}, spec: {podCIDR: nonsense}, status: {addresses: [text, {address: 10.0.0.1}]}}\n",
    );
    assert_eq!(nodes.warnings, Vec::<String>::new());
    assert_eq!(
        nodes.nodes,
        [
            node("a", &["12", r#"{"b":"c"}"#], &["7"]),
            node("b", &[], &[]),
            node("c", &["nonsense"], &[]),
        ]
    );
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text =
        "apiVersion: v1\nkind: List\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    for place in ["items: [*a11]\n", "items: []\nmetadata: *a11\n"] {
        assert!(
            error(format!("{text}{place}")).contains("too complex"),
            "{place}"
        );
    }
    let deep = format!(
        "apiVersion: v1\nkind: List\nitems: {}\n",
        "[".repeat(100_000)
    );
    assert!(error(deep).contains("not valid YAML"));
    let deep = format!("{{\"items\": {}", "[".repeat(100_000));
    assert!(error(deep).contains("not valid JSON"));
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let error = NodesFile::new(directory.path()).read().unwrap_err();
    assert!(
        error.to_string().ends_with(": not a regular file"),
        "{error}"
    );
    let error = NodesFile::new("/dev/zero").read().unwrap_err();
    assert_eq!(
        error.to_string(),
        "nodes file /dev/zero: not a regular file"
    );
    let missing = directory.path().join("missing.yaml");
    let error = NodesFile::new(&missing).read().unwrap_err();
    let wanted = format!("nodes file {}: cannot read it: ", missing.display());
    assert!(error.to_string().starts_with(&wanted), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let written = Written::new("");
    let file = File::options().write(true).open(written.path()).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = written.read().unwrap_err().to_string();
    assert!(error.contains("larger than 128 MiB"), "{error}");
}
