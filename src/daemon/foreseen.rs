//! From one configuration to the next, as it would be: what a change makes, overwrites and gives up. Pure.

use std::fmt::Display;

use crate::base::Name;
use crate::base::limits::LABEL_AREA_BYTES;
use crate::base::units::{counted, exact_bytes, human_bytes};
use crate::catalog::filesystem::Content;
use crate::control::row::ForeseenRow;
use crate::format::label::{LABEL_FILE_BYTES, Places};
use crate::state::change::{Change, Effect};
use crate::state::{Group, MediumKind, MediumPath, Plex, PlexMedium, Volume, medium_bytes};

/// What `change` of `before` would come to, volumes before media.
#[must_use]
pub fn foreseen(before: &Group, change: &Change) -> Vec<ForeseenRow> {
    let after = &change.group;
    let mut told = Vec::new();
    for old in before.volumes() {
        match after.volume_by_id(old.uuid()) {
            None => {
                let stays = |plex: &&Plex| after.plex_by_id(plex.uuid()).is_some();
                told.extend(old.plexes().iter().filter(stays).map(|plex| moves(after, old, plex)));
                let gone =
                    old.plexes().iter().filter(|plex| !stays(plex)).map(|plex| plex.name().to_string());
                let gone = gone.collect::<Vec<_>>().join(", ");
                let with = if gone.is_empty() { gone } else { format!(", with {gone}") };
                told.push(row(old.name(), format!("goes{with}")));
            }
            Some(new) => told.extend(moved(before, after, old, new)),
        }
        let (was, is) = (before.link_of(old.uuid()), after.link_of(old.uuid()));
        if let (Some((origin, _)), None) = (was, is) {
            let text = format!("is no snapshot of {} any more: no snapback, no restore", origin.name());
            told.push(row(old.name(), text));
        }
    }
    for new in after.volumes().iter().filter(|new| before.volume_by_id(new.uuid()).is_none()) {
        let length = human_bytes(new.length());
        told.push(row(
            new.name(),
            format!("is made, {length}, {} of it", counted(new.plexes().len(), "copy")),
        ));
    }
    told.extend(change.before_commit.iter().chain(&change.after_commit).filter_map(of_effect));
    told
}

/// One of the things that come.
pub fn row(object: impl Display, text: String) -> ForeseenRow {
    ForeseenRow { object: object.to_string(), text }
}

/// How a file or disk stands that is to become a volume as it is.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// Bytes that it has.
    pub has: u64,
    /// Bytes that it will have.
    pub needed: u64,
    /// Bytes of the volume.
    pub length: u64,
    /// What it holds.
    pub content: Content,
    /// The file for its labels, if they do not stand behind the volume.
    pub label_file: Option<MediumPath>,
}

/// What the adoption of what stands at `path` would come to.
#[must_use]
pub fn adopted(volume: &Name, path: &MediumPath, adoption: &Adoption) -> Vec<ForeseenRow> {
    let Adoption { has, needed, length, content, .. } = *adoption;
    let mut told = vec![row(
        volume,
        format!("is made of the first {} of {path}, as they are: no data is copied", exact_bytes(length)),
    )];
    told.push(row(
        path,
        match (content.name(), content.bytes()) {
            (Some(name), Some(bytes)) => format!("holds {name}, {} of it", exact_bytes(bytes)),
            (Some(name), None) => format!("holds {name}"),
            (None, _) => "holds nothing that is known".to_owned(),
        },
    ));
    if needed > has {
        let (more, all) = (exact_bytes(needed - has), exact_bytes(needed));
        told.push(row(path, format!("becomes longer by {more}, and has {all} then")));
    }
    if let Some(file) = &adoption.label_file {
        let text = format!(
            "is made for the labels, {}: nothing is written to {path}",
            human_bytes(LABEL_FILE_BYTES)
        );
        told.push(row(file, text));
        return told;
    }
    if let Ok(places) = Places::new(length, needed) {
        let overwritten = if places.near_area() < has { ", over what stands there now" } else { "" };
        told.push(row(
            path,
            format!(
                "labels are written behind the volume, from byte {} on and from byte {} on, {} each{overwritten}",
                places.near_area(),
                places.far_area(),
                human_bytes(LABEL_AREA_BYTES)
            ),
        ));
    }
    told
}

