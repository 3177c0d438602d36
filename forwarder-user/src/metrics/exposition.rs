//! The two forms of metrics as text.
//!
//! The client library writes OpenMetrics. Whoever does not ask for it gets the older form of Prometheus, which
//! every scraper and `promtool` read: there a counter's HELP and TYPE carry the suffix `_total` too, and nothing
//! marks the end.

use std::collections::BTreeSet;

/// The content type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of Prometheus' own form.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether an `Accept` header asks for OpenMetrics.
pub(super) fn wants_openmetrics(accept: &str) -> bool {
    accept
        .split(',')
        .any(|kind| kind.trim().starts_with("application/openmetrics-text"))
}

/// OpenMetrics, told in Prometheus' own form.
pub(super) fn as_prometheus(openmetrics: &str) -> String {
    let counter = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: BTreeSet<String> = openmetrics.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        match described(line).filter(|(_, name, _)| counters.contains(*name)) {
            Some((keyword, name, rest)) => {
                text.extend(["# ", keyword, " ", name, "_total ", rest]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Keyword, name and the rest of a line of HELP or TYPE.
fn described(line: &str) -> Option<(&str, &str, &str)> {
    let mut words = line.strip_prefix("# ")?.splitn(3, ' ');
    let keyword = words
        .next()
        .filter(|word| ["HELP", "TYPE"].contains(word))?;
    Some((keyword, words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_carry_their_suffix_and_all_else_stays() {
        let openmetrics = "# HELP a_packets Packets seen.\n# TYPE a_packets counter\na_packets_total 3\n\
                           # HELP a_pods Pods.\n# TYPE a_pods gauge\na_pods 2\n# EOF\n";
        let prometheus = "# HELP a_packets_total Packets seen.\n# TYPE a_packets_total counter\na_packets_total 3\n\
                          # HELP a_pods Pods.\n# TYPE a_pods gauge\na_pods 2\n";
        assert_eq!(as_prometheus(openmetrics), prometheus);
    }

    #[test]
    fn openmetrics_is_for_those_who_ask() {
        let of_prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants_openmetrics(of_prometheus));
        assert!(!wants_openmetrics("*/*"));
        assert!(!wants_openmetrics(""));
    }
}
