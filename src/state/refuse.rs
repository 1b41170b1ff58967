//! Every refusal of this room: kind, stable id, text. One function a case, so that a case reads alike wherever it arises.

use std::fmt::Display;

use super::group::{Plex, Volume};
use super::medium::MediumPath;
use super::plex::PlexEvent;
use super::volume::{VolumeEvent, VolumeState};
use crate::base::limits::{MAX_PLEXES, MIN_VOLUME_BYTES, PAGE_BYTES, SECTOR_BYTES};
use crate::base::units::{SizeError, counted, exact_bytes, human_bytes, parse_size};
use crate::base::{Kind, Name, Refusal, Refused};

mod carry;
mod media;

pub use carry::*;
pub use media::*;

/// Bytes of the longest volume name: `NAME-NN` of its plexes must still be a name.
pub const MAX_VOLUME_NAME_BYTES: usize = crate::base::limits::MAX_NAME_BYTES - 8;

/// `text` as the name of a `what` ("volume", "group").
///
/// # Errors
/// `name.*`, one id for each rule of [`Name`].
pub fn parse_name(what: &str, text: &str) -> Result<Name, Refused> {
    let name = Name::new(text).map_err(|error| {
        let (kind, id) = error.kind_and_id();
        // A hostile name may be long: its beginning is enough to know it by.
        let shown: String = text.chars().take(64).collect();
        let object = if shown.is_empty() { "(empty)".to_owned() } else { shown };
        let way_out = "choose a name such as data1: letters, digits, '_', '-', '.', ':'";
        Refusal::new(kind, id, object, format!("the name of a {what} {error}"), way_out)
    })?;
    if text.len() > MAX_VOLUME_NAME_BYTES {
        let reason = format!("the name of a {what} has more than {MAX_VOLUME_NAME_BYTES} bytes");
        return Err(Refusal::new(Kind::Syntax, "name.too-long", name, reason, "choose a shorter name"));
    }
    Ok(name)
}

/// `text` as the length of a volume in bytes, in VxVM's units.
///
/// # Errors
/// `size.*`, one id for each way to be wrong.
pub fn parse_length(text: &str) -> Result<u64, Refused> {
    let units = "give a number with b or s (sectors of 512 bytes), k, m, g, t or p, such as 10g";
    let bytes = parse_size(text).map_err(|error| match error {
        SizeError::NotANumber => {
            Refusal::new(Kind::Syntax, "size.not-a-number", text, "is not a number", units)
        }
        SizeError::UnknownUnit => {
            Refusal::new(Kind::Syntax, "size.unknown-unit", text, "has an unknown unit", units)
        }
        SizeError::Zero => Refusal::new(
            Kind::Usage,
            "size.zero",
            text,
            "is no length",
            format!("the smallest volume has {}", human_bytes(MIN_VOLUME_BYTES)),
        ),
        SizeError::TooLarge => {
            Refusal::new(Kind::Usage, "size.too-large", text, "is too large", "the largest volume has 1 EiB")
        }
    })?;
    check_length(bytes)?;
    Ok(bytes)
}

/// Whether a volume may have `bytes`: at least 1 MiB and a multiple of 4096.
///
/// # Errors
/// `size.zero`, `size.too-small`, `size.too-large` or `size.unaligned`.
pub fn check_length(bytes: u64) -> Result<(), Refused> {
    const MAX: u64 = crate::base::limits::MAX_VOLUME_BYTES;
    let page = PAGE_BYTES as u64;
    let smallest = || format!("the smallest volume has {}", human_bytes(MIN_VOLUME_BYTES));
    if bytes == 0 {
        return Err(Refusal::new(Kind::Usage, "size.zero", "0", "is no length", smallest()));
    }
    if bytes > MAX {
        let object = exact_bytes(bytes);
        return Err(Refusal::new(
            Kind::Usage,
            "size.too-large",
            object,
            "is too large",
            "the largest volume has 1 EiB",
        ));
    }
    if bytes < MIN_VOLUME_BYTES {
        let object = exact_bytes(bytes);
        return Err(Refusal::new(
            Kind::Usage,
            "size.too-small",
            object,
            "is too small for a volume",
            smallest(),
        ));
    }
    if !bytes.is_multiple_of(page) {
        let up = bytes.next_multiple_of(page);
        return Err(Refusal::new(
            Kind::Usage,
            "size.unaligned",
            exact_bytes(bytes),
            format!("is not a multiple of {page} bytes"),
            format!("take {} sectors: {}", up / SECTOR_BYTES, exact_bytes(up)),
        ));
    }
    Ok(())
}

