//! The volume machine: VxVM's volume states, and the one function that changes them.
//!
//! ```text
//!          Initialise            Start
//!   EMPTY ───────────► CLEAN ───────────────► ACTIVE ◄─────────────┐
//!                        ▲         Stop         │ │                │
//!                        └──────────────────────┘ │ ResyncBegin    │ ResyncDone
//!                                                 ▼                │
//!                     NEEDSYNC ───────────────► SYNC ──────────────┘
//!                        ▲         Start          │
//!                        └────────────────────────┘ Stop, Crash (and Crash of ACTIVE)
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

use super::plex::KernelState;

/// The states of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VolumeState {
    /// Its plexes are being made.
    Empty,
    /// Stopped, all plexes equal.
    Clean,
    /// Started.
    Active,
    /// Not started; its plexes may differ wherever the intent map has a bit.
    NeedSync,
    /// Started; its plexes are being made equal from one recorded source.
    Sync,
}

/// What may happen to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VolumeEvent {
    /// Its plexes are there and their content is declared.
    Initialise,
    /// It is started.
    Start,
    /// It is stopped in good order.
    Stop,
    /// It was found without its device though it had not been stopped.
    Crash,
    /// A new daemon takes over its living device.
    Recover,
    /// Its plexes may differ under a living device; a source is recorded.
    ResyncBegin,
    /// All plexes are equal over every extent that the resync had to look at.
    ResyncDone,
}

/// The event does not fit the volume's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongVolumeState {
    /// The state that stays.
    pub state: VolumeState,
    /// The event that was refused.
    pub event: VolumeEvent,
}

impl VolumeState {
    /// All states, in the order of the table test.
    pub const ALL: [Self; 5] = [Self::Empty, Self::Clean, Self::Active, Self::NeedSync, Self::Sync];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`WrongVolumeState`] when the event cannot happen to a volume in this state; nothing changes.
    pub const fn step(self, event: VolumeEvent) -> Result<Self, WrongVolumeState> {
        use VolumeEvent as E;
        use VolumeState::{Active, Clean, Empty, NeedSync, Sync};
        let refused = Err(WrongVolumeState { state: self, event });
        match (self, event) {
            (Empty, E::Initialise) => Ok(Clean),
            (Clean, E::Start) | (Active | Sync, E::ResyncDone) => Ok(Active),
            (NeedSync, E::Start) | (Active | Sync, E::ResyncBegin) => Ok(Sync),
            (Active, E::Stop) => Ok(Clean),
            // Extents that were not yet equal keep their intent bits, and the source keeps its authority.
            (Sync, E::Stop) | (Active | Sync | NeedSync, E::Crash) => Ok(NeedSync),
            (Active | Sync, E::Recover) | (Empty | Clean, E::Crash) => Ok(self),
            (Clean | Active | NeedSync | Sync, E::Initialise)
            | (Empty | Active | Sync, E::Start)
            | (Empty | Clean | NeedSync, E::Stop | E::Recover | E::ResyncBegin | E::ResyncDone) => refused,
        }
    }

    /// Whether the volume runs: it has a device and its plexes are in a route.
    #[must_use]
    pub const fn is_started(self) -> bool {
        match self {
            Self::Active | Self::Sync => true,
            Self::Empty | Self::Clean | Self::NeedSync => false,
        }
    }

    /// VxVM's kernel state.
    #[must_use]
    pub const fn kernel(self) -> KernelState {
        if self.is_started() { KernelState::Enabled } else { KernelState::Disabled }
    }

    /// VxVM's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Empty => "EMPTY",
            Self::Clean => "CLEAN",
            Self::Active => "ACTIVE",
            Self::NeedSync => "NEEDSYNC",
            Self::Sync => "SYNC",
        }
    }
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_as_the_table_says() {
        // EMPTY, CLEAN, ACTIVE, NEEDSYNC, SYNC; `-` is a refusal.
        let table = [
            (VolumeEvent::Initialise, ["CLEAN", "-", "-", "-", "-"]),
            (VolumeEvent::Start, ["-", "ACTIVE", "-", "SYNC", "-"]),
            (VolumeEvent::Stop, ["-", "-", "CLEAN", "-", "NEEDSYNC"]),
            (VolumeEvent::Crash, ["EMPTY", "CLEAN", "NEEDSYNC", "NEEDSYNC", "NEEDSYNC"]),
            (VolumeEvent::Recover, ["-", "-", "ACTIVE", "-", "SYNC"]),
            (VolumeEvent::ResyncBegin, ["-", "-", "SYNC", "-", "SYNC"]),
            (VolumeEvent::ResyncDone, ["-", "-", "ACTIVE", "-", "ACTIVE"]),
        ];
        for (event, row) in table {
            for (state, expected) in VolumeState::ALL.into_iter().zip(row) {
                let seen = state.step(event).map_or_else(
                    |refused| {
                        assert_eq!(refused, WrongVolumeState { state, event });
                        "-"
                    },
                    VolumeState::word,
                );
                assert_eq!(seen, expected, "{state} on {event:?}");
            }
        }
    }
}
