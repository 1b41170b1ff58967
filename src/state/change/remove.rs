//! Volumes go, and relations between volumes end.

use super::super::group::{Group, Volume};
use super::super::ids::Ids;
use super::super::medium::MediumKind;
use super::super::plex::{PlexEvent, PlexState};
use super::super::refuse;
use super::super::volume::VolumeState;
use super::{Change, Draft, Effect, Route, idle_volume};
use crate::base::{Kind, Name, Refused, Uuid};

/// A removal to be made.
#[derive(Clone, Copy, Debug)]
pub struct RemoveArgs<'a> {
    /// The volume as typed.
    pub volume: &'a str,
    /// Take its plexes with it (`-r`).
    pub recursive: bool,
    /// Also if it is started, or the origin of snapshots (`-f`).
    pub force: bool,
    /// Who has its device open; no flag removes an open volume.
    pub holders: &'a [String],
}

/// The volume is removed with its plexes, their space and its maps. Forced on the origin of snapshots, it leaves them as
/// independent volumes: they are full copies.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.open`, `volume.has-plexes`, `volume.started`, `volume.has-snapshots`.
pub fn remove_volume(group: &Group, args: &RemoveArgs, ids: &mut Ids) -> Result<Change, Refused> {
    let volume = idle_volume(group, args.volume)?;
    if !args.holders.is_empty() {
        return Err(refuse::volume_open(&volume.name, args.holders));
    }
    if !args.recursive {
        return Err(refuse::volume_not_recursive(&volume.name, volume.plexes.len()));
    }
    if !args.force && volume.state().is_started() {
        return Err(refuse::volume_force(&volume.name));
    }
    if !args.force && !volume.snapshots.is_empty() {
        return Err(refuse::volume_has_snapshots(&volume.name, &group.snapshot_names(volume)));
    }
    let mut draft = Draft::new(group, ids);
    draft.drop_volume(volume.uuid)?;
    draft.finish()
}

/// The stopped volume called `name` is given up. Its plexes, which all must be complete, stay where they are, those in files that
/// Cleave made too: only the labels behind them go.
///
/// # Errors
/// `volume.unknown`, `volume.busy`; `release.started`, `release.unclean`; `release.related`;
/// `release.plex`; `release.undo`.
pub fn release_volume(group: &Group, name: &Name, ids: &mut Ids) -> Result<Change, Refused> {
    let volume = idle_volume(group, name.as_str())?;
    match volume.state() {
        VolumeState::Clean => {}
        VolumeState::Active | VolumeState::Sync => return Err(refuse::release_started(name)),
        VolumeState::NeedSync | VolumeState::Empty => return Err(refuse::release_unclean(name)),
    }
    if !volume.snapshots.is_empty() {
        return Err(refuse::volume_related(
            Kind::InvalidState,
            "release.related",
            name,
            &group.snapshot_names(volume),
        ));
    }
    if volume.origin.is_some() {
        return Err(refuse::volume_related(Kind::InvalidState, "release.related", name, &[name]));
    }
    if let Some(undo) = volume.undos.first() {
        return Err(refuse::release_undo(name, &undo.archive.short_id()));
    }
    if let Some(plex) = volume.plexes.iter().find(|plex| plex.state() != PlexState::Clean) {
        return Err(refuse::release_plex(name, plex));
    }
    let uuid = volume.uuid;
    let mut draft = Draft::new(group, ids);
    for plex in &mut draft.volume(uuid)?.plexes {
        match plex.medium.kind {
            MediumKind::Made | MediumKind::Foreign if plex.medium.label_file.is_none() => {
                plex.medium.kind = MediumKind::Image;
            }
            MediumKind::Made | MediumKind::Foreign | MediumKind::Image | MediumKind::Block => {}
        }
    }
    draft.drop_volume(uuid)?;
    draft.finish()
}

/// A volume whose making failed is removed with what was made of it.
///
/// # Errors
/// `volume.gone`; `volume.started` or `volume.has-plexes` when it was made after all.
pub fn abandon_make(group: &Group, volume: Uuid, ids: &mut Ids) -> Result<Change, Refused> {
    let record = group.volume_by_id(volume).ok_or_else(|| refuse::volume_gone(volume))?;
    if record.state() != VolumeState::Empty {
        return Err(refuse::volume_not_recursive(&record.name, record.plexes.len()));
    }
    let mut draft = Draft::new(group, ids);
    draft.drop_volume(volume)?;
    draft.finish()
}

/// The media of `plexes`, which were given up, are freed, or there is nothing to free any more.
///
/// # Errors
/// None that a sound group can cause.
pub fn released(group: &Group, plexes: &[Uuid]) -> Result<Change, Refused> {
    let mut group = group.clone();
    group.leaving.retain(|leaving| !plexes.contains(&leaving.plex));
    group.check()?;
    Ok(Change { group, before_commit: Vec::new(), after_commit: Vec::new() })
}

/// The relation of a snapshot volume to its origin ends: no more tracking, both are independent.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `snapshot.not-a-snapshot`.
pub fn snapclear(group: &Group, snapshot: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = idle_volume(group, snapshot)?;
    if record.origin.is_none() {
        return Err(refuse::not_a_snapshot(&record.name));
    }
    let mut draft = Draft::new(group, ids);
    draft.cut_link(record.uuid)?;
    draft.finish()
}

impl Group {
    /// The names of the snapshot volumes of `origin`.
    pub(super) fn snapshot_names(&self, origin: &Volume) -> Vec<&Name> {
        origin.snapshots.iter().filter_map(|link| self.volume_by_id(link.volume)).map(Volume::name).collect()
    }
}

impl Draft<'_> {
    /// Remove a volume with all that is its own.
    pub(super) fn drop_volume(&mut self, uuid: Uuid) -> Result<(), Refused> {
        self.roll_back(uuid, false)?;
        let volume = self.volume(uuid)?;
        let (started, made, number) =
            (volume.state().is_started(), volume.state() != VolumeState::Empty, volume.device);
        let plexes: Vec<_> = volume.plexes.iter().map(|plex| plex.uuid).collect();
        let snapshots: Vec<_> = volume.snapshots.iter().map(|link| link.volume).collect();
        if started {
            self.before.push(Effect::StopDevice { volume: uuid, number });
        }
        for snapshot in snapshots {
            self.cut_link(snapshot)?;
        }
        self.cut_link(uuid)?;
        let undos: Vec<_> = self.volume(uuid)?.undos.iter().map(|undo| undo.archive.id).collect();
        for undo in undos {
            self.forget_undo(uuid, undo)?;
        }
        for plex in plexes {
            self.step(uuid, plex, PlexEvent::Remove, Route::Whole)?;
        }
        if made {
            self.after.push(Effect::RemoveIntent { volume: uuid });
        }
        self.group.volumes.retain(|volume| volume.uuid != uuid);
        self.parted.remove(&uuid);
        Ok(())
    }

    /// End the relation of `snapshot` to its origin, if it has one.
    fn cut_link(&mut self, snapshot: Uuid) -> Result<(), Refused> {
        let Some((origin, link)) = self.group.link_of(snapshot) else { return Ok(()) };
        let (origin, maps) = (origin.uuid, [link.origin_map, link.snapshot_map]);
        self.volume(origin)?.snapshots.retain(|link| link.volume != snapshot);
        self.volume(snapshot)?.origin = None;
        self.after.extend(maps.map(|map| Effect::RemoveMap { map }));
        Ok(())
    }
}
