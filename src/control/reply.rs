//! What closes an answer that went well.

use super::words::Health;
use crate::base::{Name, Uuid};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The end of a good answer. Lengths are in bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done, and whether anything had to be changed for it.
    Changed(Changed),
    /// The list is complete.
    Listed(Listed),
    /// A volume was made.
    Made(Made),
    /// Plexes were added, are being copied, or are ready.
    Attached(Attached),
    /// Snapshots were cut.
    Cut(Cut),
    /// Plexes of a snapshot went back.
    Returned(Returned),
    /// A volume has another length.
    Resized(Resized),
    /// A volume was overwritten from a snapshot or an undo archive, or is being.
    Restored(Restored),
    /// A group was given up here.
    Exported(Exported),
    /// Media of a group are at other places.
    Moved(Moved),
    /// A volume was given up, and its plexes are plain images.
    Released(Released),
    /// Objects were removed.
    Removed(Removed),
    /// Plexes were compared.
    Verified(Verified),
    /// Plexes were scrubbed, or are being.
    Scrubbed(Scrubbed),
    /// How the daemon is.
    Status(Status),
    /// How everything is.
    Overview(Overview),
    /// A volume was stopped by force.
    Forced(Forced),
}

/// See [`Reply::Exported`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exported {
    /// The group.
    pub group: Name,
    /// The files and disks to be named where it is taken in.
    pub media: Vec<PathBuf>,
    /// Plexes that were behind or missing: they stay out of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Name>,
}

/// See [`Reply::Moved`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The group.
    pub group: Name,
    /// The plexes whose media are at other places.
    pub plexes: Vec<MovedPlex>,
}

/// A plex whose medium is at another place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedPlex {
    /// The plex.
    pub plex: Name,
    /// Where it was.
    pub before: PathBuf,
    /// Where it is.
    pub now: PathBuf,
}

/// See [`Reply::Released`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The volume.
    pub volume: Name,
    /// The files and disks with its bytes.
    pub images: Vec<PathBuf>,
    /// How many bytes of each are the volume's, from the first on; a file has no more.
    pub length_bytes: u64,
}

/// See [`Reply::Resized`]: its rows came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resized {
    /// The volume.
    pub volume: Name,
    /// Bytes that it had.
    pub before_bytes: u64,
    /// Bytes that it has.
    pub length_bytes: u64,
    /// Bytes that were cut off with what was in them; 0 for a volume that became longer.
    pub lost_bytes: u64,
    /// Whether it ran meanwhile, and its device has the new length.
    pub online: bool,
    /// What a volume that became longer holds, as `XFS`, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// What makes that as long as the volume, as a shell takes it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_command: Option<String>,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Changed`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// False when all was so already.
    pub changed: bool,
}

/// See [`Reply::Listed`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// How many rows were sent: a client that counted fewer has lost some.
    pub rows: u64,
}

/// See [`Reply::Made`]: its rows came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// The volume.
    pub volume: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// The task that makes the plexes equal, when one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
}

/// See [`Reply::Attached`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// The volume.
    pub volume: Name,
    /// The plexes that were added or waited for.
    pub plexes: Vec<Name>,
    /// The tasks that copy them; empty when they are ready.
    #[serde(default)]
    pub tasks: Vec<u64>,
    /// Bytes written to them, when they are ready.
    pub copied_bytes: u64,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Cut`]: a row for each snapshot came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Microseconds for which writes were held.
    pub hold_us: u64,
    /// Microseconds of these in which what was in flight drained.
    pub drain_us: u64,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
    /// When it was cut, in milliseconds since 1970 (UTC).
    pub taken_ms: u64,
}

/// See [`Reply::Returned`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Returned {
    /// The volume that they went back to.
    pub volume: Name,
    /// The plexes.
    pub plexes: Vec<Name>,
    /// Regions of the volume.
    pub regions: u64,
    /// Regions that differed, or may have.
    pub dirty_regions: u64,
    /// Bytes a region.
    pub region_bytes: u64,
    /// Bytes written to the plexes; 0 so far when a task still copies.
    pub copied_bytes: u64,
    /// Bytes in which the snapshot volume was changed since its cut, and that are given up with the plexes.
    #[serde(default)]
    pub lost_bytes: u64,
    /// Whether the snapshot volume went with its last plex.
    pub snapshot_removed: bool,
    /// The tasks that copy; empty when the plexes are SNAPDONE.
    #[serde(default)]
    pub tasks: Vec<u64>,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Restored`]: a restoring row came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The volume.
    pub volume: Name,
    /// Bytes that were written to it; 0 so far when a task still does.
    pub written_bytes: u64,
    /// The undo archive that leads back; none when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// The task that goes on with it; none when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Removed`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// The volume, when one went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// The plexes that went.
    pub plexes: Vec<Name>,
    /// Bytes given back to the media.
    pub freed_bytes: u64,
    /// Bytes in regions of a snapshot that had changed since its cut and went with it.
    pub lost_bytes: u64,
    /// The snapshot volumes of a volume that went: they are independent now, and nothing is tracked of them any more.
    #[serde(default)]
    pub independent: Vec<Name>,
}

/// See [`Reply::Verified`]: difference rows came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// The volume.
    pub volume: Name,
    /// How many plexes were compared.
    pub plexes: u64,
    /// Bytes of the volume that were compared.
    pub compared_bytes: u64,
    /// Bytes of blocks that differ, 0 when all plexes are equal.
    pub differing_bytes: u64,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Overview`]: volume, plex and health rows, tasks and happenings came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// The worst of all.
    pub health: Health,
    /// How the daemon is; absent when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<Status>,
    /// What is wrong beyond volumes, a line each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// See [`Reply::Forced`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forced {
    /// The volume.
    pub volume: Name,
    /// What was done, in order, and what the record says now; a line each.
    pub steps: Vec<String>,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

/// See [`Reply::Scrubbed`]: difference rows came before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrubbed {
    /// The volume.
    pub volume: Name,
    /// The task that goes on with it, when it was to answer at once; all that follows is 0 then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// How many plexes were compared at the end.
    pub plexes: u64,
    /// Bytes of the volume that were compared.
    pub compared_bytes: u64,
    /// Bytes of pages that differed, summed over the plexes.
    pub differing_bytes: u64,
    /// Bytes of pages that could not be read, summed over the plexes.
    pub unreadable_bytes: u64,
    /// Bytes of both kinds that were rewritten.
    pub repaired_bytes: u64,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// See [`Reply::Status`]: notes came before as rows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The daemon's process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Groups known.
    pub groups: u64,
    /// Volumes known.
    pub volumes: u64,
    /// Volumes started.
    pub started: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
}
