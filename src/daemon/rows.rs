//! What clients are shown of the model: records and live facts to rows, one word of the model to one word of the wire.
//!
//! Pure: the live facts are handed in. Where a number of regions is not known it is the greatest that it can be, as
//! everywhere with change maps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::links;
use crate::base::limits::MAX_NAME_BYTES;
use crate::base::{Kind, Name, Refusal, Refused, Uuid};
use crate::control::request::ReadFrom;
use crate::control::row::{GroupRow, MediumRow, PlexRow, ScrubResultRow, ScrubRow, SnapshotOf, VolumeRow};
use crate::control::words;
use crate::export::ublk::DataMode;
use crate::state::place::Room;
use crate::state::{self, Group, MediumPath, Plex, Volume};

/// What is known of a volume beyond its record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LiveFacts {
    /// N of its `/dev/ublkbN` while it is started.
    pub device: Option<u32>,
    /// How data travel, as read back from the device.
    pub data_path: Option<words::DataPath>,
    /// Queues that the device has.
    pub queues: Option<u16>,
    /// Set bits of the maps that are in memory, by map.
    pub dirty_regions: HashMap<Uuid, u64>,
    /// Things the administrator should know.
    pub notes: Vec<String>,
}

impl LiveFacts {
    fn dirty(&self, map: Uuid, regions: u64) -> u64 {
        self.dirty_regions.get(&map).copied().unwrap_or(regions).min(regions)
    }
}

/// The row of a group whose state lies in `directory`, at `generation` of its configuration.
#[must_use]
pub fn group(group: &Group, directory: &Path, generation: u64) -> GroupRow {
    GroupRow {
        group: group.name().clone(),
        uuid: group.uuid(),
        state_directory: directory.to_owned(),
        volumes: group.volumes().len() as u64,
        generation,
    }
}

/// The rows of a group's media, with what was found of them.
#[must_use]
pub fn media(group: &Group, rooms: &[(MediumPath, Room)]) -> Vec<MediumRow> {
    let names = medium_names(group);
    let row = |(medium, name): (&state::PoolMedium, Name)| {
        let room = rooms.iter().find(|(path, _)| *path == medium.path).map(|(_, room)| room);
        // A disk that carries a plex of ours is in use by us: nothing is free on it, and that is no fault of it.
        let carries = |plex: &Plex| plex.medium().path == medium.path;
        let taken = group.volumes().iter().flat_map(Volume::plexes).any(carries);
        let (length_bytes, free_bytes, online) = match room {
            Some(Room::Directory { free }) => (0, *free, true),
            Some(Room::Block { bytes }) => (*bytes, if taken { 0 } else { *bytes }, true),
            Some(Room::Used { bytes }) => (*bytes, 0, taken),
            Some(Room::ReadOnly) => (0, 0, false),
            Some(Room::Missing(_)) | None => (0, 0, taken),
        };
        MediumRow {
            group: group.name().clone(),
            medium: name,
            path: medium.path.as_path().to_owned(),
            length_bytes,
            free_bytes,
            online,
        }
    };
    group.media().iter().zip(names).map(row).collect()
}

/// The medium called `name` in `group`.
///
/// # Errors
/// `medium.unknown`.
pub fn medium_named(group: &Group, name: &Name) -> Result<MediumPath, Refused> {
    let position = medium_names(group).iter().position(|other| other == name);
    position.map(|at| group.media()[at].path.clone()).ok_or_else(|| {
        Refusal::new(
            Kind::NotFound,
            "medium.unknown",
            name,
            format!("not a medium of group {}", group.name()),
            "list the media with: cleave group list",
        )
    })
}

/// The names of a group's media, in their order: as given, else the last part of each path, numbered where it is given to
/// another or taken by one before.
fn medium_names(group: &Group) -> Vec<Name> {
    let given: Vec<&Name> = group.media().iter().filter_map(|medium| medium.name.as_ref()).collect();
    let mut names: Vec<Name> = Vec::with_capacity(group.media().len());
    for medium in group.media() {
        if let Some(name) = &medium.name {
            names.push(name.clone());
            continue;
        }
        let word =
            |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':') { c } else { '_' };
        let base: String = medium.path.file_name().chars().map(word).take(MAX_NAME_BYTES - 8).collect();
        // Reserved words and odd beginnings become names by what is put around them.
        let candidates = std::iter::once(base.clone()).chain((2..).map(|number| format!("_{base}-{number}")));
        let numbered = |text: String| {
            let plain =
                text.strip_prefix('_').filter(|_| text != base).and_then(|plain| Name::new(plain).ok());
            plain
                .or_else(|| Name::new(&text).ok())
                .filter(|name| !names.contains(name) && !given.contains(&name))
        };
        names.extend(candidates.filter_map(numbered).next());
    }
    names
}

