//! What lasts of a change of a volume's length that is under way, so that whoever finds it knows which of two lengths labels
//! may bear and what is still to be done.
//!
//! ```text
//!            room, zeroes, labels              one commit               stale labels gone
//!   (none) ───────────────────────► BEGUN ───────────────────► RECORDED ─────────────────► SETTLED ──► (none)
//!                                     │ the old length counts     the new length counts      the device gets it
//!                                     └──► (none), as if nothing had been
//! ```

use serde::{Deserialize, Serialize};

/// How far a change of length has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeStage {
    /// The old length counts: media may have been enlarged and bear labels of the new one.
    Begun,
    /// The new length counts: media may bear labels of the old one, in the old place too, and be longer than they need to be.
    Recorded,
    /// The new length counts, and the media are as it wants them: the living device may still have the old one.
    Settled,
}

/// A change of a volume's length under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resizing {
    /// The length before, in bytes.
    pub from: u64,
    /// The length after it, in bytes.
    pub to: u64,
    /// How far it has come.
    pub stage: ResizeStage,
}

impl Resizing {
    /// The length that counts, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self.stage {
            ResizeStage::Begun => self.from,
            ResizeStage::Recorded | ResizeStage::Settled => self.to,
        }
    }

    /// The length that does not, in bytes.
    #[must_use]
    pub const fn other(&self) -> u64 {
        match self.stage {
            ResizeStage::Begun => self.to,
            ResizeStage::Recorded | ResizeStage::Settled => self.from,
        }
    }
}
