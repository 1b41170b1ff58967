//! What is asked of single plexes.

use crate::base::Name;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;

/// A plex by its name, which no other of its group has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlexRef {
    /// The group.
    pub group: Name,
    /// The plex.
    pub plex: Name,
}

/// See [`Request::PlexAttach`](super::Request::PlexAttach) and [`Request::PlexOnline`](super::Request::PlexOnline).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlexAttach {
    /// The group.
    pub group: Name,
    /// The volume that the plex must be of, when that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// The plex.
    pub plex: Name,
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

/// See [`Request::PlexReplace`](super::Request::PlexReplace).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlexReplace {
    /// The group.
    pub group: Name,
    /// The plex that goes.
    pub plex: Name,
    /// A file or block device for the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Media to choose from when there is no path; all of the group when empty.
    pub media: Vec<Name>,
    /// Whether a new plex file is left sparse.
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
