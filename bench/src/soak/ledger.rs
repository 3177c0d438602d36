//! Which losses belong to which event. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Happened, Kind};

/// What was sent from the beginning of one event to that of the next, and what of it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Account {
    /// UDP packets, and questions asked.
    pub sent: u64,
    /// Those that never arrived, and questions without an answer.
    pub lost: u64,
}

impl Account {
    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
    }
}

/// Shares a flow out among the events. `marks`: how much had been sent when each event began, from 0 on;
/// `lost`: the numbers of what was lost.
pub(super) fn share_out(marks: &[u64], sent: u64, lost: &[u64]) -> Vec<Account> {
    let ends = marks.iter().skip(1).copied().chain([sent]);
    let mut accounts: Vec<_> = marks
        .iter()
        .zip(ends)
        .map(|(begin, end)| Account {
            sent: end.saturating_sub(*begin),
            lost: 0,
        })
        .collect();
    for number in lost {
        let event = marks.partition_point(|begin| begin <= number);
        if let Some(account) = event.checked_sub(1).and_then(|at| accounts.get_mut(at)) {
            account.lost += 1;
        }
    }
    accounts
}

/// Sums up the accounts of events by their kind.
pub(super) fn by_kind(events: &[Happened], accounts: &[Account]) -> BTreeMap<Kind, Account> {
    let mut sums = BTreeMap::<_, Account>::new();
    for (event, account) in events.iter().zip(accounts) {
        sums.entry(event.kind).or_default().add(*account);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(sent: u64, lost: u64) -> Account {
        Account { sent, lost }
    }

    #[test]
    fn a_loss_belongs_to_the_event_that_began_last() {
        let shared = share_out(&[0, 10, 10, 30], 50, &[9, 10, 29, 30, 49]);
        let expected = [
            account(10, 1),
            account(0, 0),
            account(20, 2),
            account(20, 2),
        ];
        assert_eq!(shared, expected);
        assert_eq!(share_out(&[0], 3, &[]), [account(3, 0)]);
    }

    #[test]
    fn kinds_are_summed_up() {
        let kinds = [Kind::Nothing, Kind::Kill, Kind::Restart, Kind::Kill];
        let events = kinds.map(|kind| Happened {
            at_s: 0.0,
            kind,
            node: 1,
        });
        let accounts = [account(1, 0), account(2, 1), account(4, 0), account(8, 2)];
        let sums = by_kind(&events, &accounts);
        assert_eq!(sums[&Kind::Kill], account(10, 3));
        assert_eq!(sums[&Kind::Nothing], account(1, 0));
        assert_eq!(sums.len(), 3);
    }
}
