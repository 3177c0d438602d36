//! What a live agent serves: in the form that Prometheus reads, by its conventions, and with every metric that the
//! alerts and the dashboard ask for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use underpass_bench::lab::AgentOptions;
use underpass_bench::{root_or_skip, wait_for};

use crate::promtool::promtool;
use crate::rules::alerts;
use crate::{DEADLINE, lab, repository};

/// Labels of few values each; `peer` is bounded by the agent itself.
const LABELS: [&str; 12] = [
    "hook", "verdict", "state", "family", "reason", "peer", "map", "source", "version", "layout",
    "le", "quantile",
];

#[test]
fn a_live_agent_serves_what_alerts_and_dashboard_ask_for() -> Result<()> {
    const TEST: &str = "a_live_agent_serves_what_alerts_and_dashboard_ask_for";
    if !root_or_skip(TEST) {
        return Ok(());
    }
    let lab = lab().build()?;
    let agents = lab.start_agents(&AgentOptions::default(), DEADLINE)?;
    let scrape = wait_for(DEADLINE, "the agent has seen the other node", || {
        let (status, body) = agents[0].get("/metrics")?;
        ensure!(status == 200, "{status}: {body}");
        ensure!(
            body.contains("\nunderpass_peers{state=\"ready\"} 1\n"),
            "{body}"
        );
        Ok(body)
    })?;
    let names = sampled(&scrape);
    for asked in asked()? {
        ensure!(names.contains(&asked), "nobody serves {asked}:\n{scrape}");
    }
    let labels = labels(&scrape);
    for label in &labels {
        ensure!(
            LABELS.contains(&label.as_str()),
            "{label}: is it bounded? {labels:?}"
        );
    }
    for line in [
        r#"underpass_map_entries{map="routes_v4"} 1"#,
        r#"underpass_map_entries{map="peers"} 1"#,
        r#"underpass_map_entries{map="pods"} 1"#,
        r#"underpass_map_capacity_entries{map="flows_v4"} 65536"#,
        "underpass_maps_readable 1",
        "underpass_reconciliation_failing 0",
        "# TYPE underpass_packets_total counter",
    ] {
        ensure!(
            scrape.lines().any(|one| one == line),
            "no {line} in\n{scrape}"
        );
    }
    promtool(TEST, &["check", "metrics"], &scrape)
}

/// Names of the samples.
fn sampled(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next());
    names.map(str::to_owned).collect()
}

fn labels(scrape: &str) -> BTreeSet<String> {
    let samples = scrape.lines().filter(|line| !line.starts_with('#'));
    let sets = samples.filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0));
    let labels = sets.flat_map(|set| set.split(','));
    labels
        .filter_map(|label| label.split('=').next())
        .map(str::to_owned)
        .collect()
}

/// Every metric of ours that an alert or a panel names.
fn asked() -> Result<BTreeSet<String>> {
    let mut expressions: Vec<String> = Vec::new();
    for alert in alerts()? {
        expressions.push(alert["expr"].as_str().context("no expr")?.to_owned());
    }
    let dashboard: Value = serde_json::from_str(&repository("deploy/grafana/underpass.json"))?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let of_panels = targets
        .flatten()
        .filter_map(|target| target["expr"].as_str());
    expressions.extend(of_panels.map(str::to_owned));
    let variables = dashboard["templating"]["list"]
        .as_array()
        .context("no variables")?;
    let definitions = variables
        .iter()
        .filter_map(|variable| variable["definition"].as_str());
    expressions.extend(definitions.map(str::to_owned));
    ensure!(expressions.len() > 30, "{expressions:?}");
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expressions
        .iter()
        .flat_map(|text| text.split(move |c| !is_of_name(c)));
    Ok(words
        .filter(|word| word.starts_with("underpass_"))
        .map(str::to_owned)
        .collect())
}
