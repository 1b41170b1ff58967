//! Volume, plex, snapshot and task as pure machines: event in, new state and actions out.
//!
//! Nothing here does I/O, reads a clock or rolls dice: identities come from an [`Ids`] that the caller seeds, times and
//! what was seen of the media come as arguments. A configuration change is a function from one [`Group`] to the next
//! ([`change`]); whoever calls it carries out the effects, makes the new group durable and only then goes on.
//!
//! Room promises: a state changes only through its machine's `step`; every group that a change returns passes
//! [`Group::check`]; a refusal names object, reason and way out and leaves nothing changed.

pub mod change;
mod check;
mod group;
mod ids;
pub mod listing;
mod medium;
pub mod place;
mod plex;
pub mod recovery;
pub mod refuse;
mod resize;
pub mod restore;
pub mod scrub;
pub mod settings;
mod snapshot;
pub mod task;
mod volume;

pub use crate::base::limits::medium_bytes;
pub use group::{Group, Plex, ReadPolicy, Volume};
pub use ids::Ids;
pub use medium::{MediumKind, MediumPath, Noted, PlexMedium, PoolMedium};
pub use plex::{KernelState, PlexAction, PlexEvent, PlexMode, PlexState, Purpose};
pub use recovery::{Fate, Leaving, Unfinished};
pub use resize::{ResizeStage, Resizing};
pub use restore::{Archive, Restore, RestorePhase, Undo};
pub use scrub::{Hours, Repair, Schedule, Scrub, ScrubTally};
pub use settings::{DataPath, Settings, SettingsChange};
pub use snapshot::{Grade, PreparedCut, Resync, SnapshotLink};
pub use volume::{VolumeEvent, VolumeState};