/// `medium.path`: `text` is no path of a medium; `why` follows it in the message.
pub fn medium_path(text: &str, why: &str) -> Refused {
    let shown: String = text.chars().take(256).collect();
    let object = if shown.is_empty() { "(empty)".to_owned() } else { shown };
    Refusal::new(
        Kind::Syntax,
        "medium.path",
        object,
        why,
        "give the full path of a file, directory or block device",
    )
}

/// `group.unknown`: no group is called so.
#[must_use]
pub fn group_unknown(name: &str) -> Refused {
    Refusal::new(
        Kind::NoGroup,
        "group.unknown",
        name,
        "no such group",
        "list the groups with: cleave group list",
    )
}

/// `group.exists`: a group of that name is there.
#[must_use]
pub fn group_exists(name: &Name) -> Refused {
    Refusal::new(Kind::Exists, "group.exists", name, "a group of this name exists", "choose another name")
}

pub(super) fn group_not_empty(name: &Name, volumes: usize) -> Refused {
    Refusal::new(
        Kind::Busy,
        "group.not-empty",
        name,
        format!("the group still has {}", counted(volumes, "volume")),
        "remove them first with: cleave rm",
    )
}

pub(super) fn group_leaving(name: &Name, left: &impl Display) -> Refused {
    Refusal::new(
        Kind::Busy,
        "group.leaving",
        name,
        format!("{left}, of a plex that was removed, is still there"),
        "the log says what keeps it; remove that file, or unmount what it lies on, then try again",
    )
}

/// `volume.unknown`: the group has no volume of that name.
pub fn volume_unknown(name: &str, group: &Name) -> Refused {
    let reason = format!("no such volume in group {group}");
    Refusal::new(Kind::NotFound, "volume.unknown", name, reason, "list the volumes with: cleave list")
}

/// `refused` for a volume that its group does not have, and `others` do have one of that name.
#[must_use]
pub fn volume_elsewhere(mut refused: Refused, others: &[Name]) -> Refused {
    match others {
        [] => {}
        [group] => {
            refused.way_out = format!("group {group} has one of that name: say -g {group} if it is meant");
        }
        groups => {
            let list = groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            refused.way_out = format!("groups {list} have one of that name: say with -g which one is meant");
        }
    }
    refused
}

/// `refused` for the group `default`, which is not there, and `others` are.
#[must_use]
pub fn group_elsewhere(mut refused: Refused, others: &[Name]) -> Refused {
    match others {
        [] => {}
        [group] => refused.way_out = format!("name the one that is there: -g {group}"),
        groups => {
            let list = groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            refused.way_out = format!("name one that is there with -g: {list}");
        }
    }
    refused
}

pub(super) fn volume_gone(what: impl Display) -> Refused {
    Refusal::new(Kind::Changed, "volume.gone", what, "the volume was removed meanwhile", "")
}

pub(super) fn plex_gone(what: impl Display) -> Refused {
    Refusal::new(Kind::Changed, "plex.gone", what, "the plex was removed meanwhile", "")
}

/// `volume.exists`: a volume or plex of the group bears the name already.
#[must_use]
pub fn name_taken(name: &Name, group: &Name) -> Refused {
    let reason = format!("a volume or plex of this name exists in group {group}");
    Refusal::new(Kind::Exists, "volume.exists", name, reason, "choose another name")
}

