//! What can be asked of the daemon: one struct a verb.

use super::words::{DataPath, Init};
use crate::base::{Affinity, Name, RegionSize};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;

mod existing;
mod groups;
mod plexes;
mod resize;
mod restores;
mod snapshots;

pub use existing::{Adopt, Release};
pub use groups::{
    GroupAdd, GroupCreate, GroupDestroy, GroupExport, GroupImport, GroupMoved, GroupRemove, GroupRestore,
    MediumSpec,
};
pub use plexes::{PlexAttach, PlexRef, PlexReplace};
pub use resize::{Length, Resize};
pub use restores::{Restore, Undo, UndoDelete, UndoList};
pub use snapshots::{CutMember, SnapAbort, SnapBack, SnapClear, SnapStart, SnapWait, Snapshot};

/// Who may ask: the answer of [`Request::access`], held against the peer's credentials by the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Shows, changes nothing: whoever may open the socket.
    Read,
    /// Changes something: root or the admin group; logged with uid and pid.
    Change,
}

/// A request. All lengths are in bytes, all paths absolute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Makes a group. Answer: [`Changed`](super::Reply::Changed).
    GroupCreate(GroupCreate),
    /// Gives a group further media for plexes. Answer: [`Changed`](super::Reply::Changed).
    GroupAdd(GroupAdd),
    /// Removes an empty group. Answer: [`Changed`](super::Reply::Changed).
    GroupDestroy(GroupDestroy),
    /// Lists groups and their media. Answer: group and medium rows, [`Listed`](super::Reply::Listed).
    GroupList,
    /// Lists objects: what `list`, `show` and `vxprint` print. Answer: rows, [`Listed`](super::Reply::Listed).
    Query(Query),
    /// Makes and starts a volume. Answer: events, its volume and plex rows, [`Made`](super::Reply::Made).
    Make(Make),
    /// Makes a volume of a file or disk as it is, and starts it. Answer: its volume and plex rows, [`Made`](super::Reply::Made).
    Adopt(Adopt),
    /// Gives a stopped volume up, whose plexes stay as plain images. Answer: [`Released`](super::Reply::Released).
    Release(Release),
    /// Adds mirrors. Answer: events, [`Attached`](super::Reply::Attached).
    Mirror(Mirror),
    /// Removes a plex of a mirror. Answer: [`Removed`](super::Reply::Removed).
    RemoveMirror(RemoveMirror),
    /// Takes a STALE plex in again. Answer: events, [`Attached`](super::Reply::Attached).
    PlexAttach(PlexAttach),
    /// Takes a plex out. Answer: [`Changed`](super::Reply::Changed).
    PlexDetach(PlexRef),
    /// Takes a plex out and forgets what it misses. Answer: [`Changed`](super::Reply::Changed).
    PlexOffline(PlexRef),
    /// Takes an offline plex in again. Answer: events, [`Attached`](super::Reply::Attached).
    PlexOnline(PlexAttach),
    /// Puts a new plex in the place of another. Answer: events, [`Attached`](super::Reply::Attached) with the new one.
    PlexReplace(PlexReplace),
    /// Makes a mirror a snapshot mirror. Answer: [`Changed`](super::Reply::Changed).
    PlexConvert(PlexRef),
    /// Changes settings of a volume. Answer: [`Changed`](super::Reply::Changed).
    Set(Set),
    /// Changes the length of a volume. Answer: events, its volume and plex rows, [`Resized`](super::Reply::Resized).
    Resize(Resize),
    /// Starts a volume. Answer: its volume row, [`Changed`](super::Reply::Changed).
    Start(Start),
    /// Stops a volume. Answer: its volume row, [`Changed`](super::Reply::Changed).
    Stop(Stop),
    /// Starts every stopped volume of a group. Answer: a row for each volume that was started, or a failure row,
    /// then [`Changed`](super::Reply::Changed).
    StartAll(StartAll),
    /// Stops every started volume of a group. Answer: as for [`StartAll`](Self::StartAll).
    StopAll(StopAll),
    /// Has every plex that fell behind copied what it lacks. Answer: events, a row for each volume or a failure row, then
    /// [`Changed`](super::Reply::Changed).
    Recover(Recover),
    /// Adds snapshot mirrors and copies them. Answer: events, [`Attached`](super::Reply::Attached).
    SnapStart(SnapStart),
    /// Waits until enough snapshot mirrors are SNAPDONE. Answer: events, [`Attached`](super::Reply::Attached).
    SnapWait(SnapWait),
    /// Breaks snapshot mirrors off, all at one cut. Answer: a snapshot row for each volume, [`Cut`](super::Reply::Cut).
    Snapshot(Snapshot),
    /// Removes a snapshot mirror that is not yet broken off. Answer: [`Removed`](super::Reply::Removed).
    SnapAbort(SnapAbort),
    /// Gives plexes of a snapshot volume back. Answer: events, [`Returned`](super::Reply::Returned).
    SnapBack(SnapBack),
    /// Overwrites a volume from one of its snapshots. Answer: a restoring row before anything is done, events,
    /// [`Restored`](super::Reply::Restored); after the row alone, [`Changed`](super::Reply::Changed).
    Restore(Restore),
    /// Puts an undo archive back. Answer: as for [`Restore`](Self::Restore).
    Undo(Undo),
    /// Lists undo archives. Answer: undo rows, [`Listed`](super::Reply::Listed).
    UndoList(UndoList),
    /// Gives an undo archive up. Answer: [`Changed`](super::Reply::Changed).
    UndoDelete(UndoDelete),
    /// Ends the relation of a snapshot volume to its origin. Answer: [`Changed`](super::Reply::Changed).
    SnapClear(SnapClear),
    /// Removes a volume. Answer: [`Removed`](super::Reply::Removed).
    Remove(Remove),
    /// Compares all plexes. Answer: events, difference rows, [`Verified`](super::Reply::Verified).
    Verify(Verify),
    /// Compares all plexes in the background, by and by, and repairs if told so. Answer: events, difference rows,
    /// [`Scrubbed`](super::Reply::Scrubbed).
    Scrub(Scrub),
    /// Sets when a volume is scrubbed by itself. Answer: its volume row, [`Changed`](super::Reply::Changed).
    ScrubSchedule(ScrubSchedule),
    /// Takes in the group whose labels are on these media. Answer: volume rows, [`Changed`](super::Reply::Changed).
    GroupImport(GroupImport),
    /// Has a group put no more plexes on a medium. Answer: [`Changed`](super::Reply::Changed).
    GroupRemove(GroupRemove),
    /// Gives a group up here, to be taken in elsewhere. Answer: [`Exported`](super::Reply::Exported).
    GroupExport(GroupExport),
    /// Looks for media of a group that are at other places now. Answer: [`Moved`](super::Reply::Moved).
    GroupMoved(GroupMoved),
    /// Takes a group in from a saved configuration. Answer: volume rows, [`Changed`](super::Reply::Changed).
    GroupRestore(GroupRestore),
    /// Lists tasks. Answer: task rows, [`Listed`](super::Reply::Listed).
    TaskList(TaskList),
    /// Follows tasks until they end. Answer: events, the ended tasks' rows, [`Listed`](super::Reply::Listed).
    TaskWatch(TaskWatch),
    /// Pauses a task. Answer: its row, [`Changed`](super::Reply::Changed).
    TaskPause(TaskRef),
    /// Resumes a task. Answer: its row, [`Changed`](super::Reply::Changed).
    TaskResume(TaskRef),
    /// Ends a task as after an I/O error; returns when it has backed out. Answer: its row, [`Changed`](super::Reply::Changed).
    TaskAbort(TaskRef),
    /// Limits the rate of a task. Answer: its row, [`Changed`](super::Reply::Changed).
    TaskThrottle(TaskThrottle),
    /// Has a task go slower while the application's requests take too long. Answer: its row, [`Changed`](super::Reply::Changed).
    TaskLatency(TaskLatency),
    /// How everything is. Answer: volume, plex, health, task and happened rows, [`Overview`](super::Reply::Overview).
    Overview(Overview),
    /// Ends a volume whatever hangs: what waits for it fails. Answer: [`Forced`](super::Reply::Forced).
    ForceStop(ForceStop),
    /// Gives the daemon's place to another binary. Answer: [`Changed`](super::Reply::Changed), before it does.
    Upgrade(Upgrade),
    /// Tells what a request that overwrites or gives something up would do, and does nothing. Answer: foreseen rows,
    /// [`Changed`](super::Reply::Changed).
    Explain(Box<Request>),
    /// What happened. Answer: a row for each, [`Listed`](super::Reply::Listed); when it follows, no end.
    Events(Events),
    /// What volumes were asked for. Answer: a row for each, [`Listed`](super::Reply::Listed).
    Stats(Stats),
    /// Where the maps of volumes have their marks. Answer: a row for each map, [`Listed`](super::Reply::Listed).
    Heat(Heat),
    /// How the daemon is. Answer: note rows, [`Status`](super::Reply::Status).
    Status,
    /// Ends the daemon. Answer: [`Changed`](super::Reply::Changed), before it ends.
    Shutdown(Shutdown),
}

