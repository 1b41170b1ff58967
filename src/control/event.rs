//! What the daemon tells a client whose request is under way.

use super::happening::Happening;
use super::row::TaskRow;
use serde::{Deserialize, Serialize};

/// An event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// Nothing new; the daemon lives.
    Alive,
    /// A task moved or ended. At most a few a second.
    Progress(TaskRow),
    /// Something happened that an administrator should hear of.
    Happened(Happening),
}
