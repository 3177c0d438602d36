//! Axes: where a value is drawn, and what stands beside it.

use std::collections::BTreeSet;

/// How values become distances.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
    /// By nines: 90, 99 and 99.9 % are equally far from each other.
    Nines,
}

/// The least distance of two texts below an axis, as a share of its length.
const TEXT_DISTANCE: f64 = 0.09;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What it shows, and the unit.
    pub title: String,
    /// Values with a grid line, and their texts.
    pub ticks: Vec<(f64, String)>,
    scale: Scale,
    /// Lowest and highest value.
    ends: [f64; 2],
}

impl Axis {
    /// From 0 to above the highest value; `None` where there is none above 0.
    pub fn from_zero(title: &str, values: impl Iterator<Item = f64>) -> Option<Self> {
        let highest = values.max_by(f64::total_cmp).filter(|it| *it > 0.0)?;
        let step = step(highest / 5.0);
        let count = (highest / step).ceil() as u32;
        let ticks = (0..=count).map(|it| f64::from(it) * step);
        Some(Self {
            title: title.to_owned(),
            ticks: ticks.map(|it| (it, plain(it))).collect(),
            scale: Scale::Linear,
            ends: [0.0, f64::from(count) * step],
        })
    }

    /// Logarithmic, around all values, with ticks at 1, 2, 5, 10, ...; `None` where there is no value above 0.
    pub fn log(title: &str, values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.filter(|it| *it > 0.0).collect();
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        let mut ticks = vec![round_below(low)];
        while let Some(last) = ticks.last().filter(|it| **it < high) {
            ticks.push(step(last * 1.5));
        }
        if let [only] = ticks[..] {
            ticks.push(step(only * 1.5));
        }
        let ends = [ticks[0], ticks[ticks.len() - 1]];
        Some(Self {
            title: title.to_owned(),
            ticks: ticks.into_iter().map(|it| (it, plain(it))).collect(),
            scale: Scale::Log,
            ends,
        })
    }

    /// Logarithmic, with a tick at each of these, and room at both ends; `None` where there is none.
    pub fn log_at(title: &str, values: &BTreeSet<usize>) -> Option<Self> {
        let above_0 = |it: &usize| (*it).max(1) as f64;
        let (low, high) = (above_0(values.first()?), above_0(values.last()?));
        let ticks = values.iter().map(|it| (above_0(it), thousands(*it)));
        let mut axis = Self {
            title: title.to_owned(),
            ticks: ticks.collect(),
            scale: Scale::Log,
            ends: [low / 1.3, high * 1.3],
        };
        axis.thin_out();
        Some(axis)
    }

    /// Takes the text off ticks that are too near to the next one that has a text.
    fn thin_out(&mut self) {
        let mut next = f64::INFINITY;
        for index in (0..self.ticks.len()).rev() {
            let place = self.place(self.ticks[index].0);
            if next - place < TEXT_DISTANCE {
                self.ticks[index].1.clear();
            } else {
                next = place;
            }
        }
    }

    /// From 50 to 99.9 %, by nines.
    pub fn percentiles(title: &str) -> Self {
        let ticks = [50.0, 90.0, 99.0, 99.9];
        Self {
            title: title.to_owned(),
            ticks: ticks.map(|it| (it, plain(it))).into(),
            scale: Scale::Nines,
            ends: [50.0, 99.9],
        }
    }

    /// Where the value lies: 0 at the low end, 1 at the high one.
    pub fn place(&self, value: f64) -> f64 {
        let [low, high] = self.ends.map(|it| self.scale.distance(it));
        (self.scale.distance(value) - low) / (high - low)
    }
}

impl Scale {
    fn distance(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
            Self::Nines => -(1.0 - value / 100.0).log10(),
        }
    }
}

/// The lowest of 1, 2, 5, 10, 20, ... that is not below the value.
fn step(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|it| it * decade);
    // 2.0000000001 is 2.
    let found = steps.into_iter().find(|it| *it >= value * (1.0 - 1e-9));
    found.unwrap_or(10.0 * decade)
}

/// The highest of 1, 2, 5, 10, 20, ... that is not above the value.
fn round_below(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [5.0, 2.0].map(|it| it * decade);
    let found = steps.into_iter().find(|it| *it <= value * (1.0 + 1e-9));
    found.unwrap_or(decade)
}

/// With as many digits as it needs, three behind the point at most.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `5,000`.
fn thousands(value: usize) -> String {
    match (value / 1000, value % 1000) {
        (0, rest) => rest.to_string(),
        (above, rest) => format!("{},{rest:03}", thousands(above)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_ends_above_the_highest() {
        let axis = Axis::from_zero("", [3.0, 19.0].into_iter()).unwrap();
        assert_eq!(texts(&axis), ["0", "5", "10", "15", "20"]);
        assert_eq!([0.0, 5.0, 20.0].map(|it| axis.place(it)), [0.0, 0.25, 1.0]);
        assert_eq!(Axis::from_zero("", [0.0].into_iter()), None);
        assert_eq!(Axis::from_zero("", std::iter::empty()), None);
    }

    #[test]
    fn a_log_axis_lies_around_its_values() {
        let axis = Axis::log("", [0.3, 31.0].into_iter()).unwrap();
        assert_eq!(
            texts(&axis),
            ["0.2", "0.5", "1", "2", "5", "10", "20", "50"]
        );
        let one = Axis::log("", [10.0].into_iter()).unwrap();
        assert_eq!(texts(&one), ["10", "20"]);
        assert_eq!(Axis::log("", [0.0].into_iter()), None);
    }

    #[test]
    fn nines_are_equally_far() {
        let axis = Axis::percentiles("");
        let [half, one, two, three] = [50.0, 90.0, 99.0, 99.9].map(|it| axis.place(it));
        assert_eq!((half, three), (0.0, 1.0));
        assert!(((two - one) - (three - two)).abs() < 1e-9);
    }

    #[test]
    fn numbers_of_routes_have_a_tick_each() {
        let axis = Axis::log_at("", &BTreeSet::from([0, 10, 5000])).unwrap();
        assert_eq!(texts(&axis), ["0", "10", "5,000"]);
        let ends = [axis.place(1.0), axis.place(5000.0)];
        assert!(ends[0] > 0.0 && ends[1] < 1.0, "{ends:?}");
        assert_eq!(Axis::log_at("", &BTreeSet::new()), None);
    }

    #[test]
    fn texts_do_not_overlap() {
        let axis = Axis::log_at("", &BTreeSet::from([1, 1000, 5000, 10_000])).unwrap();
        assert_eq!(texts(&axis), ["1", "1,000", "", "10,000"]);
    }
}
