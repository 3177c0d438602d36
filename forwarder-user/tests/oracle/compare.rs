//! Two outcomes of one batch, side by side.

use super::exits::{Event, Outcome};
use super::normalize::normalize;

/// What only one of two worlds sent, with the number of the injection after which it came out.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    pub kernel_only: Vec<Outcome>,
    pub underpass_only: Vec<Outcome>,
}

/// Compares as multisets: what takes a shorter road may overtake, and whatever comes out late is
/// taken for the outcome of a later injection.
pub fn compare(kernel: &[Outcome], underpass: &[Outcome]) -> Option<Difference> {
    let (mut ours, mut theirs) = (sorted(underpass).peekable(), sorted(kernel).peekable());
    let mut difference = Difference::default();
    loop {
        match (theirs.peek(), ours.peek()) {
            (None, None) => break,
            (Some((one, _)), Some((other, _))) if one == other => {
                theirs.next();
                ours.next();
            }
            (Some((one, _)), other) if other.is_none_or(|(other, _)| one < other) => {
                difference.kernel_only.extend(theirs.next().map(|it| it.1));
            }
            _ => difference.underpass_only.extend(ours.next().map(|it| it.1)),
        }
    }
    let is_one = !difference.kernel_only.is_empty() || !difference.underpass_only.is_empty();
    is_one.then_some(difference)
}

fn sorted(outcomes: &[Outcome]) -> impl Iterator<Item = (Event, Outcome)> {
    let mut events: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some((normalize(&outcome.event)?, outcome.clone())))
        .collect();
    events.sort_by(|(one, _), (other, _)| one.cmp(other));
    events.into_iter()
}