impl Request {
    /// The verb, as logs and `--json` name it.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::GroupCreate(_) => "group-create",
            Self::GroupAdd(_) => "group-add",
            Self::GroupDestroy(_) => "group-destroy",
            Self::GroupList => "group-list",
            Self::Query(_) => "query",
            Self::Make(_) => "make",
            Self::Adopt(_) => "adopt",
            Self::Release(_) => "release",
            Self::Mirror(_) => "mirror",
            Self::RemoveMirror(_) => "remove-mirror",
            Self::PlexAttach(_) => "plex-attach",
            Self::PlexDetach(_) => "plex-detach",
            Self::PlexOffline(_) => "plex-offline",
            Self::PlexOnline(_) => "plex-online",
            Self::PlexReplace(_) => "plex-replace",
            Self::PlexConvert(_) => "plex-convert",
            Self::Set(_) => "set",
            Self::Resize(_) => "resize",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::StartAll(_) => "start-all",
            Self::StopAll(_) => "stop-all",
            Self::Recover(_) => "recover",
            Self::SnapStart(_) => "snap-start",
            Self::SnapWait(_) => "snap-wait",
            Self::Snapshot(_) => "snapshot",
            Self::SnapAbort(_) => "snap-abort",
            Self::SnapBack(_) => "snap-back",
            Self::Restore(_) => "restore",
            Self::Undo(_) => "undo",
            Self::UndoList(_) => "undo-list",
            Self::UndoDelete(_) => "undo-delete",
            Self::SnapClear(_) => "snap-clear",
            Self::Remove(_) => "remove",
            Self::Verify(_) => "verify",
            Self::Scrub(_) => "scrub",
            Self::ScrubSchedule(_) => "scrub-schedule",
            Self::GroupImport(_) => "group-import",
            Self::GroupRemove(_) => "group-remove",
            Self::GroupExport(_) => "group-export",
            Self::GroupMoved(_) => "group-moved",
            Self::GroupRestore(_) => "group-restore",
            Self::TaskList(_) => "task-list",
            Self::TaskWatch(_) => "task-watch",
            Self::TaskPause(_) => "task-pause",
            Self::TaskResume(_) => "task-resume",
            Self::TaskAbort(_) => "task-abort",
            Self::TaskThrottle(_) => "task-throttle",
            Self::TaskLatency(_) => "task-latency",
            Self::Overview(_) => "overview",
            Self::ForceStop(_) => "force-stop",
            Self::Upgrade(_) => "upgrade",
            Self::Explain(_) => "explain",
            Self::Events(_) => "events",
            Self::Stats(_) => "stats",
            Self::Heat(_) => "heat",
            Self::Status => "status",
            Self::Shutdown(_) => "shutdown",
        }
    }

    /// Whether it asks only what would be done.
    #[must_use]
    pub const fn is_dry(&self) -> bool {
        matches!(self, Self::Restore(Restore { dry_run: true, .. }) | Self::Undo(Undo { dry_run: true, .. }))
    }

    /// What the peer must be allowed to do.
    #[must_use]
    pub const fn access(&self) -> Access {
        match self {
            Self::GroupList
            | Self::Query(_)
            | Self::SnapWait(_)
            | Self::UndoList(_)
            | Self::TaskList(_)
            | Self::TaskWatch(_)
            | Self::Events(_)
            | Self::Overview(_)
            | Self::Stats(Stats { reset: false, .. })
            | Self::Heat(_)
            | Self::Status => Access::Read,
            // It reads whole media and holds windows of the volume: an outsider must not be able to slow it down.
            Self::Verify(_) => Access::Change,
            // It looks into media.
            Self::Explain(_) => Access::Change,
            Self::GroupCreate(_)
            | Self::GroupAdd(_)
            | Self::GroupDestroy(_)
            | Self::GroupImport(_)
            | Self::GroupRemove(_)
            | Self::GroupExport(_)
            | Self::GroupMoved(_)
            | Self::GroupRestore(_)
            | Self::Scrub(_)
            | Self::ScrubSchedule(_)
            | Self::Make(_)
            | Self::Adopt(_)
            | Self::Release(_)
            | Self::Mirror(_)
            | Self::RemoveMirror(_)
            | Self::PlexAttach(_)
            | Self::PlexDetach(_)
            | Self::PlexOffline(_)
            | Self::PlexOnline(_)
            | Self::PlexReplace(_)
            | Self::PlexConvert(_)
            | Self::Set(_)
            | Self::Resize(_)
            | Self::Start(_)
            | Self::Stop(_)
            | Self::StartAll(_)
            | Self::StopAll(_)
            | Self::Recover(_)
            | Self::SnapStart(_)
            | Self::Snapshot(_)
            | Self::SnapAbort(_)
            | Self::SnapBack(_)
            | Self::Restore(_)
            | Self::Undo(_)
            | Self::UndoDelete(_)
            | Self::SnapClear(_)
            | Self::Remove(_)
            | Self::TaskPause(_)
            | Self::TaskResume(_)
            | Self::TaskAbort(_)
            | Self::TaskThrottle(_)
            | Self::TaskLatency(_)
            | Self::ForceStop(_)
            | Self::Stats(Stats { reset: true, .. })
            | Self::Upgrade(_)
            | Self::Shutdown(_) => Access::Change,
        }
    }
}

