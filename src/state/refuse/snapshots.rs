//! What keeps a snapshot from being made, given back, restored or undone.

use std::fmt::Display;

use crate::base::units::{counted, exact_bytes, human_bytes};
use crate::base::{Kind, Name, Refusal, Refused};
use crate::state::group::Volume;

pub(in crate::state) fn volume_restoring(name: &Name) -> Refused {
    Refusal::new(
        Kind::Busy,
        "volume.restoring",
        name,
        "it is being overwritten by a restore",
        format!(
            "wait for the task that cleave task list shows; if there is none, go on with: cleave start {name}"
        ),
    )
}

pub(in crate::state) fn snapshot_restoring(name: &Name, origin: &Name) -> Refused {
    Refusal::new(
        Kind::Busy,
        "volume.restoring",
        name,
        format!("{origin} is being restored from it"),
        "wait for the task that cleave task list shows",
    )
}

pub(in crate::state) fn not_restoring(name: &Name) -> Refused {
    Refusal::new(Kind::Changed, "volume.not-restoring", name, "no restore of it is at that point", "")
}

/// `undo.none`: there is no way back.
pub fn no_undo(name: &Name) -> Refused {
    let reason = "there is no undo archive of it";
    Refusal::new(Kind::NotFound, "undo.none", name, reason, "a restore keeps one, unless told not to")
}

pub(in crate::state) fn undo_unknown(name: &Name, id: &str) -> Refused {
    let shown: String = id.chars().take(64).collect();
    let reason = format!("it has no undo archive {shown}");
    Refusal::new(
        Kind::NotFound,
        "undo.unknown",
        name,
        reason,
        format!("list them with: cleave undo --list {name}"),
    )
}

pub(in crate::state) fn too_many_undos(name: &Name) -> Refused {
    let reason = "it has as many undo archives as a volume may have";
    let way_out = format!("give one up: cleave undo --list {name}, cleave undo --delete {name} ID");
    Refusal::new(Kind::InvalidState, "undo.too-many", name, reason, way_out)
}

/// `undo.written-since`: putting the archive back would mix two states.
pub fn undo_written_since(name: &Name, regions: u64, bytes: u64) -> Refused {
    let reason = format!(
        "{} ({}) that the archive does not hold were written since the restore, and would stay",
        counted(regions, "region"),
        human_bytes(bytes)
    );
    let way_out =
        "take a snapshot first if they are wanted, then add --force to put back what the archive holds";
    Refusal::new(Kind::InvalidState, "undo.written-since", name, reason, way_out)
}

/// `restore.no-room`: the undo archive does not fit into the state directory.
pub fn no_room_for_undo(name: &Name, place: impl Display, needed: u64, free: u64) -> Refused {
    let reason = format!(
        "the undo archive needs {} in {place}, and {} are available",
        exact_bytes(needed),
        exact_bytes(free)
    );
    let way_out = "make room, or give up the way back with --no-safety (-o nosafety)";
    Refusal::new(Kind::NoSpace, "restore.no-room", name, reason, way_out)
}

/// `resize.related`, `release.related`: change maps of `snapshots`, or of the volume itself where it is a snapshot, stand against it.
pub(in crate::state) fn volume_related(kind: Kind, id: &str, name: &Name, snapshots: &[&Name]) -> Refused {
    let list = snapshots.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (reason, first) = match list.as_slice() {
        [own] if own.as_str() == name.as_str() => {
            ("it is a snapshot that keeps to its origin".to_owned(), own)
        }
        list => (format!("its snapshots are tracked against it: {}", list.join(", ")), &list[0]),
    };
    let way_out =
        format!("give it back (cleave snapback {first}) or make it independent (cleave snapclear {first})");
    Refusal::new(kind, id, name, reason, way_out)
}

pub(in crate::state) fn volume_has_snapshots(name: &Name, snapshots: &[&Name]) -> Refused {
    let list: Vec<_> = snapshots.iter().map(ToString::to_string).collect();
    Refusal::new(
        Kind::InvalidState,
        "volume.has-snapshots",
        name,
        format!("the volume is the origin of {}", list.join(", ")),
        "give them back with snapback, remove them, or add -f to make them independent",
    )
}

/// The volume is a snapshot, but of `origin`.
#[must_use]
pub fn snapshot_of_another(snapshot: &Name, origin: &Name) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.of-another",
        snapshot,
        format!("the volume is a snapshot of {origin}"),
        format!("name {origin}, or the snapshot alone"),
    )
}

pub(in crate::state) fn snapshot_no_snapdone(volume: &Volume, wanted: usize) -> Refused {
    use crate::state::plex::PlexState;
    let name = volume.name();
    let ready = volume.snapdone_count();
    let copying = volume.plexes().iter().find(|plex| plex.state() == PlexState::SnapAtt);
    let way_out = copying.map_or_else(
        || format!("make one with: vxassist snapstart {name}"),
        |plex| format!("{} is SNAPATT, wait for it with: vxassist snapwait {name}", plex.name()),
    );
    Refusal::new(
        Kind::InvalidState,
        "snapshot.no-snapdone",
        name,
        format!(
            "insufficient number of active snapshot mirrors in {name}: {wanted} wanted, {ready} SNAPDONE"
        ),
        way_out,
    )
}

/// `snapshot.no-mirror`: there is no snapshot mirror to work on.
pub fn snapshot_no_mirror(name: &Name) -> Refused {
    Refusal::new(
        Kind::NotFound,
        "snapshot.no-mirror",
        name,
        "the volume has no snapshot mirror",
        format!("make one with: vxassist snapstart {name}"),
    )
}

/// `snapshot.not-a-snapshot`: the volume was not broken off from another.
pub fn not_a_snapshot(name: &Name) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.not-a-snapshot",
        name,
        "the volume is not a snapshot of another",
        "name a volume made by: vxassist snapshot",
    )
}

pub(in crate::state) fn snapshot_twice(name: &Name) -> Refused {
    Refusal::new(Kind::Usage, "snapshot.twice", name, "named twice in one cut", "name each volume once")
}

pub(in crate::state) fn snapshot_name_too_long(name: &Name) -> Refused {
    let way_out = "name the snapshot volume";
    Refusal::new(
        Kind::Syntax,
        "name.too-long",
        name,
        "the default name of its snapshot would be too long",
        way_out,
    )
}

pub(in crate::state) fn snapshot_unclean(name: &Name) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.unclean",
        name,
        "the snapshot volume was not stopped in good order, so its map may miss changes",
        format!("start it once with: cleave start {name}"),
    )
}

pub(in crate::state) fn snapback_too_few(name: &Name, wanted: usize, have: usize) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.too-few-plexes",
        name,
        format!("{} wanted, the snapshot volume has {have}", counted(wanted, "complete plex")),
        "ask for fewer, or for all of them",
    )
}

pub(in crate::state) fn cut_unknown(set: impl Display) -> Refused {
    Refusal::new(Kind::Changed, "snapshot.no-cut", set, "no cut of this identity is prepared", "")
}
