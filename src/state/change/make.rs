//! Groups and volumes come to be.

use super::super::group::{Birth, Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::medium::{MediumKind, MediumPath, PlexMedium, PoolMedium};
use super::super::plex::PlexEvent;
use super::super::refuse;
use super::super::volume::VolumeEvent;
use super::{Change, Draft, Effect, Route, plex_name};
use crate::base::limits::MAX_PLEXES;
use crate::base::{Name, Refused, RegionSize, Uuid};

/// Where a new plex shall lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Site {
    /// In a new file below a directory; Cleave names it.
    Below {
        /// The directory.
        directory: MediumPath,
        /// Whether its space is taken only as it is written.
        sparse: bool,
    },
    /// In a new file of this path.
    NewFile {
        /// The file, which does not exist.
        path: MediumPath,
        /// Whether its space is taken only as it is written.
        sparse: bool,
    },
    /// In a file that exists; its content is kept where it is the first of a new volume.
    File {
        /// The file.
        path: MediumPath,
        /// Its size in bytes.
        bytes: u64,
    },
    /// On a block device.
    Block {
        /// The device.
        path: MediumPath,
        /// Its size in bytes.
        bytes: u64,
    },
    /// In a file or on a block device that has no room for labels.
    Apart {
        /// The file or device.
        path: MediumPath,
        /// Whether it is a block device.
        block: bool,
        /// Its size in bytes.
        bytes: u64,
        /// The file that is to be made for the labels.
        label_file: MediumPath,
    },
}

impl Site {
    /// The medium of the plex `name`, whose identity is `uuid`.
    fn medium(&self, name: &Name, uuid: Uuid) -> Result<PlexMedium, Refused> {
        let mut apart = None;
        let (path, kind, sparse) = match self {
            Self::Below { directory, sparse } => {
                // Part of the identity keeps plexes of several groups apart in one directory, and a forgotten file of
                // the same volume name out of the way.
                let tag = &uuid.to_string()[..8];
                (directory.join(&format!("{name}-{tag}.img"))?, MediumKind::Made, *sparse)
            }
            Self::NewFile { path, sparse } => (path.clone(), MediumKind::Made, *sparse),
            Self::File { path, .. } => (path.clone(), MediumKind::Foreign, false),
            Self::Block { path, .. } => (path.clone(), MediumKind::Block, false),
            Self::Apart { path, block, label_file, .. } => {
                apart = Some(label_file.clone());
                (path.clone(), if *block { MediumKind::Block } else { MediumKind::Foreign }, false)
            }
        };
        Ok(PlexMedium { path, kind, sparse, label_file: apart })
    }

    /// The size in bytes of what is there already.
    const fn present_bytes(&self) -> Option<u64> {
        match self {
            Self::Below { .. } | Self::NewFile { .. } => None,
            Self::File { bytes, .. } | Self::Block { bytes, .. } | Self::Apart { bytes, .. } => Some(*bytes),
        }
    }
}

/// What a medium turned out to be once it was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Made {
    /// The plex that lies on it.
    pub plex: Uuid,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its logical block size in bytes.
    pub block_size: u32,
    /// The alignment that it needs of buffers in memory, in bytes.
    pub memory_alignment: u32,
}

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct MakeArgs<'a> {
    /// Its name as typed.
    pub name: &'a str,
    /// Its length in bytes.
    pub length: u64,
    /// The unit of its change maps; by default chosen from the length.
    pub region_size: Option<RegionSize>,
    /// One site for each plex.
    pub sites: &'a [Site],
}

/// A new group without volumes.
///
/// # Errors
/// `name.*`; `medium.twice`; `medium.name-taken`.
pub fn create_group(name: &str, media: &[PoolMedium], ids: &mut Ids) -> Result<Group, Refused> {
    let mut group = Group {
        name: refuse::parse_name("group", name)?,
        uuid: ids.uuid(),
        media: Vec::new(),
        volumes: Vec::new(),
        leaving: Vec::new(),
        exported: false,
    };
    for medium in media {
        group = add_medium(&group, medium.clone())?.group;
    }
    Ok(group)
}

/// One more medium on which plexes may be put.
///
/// # Errors
/// `medium.twice` when the group has it already; `medium.name-taken` when another one bears its name.
pub fn add_medium(group: &Group, medium: PoolMedium) -> Result<Change, Refused> {
    if group.media.iter().any(|other| other.path == medium.path) {
        return Err(refuse::medium_twice(&medium.path));
    }
    if let Some(name) = &medium.name
        && group.media.iter().any(|other| other.name.as_ref() == Some(name))
    {
        return Err(refuse::medium_name_taken(name, &group.name));
    }
    let mut group = group.clone();
    group.media.push(medium);
    group.check()?;
    Ok(Change { group, before_commit: Vec::new(), after_commit: Vec::new() })
}

/// Whether the group may be removed: only an empty one.
///
/// # Errors
/// `group.not-empty`; `group.leaving`: nothing else remembers what is still to be removed.
pub fn destroy_group(group: &Group) -> Result<(), Refused> {
    if !group.volumes.is_empty() {
        return Err(refuse::group_not_empty(&group.name, group.volumes.len()));
    }
    match group.leaving.first() {
        None => Ok(()),
        Some(left) => Err(refuse::group_leaving(&group.name, &left.medium.path)),
    }
}