/// The read policy that is asked for.
#[must_use]
pub fn read_policy(from: &ReadFrom) -> state::ReadPolicy {
    match from {
        ReadFrom::Round => state::ReadPolicy::Round,
        ReadFrom::Select => state::ReadPolicy::Select,
        ReadFrom::Prefer(plex) => state::ReadPolicy::Prefer(plex.clone()),
    }
}

/// The row of a volume; `record` is the group that it stands in, `group` that group's name.
#[must_use]
pub fn volume(group: &Name, record: &Group, volume: &Volume, facts: &LiveFacts) -> VolumeRow {
    let (policy, preferred) = match volume.read_policy() {
        state::ReadPolicy::Round => (words::ReadPolicy::Round, None),
        state::ReadPolicy::Select => (words::ReadPolicy::Select, None),
        state::ReadPolicy::Prefer(plex) => (words::ReadPolicy::Prefer, Some(plex.clone())),
    };
    let dev = Path::new("/dev");
    VolumeRow {
        group: group.clone(),
        volume: volume.name().clone(),
        uuid: volume.uuid(),
        kernel_state: kernel_state(volume.state().kernel()),
        state: volume_state(volume.state()),
        length_bytes: volume.length(),
        block_bytes: volume.block_size(),
        region_bytes: volume.region_size().bytes(),
        read_policy: policy,
        plex_timeout_s: volume.settings().plex_timeout_s,
        dirty_extents: volume.settings().dirty_extents,
        data: data_word(volume.settings().data),
        queues: volume.settings().queues,
        affinity: Box::new(volume.settings().affinity),
        autostart: volume.settings().autostart,
        preferred_plex: preferred,
        device: facts.device.map(|number| links::node(dev, number)),
        links: facts.device.map(|_| links::paths(dev, group, volume.name())).unwrap_or_default(),
        snapshot: snapshot_of(record, volume, facts),
        data_path: facts.data_path,
        device_queues: facts.queues,
        scrub: scrub(volume),
        notes: notes(volume).into_iter().chain(facts.notes.iter().cloned()).collect(),
    }
}

/// What there is to show of the scrubs of a volume.
fn scrub(volume: &Volume) -> Option<ScrubRow> {
    let kept = volume.scrub();
    let millis = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    let repair = |repair: state::Repair| match repair {
        state::Repair::Report => "report".to_owned(),
        state::Repair::Majority => "majority".to_owned(),
        state::Repair::Source(plex) => {
            volume.plex_by_id(plex).map_or_else(|| plex.to_string(), |plex| plex.name().to_string())
        }
    };
    (!kept.is_empty()).then(|| ScrubRow {
        every_s: kept.schedule.map(|schedule| schedule.every_s),
        hours: kept.schedule.and_then(|schedule| schedule.hours).map(|hours| (hours.from, hours.to)),
        repair: kept.schedule.map(|schedule| repair(schedule.repair)),
        position_bytes: kept.run.map(|run| run.tally.position),
        last: kept.last.map(|last| ScrubResultRow {
            began_ms: millis(last.began_unix_s),
            ended_ms: millis(last.ended_unix_s),
            plexes: last.plexes,
            differing_bytes: last.tally.differing_bytes,
            unreadable_bytes: last.tally.unreadable_bytes,
            repaired_bytes: last.tally.repaired_bytes,
        }),
    })
}

/// Where a snapshot volume comes from. What differs is what either side changed: at most the sum of both.
fn snapshot_of(record: &Group, volume: &Volume, facts: &LiveFacts) -> Option<SnapshotOf> {
    let (origin, link) = record.link_of(volume.uuid())?;
    let regions = origin.region_size().count(origin.length());
    let (source, own) = (facts.dirty(link.origin_map, regions), facts.dirty(link.snapshot_map, regions));
    Some(SnapshotOf {
        source: origin.name().clone(),
        taken_ms: u64::try_from(link.cut_unix_s).unwrap_or(0).saturating_mul(1000),
        grade: grade(link.grade),
        dirty_regions: source.saturating_add(own).min(regions),
        source_regions: source,
        own_regions: own,
    })
}