/// A volume that is there before and after.
fn moved(before: &Group, after: &Group, old: &Volume, new: &Volume) -> Vec<ForeseenRow> {
    let mut told = Vec::new();
    let (was, is) = (old.length(), new.length());
    if was != is {
        told.push(row(new.name(), format!("has {} then, and has {} now", human_bytes(is), human_bytes(was))));
    }
    for plex in old.plexes() {
        let state = new.plex_by_id(plex.uuid()).map(Plex::state);
        told.extend(match state {
            Some(state) if state == plex.state() => None,
            Some(state) => Some(row(plex.name(), format!("is {state} then, and is {} now", plex.state()))),
            None => Some(moves(after, old, plex)),
        });
    }
    let came = new.plexes().iter().filter(|plex| before.plex_by_id(plex.uuid()).is_none());
    told.extend(came.map(|plex| row(plex.name(), format!("is added to {}", new.name()))));
    told
}

/// A plex that leaves its volume, for another or for good.
fn moves(after: &Group, from: &Volume, plex: &Plex) -> ForeseenRow {
    let text = match after.plex_by_id(plex.uuid()) {
        Some((to, _)) => format!("goes from {} to {}", from.name(), to.name()),
        None => format!("goes from {}", from.name()),
    };
    row(plex.name(), text)
}

/// What happens on a medium.
fn of_effect(effect: &Effect) -> Option<ForeseenRow> {
    match effect {
        Effect::Allocate { medium, bytes, .. } => Some(allocated(medium, *bytes)),
        Effect::Release { medium, length, .. } => Some(released(medium, *length)),
        Effect::RemoveArchive { file } => Some(row(file, "the undo archive is deleted".to_owned())),
        Effect::StopDevice { number: Some(number), .. } => {
            Some(row(format!("/dev/ublkb{number}"), "the device goes".to_owned()))
        }
        Effect::StopDevice { number: None, .. }
        | Effect::StartDevice { .. }
        | Effect::CreateMap { .. }
        | Effect::AddToMap { .. }
        | Effect::RemoveMap { .. }
        | Effect::CreateIntent { .. }
        | Effect::RemoveIntent { .. }
        | Effect::Attach { .. }
        | Effect::Detach { .. }
        | Effect::Copy { .. }
        | Effect::Resync { .. } => None,
    }
}

fn allocated(medium: &PlexMedium, bytes: u64) -> ForeseenRow {
    let text = match medium.kind {
        MediumKind::Made if medium.sparse => format!("a sparse file is made, {}", human_bytes(bytes)),
        MediumKind::Made => format!("a file is made, {}", human_bytes(bytes)),
        MediumKind::Foreign | MediumKind::Image | MediumKind::Block => {
            format!("its first {} are overwritten", human_bytes(bytes))
        }
    };
    row(&medium.path, text)
}

