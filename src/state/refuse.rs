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
mod snapshots;
mod upkeep;

pub use carry::*;
pub use media::*;
pub use snapshots::*;
pub(super) use upkeep::*;

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

pub(super) fn volume_not_recursive(name: &Name, plexes: usize) -> Refused {
    let reason = format!("the volume has {}", counted(plexes, "plex"));
    Refusal::new(Kind::InvalidState, "volume.has-plexes", name, reason, "add -r to remove them with it")
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

/// A name that Cleave made up; it is one unless the volume's is too long.
pub(super) fn plex_name(text: &str) -> Result<Name, Refused> {
    Name::new(text)
        .map_err(|_| Refusal::new(Kind::Syntax, "name.too-long", text, "too long for the name of a plex", ""))
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
