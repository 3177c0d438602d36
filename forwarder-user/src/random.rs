//! Random numbers, for spreading and for seeds; not for secrets.
//!
//! The standard library's hasher is seeded by the operating system's random numbers.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Any number.
pub fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 up to, but not, 1.
pub fn fraction() -> f64 {
    // As many bits as a double's mantissa holds.
    (number() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_lie_between_0_and_1_and_differ() {
        let some: Vec<f64> = (0..1000).map(|_| fraction()).collect();
        assert!(some.iter().all(|one| (0.0..1.0).contains(one)));
        let (low, high) = (|one: &&f64| **one < 0.5, |one: &&f64| **one >= 0.5);
        assert!(some.iter().filter(low).count() > 300);
        assert!(some.iter().filter(high).count() > 300);
    }
}
