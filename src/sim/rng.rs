//! A small seeded generator of our own, so that a seed means the same run for ever.

use std::ops::Range;

/// SplitMix64, from its published definition (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
/// OOPSLA 2014): a Weyl sequence through a mixing function. Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator that `seed` stands for.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A generator for another part of the world; drawing from one does not disturb the other.
    #[must_use]
    pub const fn split(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// A number below `bound`, by multiply and shift; the bias is below `bound` in 2^64.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below zero");
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// An index below `bound`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub const fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// A number of `range`.
    ///
    /// # Panics
    /// When the range is empty.
    pub const fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// True `parts` times in a million.
    pub const fn chance(&mut self, parts: u32) -> bool {
        self.below(1_000_000) < parts as u64
    }

    /// True half of the times.
    pub const fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there is none.
    pub const fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// Put `items` into any order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_comes_out() {
        let mut rng = Rng::new(1_234_567);
        let expected: [u64; 5] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn draws_stay_in_bounds_and_reach_them() {
        let mut rng = Rng::new(5);
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[rng.index(7)] += 1;
            assert!((3..9).contains(&rng.within(3..9)));
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert!(!rng.chance(0) && rng.chance(1_000_000));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Rng::new(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
