//! Going on after a failure.

use anyhow::{Error, Result};

/// Collects what failed, so that one device or node does not keep the others waiting.
#[derive(Default)]
pub struct Failures {
    first: Option<Error>,
    count: usize,
}

impl Failures {
    /// Notes a failure. True where there was none.
    pub fn note(&mut self, result: Result<()>) -> bool {
        let Err(error) = result else {
            return true;
        };
        self.count += 1;
        self.first.get_or_insert(error);
        false
    }

    /// The first failure, and how many there were.
    pub fn into_result(self) -> Result<()> {
        match (self.first, self.count) {
            (None, _) => Ok(()),
            (Some(error), 1) => Err(error),
            (Some(error), count) => Err(error.context(format!("{count} changes failed, first"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_first_failure_is_told_with_their_number() {
        let mut failures = Failures::default();
        assert!(failures.note(Ok(())));
        assert!(!failures.note(Err(anyhow!("eth0 is gone"))));
        assert!(!failures.note(Err(anyhow!("eth1 is gone"))));
        let error = failures.into_result().unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "2 changes failed, first: eth0 is gone"
        );
        assert!(Failures::default().into_result().is_ok());
    }
}
