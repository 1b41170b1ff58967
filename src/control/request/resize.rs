//! The request that changes a volume's length.

use serde::{Deserialize, Serialize};

use crate::base::Name;

/// What length is wanted, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// This one, longer or shorter than before.
    To(u64),
    /// This one, no shorter than before.
    GrowTo(u64),
    /// So many more.
    GrowBy(u64),
    /// This one, no longer than before.
    ShrinkTo(u64),
    /// So many less.
    ShrinkBy(u64),
}

/// See [`Request::Resize`](super::Request::Resize).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The length that it shall have.
    pub length: Length,
    /// Whether what is cut off may be anything: where it is not known how far the content reaches.
    pub force: bool,
}