/// The group that is meant when none is named.
///
/// # Panics
/// Never: the word is a good name.
#[must_use]
pub fn default_group() -> Name {
    Name::new("default").expect("`default` is a good name")
}

/// See [`Request::Query`]: each volume row is followed by the rows of its plexes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The group; all groups when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Only these volumes, or the volumes of these plexes; all when empty. An unknown name refuses the request.
    #[serde(default)]
    pub objects: Vec<Name>,
    /// Whether group and medium rows come before the volumes of each group.
    #[serde(default)]
    pub media: bool,
    /// Whether the task rows of the volumes follow.
    #[serde(default)]
    pub tasks: bool,
}

/// See [`Request::Make`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Make {
    /// The group; `default` is made on first use.
    pub group: Name,
    /// The new volume.
    pub volume: Name,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// How many plexes; at least the number of `plexes`.
    pub nmirror: u32,
    /// Media to choose from, by name; all of the group when empty.
    pub media: Vec<Name>,
    /// Files or block devices to use as plexes, in order.
    pub plexes: Vec<PathBuf>,
    /// Whether new plex files are left sparse.
    pub sparse: bool,
    /// Bytes a region of its change maps; chosen by length when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionSize>,
    /// How the plexes become equal.
    pub init: Init,
    /// How data travel.
    pub data: DataPath,
    /// Whether a device that carries a foreign file system may be used.
    pub force: bool,
}

