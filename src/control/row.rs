//! The rows of lists and the members of answers, one frame each.

use super::happening::Happening;
use super::words::{
    DataPath, Grade, Health, KernelState, PlexMode, PlexState, ReadPolicy, TaskKind, TaskState, VolumeState,
};
use crate::base::{Affinity, Name, Refusal, Uuid};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One row. Lengths are in bytes, times of day in milliseconds since 1970 (UTC).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Row {
    /// A group; its media follow.
    Group(GroupRow),
    /// A medium of the group before it.
    Medium(MediumRow),
    /// A volume; its plexes follow.
    Volume(VolumeRow),
    /// A plex.
    Plex(PlexRow),
    /// How the volume before it is.
    Health(HealthRow),
    /// What is free below state directories and media.
    Space(SpaceRow),
    /// What a volume was asked for.
    Stats(StatsRow),
    /// Where a map of a volume has its marks.
    Heat(HeatRow),
    /// A task.
    Task(TaskRow),
    /// A snapshot volume that a cut made.
    Snapshot(SnapshotRow),
    /// What a restore is about to overwrite.
    Restoring(RestoringRow),
    /// What a request would come to.
    Foreseen(ForeseenRow),
    /// An undo archive.
    Undo(UndoRow),
    /// A place where plexes differ.
    Difference(DifferenceRow),
    /// A member of a request on many objects failed.
    Failure(Refusal),
    /// A line for the administrator, as "waiting for fence: PLEX".
    Note(String),
    /// Something that happened.
    Happened(Happening),
}

/// A volume that is about to be overwritten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoringRow {
    /// Its group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The snapshot volume that it is overwritten from; none for an undo archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Name>,
    /// Bytes that are overwritten: all regions in which the two differ.
    pub overwritten_bytes: u64,
    /// Regions that are overwritten.
    pub overwritten_regions: u64,
    /// Regions of the volume.
    pub regions: u64,
    /// Bytes changed in the snapshot volume itself since its cut; they become part of the volume.
    #[serde(default)]
    pub snapshot_bytes: u64,
    /// Bytes in regions that were written since the restore that is undone; what they hold now is lost with it.
    #[serde(default)]
    pub since_bytes: u64,
    /// The file of the undo archive: for a restore the way back, for an undo what is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
}

/// One of the things that a request would come to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeseenRow {
    /// A volume, a plex, or the path of a medium.
    pub object: String,
    /// What becomes of it.
    pub text: String,
}

/// An undo archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRow {
    /// Its group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// What it is called.
    pub archive: String,
    /// Its file.
    pub path: PathBuf,
    /// When it was begun.
    pub taken_ms: u64,
    /// Bytes of the volume that it holds.
    pub bytes: u64,
    /// Bytes in regions that were written since the restore; those of them that the archive does not hold would not be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_since_bytes: Option<u64>,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupRow {
    /// Its name.
    pub group: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Its state directory.
    pub state_directory: PathBuf,
    /// How many volumes it has.
    pub volumes: u64,
    /// Generation of its configuration.
    pub generation: u64,
}

/// A file system below state directories and media of groups.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceRow {
    /// The directories on it.
    pub directories: Vec<PathBuf>,
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes that sparse plexes in these directories may still take.
    pub promised_bytes: u64,
    /// What to do, where that is far more than there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A medium.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediumRow {
    /// Its group.
    pub group: Name,
    /// Its name in the group.
    pub medium: Name,
    /// A directory for plex files, or a block device.
    pub path: PathBuf,
    /// Bytes in all, 0 when unknown.
    pub length_bytes: u64,
    /// Bytes free for plexes, 0 when unknown.
    pub free_bytes: u64,
    /// Whether it can be used now.
    pub online: bool,
}