/// A new volume in state EMPTY, whose media are to be made; [`finish_make`] follows, or `abandon_make`.
///
/// # Errors
/// `name.*`, `volume.exists`, `size.*`, `plex.none`, `plex.too-many`, `plex.too-small`, `medium.twice`, `medium.in-use`.
pub fn make_volume(group: &Group, args: &MakeArgs, ids: &mut Ids) -> Result<Change, Refused> {
    let name = refuse::parse_name("volume", args.name)?;
    if group.is_taken(args.name) {
        return Err(refuse::name_taken(&name, &group.name));
    }
    refuse::check_length(args.length)?;
    if args.sites.is_empty() {
        return Err(refuse::no_plexes(&name));
    }
    let mut draft = Draft::new(group, ids);
    let uuid = draft.ids.uuid();
    let region_size = args.region_size.unwrap_or_else(|| RegionSize::for_volume(args.length));
    draft.group.volumes.push(Volume::new(name, uuid, args.length, region_size));
    draft.add_plexes(uuid, args.sites, Birth::WithVolume)?;
    draft.finish()
}

/// The media of an EMPTY volume are there: it becomes CLEAN, with block size and alignment fixed for its life.
///
/// Files that Cleave made read as zero and are equal. Where a foreign file or a block device is among the media, the
/// first of those holds what counts, and every other plex becomes STALE until it is copied; unless all are `equal`, because
/// they were zeroed or because a person says so.
///
/// # Errors
/// `plex.too-small` and `plex.block-size` (a block size above the page, or one that does not divide the length);
/// `volume.gone`, `plex.gone` when the volume was removed meanwhile.
pub fn finish_make(
    group: &Group,
    volume: Uuid,
    made: &[Made],
    equal: bool,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let mut draft = Draft::new(group, ids);
    let record = draft.volume(volume)?;
    record.step(VolumeEvent::Initialise)?;
    let length = record.length;
    for facts in made {
        let plex = record.plex_by_id(facts.plex).ok_or_else(|| refuse::plex_gone(facts.plex))?;
        check_medium(plex, facts, length, &record.name)?;
        record.block_size = record.block_size.max(facts.block_size);
        record.memory_alignment = record.memory_alignment.max(facts.memory_alignment);
    }
    let generation = record.plexes.first().map(|plex| plex.generation);
    let foreign = |plex: &Plex| !equal && plex.medium.kind != MediumKind::Made;
    let source = record.plexes.iter().position(foreign);
    let plexes: Vec<_> = record.plexes.iter().map(|plex| plex.uuid).collect();
    for (at, plex) in plexes.iter().enumerate() {
        let event = if source.is_none_or(|source| source == at) {
            PlexEvent::Initialise
        } else {
            PlexEvent::Associate
        };
        draft.step(volume, *plex, event, Route::Whole)?;
    }
    for plex in &mut draft.volume(volume)?.plexes {
        if let (true, Some(generation)) = (plex.state().is_complete(), generation) {
            plex.generation = generation;
        }
    }
    draft.before.insert(0, Effect::CreateIntent { volume, length });
    draft.finish()
}

/// Whether a medium that was made can carry a plex of a volume of `length` bytes.
pub(super) fn check_medium(plex: &Plex, made: &Made, length: u64, volume: &Name) -> Result<(), Refused> {
    let need = plex.medium.needed_bytes(length);
    if made.bytes < need {
        return Err(refuse::plex_too_small(&plex.medium.path, made.bytes, need, volume));
    }
    let page = crate::base::limits::PAGE_BYTES as u32;
    if made.block_size > page {
        return Err(refuse::plex_block_size(&plex.medium.path, "block size", made.block_size, page, volume));
    }
    Ok(())
}

impl Draft<'_> {
    /// Add plexes at `sites` to a volume, as records whose media are to be made.
    pub(super) fn add_plexes(
        &mut self,
        volume: Uuid,
        sites: &[Site],
        birth: Birth,
    ) -> Result<Vec<Uuid>, Refused> {
        let mut added = Vec::new();
        for site in sites {
            let record = self.volume(volume)?;
            let (owner, length) = (record.name.clone(), record.length);
            let count = record.plexes.len() + 1;
            if count > MAX_PLEXES {
                return Err(refuse::too_many_plexes(&owner, count));
            }
            let name = plex_name(&self.group, &owner)?;
            let (uuid, generation) = (self.ids.uuid(), self.ids.generation());
            let medium = site.medium(&name, uuid)?;
            let bytes = medium.needed_bytes(length);
            if let Some(have) = site.present_bytes().filter(|have| *have < bytes) {
                return Err(refuse::plex_too_small(&medium.path, have, bytes, &owner));
            }
            let mut plexes = self.group.volumes.iter().flat_map(|v| v.plexes.iter());
            if let Some(other) = plexes.find(|other| other.medium.path == medium.path) {
                return Err(if added.contains(&other.uuid) {
                    refuse::medium_twice(&medium.path)
                } else {
                    refuse::medium_in_use(&medium.path, &other.name)
                });
            }
            self.after.push(Effect::Allocate { volume, plex: uuid, medium: medium.clone(), bytes });
            self.volume(volume)?.plexes.push(Plex::new(name, uuid, medium, birth, generation));
            added.push(uuid);
        }
        Ok(added)
    }
}