pub(super) fn plex_unknown(name: &str, volume: &Name) -> Refused {
    let reason = format!("no such plex of volume {volume}");
    Refusal::new(
        Kind::NotFound,
        "plex.unknown",
        name,
        reason,
        format!("list its plexes with: cleave show {volume}"),
    )
}

pub(super) fn volume_state(volume: &Volume, event: VolumeEvent) -> Refused {
    let name = volume.name();
    match (volume.state(), event) {
        (VolumeState::Active | VolumeState::Sync, VolumeEvent::Start) => {
            Refusal::new(Kind::Started, "volume.started", name, "the volume is started already", "")
        }
        (VolumeState::Clean | VolumeState::NeedSync, VolumeEvent::Stop) => volume_not_started(name),
        (VolumeState::Empty, _) => Refusal::new(
            Kind::InvalidState,
            "volume.empty",
            name,
            "the volume is not completely made",
            format!("wait for its make to end, or remove it with: cleave rm {name}"),
        ),
        (state, _) => Refusal::new(
            Kind::InvalidState,
            "volume.state",
            name,
            format!("not possible while the volume is {state}"),
            format!("see its state with: cleave show {name}"),
        ),
    }
}

/// `volume.not-started`: it must be started for this.
pub fn volume_not_started(name: &Name) -> Refused {
    let way_out = format!("start it with: cleave start {name}");
    Refusal::new(Kind::NotStarted, "volume.not-started", name, "the volume is not started", way_out)
}

/// `volume.started`: it may not be started for this.
pub fn volume_running(name: &Name) -> Refused {
    let way_out = format!("stop it with: cleave stop {name}");
    Refusal::new(Kind::Started, "volume.started", name, "the volume is started", way_out)
}

/// `volume.open`: someone holds the volume's device; `holders` are shown as given ("mounted on /mnt", "fio (pid 17)").
#[must_use]
pub fn volume_open(name: &Name, holders: &[String]) -> Refused {
    let reason = format!("the volume is in use: {}", holders.join(", "));
    Refusal::new(Kind::Open, "volume.open", name, reason, "unmount or close it first")
}

pub(super) fn volume_busy(name: &Name) -> Refused {
    Refusal::new(
        Kind::Busy,
        "volume.busy",
        name,
        "a cut of the volume is under way",
        "try again when it is done",
    )
}