/// Where a snapshot volume comes from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotOf {
    /// The volume it was taken from.
    pub source: Name,
    /// When it was cut.
    pub taken_ms: u64,
    /// How consistent it is.
    pub grade: Grade,
    /// Regions that differ, or may differ, since then.
    pub dirty_regions: u64,
    /// Of these, regions that the volume it was taken from has changed.
    #[serde(default)]
    pub source_regions: u64,
    /// Of these, regions that the snapshot has changed.
    #[serde(default)]
    pub own_regions: u64,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRow {
    /// Its group.
    pub group: Name,
    /// Its name.
    pub volume: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Whether it serves I/O.
    pub kernel_state: KernelState,
    /// Its state.
    pub state: VolumeState,
    /// Its length.
    pub length_bytes: u64,
    /// Logical block size.
    pub block_bytes: u32,
    /// Bytes a region of its change maps.
    pub region_bytes: u64,
    /// How it chooses the plex to read from.
    pub read_policy: ReadPolicy,
    /// Seconds that a plex is waited for while others answer; 0 for no limit.
    #[serde(default)]
    pub plex_timeout_s: u32,
    /// Extents that may count as dirty at once.
    #[serde(default)]
    pub dirty_extents: u32,
    /// How its data shall travel.
    #[serde(default)]
    pub data: DataPath,
    /// Queues that its device shall have; 0 for as many as the host's processors ask for.
    #[serde(default)]
    pub queues: u16,
    /// Which processors their threads shall run on: `auto`, `any`, or a list as `0,2-3`.
    #[serde(default)]
    pub affinity: Box<Affinity>,
    /// Whether it is started when the host is.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// The plex preferred by [`ReadPolicy::Prefer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_plex: Option<Name>,
    /// The device node, when started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PathBuf>,
    /// The stable links to it, when started.
    #[serde(default)]
    pub links: Vec<PathBuf>,
    /// Where it comes from, when it is a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotOf>,
    /// How data travel, as read back from the device: `copy` or `zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
    /// Queues that the device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_queues: Option<u16>,
    /// Its scrubs, where there is a schedule, one under way, or a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<ScrubRow>,
    /// Things the administrator should know, as "an old daemon still holds plex v-01".
    #[serde(default)]
    pub notes: Vec<String>,
}

const fn yes() -> bool {
    true
}

/// The scrubs of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRow {
    /// Seconds between two that the daemon makes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u64>,
    /// The hours (UTC) in which these may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<(u8, u8)>,
    /// What these do with differences: `report`, `majority`, or the plex that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// The byte that the present one has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_bytes: Option<u64>,
    /// The last one that went through the whole volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScrubResultRow>,
}

/// What a scrub found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubResultRow {
    /// When it began.
    pub began_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// How many plexes it compared.
    pub plexes: u32,
    /// Bytes of pages that differed, summed over the plexes.
    pub differing_bytes: u64,
    /// Bytes of pages that could not be read, summed over the plexes.
    pub unreadable_bytes: u64,
    /// Bytes of both kinds that were rewritten.
    pub repaired_bytes: u64,
}

/// A plex.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlexRow {
    /// Its group.
    pub group: Name,
    /// The volume it belongs to, `None` when dissociated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// Its name.
    pub plex: Name,
    /// Its identity.
    pub uuid: Uuid,
    /// Whether it takes part in I/O.
    pub kernel_state: KernelState,
    /// Its state.
    pub state: PlexState,
    /// What it does for the volume.
    pub mode: PlexMode,
    /// Its length.
    pub length_bytes: u64,
    /// The medium it lies on, `None` when its path was named by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Name>,
    /// The file or block device.
    pub path: PathBuf,
    /// The file that has its labels, if its medium does not have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_file: Option<PathBuf>,
    /// Whether the file may have holes.
    pub sparse: bool,
    /// Regions that it is known to lack or may lack.
    pub dirty_regions: u64,
    /// Why it left, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// How a volume is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthRow {
    /// Its group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// How it is.
    pub health: Health,
    /// Why it is not [`Health::Ok`], a line each, the worst first.
    pub reasons: Vec<String>,
}

/// What a device was asked for since it was made, as the kernel counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IoCounts {
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Milliseconds that all reads took, summed.
    pub read_ms: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Milliseconds that all writes took, summed.
    pub write_ms: u64,
    /// Flushes completed.
    pub flushes: u64,
    /// Requests under way now.
    pub in_flight: u64,
}

