//! Chance that is the same for the same seed.

/// xorshift64* (Vigna): shuffling and drawing lots ask no more of it.
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero; the golden ratio's bits keep small seeds apart.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// A number less than `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// Every order is as likely as every other (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_another() {
        let order = |seed| {
            let mut items: Vec<_> = (0..100).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(3), order(3));
        assert_ne!(order(3), order(4));
        let mut sorted = order(3);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
