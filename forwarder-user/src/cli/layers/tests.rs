//! One option, four places: which of them wins, and what is said of a wrong one.

use std::fs;

use super::*;
use crate::cli::{self, AgentArgs, CheckArgs, OffloadMode, RoutesMode};

/// A start of the agent, or of the check: its words, its variables, its file.
#[derive(Default)]
struct Start {
    words: Vec<&'static str>,
    variables: Vec<(&'static str, &'static str)>,
    file: Option<&'static str>,
}

impl Start {
    fn parse(&self) -> Result<AgentArgs, String> {
        match self.subcommand(AGENT)? {
            cli::Command::Agent(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) -> Result<CheckArgs, String> {
        match self.subcommand(CHECK)? {
            cli::Command::Check(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn subcommand(&self, name: &str) -> Result<cli::Command, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        let mut words: Vec<OsString> = vec!["underpass".into(), name.into()];
        words.extend(self.words.iter().map(OsString::from));
        if let Some(text) = self.file {
            fs::write(&path, text).unwrap();
            words.extend(["--config".into(), path.clone().into_os_string()]);
        }
        let environment = |name: &OsStr| {
            let mut variables = self.variables.iter();
            let found = variables.find(|(variable, _)| OsStr::new(variable) == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let parsed = parse_in(words, environment)
            .map_err(|error| format!("{error:#}").replace(path.to_str().unwrap(), "agent.yaml"))?;
        Ok(parsed.command)
    }

    fn error(&self) -> String {
        self.parse().unwrap_err()
    }
}

#[test]
fn an_option_goes_before_the_environment_the_environment_before_the_file() {
    let mut start = Start {
        words: vec!["--node-name=a"],
        ..Start::default()
    };
    let flows = |start: &Start| start.parse().unwrap().max_flows;
    assert_eq!(flows(&start), 65_536);
    start.file = Some("max-flows: 1\n");
    assert_eq!(flows(&start), 1);
    start.variables = vec![("UNDERPASS_MAX_FLOWS", "2")];
    assert_eq!(flows(&start), 2);
    start.words.push("--max-flows=3");
    assert_eq!(flows(&start), 3);
    start.words.pop();
    start.variables = vec![("UNDERPASS_MAX_FLOWS", "")];
    assert_eq!(flows(&start), 1, "an empty variable is none");
}

#[test]
fn the_former_name_of_a_variable_counts_where_the_present_one_does_not() {
    let node_name = |variables: &[(&'static str, &'static str)]| {
        let start = Start {
            variables: variables.to_vec(),
            file: Some("node-name: by-file\n"),
            ..Start::default()
        };
        start.parse().unwrap().node_name
    };
    let (present, former) = ("UNDERPASS_NODE_NAME", "NODE_NAME");
    assert_eq!(node_name(&[(former, "before")]), "before");
    assert_eq!(node_name(&[(former, "before"), (present, "now")]), "now");
    assert_eq!(node_name(&[(former, "before"), (present, "")]), "before");
    assert_eq!(node_name(&[(former, "")]), "by-file");
    let mut start = Start {
        variables: vec![(former, "before")],
        ..Start::default()
    };
    assert_eq!(start.check().unwrap().node_name.as_deref(), Some("before"));
    start.words.push("--node-name=on-line");
    assert_eq!(start.parse().unwrap().node_name, "on-line");
}

#[test]
fn a_check_is_told_by_the_agents_variables_and_an_option_goes_before_them() {
    let mut start = Start {
        variables: vec![
            ("UNDERPASS_NODE_NAME", "a"),
            ("UNDERPASS_IFACE", ""),
            ("UNDERPASS_IFACE_REGEX", "ens.*"),
            ("UNDERPASS_NODES_FILE", "nodes.yaml"),
            // Not for it.
            ("UNDERPASS_CONFIG", "/nowhere/agent.yaml"),
            ("UNDERPASS_MAX_FLOWS", "none"),
        ],
        ..Start::default()
    };
    let args = start.check().unwrap();
    assert_eq!(args.node_name.as_deref(), Some("a"));
    assert!(args.uplink.iface.is_none() && args.uplink.iface_regex.is_some());
    assert_eq!(args.nodes_file, Some("nodes.yaml".into()));
    start.words.push("--iface=eth0");
    start.words.push("--kubeconfig=config");
    let args = start.check().unwrap();
    assert_eq!(args.uplink.iface.as_deref(), Some("eth0"));
    assert!(args.uplink.iface_regex.is_none());
    assert_eq!(args.kubeconfig, Some("config".into()));
    assert!(args.nodes_file.is_none());
    start.words.pop();
    start.variables.push(("UNDERPASS_KUBECONFIG", "config"));
    let told = "UNDERPASS_KUBECONFIG: cannot be together with UNDERPASS_NODES_FILE";
    assert_eq!(start.check().unwrap_err(), told);
    let command = Cli::command();
    for arg in settings(&command, CHECK) {
        let variable = arg.get_env();
        let of_agent = settings(&command, AGENT);
        let same = of_agent.iter().find(|one| one.get_id() == arg.get_id());
        assert!(
            variable.is_none() || same.and_then(|one| one.get_env()) == variable,
            "{arg}"
        );
    }
}

#[test]
fn a_file_alone_is_enough() {
    let start = Start {
        file: Some(
            "node-name: 1\nnodes-file: nodes.yaml\noffload: always\nroutes: manage\niface-regex: eth.*\n\
             cluster-cidr: [10.244.0.0/16, 'fd00:244::/48']\nlisten: 127.0.0.1:9911\nproc-sys: /host/sys\n",
        ),
        ..Start::default()
    };
    let args = start.parse().unwrap();
    assert_eq!(args.node_name, "1");
    assert_eq!(args.offload, OffloadMode::Always);
    assert_eq!(args.routes, RoutesMode::Manage);
    assert_eq!(args.cluster_cidr.len(), 2);
    assert!(args.uplink.iface_regex.unwrap().is_match("eth7"));
    assert_eq!(args.listen.unwrap().port(), 9911);
}

#[test]
fn a_list_with_commas_is_one_in_every_place() {
    let list = "10.244.0.0/16,fd00:244::/48";
    let mut start = Start {
        words: vec!["--node-name=a"],
        variables: vec![("UNDERPASS_CLUSTER_CIDR", list)],
        ..Start::default()
    };
    assert_eq!(start.parse().unwrap().cluster_cidr.len(), 2);
    start.variables.clear();
    start.file = Some("cluster-cidr: 10.244.0.0/16,fd00:244::/48\n");
    assert_eq!(start.parse().unwrap().cluster_cidr.len(), 2);
    start.words.push("--cluster-cidr=10.0.0.0/8");
    let cidrs = start.parse().unwrap().cluster_cidr;
    assert_eq!(cidrs.len(), 1, "lists are not added up: {cidrs:?}");
}

#[test]
fn what_goes_before_silences_what_cannot_be_beside_it() {
    let mut start = Start {
        words: vec!["--node-name=a", "--iface=eth0"],
        variables: vec![("UNDERPASS_IFACE_REGEX", "ens.*")],
        file: Some("iface-can-reach: 192.0.2.1\nnodes-file: nodes.yaml\n"),
    };
    let uplink = start.parse().unwrap().uplink;
    assert_eq!(uplink.iface.as_deref(), Some("eth0"));
    assert!(uplink.iface_regex.is_none() && uplink.iface_can_reach.is_none());
    start.words.pop();
    let uplink = start.parse().unwrap().uplink;
    assert!(uplink.iface_regex.is_some() && uplink.iface_can_reach.is_none());
    start.words.push("--kubeconfig=config");
    assert!(start.parse().unwrap().nodes_file.is_none());
}

#[test]
fn a_wrong_file_is_told_with_line_and_key() {
    for (file, told) in [
        (
            "node-name: a\n\noffloat: always\n",
            "agent.yaml:3: offloat: there is no such option; did you mean offload?",
        ),
        (
            "cluster_cidr: 10.0.0.0/8\n",
            "agent.yaml:1: cluster_cidr: there is no such option; did you mean cluster-cidr?",
        ),
        (
            "xyz: 1\n",
            "agent.yaml:1: xyz: there is no such option; `underpass agent --help` names all",
        ),
        (
            "config: other.yaml\n",
            "agent.yaml:1: config: there is no such option: a file names no other",
        ),
        (
            "offload: alwais\n",
            "agent.yaml:1: offload: \"alwais\" is not one of confirmed, always",
        ),
        (
            "max-flows: 0\n",
            "agent.yaml:1: max-flows: \"0\" does not do: 0 is not in 1..=16777216",
        ),
        (
            "offload: [always, confirmed]\n",
            "agent.yaml:1: offload: it takes one value, not a list",
        ),
        (
            "iface: eth0\niface-regex: eth.*\n",
            "agent.yaml:2: iface-regex: cannot be together with agent.yaml:1: iface",
        ),
        (
            "kubeconfig: a\nnodes-file: b\n",
            "agent.yaml:2: nodes-file: cannot be together with agent.yaml:1: kubeconfig",
        ),
    ] {
        let start = Start {
            words: vec!["--node-name=a"],
            file: Some(file),
            ..Start::default()
        };
        assert_eq!(start.error(), told, "{file}");
    }
}

#[test]
fn a_wrong_variable_is_told_by_name() {
    let start = Start {
        words: vec!["--node-name=a"],
        variables: vec![("UNDERPASS_LISTEN", "here")],
        ..Start::default()
    };
    let told = "UNDERPASS_LISTEN: \"here\" does not do: invalid socket address syntax";
    assert_eq!(start.error(), told);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let start = Start {
        words: vec!["--node-name=a", "--config=/nowhere/agent.yaml"],
        ..Start::default()
    };
    let error = start.error();
    let begins = "cannot read the configuration file /nowhere/agent.yaml (--config): No such file";
    assert!(error.starts_with(begins), "{error}");
    let start = Start {
        words: vec!["--node-name=a"],
        variables: vec![("UNDERPASS_CONFIG", "/nowhere/agent.yaml")],
        ..Start::default()
    };
    assert_eq!(start.error(), error);
}

#[test]
fn what_is_missing_is_missing_everywhere() {
    let start = Start {
        file: Some("offload: always\n"),
        ..Start::default()
    };
    assert!(
        start.error().contains("--node-name <NAME>"),
        "{}",
        start.error()
    );
}

#[test]
fn every_option_has_its_variable_and_its_key() {
    let command = Cli::command();
    let settings = settings(&command, AGENT);
    assert!(settings.len() >= 15, "{}", settings.len());
    for arg in settings {
        let option = arg.get_long().unwrap();
        let variable = format!("UNDERPASS_{}", option.to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env(), Some(OsStr::new(&variable)), "--{option}");
        assert!(arg.get_help().is_some(), "--{option} has no help");
    }
}

/// The file that comes with the unit for systemd: what is commented out there are defaults and examples.
#[test]
fn the_sample_file_has_every_key_and_the_defaults() {
    let sample = include_str!("../../../../deploy/systemd/agent.yaml");
    let is_key = |line: &&str| !line.is_empty() && !line.starts_with("# ") && *line != "#";
    let lines: Vec<&str> = sample.lines().filter(is_key).collect();
    let command = Cli::command();
    let settings = settings(&command, AGENT);
    for arg in &settings {
        let begins = format!("{}:", arg.get_long().unwrap());
        let mut lines = lines.iter().map(|line| line.trim_start_matches('#'));
        let line = lines.find(|line| line.starts_with(&begins));
        let line = line.unwrap_or_else(|| panic!("the sample lacks {begins}"));
        if let [default] = arg.get_default_values() {
            assert_eq!(line, format!("{begins} {}", default.display()));
        }
        // An example, too, is a value that the option takes.
        let (key, value) = line.split_once(": ").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        fs::write(&path, format!("{key}: {value}\n")).unwrap();
        let layer = from_file(&command, &path).unwrap();
        check(&command, AGENT, &layer).unwrap();
    }
    assert_eq!(lines.len(), settings.len(), "{lines:?}");
    let start = Start {
        file: Some(sample),
        ..Start::default()
    };
    assert_eq!(start.parse().unwrap().node_name, "node1");
}