/// See [`Request::Mirror`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// How many plexes are added.
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

/// See [`Request::RemoveMirror`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveMirror {
    /// The group.
    pub group: Name,
    /// The volume; that of the plex when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// The plex; the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plex: Option<Name>,
}

/// Which plex of a volume serves reads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadFrom {
    /// One after the other.
    Round,
    /// As the volume sees fit.
    Select,
    /// This one, while it can.
    Prefer(Name),
}

/// See [`Request::Set`]: what is absent stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// Seconds that a plex may take for a request while others have answered; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plex_timeout_s: Option<u32>,
    /// Extents that may count as dirty at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_extents: Option<u32>,
    /// How data travel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataPath>,
    /// Queues of the device; 0 for as many as the host's processors ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Which processors the threads of the queues run on: `auto`, `any`, or a list as `0,2-3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Whether it is started when the host is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Which plex serves reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_from: Option<ReadFrom>,
}

impl Set {
    /// Leaves all of `volume` as it is.
    #[must_use]
    pub const fn nothing(group: Name, volume: Name) -> Self {
        Self {
            group,
            volume,
            plex_timeout_s: None,
            dirty_extents: None,
            data: None,
            queues: None,
            affinity: None,
            autostart: None,
            read_from: None,
        }
    }
}

/// See [`Request::Heat`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heat {
    /// The group; all groups when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// How many parts of each volume are told of.
    pub columns: u16,
}

