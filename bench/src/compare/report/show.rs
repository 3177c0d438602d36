//! How figures, ratios and verdicts are put into words.

use crate::compare::figure::Figure;
use crate::measure::statistics::{Estimate, Verdict};

/// What stands where nothing was measured.
pub(super) const HOLE: &str = "-";

/// A ratio with three digits that count: `1.22`, `12.2`, `122`.
pub(super) fn ratio(value: f64) -> String {
    match value.abs() {
        it if it < 10.0 => format!("{value:.2}"),
        it if it < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A ratio's interval: `1.18-1.25`.
pub(super) fn ratio_interval(estimate: Estimate) -> String {
    let [low, high] = estimate.interval.map(ratio);
    format!("{low}-{high}")
}

/// A ratio and its interval: `1.22 (1.18-1.25)`.
pub(super) fn ratio_estimate(estimate: Estimate) -> String {
    format!("{} ({})", ratio(estimate.median), ratio_interval(estimate))
}

/// A figure and its interval, without the unit: `14.1 (13.8-14.3)`.
pub(super) fn estimate(figure: Figure, estimate: Estimate) -> String {
    let [low, high] = estimate.interval.map(|it| figure.show(it));
    format!("{} ({low}-{high})", figure.show(estimate.median))
}

/// A figure's name with its unit: `throughput, Gb/s`.
pub(super) fn figure_and_unit(figure: Figure) -> String {
    format!("{}, {}", figure.title(), figure.unit())
}

/// What a verdict is called in a table.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::WithinNoise => "within noise",
        Verdict::NotJudged => "not judged",
    }
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_keep_three_digits() {
        assert_eq!([0.972, 12.34, 123.4].map(ratio), ["0.97", "12.3", "123"]);
    }

    #[test]
    fn figures_are_shown_in_their_unit() {
        let rate = Estimate {
            median: 150_300.0,
            interval: [149_000.0, 151_000.0],
            rounds: 7,
        };
        assert_eq!(estimate(Figure::PacketRate, rate), "150.3 (149.0-151.0)");
        assert_eq!(mib(14 << 20), "14.0");
    }
}
