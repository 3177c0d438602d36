//! The figures side by side.

use anyhow::Result;
use serde::Serialize;

use super::race::{Metric, Results, Road};
use crate::measure::statistics::{Summary, Verdict, judge};

/// One figure on all roads.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    #[serde(skip)]
    pub metric: Metric,
    /// What was measured.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// More of it is better; otherwise less is.
    pub more_is_better: bool,
    /// Pod to pod over plain routes.
    pub routes: Summary,
    /// Pod to pod with Underpass.
    pub underpass: Summary,
    /// Node to node, without pods, over plain routes.
    pub node_to_node: Summary,
    /// Underpass by plain routes, round by round.
    pub ratio: Summary,
    /// Underpass by node to node, round by round.
    pub ratio_to_node: Summary,
    /// The same two clusters before the agents came, one by the other: the noise.
    pub noise: Summary,
    /// What `ratio` comes to, given the noise.
    pub verdict: Verdict,
}

impl Comparison {
    /// All figures: `twins` were measured before the agents came, `rivals` after.
    pub fn all(twins: &Results, rivals: &Results) -> Result<Vec<Self>> {
        let one = |metric| Self::of(metric, twins, rivals);
        Metric::ALL.into_iter().map(one).collect()
    }

    fn of(metric: Metric, twins: &Results, rivals: &Results) -> Result<Self> {
        let routes = rivals.summary(metric, Road::Routes)?;
        let underpass = rivals.summary(metric, Road::Other)?;
        let node_to_node = rivals.summary(metric, Road::Node)?;
        let ratio = Summary::ratio(&underpass, &routes)?;
        let noise = Summary::ratio(
            &twins.summary(metric, Road::Other)?,
            &twins.summary(metric, Road::Routes)?,
        )?;
        Ok(Self {
            metric,
            name: metric.name(),
            unit: metric.unit(),
            more_is_better: metric.more_is_better(),
            verdict: judge(&ratio, &noise, metric.more_is_better()),
            ratio_to_node: Summary::ratio(&underpass, &node_to_node)?,
            routes,
            underpass,
            node_to_node,
            ratio,
            noise,
        })
    }
}