/// What the record itself has to tell the administrator.
fn notes(volume: &Volume) -> Vec<String> {
    let mut notes = Vec::new();
    if volume.is_intent_lost() {
        notes.push(
            "the intent map could not be written: after a crash the whole volume is resynced".to_owned(),
        );
    }
    if let Some(resync) = volume.resync() {
        let source = volume
            .plex_by_id(resync.source)
            .map_or_else(|| resync.source.to_string(), |plex| plex.name().to_string());
        notes.push(format!("until its plexes are equal again, plex {source} is the one that counts"));
    }
    if let Some(cut) = volume.prepared() {
        notes.push(format!("the cut of snapshot {} is under way", cut.name));
    }
    notes
}

/// The row of a plex of `volume`; `record` is the group that it stands in, `group` that group's name.
#[must_use]
pub fn plex(group: &Name, record: &Group, volume: &Volume, plex: &Plex, facts: &LiveFacts) -> PlexRow {
    let regions = volume.region_size().count(volume.length());
    PlexRow {
        group: group.clone(),
        volume: Some(volume.name().clone()),
        plex: plex.name().clone(),
        uuid: plex.uuid(),
        kernel_state: kernel_state(plex.kernel(volume.state().kernel())),
        state: plex_state(plex.state()),
        mode: plex_mode(plex.mode()),
        length_bytes: volume.length(),
        medium: medium_of(record, plex),
        path: plex.medium().path.as_path().to_owned(),
        label_file: plex.medium().label_file.as_ref().map(|file| file.as_path().to_owned()),
        sparse: plex.medium().sparse,
        dirty_regions: lacking(plex, regions, facts),
        fault: fault(plex),
    }
}

/// Regions that a plex lacks, or may lack.
fn lacking(plex: &Plex, regions: u64, facts: &LiveFacts) -> u64 {
    match plex.state() {
        state::PlexState::Clean | state::PlexState::Active | state::PlexState::SnapDone => 0,
        state::PlexState::Stale | state::PlexState::SnapAtt => {
            plex.map().map_or(regions, |map| facts.dirty(map, regions))
        }
        state::PlexState::Empty
        | state::PlexState::IoFail
        | state::PlexState::SnapTmp
        | state::PlexState::Temp
        | state::PlexState::Offline => regions,
    }
}

/// What the record tells of why a plex is out of step.
fn fault(plex: &Plex) -> Option<String> {
    match plex.state() {
        state::PlexState::IoFail => Some("it failed while what it misses could not be tracked".to_owned()),
        state::PlexState::Stale if !plex.is_attached() => {
            Some("it left the volume and misses writes".to_owned())
        }
        state::PlexState::Offline => Some("it was taken out by hand".to_owned()),
        state::PlexState::Stale
        | state::PlexState::Empty
        | state::PlexState::Clean
        | state::PlexState::Active
        | state::PlexState::SnapAtt
        | state::PlexState::SnapDone
        | state::PlexState::SnapTmp
        | state::PlexState::Temp => None,
    }
}

/// The medium of the pool that a plex lies on: the disk itself, or the directory of a file that Cleave made.
fn medium_of(record: &Group, plex: &Plex) -> Option<Name> {
    let path = plex.medium().path.as_path();
    let on: Option<PathBuf> = match plex.medium().kind {
        state::MediumKind::Made | state::MediumKind::Foreign | state::MediumKind::Image => {
            path.parent().map(Path::to_owned)
        }
        state::MediumKind::Block => Some(path.to_owned()),
    };
    let position = record.media().iter().position(|medium| Some(medium.path.as_path()) == on.as_deref())?;
    medium_names(record).into_iter().nth(position)
}

/// Whether a plex of this state wants the administrator's eye: its volume has fewer good copies than were asked for.
#[must_use]
pub fn is_degraded(plex: &Plex) -> bool {
    match plex.state() {
        state::PlexState::Stale | state::PlexState::IoFail | state::PlexState::Offline => true,
        state::PlexState::Empty
        | state::PlexState::Clean
        | state::PlexState::Active
        | state::PlexState::SnapAtt
        | state::PlexState::SnapDone
        | state::PlexState::SnapTmp
        | state::PlexState::Temp => false,
    }
}

/// The setting that a word stands for.
#[must_use]
pub const fn data_setting(word: words::DataPath) -> state::DataPath {
    match word {
        words::DataPath::Auto => state::DataPath::Auto,
        words::DataPath::Copy => state::DataPath::Copy,
        words::DataPath::Zero => state::DataPath::Zero,
    }
}

