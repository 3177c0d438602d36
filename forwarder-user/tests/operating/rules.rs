//! The alerts: what they say is right, each fires when it should, and each has a chapter that tells what to do.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::anchors::anchors;
use crate::promtool::promtool;
use crate::repository;

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";

/// The alerts, as they stand in the rules.
pub fn alerts() -> Result<Vec<Value>> {
    let rules: Value = serde_saphyr::from_str(&repository("deploy/prometheus/alerts.yaml"))?;
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    let alerts: Vec<Value> = rules.flatten().cloned().collect();
    ensure!(alerts.len() >= 10, "the rules have lost their alerts");
    Ok(alerts)
}

fn text<'a>(value: &'a Value, path: &str) -> Result<&'a str> {
    let found = value.pointer(path).and_then(Value::as_str);
    found.with_context(|| format!("no {path} in {value}"))
}

#[test]
fn promtool_takes_the_rules() -> Result<()> {
    promtool(
        "promtool_takes_the_rules",
        &["check", "rules", "alerts.yaml"],
        "",
    )
}

/// The job that the handbook shows is one that Prometheus takes, by the name that the rules go by.
#[test]
fn promtool_takes_the_handbooks_job() -> Result<()> {
    let handbook = repository("docs/kubernetes.md");
    let blocks = handbook.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let job = blocks.find(|block| block.starts_with("scrape_configs:"));
    let job = job.context("there is no scrape job")?;
    ensure!(job.contains("- job_name: underpass\n"), "{job}");
    // A promtool of our own knows no Kubernetes.
    let discovery = "kubernetes_sd_configs:\n      - role: node\n";
    ensure!(job.contains(discovery), "{job}");
    let job = job.replace(
        discovery,
        "static_configs:\n      - targets: [node1:10250]\n",
    );
    promtool(
        "promtool_takes_the_handbooks_job",
        &["check", "config", "/dev/stdin"],
        &job,
    )
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() -> Result<()> {
    const TEST: &str = "each_alert_fires_when_it_should_and_not_otherwise";
    let cases: Value = serde_saphyr::from_str(&repository("deploy/prometheus/alerts_test.yaml"))?;
    let cases = cases["tests"].as_array().context("no tests")?;
    for alert in alerts()? {
        let name = text(&alert, "/alert")?;
        let expected =
            |case: &&Value| case["name"] == name && case.to_string().contains("exp_alerts");
        ensure!(
            cases.iter().any(|case| expected(&case)),
            "no case has {name} fire"
        );
    }
    promtool(TEST, &["test", "rules", "alerts_test.yaml"], "")
}

#[test]
fn each_alert_says_what_it_means_and_where_to_read_on() -> Result<()> {
    let chapters = anchors(&repository(TROUBLESHOOTING));
    for alert in alerts()? {
        let name = text(&alert, "/alert")?;
        let severity = text(&alert, "/labels/severity")?;
        ensure!(
            ["info", "warning", "critical"].contains(&severity),
            "{name}: {severity}"
        );
        for part in ["summary", "description"] {
            ensure!(
                text(&alert, &format!("/annotations/{part}"))?.len() > 20,
                "{name}: {part}"
            );
        }
        let runbook = text(&alert, "/annotations/runbook_url")?;
        let anchor = runbook
            .strip_prefix(TROUBLESHOOTING)
            .and_then(|rest| rest.strip_prefix('#'));
        let anchor = anchor.with_context(|| format!("{name}: {runbook}"))?;
        ensure!(
            chapters.contains(anchor),
            "{name}: no chapter #{anchor} in {TROUBLESHOOTING}"
        );
    }
    Ok(())
}