pub(super) fn volume_restoring(name: &Name) -> Refused {
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

pub(super) fn snapshot_restoring(name: &Name, origin: &Name) -> Refused {
    Refusal::new(
        Kind::Busy,
        "volume.restoring",
        name,
        format!("{origin} is being restored from it"),
        "wait for the task that cleave task list shows",
    )
}

pub(super) fn not_restoring(name: &Name) -> Refused {
    Refusal::new(Kind::Changed, "volume.not-restoring", name, "no restore of it is at that point", "")
}

/// `undo.none`: there is no way back.
pub fn no_undo(name: &Name) -> Refused {
    let reason = "there is no undo archive of it";
    Refusal::new(Kind::NotFound, "undo.none", name, reason, "a restore keeps one, unless told not to")
}

pub(super) fn undo_unknown(name: &Name, id: &str) -> Refused {
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

pub(super) fn too_many_undos(name: &Name) -> Refused {
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

pub(super) fn volume_resyncing(name: &Name) -> Refused {
    let way_out = "wait for the task that cleave task list shows";
    Refusal::new(
        Kind::Busy,
        "volume.resyncing",
        name,
        "its plexes are being made equal after a crash",
        way_out,
    )
}

pub(super) fn release_started(name: &Name) -> Refused {
    let way_out = format!("unmount it, then: cleave stop {name}");
    Refusal::new(Kind::Started, "release.started", name, "a volume is released while it is stopped", way_out)
}

pub(super) fn release_unclean(name: &Name) -> Refused {
    let reason = "it was not stopped in good order, and its plexes may differ";
    let way_out =
        format!("have them made equal first: cleave start {name}; cleave task watch; cleave stop {name}");
    Refusal::new(Kind::InvalidState, "release.unclean", name, reason, way_out)
}

pub(super) fn release_undo(name: &Name, id: &str) -> Refused {
    let reason = "an undo archive of a restore is kept, which would be lost with it";
    let way_out = format!("put it back, or give it up: cleave undo --delete {name} {id}");
    Refusal::new(Kind::InvalidState, "release.undo", name, reason, way_out)
}

pub(super) fn release_plex(name: &Name, plex: &Plex) -> Refused {
    let reason =
        format!("its plex {} is {}, and no copy of what the volume holds", plex.name(), plex.state());
    let way_out = format!(
        "start it and bring the plex in step (cleave recover {name}), or remove it: cleave remove-mirror {name} {}",
        plex.name()
    );
    Refusal::new(Kind::InvalidState, "release.plex", name, reason, way_out)
}

pub(super) fn resize_label_file(name: &Name, plex: &Name) -> Refused {
    let reason = format!("the medium of plex {plex} has its labels in a file, and no room to grow");
    let way_out = format!(
        "put the plex on another medium: cleave plex replace {plex}, or give the plain image back: cleave release {name}"
    );
    Refusal::new(Kind::InvalidState, "resize.label-file", name, reason, way_out)
}

pub(super) fn resize_undo(name: &Name, id: &str) -> Refused {
    let reason = "an undo archive of a restore is kept, which fits its length of today";
    let way_out = format!("put it back, or give it up: cleave undo --delete {name} {id}");
    Refusal::new(Kind::InvalidState, "resize.undo", name, reason, way_out)
}

pub(super) fn resize_under_way(name: &Name) -> Refused {
    let way_out = format!("start it, which brings that to an end, or stop and start it: cleave start {name}");
    let reason = "a change of its length was begun and is not complete";
    Refusal::new(Kind::Busy, "resize.under-way", name, reason, way_out)
}

pub(super) fn resize_started(name: &Name) -> Refused {
    let reason = "a volume becomes shorter only while it is stopped";
    let way_out = format!("make its file system smaller, unmount it, then: cleave stop {name}");
    Refusal::new(Kind::Started, "resize.started", name, reason, way_out)
}

pub(super) fn resize_unclean(name: &Name) -> Refused {
    let reason = "it was not stopped in good order";
    let way_out = format!("have its plexes made equal first: cleave start {name}");
    Refusal::new(Kind::InvalidState, "resize.unclean", name, reason, way_out)
}

/// `resize.related`, `release.related`: change maps of `snapshots`, or of the volume itself where it is a snapshot, stand against it.
pub(super) fn volume_related(kind: Kind, id: &str, name: &Name, snapshots: &[&Name]) -> Refused {
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

pub(super) fn resize_plex(volume: &Name, plex: &Plex) -> Refused {
    let way_out = match plex.purpose() {
        super::Purpose::Snapshot => {
            format!("wait for it (cleave snapwait {volume}) or remove it (cleave snapabort {volume})")
        }
        super::Purpose::Mirror => format!(
            "have it brought up to date (cleave recover {volume}) or remove it (cleave remove-mirror {volume} {})",
            plex.name()
        ),
    };
    let reason = format!("it is {}: the length changes only while all plexes are in step", plex.state());
    Refusal::new(Kind::InvalidState, "resize.plex", plex.name(), reason, way_out)
}

pub(super) fn resize_scrub(name: &Name) -> Refused {
    let way_out = "wait for it (cleave task watch), or end it (cleave task abort)";
    Refusal::new(Kind::Busy, "resize.scrub", name, "a scrub of it is under way", way_out)
}

pub(super) fn volume_not_recursive(name: &Name, plexes: usize) -> Refused {
    let reason = format!("the volume has {}", counted(plexes, "plex"));
    Refusal::new(Kind::InvalidState, "volume.has-plexes", name, reason, "add -r to remove them with it")
}

pub(super) fn volume_has_snapshots(name: &Name, snapshots: &[&Name]) -> Refused {
    let list: Vec<_> = snapshots.iter().map(ToString::to_string).collect();
    Refusal::new(
        Kind::InvalidState,
        "volume.has-snapshots",
        name,
        format!("the volume is the origin of {}", list.join(", ")),
        "give them back with snapback, remove them, or add -f to make them independent",
    )
}

pub(super) fn volume_force(name: &Name) -> Refused {
    let way_out = format!("stop it with: cleave stop {name}, or add -f");
    Refusal::new(Kind::Started, "volume.started", name, "the volume is started", way_out)
}

/// `behind` is one that is there and could be believed by name.
pub(super) fn no_complete_plex(name: &Name, why: &str, behind: Option<&Plex>) -> Refused {
    let way_out = match behind {
        Some(plex) => format!(
            "bring a medium back and start again, or believe an older one with: cleave start --source {} {name}",
            plex.name()
        ),
        None => "bring a medium back and start again".to_owned(),
    };
    Refusal::new(
        Kind::CannotStart,
        "volume.no-complete-plex",
        name,
        format!("no complete plex can be used: {why}"),
        way_out,
    )
}

pub(super) fn plex_changed(plex: &Plex, volume: &Name, how: &str) -> Refused {
    Refusal::new(
        Kind::CannotStart,
        "plex.changed",
        plex.name(),
        format!("{} was changed while the volume was stopped: {how}", plex.medium().path),
        format!("name the plex to believe with: cleave start --source PLEX {volume}"),
    )
}

pub(super) fn source_unfit(plex: &Plex, why: &str) -> Refused {
    let reason = format!("the plex cannot be the source: {why}");
    Refusal::new(Kind::InvalidState, "plex.source-unfit", plex.name(), reason, "name a complete plex")
}

pub(super) fn plex_state(plex: &Plex, event: PlexEvent) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "plex.state",
        plex.name(),
        format!("the plex cannot {} while it is {}", event.verb(), plex.state()),
        "see its state with: vxprint -ht",
    )
}

pub(super) fn plex_nowhere(name: &str, group: &Name) -> Refused {
    let reason = format!("no volume of group {group} has a plex of that name");
    Refusal::new(Kind::NotFound, "plex.unknown", name, reason, "list the plexes with: cleave print")
}

pub(super) fn replace_unfit(plex: &Plex) -> Refused {
    let reason = format!("the plex is {} and cannot be replaced", plex.state());
    Refusal::new(
        Kind::InvalidState,
        "plex.replace-unfit",
        plex.name(),
        reason,
        "see its state with: cleave show",
    )
}

pub(super) fn replaced_already(plex: &Plex, by: &Name) -> Refused {
    let way_out = format!("wait for the task that cleave task list shows, or remove {by} first");
    Refusal::new(Kind::Busy, "plex.replaced", plex.name(), format!("it is being replaced by {by}"), way_out)
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

pub(super) fn setting_range(volume: &Name, what: &str, value: u32, range: &str) -> Refused {
    let reason = format!("{what} cannot be {value}");
    Refusal::new(Kind::Usage, "setting.range", volume, reason, format!("choose {range}"))
}

pub(super) fn plex_not_attached(plex: &Plex) -> Refused {
    let reason = format!("the plex is {} and detached, so it cannot be in step", plex.state());
    Refusal::new(Kind::InvalidState, "plex.detached", plex.name(), reason, "attach it again")
}

pub(super) fn last_active(plex: &Plex, volume: &Name) -> Refused {
    Refusal::new(
        Kind::Last,
        "plex.last-active",
        plex.name(),
        format!("it is the last complete plex of volume {volume}"),
        format!(
            "add another first with: cleave mirror {volume}, or remove the volume with: cleave rm {volume}"
        ),
    )
}

/// `plex.too-small`: the medium at `path` has `have` bytes and needs `need`.
#[must_use]
pub fn plex_too_small(path: impl Display, have: u64, need: u64, volume: &Name) -> Refused {
    let (short, have, need) = (exact_bytes(need.saturating_sub(have)), exact_bytes(have), exact_bytes(need));
    Refusal::new(
        Kind::NoSpace,
        "plex.too-small",
        path,
        format!("too small by {short} for a plex of volume {volume}: it has {have}, {need} are needed"),
        format!("make it at least {need}"),
    )
}

pub(super) fn plex_block_size(
    path: &MediumPath,
    what: &str,
    needs: u32,
    fixed: u32,
    volume: &Name,
) -> Refused {
    Refusal::new(
        Kind::Medium,
        "plex.block-size",
        path,
        format!("needs a {what} of {needs} bytes, volume {volume} has {fixed}, fixed when it was made"),
        "use a medium that does with less",
    )
}

pub(super) fn too_many_plexes(volume: &Name, wanted: usize) -> Refused {
    let reason = format!("{wanted} plexes are more than {MAX_PLEXES}");
    Refusal::new(Kind::Usage, "plex.too-many", volume, reason, "ask for fewer mirrors")
}

/// `plex.none`: no plex was asked for.
pub fn no_plexes(volume: &Name) -> Refused {
    Refusal::new(Kind::Usage, "plex.none", volume, "no plex was asked for", "ask for at least one mirror")
}

pub(super) fn snapshot_no_snapdone(volume: &Volume, wanted: usize) -> Refused {
    use super::plex::PlexState;
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

pub(super) fn snapshot_twice(name: &Name) -> Refused {
    Refusal::new(Kind::Usage, "snapshot.twice", name, "named twice in one cut", "name each volume once")
}

pub(super) fn snapshot_name_too_long(name: &Name) -> Refused {
    let way_out = "name the snapshot volume";
    Refusal::new(
        Kind::Syntax,
        "name.too-long",
        name,
        "the default name of its snapshot would be too long",
        way_out,
    )
}

pub(super) fn snapshot_unclean(name: &Name) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.unclean",
        name,
        "the snapshot volume was not stopped in good order, so its map may miss changes",
        format!("start it once with: cleave start {name}"),
    )
}

pub(super) fn snapback_too_few(name: &Name, wanted: usize, have: usize) -> Refused {
    Refusal::new(
        Kind::InvalidState,
        "snapshot.too-few-plexes",
        name,
        format!("{} wanted, the snapshot volume has {have}", counted(wanted, "complete plex")),
        "ask for fewer, or for all of them",
    )
}

/// A name that Cleave made up; it is one unless the volume's is too long.
pub(super) fn plex_name(text: &str) -> Result<Name, Refused> {
    Name::new(text)
        .map_err(|_| Refusal::new(Kind::Syntax, "name.too-long", text, "too long for the name of a plex", ""))
}

pub(super) fn cut_unknown(set: impl Display) -> Refused {
    Refusal::new(Kind::Changed, "snapshot.no-cut", set, "no cut of this identity is prepared", "")
}

pub(super) fn absurd(object: impl Display, what: impl Display) -> Refused {
    Refusal::new(
        Kind::Damaged,
        "group.inconsistent",
        object,
        format!("the configuration contradicts itself: {what}"),
        "go back to a past generation in the group's state directory",
    )
}

pub(super) fn scrub_hours(from: u8, to: u8) -> Refused {
    let way_out = "give two different hours of the day from 0 to 23, as 1-5";
    Refusal::new(Kind::Usage, "scrub.hours", format!("{from}-{to}"), "are no hours of the day", way_out)
}

pub(super) fn scrub_interval(volume: &Name) -> Refused {
    let way_out = "give an hour at least and ten years at most, as 7d";
    Refusal::new(Kind::Usage, "scrub.interval", volume, "cannot be scrubbed at such an interval", way_out)
}

pub(super) fn scrub_running(volume: &Name) -> Refused {
    let way_out = "watch it with: cleave task watch; end it with: cleave task abort";
    Refusal::new(Kind::Busy, "scrub.running", volume, "a scrub of it is under way", way_out)
}

pub(super) fn scrub_alone(volume: &Name) -> Refused {
    let reason = "fewer than two of its plexes are in step, so there is nothing to compare";
    Refusal::new(Kind::InvalidState, "scrub.alone", volume, reason, "add a mirror with: cleave mirror")
}

pub(super) fn scrub_no_majority(volume: &Name, plexes: usize, first: Option<&Name>) -> Refused {
    let reason =
        format!("it has {plexes} plexes in step, so no majority can say which is right where they differ");
    let source = first.map_or_else(|| "PLEX".to_owned(), ToString::to_string);
    let way_out = format!("name the plex that counts: cleave scrub {volume} --repair --source {source}");
    Refusal::new(Kind::Usage, "scrub.no-majority", volume, reason, way_out)
}

pub(super) fn scrub_source(plex: &Plex) -> Refused {
    let reason = format!("cannot be the source of a repair: it is {}", plex.state());
    Refusal::new(Kind::InvalidState, "scrub.source-unfit", plex.name(), reason, "name an ACTIVE plex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_told_apart_and_shown_on_one_line() {
        let long = "n".repeat(200);
        let fits_not = "n".repeat(MAX_VOLUME_NAME_BYTES + 1);
        for (text, id, line) in [
            ("", "name.empty", "(empty): the name of a volume is empty"),
            ("../x", "name.bad-character", "../x: the name of a volume has a character other than"),
            ("-rf", "name.bad-start", "-rf: the name of a volume does not start with"),
            ("a\nb", "name.bad-character", "a\\nb: the name of a volume has a character"),
            ("rdsk", "name.reserved", "rdsk: the name of a volume is a reserved word"),
            (&long, "name.too-long", "nnnn"),
            (&fits_not, "name.too-long", "nnnn"),
        ] {
            let refused = parse_name("volume", text).unwrap_err();
            assert_eq!((refused.kind, refused.id.as_str()), (Kind::Syntax, id), "{text:?}");
            assert!(refused.to_string().starts_with(line), "{refused}");
            assert!(!refused.to_string().contains('\n'));
        }
        assert_eq!(parse_name("volume", "SNAP-v").unwrap().as_str(), "SNAP-v");
    }

    #[test]
    fn sizes_are_refused_each_with_its_own_id() {
        for (text, kind, id, line) in [
            ("0", Kind::Usage, "size.zero", "0: is no length; the smallest volume has 1 MiB"),
            (
                "1e3",
                Kind::Syntax,
                "size.unknown-unit",
                "1e3: has an unknown unit; give a number with b or s (sectors of 512 bytes), k, m, g, t or p, such as 10g",
            ),
            (
                "-1",
                Kind::Syntax,
                "size.not-a-number",
                "-1: is not a number; give a number with b or s (sectors of 512 bytes), k, m, g, t or p, such as 10g",
            ),
            (
                "9223372036854775808",
                Kind::Usage,
                "size.too-large",
                "9223372036854775808: is too large; the largest volume has 1 EiB",
            ),
            (
                "1",
                Kind::Usage,
                "size.too-small",
                "512 bytes: is too small for a volume; the smallest volume has 1 MiB",
            ),
            (
                "2049",
                Kind::Usage,
                "size.unaligned",
                "1.0 MiB (1049088 bytes): is not a multiple of 4096 bytes; take 2056 sectors: 1.0 MiB (1052672 bytes)",
            ),
        ] {
            let refused = parse_length(text).unwrap_err();
            assert_eq!((refused.kind, refused.id.as_str()), (kind, id), "{text}");
            assert_eq!(refused.to_string(), line);
        }
        assert_eq!(parse_length("1g"), Ok(1 << 30));
        assert_eq!(check_length(u64::MAX).unwrap_err().id, "size.too-large");
    }
}
