//! Waiting for a condition, with a deadline.
//!
//! On a machine that is slow through and through, such as an emulated one, the environment variable
//! `UNDERPASS_PATIENCE` makes all deadlines here so many times longer.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long to rest between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// How many times longer than said deadlines are.
static PATIENCE: LazyLock<u32> =
    LazyLock::new(|| patience(env::var("UNDERPASS_PATIENCE").ok().as_deref()));

fn patience(value: Option<&str>) -> u32 {
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}

/// A deadline as long as it is on this machine.
pub fn patient(deadline: Duration) -> Duration {
    deadline * *PATIENCE
}

/// Waits until `condition` holds.
///
/// # Errors
/// When it still doesn't hold after `deadline`; the message names `what`.
pub fn wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    while !condition() {
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain: {what}");
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Tries until `attempt` succeeds, and returns what it gave.
///
/// # Errors
/// When it still fails after `deadline`: the last error, under a message that names `what`.
pub fn wait_for<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = patient(deadline);
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("waited {deadline:?} in vain: {what}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_what_was_waited_for() {
        let error = wait_until(Duration::ZERO, "the moon is full", || false).unwrap_err();
        assert!(error.to_string().contains("the moon is full"));
    }

    #[test]
    fn only_a_number_stretches_deadlines() {
        assert_eq!(patience(Some("4")), 4);
        assert_eq!(patience(Some("")), 1);
        assert_eq!(patience(None), 1);
    }

    #[test]
    fn the_last_error_is_told() {
        let error = wait_for::<()>(Duration::ZERO, "an answer", || bail!("nobody there"));
        assert!(format!("{:#}", error.unwrap_err()).ends_with("an answer: nobody there"));
    }

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;
        let looked = wait_until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            looks == 3
        });
        assert!(looked.is_ok());
        assert_eq!(looks, 3);
    }
}
