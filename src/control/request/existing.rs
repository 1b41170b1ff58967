//! What is asked for data that are there already: taken in as a volume, and given back as a plain image.

use crate::base::Name;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See [`Request::Adopt`](super::Request::Adopt).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The group; `default` is made on first use.
    pub group: Name,
    /// The new volume.
    pub volume: Name,
    /// The file or block device whose bytes it is to have.
    pub path: PathBuf,
    /// Its length in bytes; when absent, that of the file, or as much of the disk as leaves room for labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_bytes: Option<u64>,
    /// The file to make for its labels, which gives it all of the disk, and leaves a file as long as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_file: Option<PathBuf>,
}

/// See [`Request::Release`](super::Request::Release).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
}