const fn data_word(setting: state::DataPath) -> words::DataPath {
    match setting {
        state::DataPath::Auto => words::DataPath::Auto,
        state::DataPath::Copy => words::DataPath::Copy,
        state::DataPath::Zero => words::DataPath::Zero,
    }
}

/// The word for how data travel.
#[must_use]
pub const fn data_path(mode: DataMode) -> words::DataPath {
    match mode {
        DataMode::Copy => words::DataPath::Copy,
        DataMode::Zero => words::DataPath::Zero,
    }
}

/// The grade of a snapshot.
#[must_use]
pub const fn grade(grade: state::Grade) -> words::Grade {
    match grade {
        state::Grade::Crash => words::Grade::Crash,
        state::Grade::Fs => words::Grade::Fs,
        state::Grade::App => words::Grade::App,
    }
}

/// The state of a volume.
#[must_use]
pub const fn volume_state(state: state::VolumeState) -> words::VolumeState {
    match state {
        state::VolumeState::Empty => words::VolumeState::Empty,
        state::VolumeState::Clean => words::VolumeState::Clean,
        state::VolumeState::Active => words::VolumeState::Active,
        state::VolumeState::NeedSync => words::VolumeState::NeedSync,
        state::VolumeState::Sync => words::VolumeState::Sync,
    }
}

/// The state of a plex.
#[must_use]
pub const fn plex_state(state: state::PlexState) -> words::PlexState {
    match state {
        state::PlexState::Empty => words::PlexState::Empty,
        state::PlexState::Clean => words::PlexState::Clean,
        state::PlexState::Active => words::PlexState::Active,
        state::PlexState::Stale => words::PlexState::Stale,
        state::PlexState::IoFail => words::PlexState::Iofail,
        state::PlexState::SnapAtt => words::PlexState::Snapatt,
        state::PlexState::SnapDone => words::PlexState::Snapdone,
        state::PlexState::SnapTmp => words::PlexState::Snaptmp,
        state::PlexState::Temp => words::PlexState::Temp,
        state::PlexState::Offline => words::PlexState::Offline,
    }
}

/// The mode of a plex.
#[must_use]
pub const fn plex_mode(mode: state::PlexMode) -> words::PlexMode {
    match mode {
        state::PlexMode::RW => words::PlexMode::ReadWrite,
        state::PlexMode::WO => words::PlexMode::WriteOnly,
        state::PlexMode::RO => words::PlexMode::ReadOnly,
    }
}