fn released(medium: &PlexMedium, length: u64) -> ForeseenRow {
    if let Some(file) = &medium.label_file {
        return row(&medium.path, format!("stays as it is; {file} with its labels is removed"));
    }
    let text = match medium.kind {
        MediumKind::Made => format!("the file is removed, {}", human_bytes(medium_bytes(length))),
        MediumKind::Foreign | MediumKind::Block => "stays, without Cleave's labels".to_owned(),
        MediumKind::Image => "stays, as a plain image of the volume".to_owned(),
    };
    row(&medium.path, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::change::{
        self, Made, MakeArgs, Presence, RemoveArgs, Site, StartArgs, create_group, finish_make, make_volume,
    };
    use crate::state::{Ids, PoolMedium};

    fn ids() -> Ids {
        Ids::from_seed([3; 32])
    }

    fn empty() -> Group {
        let media = [PoolMedium { path: MediumPath::new("/m").unwrap(), block: false, name: None }];
        create_group("default", &media, &mut ids()).unwrap()
    }

    fn sites() -> [Site; 2] {
        [
            Site::Below { directory: MediumPath::new("/m").unwrap(), sparse: false },
            Site::Block { path: MediumPath::new("/dev/sdb").unwrap(), bytes: 1 << 30 },
        ]
    }

    fn make(group: &Group) -> Change {
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &sites() };
        make_volume(group, &args, &mut ids()).unwrap()
    }

    fn stopped() -> Group {
        let group = make(&empty()).group;
        let made: Vec<_> = group.volumes()[0]
            .plexes()
            .iter()
            .map(|plex| Made { plex: plex.uuid(), bytes: 1 << 30, block_size: 512, memory_alignment: 512 })
            .collect();
        finish_make(&group, group.volumes()[0].uuid(), &made, true, &mut ids()).unwrap().group
    }

    /// The file of the first plex without the part of its name that makes it unique.
    fn lines(before: &Group, change: &Change) -> Vec<String> {
        let line = |row: &ForeseenRow| match row.object.strip_prefix("/m/v-01-") {
            Some(_) => format!("FILE: {}", row.text),
            None => format!("{}: {}", row.object, row.text),
        };
        foreseen(before, change).iter().map(line).collect()
    }

    #[test]
    fn what_is_made_tells_which_disk_is_overwritten() {
        let before = empty();
        assert_eq!(
            lines(&before, &make(&before)),
            [
                "v: is made, 4 MiB, 2 copies of it",
                "FILE: a file is made, 6 MiB",
                "/dev/sdb: its first 6 MiB are overwritten",
            ]
        );
    }

    #[test]
    fn what_is_adopted_tells_what_is_there_how_long_it_becomes_and_where_labels_go() {
        const MIB: u64 = 1 << 20;
        let (volume, path) = (Name::new("v").unwrap(), MediumPath::new("/srv/image").unwrap());
        let told = |has, needed, length, content| {
            let adoption = Adoption { has, needed, length, content, label_file: None };
            let rows = adopted(&volume, &path, &adoption);
            rows.into_iter().map(|row| format!("{}: {}", row.object, row.text)).collect::<Vec<_>>()
        };
        assert_eq!(
            told(80 * MIB, 82 * MIB, 80 * MIB, Content::Xfs { bytes: 80 * MIB }),
            [
                "v: is made of the first 80 MiB (83886080 bytes) of /srv/image, as they are: no data is copied",
                "/srv/image: holds XFS, 80 MiB (83886080 bytes) of it",
                "/srv/image: becomes longer by 2 MiB (2097152 bytes), and has 82 MiB (85983232 bytes) then",
                "/srv/image: labels are written behind the volume, from byte 83886080 on and from byte 84934656 on, 1 MiB each",
            ]
        );
        assert_eq!(
            told(80 * MIB, 80 * MIB, 64 * MIB, Content::Unknown)[1..],
            [
                "/srv/image: holds nothing that is known",
                "/srv/image: labels are written behind the volume, from byte 67108864 on and from byte 82837504 on, 1 MiB \
                 each, over what stands there now",
            ]
        );
        assert!(told(MIB, 3 * MIB, MIB, Content::Other("LUKS"))[1].ends_with("holds LUKS"));
    }

    #[test]
    fn what_is_removed_tells_which_file_goes_and_which_disk_stays() {
        let before = stopped();
        let args = RemoveArgs { volume: "v", recursive: true, force: false, holders: &[] };
        let change = change::remove_volume(&before, &args, &mut ids()).unwrap();
        assert_eq!(
            lines(&before, &change),
            [
                "v: goes, with v-01, v-02",
                "FILE: the file is removed, 6 MiB",
                "/dev/sdb: stays, without Cleave's labels",
            ]
        );
        let released = change::release_volume(&before, &Name::new("v").unwrap(), &mut ids()).unwrap();
        let told = lines(&before, &released);
        assert!(told.contains(&"FILE: stays, as a plain image of the volume".to_owned()), "{told:?}");
    }

    #[test]
    fn a_plex_that_goes_or_changes_is_told_of() {
        let stopped = stopped();
        let here: Vec<_> =
            stopped.volumes()[0].plexes().iter().map(|plex| (plex.uuid(), Presence::Present(None))).collect();
        let args = StartArgs { volume: "v", media: &here, source: None, unix_s: 0 };
        let runs = change::start(&stopped, &args, &mut ids()).unwrap().group;
        let change = change::remove_plex(&runs, "v", "v-02", &mut ids()).unwrap();
        assert_eq!(lines(&runs, &change), ["v-02: goes from v", "/dev/sdb: stays, without Cleave's labels"]);
        let change = change::convert_plex(&runs, "v", "v-02", &mut ids()).unwrap();
        assert_eq!(lines(&runs, &change), ["v-02: is SNAPDONE then, and is ACTIVE now"]);
        assert_eq!(lines(&runs, &change::nothing(&runs)), Vec::<String>::new());
    }
}
