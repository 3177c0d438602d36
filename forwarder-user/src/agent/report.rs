//! What the agent tells: log lines, each once, and its record for `underpass status`.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info, warn};
use underpass_common::agent::{Agent as Record, Ingress, NodesSource};

use crate::config::{self, Config, RoutesMode};
use crate::plan::Problem;
use crate::xdp::XdpMode;

/// Tells what is new, and keeps quiet about what has been told.
pub struct Reporter {
    record: Record,
    nodes_error: Option<String>,
    node_warnings: BTreeSet<String>,
    problems: BTreeSet<String>,
    apply_error: Option<String>,
    troubles: Troubles,
}

impl Reporter {
    /// A reporter of an agent that starts now.
    pub fn new(
        config: &Config,
        xdp_mode: XdpMode,
        source: NodesSource,
        started_unix_s: u64,
        routing_digest: u64,
    ) -> Self {
        let ingress = match (config.ingress, xdp_mode) {
            (config::Ingress::Tc, _) => Ingress::Tc,
            (config::Ingress::Xdp, XdpMode::Native) => Ingress::XdpNative,
            (config::Ingress::Xdp, XdpMode::Generic) => Ingress::XdpGeneric,
        };
        let mut node_name = [0; 256];
        put_text(&mut node_name, &config.node_name);
        Self {
            record: Record {
                started_unix_s,
                nodes_read_unix_s: 0,
                routing_digest,
                pid: std::process::id(),
                uplink_ifindex: 0,
                manages_routes: u8::from(config.routes == RoutesMode::Manage),
                nodes_source: source as u8,
                version: version(),
                ingress: ingress as u8,
                _pad: [0; 7],
                node_name,
                nodes_error: [0; 512],
                xdp_error: [0; 256],
            },
            nodes_error: None,
            node_warnings: BTreeSet::new(),
            problems: BTreeSet::new(),
            apply_error: None,
            troubles: Troubles::default(),
        }
    }

    /// The nodes were read, but for the items that `warnings` name.
    pub fn nodes_read(&mut self, warnings: Vec<String>, now_unix_s: u64) {
        self.record.nodes_read_unix_s = now_unix_s;
        if self.nodes_error.take().is_some() {
            info!("the nodes can be read again");
        }
        let warnings: BTreeSet<_> = warnings.into_iter().collect();
        for new in warnings.difference(&self.node_warnings) {
            warn!("{new}");
        }
        self.node_warnings = warnings;
    }

    /// The nodes could not be read; `kept` tells whether there are older ones to go on with.
    pub fn nodes_failed(&mut self, text: String, kept: bool) {
        if self.nodes_error.as_ref() != Some(&text) {
            match kept {
                true => error!("{text} (the last good nodes stay)"),
                false => error!("{text} (nothing is set up before the nodes are read)"),
            }
            self.nodes_error = Some(text);
        }
    }

    /// Tells of problems that are new, and of those that have gone.
    pub fn tell_problems(&mut self, problems: &[Problem]) {
        let problems: BTreeSet<_> = problems.iter().map(ToString::to_string).collect();
        for new in problems.difference(&self.problems) {
            warn!("{new}");
        }
        for gone in self.problems.difference(&problems) {
            info!("no longer so: {gone}");
        }
        self.problems = problems;
    }

    /// What was wanted has been applied.
    pub fn applied(&mut self) {
        if self.apply_error.take().is_some() {
            info!("everything could be applied again");
        }
    }

    /// What was wanted could not be applied.
    pub fn apply_failed(&mut self, text: &str) {
        if self.apply_error.as_deref() != Some(text) {
            error!("{text} (tried again every second)");
            self.apply_error = Some(text.to_owned());
        }
    }

    /// How something went that is done again and again: a failure is told once, and that it is over.
    pub fn tried<T>(&mut self, what: &'static str, outcome: Result<T, anyhow::Error>) -> Option<T> {
        let failure = outcome
            .as_ref()
            .err()
            .map(|error| format!("{what}: {error:#}"));
        let is_over = failure.is_none();
        match self.troubles.news(what, failure) {
            Some(text) if is_over => info!("{text}"),
            Some(text) => warn!("{text}"),
            None => {}
        }
        outcome.ok()
    }

    /// XDP is on the uplinks, or not on all of them, for this reason.
    pub fn xdp(&mut self, refused: Option<&str>) {
        let outcome = refused.map_or(Ok(()), |why| {
            Err(anyhow::anyhow!("{why}; TC does its work"))
        });
        self.tried("XDP", outcome);
        self.record.xdp_error = [0; 256];
        put_text(&mut self.record.xdp_error, refused.unwrap_or(""));
    }

    /// The source has given a sign of life; true where that is newer than what is in the record.
    pub fn nodes_heard(&mut self, unix_s: u64) -> bool {
        let newer = unix_s > self.record.nodes_read_unix_s;
        if newer {
            self.record.nodes_read_unix_s = unix_s;
        }
        newer
    }

    /// There is a plan: the main uplink's interface index (0: none) and the routing's digest.
    pub fn planned(&mut self, uplink_ifindex: u32, routing_digest: u64) {
        self.record.uplink_ifindex = uplink_ifindex;
        self.record.routing_digest = routing_digest;
    }

    /// The record as it stands now. Before the first plan the digest that was kept stays.
    pub fn record(&mut self) -> Record {
        self.record.nodes_error = [0; 512];
        put_text(
            &mut self.record.nodes_error,
            self.nodes_error.as_deref().unwrap_or(""),
        );
        self.record
    }
}

/// Our own version, as Cargo has it.
fn version() -> [u16; 3] {
    let parts = [
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ];
    parts.map(|part| part.parse().unwrap_or(0))
}

/// What has been told of things that fail.
#[derive(Default)]
struct Troubles(BTreeMap<&'static str, String>);

impl Troubles {
    /// What is worth a line: a failure that is new or another one than before, or that it is over.
    fn news(&mut self, what: &'static str, failure: Option<String>) -> Option<String> {
        let Some(text) = failure else {
            return self.0.remove(what).map(|_| format!("{what}: works again"));
        };
        let before = self.0.insert(what, text.clone());
        (before.as_ref() != Some(&text)).then_some(text)
    }
}

/// Puts text into a field that ends in zeros, cut at a character's boundary where it is too long.
fn put_text(field: &mut [u8], text: &str) {
    let mut end = text.len().min(field.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_failure_is_told_once_and_its_end_too() {
        let mut troubles = Troubles::default();
        let failure = |text: &str| Some(text.to_owned());
        for (outcome, told) in [
            (None, None),
            (failure("no answer"), failure("no answer")),
            (failure("no answer"), None),
            (failure("refused"), failure("refused")),
            (None, failure("reading: works again")),
            (None, None),
        ] {
            assert_eq!(
                troubles.news("reading", outcome.clone()),
                told,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let mut field = [0; 5];
        put_text(&mut field, "abcd");
        assert_eq!(&field, b"abcd\0");
        let mut field = [0; 5];
        put_text(&mut field, "abc\u{20ac}");
        assert_eq!(&field, b"abc\0\0");
    }
}