impl IoCounts {
    /// What came since `before` of the same device.
    #[must_use]
    pub const fn since(self, before: &Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(before.reads),
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            read_ms: self.read_ms.saturating_sub(before.read_ms),
            writes: self.writes.saturating_sub(before.writes),
            write_bytes: self.write_bytes.saturating_sub(before.write_bytes),
            write_ms: self.write_ms.saturating_sub(before.write_ms),
            flushes: self.flushes.saturating_sub(before.flushes),
            in_flight: self.in_flight,
        }
    }
}

/// What a volume was asked for: since its device was made, or counted anew. All zero while it is stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatsRow {
    /// Its group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The counts.
    #[serde(flatten)]
    pub counts: IoCounts,
}

/// A task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRow {
    /// Its number, not used again while the daemon lives.
    pub task: u64,
    /// What it does.
    pub kind: TaskKind,
    /// Its state.
    pub state: TaskState,
    /// Its group.
    pub group: Name,
    /// The volume it works on.
    pub volume: Name,
    /// The plex it works on, when one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plex: Option<Name>,
    /// Bytes gone through: copied, compared or skipped.
    pub done_bytes: u64,
    /// Bytes to go through in all.
    pub total_bytes: u64,
    /// Bytes really written to the target.
    pub copied_bytes: u64,
    /// Bytes a second, lately.
    pub rate_bytes: u64,
    /// Milliseconds to the end at this rate, when it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// The limit in bytes a second, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What the application's requests may take on average before it goes slower, in microseconds, when that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_latency_us: Option<u64>,
    /// Why it failed, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Refusal>,
}

/// Which map of a volume it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeatOf {
    /// The intent map: where writes may be under way or unflushed.
    Written,
    /// What this plex may lack.
    Behind(Name),
    /// What was written since the cut that parted it from this volume.
    Since(Name),
}

/// Where a map of a volume has its marks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatRow {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The map.
    pub map: HeatOf,
    /// Of each of equal parts of the volume, in order, how many percent are marked; at least 1 where anything is.
    pub percent: Vec<u8>,
}

/// A snapshot volume that a cut made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRow {
    /// The group of both.
    pub group: Name,
    /// The volume it was taken from.
    pub volume: Name,
    /// The snapshot volume.
    pub snapshot: Name,
    /// The plexes that were broken off.
    pub plexes: Vec<Name>,
    /// The grade reached.
    pub grade: Grade,
    /// Milliseconds for which the file system was frozen, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_ms: Option<u64>,
    /// The snapshot's device node.
    pub device: PathBuf,
    /// The stable links to it.
    pub links: Vec<PathBuf>,
}

/// A place where plexes differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifferenceRow {
    /// The plex that was compared with.
    pub reference: Name,
    /// The plex that differs from it.
    pub plex: Name,
    /// First differing byte.
    pub offset_bytes: u64,
    /// Bytes of the blocks that differ.
    pub length_bytes: u64,
    /// Whether the plex could not be read there, rather than differed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unreadable: bool,
    /// Whether it was rewritten.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repaired: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ServerMessage, encode};

    #[test]
    fn the_largest_plex_row_fits_a_frame() {
        let name = Name::new(&"n".repeat(128)).unwrap();
        // PATH_MAX bytes, each of which takes six in JSON.
        let path = PathBuf::from("\u{1}".repeat(4096));
        let row = Row::Plex(PlexRow {
            group: name.clone(),
            volume: Some(name.clone()),
            plex: name.clone(),
            uuid: Uuid::NIL,
            kernel_state: KernelState::Disabled,
            state: PlexState::Snapdone,
            mode: PlexMode::WriteOnly,
            length_bytes: u64::MAX,
            medium: Some(name),
            fault: Some(path.display().to_string()),
            path,
            label_file: None,
            sparse: false,
            dirty_regions: u64::MAX,
        });
        assert!(encode(&ServerMessage::Row(row)).is_ok());
    }
}
