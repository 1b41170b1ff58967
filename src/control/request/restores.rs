//! What is asked for restores and the way back from them.

use crate::base::Name;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// See [`Request::Restore`](super::Request::Restore).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The group.
    pub group: Name,
    /// The snapshot volume.
    pub snapshot: Name,
    /// How many of its plexes go back afterwards; all when absent, and none for 0: then the snapshot volume stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nmirror: Option<u32>,
    /// Whether what is overwritten is kept in an undo archive first.
    pub safety: bool,
    /// Whether to tell only what would be overwritten.
    #[serde(default)]
    pub dry_run: bool,
    /// The most bytes a second that are saved and copied, until the daemon ends; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<NonZeroU64>,
    /// Whether to answer as soon as it has begun.
    pub background: bool,
}

/// See [`Request::Undo`](super::Request::Undo).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The archive; the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// Whether the archive is kept afterwards.
    #[serde(default)]
    pub keep: bool,
    /// Whether to put it back also where what was written since would stay beside it.
    #[serde(default)]
    pub force: bool,
    /// Whether to tell only what would be overwritten.
    #[serde(default)]
    pub dry_run: bool,
    /// The most bytes a second that are put back, until the daemon ends; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<NonZeroU64>,
    /// Whether to answer as soon as it has begun.
    pub background: bool,
}

/// See [`Request::UndoList`](super::Request::UndoList).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoList {
    /// The group.
    pub group: Name,
    /// The volume; all of the group when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
}

/// See [`Request::UndoDelete`](super::Request::UndoDelete).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoDelete {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The archive.
    pub archive: String,
}
