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
    let mut theirs = sorted(kernel).peekable();
    let mut ours = sorted(underpass).peekable();
    let mut difference = Difference::default();
    loop {
        match (theirs.peek(), ours.peek()) {
            (None, None) => break,
            (Some((one, _)), Some((other, _))) if one == other => {
                theirs.next();
                ours.next();
            }
            (Some((one, outcome)), other) if other.is_none_or(|(other, _)| one < other) => {
                difference.kernel_only.push((*outcome).clone());
                theirs.next();
            }
            (_, Some((_, outcome))) => {
                difference.underpass_only.push((*outcome).clone());
                ours.next();
            }
            (Some(_), None) => unreachable!("it is taken above"),
        }
    }
    let is_one = !difference.kernel_only.is_empty() || !difference.underpass_only.is_empty();
    is_one.then_some(difference)
}

/// What counts of the outcomes, as it is to be compared.
fn sorted(outcomes: &[Outcome]) -> impl Iterator<Item = (Event, &Outcome)> {
    let mut events: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some((normalize(&outcome.event)?, outcome)))
        .collect();
    events.sort_by(|(one, _), (other, _)| one.cmp(other));
    events.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::cast::Place;
    use super::super::frames::{Offload, Seen};
    use super::*;

    fn came_out(injection: usize, place: Place, last: u8) -> Outcome {
        let mut bytes = vec![0; 60];
        bytes[59] = last;
        let seen = Seen {
            bytes,
            offload: Offload::default(),
            tag: None,
            packet_type: 0,
        };
        Outcome {
            injection,
            event: Event::Out(place, seen),
        }
    }

    #[test]
    fn order_and_attribution_make_no_difference() {
        let one = [came_out(0, Place::Wire, 1), came_out(1, Place::Pod1, 2)];
        let other = [came_out(1, Place::Pod1, 2), came_out(1, Place::Wire, 1)];
        assert!(compare(&one, &other).is_none());
    }

    #[test]
    fn what_only_one_world_sends_is_told() {
        let twice = [came_out(0, Place::Wire, 1), came_out(1, Place::Wire, 1)];
        let difference = compare(&twice, &twice[..1]).expect("one more");
        assert_eq!(difference.kernel_only.len(), 1);
        assert!(difference.underpass_only.is_empty());

        let elsewhere = [came_out(0, Place::Pod2, 1), came_out(1, Place::Wire, 1)];
        let difference = compare(&twice, &elsewhere).expect("elsewhere");
        assert_eq!(difference.kernel_only.len(), 1);
        assert_eq!(difference.underpass_only.len(), 1);

        let refused = [Outcome {
            injection: 0,
            event: Event::Refused(libc::EINVAL),
        }];
        assert!(compare(&refused, &[]).is_some());
    }
}
