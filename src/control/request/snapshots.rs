//! What is asked for snapshots.

use crate::base::Name;
use crate::control::words::Consistency;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;

/// See [`Request::SnapStart`](super::Request::SnapStart).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapStart {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// How many snapshot mirrors are added.
    pub nmirror: u32,
    /// Media to choose from; all of the group when empty.
    pub media: Vec<Name>,
    /// Files or block devices to use, in order.
    pub plexes: Vec<PathBuf>,
    /// Whether new plex files are left sparse.
    pub sparse: bool,
    /// The most bytes a second that are copied to each plex, until the daemon ends; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<NonZeroU64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower. Whatever they
    /// take when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<NonZeroU64>,
    /// Whether to answer as soon as the copy has begun.
    pub background: bool,
    /// Whether a device that carries a foreign file system may be used.
    pub force: bool,
}

/// See [`Request::SnapWait`](super::Request::SnapWait).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapWait {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// How many snapshot mirrors must be SNAPDONE.
    pub nmirror: u32,
}

/// One volume of a cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutMember {
    /// The volume.
    pub volume: Name,
    /// The snapshot volume's name; by the pattern when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Name>,
}

/// See [`Request::Snapshot`](super::Request::Snapshot).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The group.
    pub group: Name,
    /// The volumes of the cut; empty means every volume of the group, and then each must have a SNAPDONE mirror.
    pub members: Vec<CutMember>,
    /// How snapshots without a name are called: `%v` the volume, `%d` a serial number. `SNAP-%v`, then `SNAP%d-%v`, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// How consistent.
    pub consistency: Consistency,
    /// How many SNAPDONE mirrors of each volume are broken off.
    pub nmirror: u32,
}

/// See [`Request::SnapAbort`](super::Request::SnapAbort).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapAbort {
    /// The group.
    pub group: Name,
    /// The volume whose snapshot mirrors are removed.
    pub volume: Name,
    /// How many; one that is still copied is taken first.
    pub nmirror: u32,
}

/// See [`Request::SnapBack`](super::Request::SnapBack).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapBack {
    /// The group.
    pub group: Name,
    /// The snapshot volume.
    pub snapshot: Name,
    /// How many of its plexes go back; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nmirror: Option<u32>,
    /// The most bytes a second that are copied to each plex, until the daemon ends; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<NonZeroU64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower. Whatever they
    /// take when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<NonZeroU64>,
    /// Whether to answer as soon as the copy has begun.
    pub background: bool,
}

/// See [`Request::SnapClear`](super::Request::SnapClear).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapClear {
    /// The group.
    pub group: Name,
    /// The snapshot volume; or, when another is named, either of the two.
    pub snapshot: Name,
    /// The volume at the other end of the relation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Name>,
}
