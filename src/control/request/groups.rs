//! What is asked of groups and their media.

use crate::base::Name;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A medium for a new group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediumSpec {
    /// Its name in the group; the daemon chooses one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// A directory for plex files, or a block device.
    pub path: PathBuf,
}

/// See [`Request::GroupCreate`](super::Request::GroupCreate).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupCreate {
    /// The new group.
    pub group: Name,
    /// Where its plexes may lie; empty for a directory below its state directory.
    pub media: Vec<MediumSpec>,
}

/// See [`Request::GroupAdd`](super::Request::GroupAdd).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupAdd {
    /// The group.
    pub group: Name,
    /// What is added.
    pub media: Vec<MediumSpec>,
}

/// See [`Request::GroupDestroy`](super::Request::GroupDestroy).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDestroy {
    /// The group.
    pub group: Name,
}

/// See [`Request::GroupImport`](super::Request::GroupImport).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupImport {
    /// The files and block devices that carry its plexes, as many as there are.
    pub media: Vec<PathBuf>,
    /// The group, when no media are named: all disks of the host are looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// What it is to be called; as before when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// See [`Request::GroupRemove`](super::Request::GroupRemove).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRemove {
    /// The group.
    pub group: Name,
    /// The medium, by its name in the group.
    pub medium: Name,
}

/// See [`Request::GroupExport`](super::Request::GroupExport).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupExport {
    /// The group.
    pub group: Name,
}

/// See [`Request::GroupMoved`](super::Request::GroupMoved).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupMoved {
    /// The group.
    pub group: Name,
    /// Where media of it are now; all disks of the host are looked at when empty.
    pub media: Vec<PathBuf>,
}

/// See [`Request::GroupRestore`](super::Request::GroupRestore).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRestore {
    /// The file with the saved configuration.
    pub path: PathBuf,
    /// Whether media without a label get one.
    pub force: bool,
}
