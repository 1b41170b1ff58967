//! What lasts of a cut: its grade, the link between origin and snapshot volume, a prepared cut, a resync under way.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::base::{Name, Uuid};

/// How consistent the data of a snapshot is, as far as Cleave made sure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As after a power cut at that instant: file systems replay their log, databases recover.
    Crash,
    /// The file system was frozen at the cut, so it is clean without a replay.
    Fs,
    /// An application brought itself to rest before the cut, as who asked for it said, and its file system was frozen.
    App,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Crash => "crash",
            Self::Fs => "fs",
            Self::App => "app",
        })
    }
}

/// The relation of an origin to one of its snapshot volumes, kept at the origin. Region by region the two are equal
/// wherever neither map has a bit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLink {
    /// The snapshot volume.
    pub volume: Uuid,
    /// The change map of what the origin changed since the cut.
    pub origin_map: Uuid,
    /// The change map of what the snapshot volume changed since the cut.
    pub snapshot_map: Uuid,
    /// The consistency reached.
    pub grade: Grade,
    /// When the cut was made, in seconds since 1970-01-01 UTC.
    pub cut_unix_s: i64,
    /// How long writes were held, in nanoseconds.
    pub hold_ns: u64,
    /// How long the file system was frozen, in nanoseconds; 0 when it was not.
    pub frozen_ns: u64,
}

/// A cut that is durable as intention only (ordering rule 11): without a commit it is rolled back at the next start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedCut {
    /// Names the set of volumes that are cut at one instant.
    pub set: Uuid,
    /// Name of the snapshot volume to be.
    pub name: Name,
    /// UUID of the snapshot volume to be.
    pub volume: Uuid,
    /// The SNAPDONE plexes that it takes.
    pub plexes: Vec<Uuid>,
    /// The change map that the origin starts at the swap.
    pub origin_map: Uuid,
    /// The change map that the snapshot volume starts with.
    pub snapshot_map: Uuid,
}

/// A resync after a crash (ordering rule 14): until an extent is equal, it is read from the source alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resync {
    /// The plex whose content counts.
    pub source: Uuid,
    /// When the source was chosen, in seconds since 1970-01-01 UTC.
    pub since_unix_s: i64,
}