/// See [`Request::Stats`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// The group.
    pub group: Name,
    /// The volumes; all of the group when empty.
    #[serde(default)]
    pub volumes: Vec<Name>,
    /// Whether they are counted anew from now on.
    #[serde(default)]
    pub reset: bool,
}

/// See [`Request::Start`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// The plex whose content counts where plexes disagree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Name>,
}

/// See [`Request::Stop`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
}

/// See [`Request::StartAll`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartAll {
    /// The group.
    pub group: Name,
}

/// See [`Request::StopAll`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopAll {
    /// The group.
    pub group: Name,
}

/// See [`Request::Recover`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// The group.
    pub group: Name,
    /// The volumes; all of the group when empty.
    #[serde(default)]
    pub volumes: Vec<Name>,
    /// Whether volumes that are stopped are started.
    pub start: bool,
    /// Whether to answer as soon as the copies have begun.
    pub background: bool,
}

/// See [`Request::Remove`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The group.
    pub group: Name,
    /// The volume or plex.
    pub object: Name,
    /// Whether a volume's plexes go with it.
    pub recursive: bool,
    /// Whether a started volume is stopped first. Never removes an open volume.
    pub force: bool,
}

/// See [`Request::Verify`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
}

/// What is to be done with differences between plexes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// They are told.
    Report,
    /// What most plexes hold is written to the others.
    Majority,
    /// What this plex holds is written to the others.
    Source(Name),
}

/// See [`Request::Scrub`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// What is to be done with differences.
    pub repair: Repair,
    /// The most bytes a second that it may go through; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower. Whatever they
    /// take when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<NonZeroU64>,
    /// Whether to answer as soon as it has begun.
    pub background: bool,
}

/// See [`Request::ScrubSchedule`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubSchedule {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
    /// Seconds from one scrub to the next; never when absent, and then nothing else is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u64>,
    /// The first hour (UTC) and the one before which it ends; the whole day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<(u8, u8)>,
    /// What is to be done with differences.
    pub repair: Repair,
    /// The most bytes a second that it may go through; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower. Whatever they
    /// take when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<NonZeroU64>,
}

/// See [`Request::TaskList`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskList {
    /// Only tasks of this group; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
}

/// See [`Request::TaskWatch`]: all present tasks when both are absent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskWatch {
    /// Only this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// The group of `volume`.
    pub group: Name,
    /// Only tasks on this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
}

/// A task by its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRef {
    /// The number that `task list` shows.
    pub task: u64,
}

/// See [`Request::TaskThrottle`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskThrottle {
    /// The number that `task list` shows.
    pub task: u64,
    /// The most bytes a second that it may copy; without limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

/// See [`Request::TaskLatency`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLatency {
    /// The number that `task list` shows.
    pub task: u64,
    /// What the application's requests may take on average, in microseconds; whatever they take when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<NonZeroU64>,
}

/// See [`Request::Overview`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// The group; all groups when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Only this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// How many of the last happenings are sent.
    pub events: u64,
}

/// See [`Request::ForceStop`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceStop {
    /// The group.
    pub group: Name,
    /// The volume.
    pub volume: Name,
}

/// See [`Request::Upgrade`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The binary; what stands now where the daemon was started from when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
}

/// See [`Request::Events`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Only those of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Only those of this volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// At most so many of those that are kept, the latest.
    pub last: u64,
    /// Whether those to come follow, until the client goes.
    pub follow: bool,
}

/// See [`Request::Shutdown`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Whether it is refused while a volume is open. Otherwise the devices of open volumes stay and wait for the next daemon.
    pub stop_volumes: bool,
}

#[cfg(test)]
mod tests;
