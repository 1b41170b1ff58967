//! What is wrong with a medium, or with the choice of one.

use crate::base::units::exact_bytes;
use crate::base::{Kind, Name, Refusal, Refused};
use crate::state::medium::MediumPath;

/// `medium.in-use`: the medium carries `plex`.
#[must_use]
pub fn medium_in_use(path: &MediumPath, plex: &Name) -> Refused {
    let reason = format!("it carries plex {plex}");
    Refusal::new(Kind::Medium, "medium.in-use", path, reason, "choose another file or device")
}

/// `medium.on-volume`: the medium lies on `volume`, found below it by way of the devices `passed`.
#[must_use]
pub fn medium_on_volume(path: &MediumPath, volume: &Name, passed: &str) -> Refused {
    let reason = format!("it lies on volume {volume} ({passed}): the two would wait for each other");
    Refusal::new(Kind::Medium, "medium.on-volume", path, reason, "choose a place that is on no volume")
}

/// `medium.looped`: the loop device `name` lies over the file.
#[must_use]
pub fn medium_looped(path: &MediumPath, name: &str) -> Refused {
    let reason = format!("loop device {name} lies over it, and who uses that writes past the volume");
    let way_out = format!("unmount it, and detach it if it stays: losetup -d /dev/{name}");
    Refusal::new(Kind::Open, "medium.looped", path, reason, way_out)
}

/// `medium.twice`: one medium is named or listed twice.
pub fn medium_twice(path: &MediumPath) -> Refused {
    Refusal::new(Kind::Usage, "medium.twice", path, "named twice", "name each medium once")
}

/// `medium.name-taken`: another medium of the group was given this name.
pub(in crate::state) fn medium_name_taken(name: &Name, group: &Name) -> Refused {
    let reason = format!("a medium of this name exists in group {group}");
    Refusal::new(Kind::Exists, "medium.name-taken", name, reason, "give each medium a name of its own")
}

/// `medium.of-group`: the medium belongs to a group.
#[must_use]
pub fn medium_of_group(path: &MediumPath, group: &Name) -> Refused {
    Refusal::new(
        Kind::Exists,
        "medium.of-group",
        path,
        format!("is a medium of group {group} already"),
        "name another: see cleave group list",
    )
}

/// `medium.none-left`: no medium of a pool can carry another plex; `first` is what keeps the first one from it.
#[must_use]
pub fn no_medium_left(group: &Name, media: usize, first: &Refusal) -> Refused {
    let whose = match media {
        1 => "its only medium cannot".to_owned(),
        _ => format!("none of its {media} media can"),
    };
    let reason =
        format!("{whose} carry another plex, a disk carries one ({}: {})", first.object, first.reason);
    let way_out = format!(
        "name a disk or a directory by its path, or give the group another: cleave group add {group} MEDIUM"
    );
    Refusal::new(Kind::Medium, "medium.none-left", group, reason, way_out)
}

/// `medium.missing`: nothing usable is at the path; `why` completes "cannot be used: ".
#[must_use]
pub fn medium_missing(path: &MediumPath, why: &str) -> Refused {
    let reason = format!("the medium cannot be used: {why}");
    Refusal::new(Kind::Medium, "medium.missing", path, reason, "mount or create it, or choose another medium")
}

/// `medium.read-only`.
#[must_use]
pub fn medium_read_only(path: &MediumPath) -> Refused {
    let way_out = "make it writable or choose another medium";
    Refusal::new(Kind::Medium, "medium.read-only", path, "the medium is read-only", way_out)
}

pub(in crate::state) fn medium_unknown(path: &MediumPath, group: &Name) -> Refused {
    let reason = format!("not a medium of group {group}");
    let way_out = "list the media with: cleave group list";
    Refusal::new(Kind::NotFound, "medium.unknown", path, reason, way_out)
}

pub(in crate::state) fn medium_full(path: &MediumPath, free: u64, need: u64) -> Refused {
    Refusal::new(
        Kind::NoSpace,
        "medium.full",
        path,
        format!(
            "{} are free, {} are needed: {} too few",
            exact_bytes(free),
            exact_bytes(need),
            exact_bytes(need.saturating_sub(free))
        ),
        "free space, ask for less, or choose another medium",
    )
}

pub(in crate::state) fn medium_none(group: &Name) -> Refused {
    Refusal::new(
        Kind::Medium,
        "medium.none",
        group,
        "the group has no medium to put a plex on",
        "name a file, directory or block device",
    )
}
