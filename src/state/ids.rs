//! Identities derived from one seed: the caller rolls the dice once, the change that uses them stays a pure function.

use crate::base::{GenerationId, Uuid};

/// A row of identities that a 32-byte random seed determines; no two of it are alike.
#[derive(Clone, Debug)]
pub struct Ids {
    seed: [u8; 32],
    count: u64,
}

impl Ids {
    /// The row of `seed`, which must come from the system's random source and be used for one change only.
    #[must_use]
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, count: 0 }
    }

    /// The next identity.
    pub fn uuid(&mut self) -> Uuid {
        let hash = blake3::keyed_hash(&self.seed, &self.count.to_le_bytes());
        self.count += 1;
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Uuid::from_random(bytes)
    }

    /// The next identity, as that of a state of data.
    pub fn generation(&mut self) -> GenerationId {
        GenerationId(self.uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_gives_the_same_row_of_distinct_ids() {
        let row = |seed| {
            let mut ids = Ids::from_seed([seed; 32]);
            (0..1000).map(|_| ids.uuid()).collect::<Vec<_>>()
        };
        assert_eq!(row(1), row(1));
        assert_eq!(row(1).into_iter().chain(row(2)).collect::<BTreeSet<_>>().len(), 2000);
    }
}
