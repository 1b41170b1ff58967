//! What the daemon tells a client whose request is under way.

use super::row::TaskRow;
use super::words::{PlexMode, PlexState, VolumeState};
use crate::base::Name;
use serde::{Deserialize, Serialize};

/// An event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Nothing new; the daemon lives.
    Alive,
    /// A task moved or ended. At most a few a second.
    Progress(TaskRow),
    /// A plex changed its state.
    Plex {
        /// Its group.
        group: Name,
        /// Its volume.
        volume: Name,
        /// The plex.
        plex: Name,
        /// The new state.
        state: PlexState,
        /// The new mode.
        mode: PlexMode,
    },
    /// A volume changed its state.
    Volume {
        /// Its group.
        group: Name,
        /// The volume.
        volume: Name,
        /// The new state.
        state: VolumeState,
    },
    /// A line for the person who waits, as "waiting for fence: v-01".
    Note(String),
}
