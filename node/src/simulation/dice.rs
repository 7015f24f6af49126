//! All randomness of a run: from its seed, by an algorithm that no release of a library changes.

/// The generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// What is told apart by `parts` gets throws of its own, whatever else is thrown in between.
    pub(super) fn of(seed: u64, parts: &[u64]) -> Self {
        let mut dice = Self(seed);
        for part in parts {
            dice.0 = dice.throw() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        dice
    }

    pub(super) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.throw() % (high - low + 1)
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.throw() % 1_000 < permille
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        // The remainder is an index of the slice.
        from[(self.throw() % from.len() as u64) as usize]
    }
}