/// VxVM's kernel state.
#[must_use]
pub const fn kernel_state(state: state::KernelState) -> words::KernelState {
    match state {
        state::KernelState::Enabled => words::KernelState::Enabled,
        state::KernelState::Detached => words::KernelState::Detached,
        state::KernelState::Disabled => words::KernelState::Disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::change::{
        CutFacts, CutTarget, Made, MakeArgs, Presence, Site, StartArgs, add_plexes, commit_cut, create_group,
        finish_make, make_volume, plex_ready, prepare_cut, snapstart, start, synced_plex,
    };
    use crate::state::{Ids, PoolMedium};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn path(text: &str) -> MediumPath {
        MediumPath::new(text).unwrap()
    }

    #[test]
    fn every_word_of_the_model_is_the_same_word_on_the_wire() {
        for state in state::PlexState::ALL {
            assert_eq!(plex_state(state).word(), state.word());
            assert_eq!(plex_mode(state.mode()).word(), state.mode().to_string());
        }
        for state in state::VolumeState::ALL {
            assert_eq!(volume_state(state).word(), state.word());
            assert_eq!(kernel_state(state.kernel()).word(), state.kernel().to_string());
        }
        for model in [state::Grade::Crash, state::Grade::Fs, state::Grade::App] {
            assert_eq!(grade(model).word(), model.to_string());
        }
        let modes = [DataMode::Copy, DataMode::Zero].map(data_path);
        assert_eq!(modes, [words::DataPath::Copy, words::DataPath::Zero]);
        for word in words::DataPath::ALL {
            assert_eq!(data_word(data_setting(*word)), *word);
        }
    }

    #[test]
    fn media_have_distinct_names_whatever_their_paths_are() {
        let paths = ["/a/disk", "/b/disk", "/c/disk", "/srv/media", "/d/a b", "/e/-x", "/dev/sdb"];
        let media: Vec<_> = paths
            .map(|text| PoolMedium { path: path(text), block: text.starts_with("/dev"), name: None })
            .into();
        let group = create_group("dg", &media, &mut Ids::from_seed([1; 32])).unwrap();
        let names: Vec<_> = medium_names(&group).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["disk", "disk-2", "disk-3", "media-2", "a_b", "_-x-2", "sdb"]);
        for (name, text) in medium_names(&group).iter().zip(paths) {
            assert_eq!(medium_named(&group, name).unwrap(), path(text));
        }
        assert_eq!(
            medium_named(&group, &name("sdc")).unwrap_err().to_string(),
            "sdc: not a medium of group dg; list the media with: cleave group list"
        );
        let rooms = [
            (path("/a/disk"), Room::Directory { free: 5 }),
            (path("/b/disk"), Room::ReadOnly),
            (path("/c/disk"), Room::Missing("gone".to_owned())),
            (path("/dev/sdb"), Room::Block { bytes: 9 }),
        ];
        let used = [(path("/dev/sdb"), Room::Used { bytes: 9 })];
        assert_eq!(media_facts(&super::media(&group, &used)).last(), Some(&(9, 0, false)), "by others");
        let rows: Vec<_> = media_facts(&super::media(&group, &rooms));
        let none = (0, 0, false);
        assert_eq!(rows, [(0, 5, true), none, none, none, none, none, (9, 9, true)]);
    }

    #[test]
    fn a_medium_is_called_as_it_was_named() {
        let medium =
            |text, given: Option<&str>| PoolMedium { path: path(text), block: false, name: given.map(name) };
        let media = [medium("/a/m1", None), medium("/b/x", Some("m1")), medium("/c/x", None)];
        let group = create_group("dg", &media, &mut Ids::from_seed([1; 32])).unwrap();
        let names: Vec<_> = medium_names(&group).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["m1-2", "m1", "x"]);
        assert_eq!(medium_named(&group, &name("m1")).unwrap(), path("/b/x"));
        let twice = [medium("/a", Some("m")), medium("/b", Some("m"))];
        let refused = create_group("dg", &twice, &mut Ids::from_seed([1; 32])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "m: a medium of this name exists in group dg; give each medium a name of its own"
        );
    }

    fn media_facts(rows: &[MediumRow]) -> Vec<(u64, u64, bool)> {
        rows.iter().map(|row| (row.length_bytes, row.free_bytes, row.online)).collect()
    }

    /// A started volume `v` of 64 regions in group `default`, with a plex, a snapshot mirror in step, and the seed of more.
    fn started(ids: &mut Ids) -> Group {
        let media = [
            PoolMedium { path: path("/m"), block: false, name: None },
            PoolMedium { path: path("/dev/sdb"), block: true, name: None },
        ];
        let group = create_group("default", &media, ids).unwrap();
        let sites = [Site::Below { directory: path("/m"), sparse: true }];
        let args = MakeArgs { name: "v", length: 4 << 20, region_size: None, sites: &sites };
        let group = make_volume(&group, &args, ids).unwrap().group;
        let made =
            |plex: &Plex| Made { plex: plex.uuid(), bytes: 1 << 30, block_size: 4096, memory_alignment: 512 };
        let volume = &group.volumes()[0];
        let group =
            finish_make(&group, volume.uuid(), &[made(&volume.plexes()[0])], false, ids).unwrap().group;
        let here = [(group.volumes()[0].plexes()[0].uuid(), Presence::Present(None))];
        let args = StartArgs { volume: "v", media: &here, source: None, unix_s: 0 };
        let group = start(&group, &args, ids).unwrap().group;
        let disk = [Site::Block { path: path("/dev/sdb"), bytes: 1 << 30 }];
        let group = snapstart(&group, "v", &disk, ids).unwrap().group;
        plex_ready(&group, &made(&group.volumes()[0].plexes()[1]), ids).unwrap().group
    }

    #[test]
    fn rows_show_records_with_their_live_facts() {
        let ids = &mut Ids::from_seed([2; 32]);
        let record = started(ids);
        let v = &record.volumes()[0];
        let mirror = &v.plexes()[1];
        let mut facts = LiveFacts {
            device: Some(7),
            data_path: Some(words::DataPath::Copy),
            queues: Some(2),
            dirty_regions: HashMap::from([(mirror.map().unwrap(), 12)]),
            notes: vec!["waits".to_owned()],
        };
        let row = super::volume(record.name(), &record, v, &facts);
        assert_eq!((row.state, row.kernel_state), (words::VolumeState::Active, words::KernelState::Enabled));
        assert_eq!((row.length_bytes, row.block_bytes, row.region_bytes), (4 << 20, 4096, 64 << 10));
        assert_eq!(row.device, Some(PathBuf::from("/dev/ublkb7")));
        assert_eq!((row.links.len(), row.links[0].to_str()), (5, Some("/dev/cleave/default/v")));
        assert_eq!(
            (row.snapshot, row.notes, row.data_path),
            (None, vec!["waits".to_owned()], Some(words::DataPath::Copy))
        );

        let first = super::plex(record.name(), &record, v, &v.plexes()[0], &facts);
        assert_eq!((first.state, first.mode), (words::PlexState::Active, words::PlexMode::ReadWrite));
        assert_eq!((first.medium, first.sparse, first.dirty_regions), (Some(name("m")), true, 0));
        let row = super::plex(record.name(), &record, v, mirror, &facts);
        assert_eq!(
            (row.state, row.mode, row.kernel_state),
            (words::PlexState::Snapatt, words::PlexMode::WriteOnly, words::KernelState::Enabled)
        );
        assert_eq!((row.medium, row.dirty_regions, row.fault), (Some(name("sdb")), 12, None));
        facts.dirty_regions.clear();
        // A map that is not in memory may have every bit.
        assert_eq!(super::plex(record.name(), &record, v, mirror, &facts).dirty_regions, 64);

        let rooms = [(path("/dev/sdb"), Room::Used { bytes: 1 << 30 })];
        assert_eq!(media_facts(&super::media(&record, &rooms)), [(0, 0, false), (1 << 30, 0, true)]);
        let row = super::group(&record, Path::new("/var/lib/cleave/default"), 4);
        assert_eq!((row.volumes, row.generation, row.uuid), (1, 4, record.uuid()));
    }

    #[test]
    fn a_snapshot_tells_where_it_comes_from() {
        let ids = &mut Ids::from_seed([3; 32]);
        let before = started(ids);
        let mirror = before.volumes()[0].plexes()[1].uuid();
        let in_step = synced_plex(&before, mirror, ids).unwrap().group;
        let target = CutTarget { volume: "v", name: None, mirrors: 1 };
        let (set, prepared) = prepare_cut(&in_step, &[target], ids).unwrap();
        let v = &prepared.group.volumes()[0];
        let row = super::volume(&name("default"), &prepared.group, v, &LiveFacts::default());
        assert_eq!(row.notes, ["the cut of snapshot SNAP-v is under way"]);
        assert_eq!((row.device, row.links.len()), (None, 0));
        let cut = CutFacts {
            volume: v.uuid(),
            grade: state::Grade::Fs,
            cut_unix_s: 1_700_000_000,
            hold_ns: 1,
            frozen_ns: 2,
        };
        let after = commit_cut(&prepared.group, set, &[cut], ids).unwrap().group;

        let snapshot = after.volume("SNAP-v").unwrap();
        let link = after.link_of(snapshot.uuid()).unwrap().1;
        let shown = |origin: u64, copy: u64| {
            let dirty_regions = HashMap::from([(link.origin_map, origin), (link.snapshot_map, copy)]);
            let facts = LiveFacts { dirty_regions, ..LiveFacts::default() };
            super::volume(&name("default"), &after, snapshot, &facts).snapshot.unwrap()
        };
        let of = shown(3, 4);
        assert_eq!(
            (of.source, of.taken_ms, of.grade, of.dirty_regions),
            (name("v"), 1_700_000_000_000, words::Grade::Fs, 7)
        );
        assert_eq!((of.source_regions, of.own_regions), (3, 4));
        assert_eq!(shown(60, 60).dirty_regions, 64);
    }

    #[test]
    fn only_plexes_out_of_step_are_degraded() {
        let ids = &mut Ids::from_seed([4; 32]);
        let record = started(ids);
        let sites = [Site::Below { directory: path("/m"), sparse: false }];
        let record = add_plexes(&record, "v", &sites, ids).unwrap().group;
        let third = record.volumes()[0].plexes()[2].uuid();
        let made = Made { plex: third, bytes: 1 << 30, block_size: 4096, memory_alignment: 512 };
        assert!(!is_degraded(record.volumes()[0].plex_by_id(third).unwrap()));
        let record = plex_ready(&record, &made, ids).unwrap().group;
        let degraded: Vec<_> = record.volumes()[0].plexes().iter().map(is_degraded).collect();
        assert_eq!(degraded, [false, false, true]);
    }
}
