//! A volume is overwritten from one of its snapshots, or from an undo archive, step by step.

use super::super::group::{Group, Volume};
use super::super::ids::Ids;
use super::super::refuse;
use super::super::restore::{Archive, MAX_UNDOS, Restore, RestorePhase, Undo};
use super::super::volume::VolumeState;
use super::snapback::{SnapbackArgs, is_stopped, returnable};
use super::{Change, Draft, Effect, MapFill, edit, started_volume};
use crate::base::{Refused, Uuid};

/// A restore to be begun.
#[derive(Clone, Copy, Debug)]
pub struct RestoreArgs<'a> {
    /// The snapshot volume, as for a snapback: what of it goes back when the restore is done. No plex goes back for 0, and
    /// the snapshot volume stays.
    pub snapshot: SnapbackArgs<'a>,
    /// Who has the device of the volume itself open.
    pub holders: &'a [String],
    /// The undo archive to be made; none when the way back is given up.
    pub archive: Option<&'a Archive>,
}

/// A restore begins: the volume says so durably before anything of it is overwritten. Without an undo archive it may be
/// overwritten at once, else when [`restore_saved`] says so. Every other verb on both volumes is refused until it ends.
///
/// # Errors
/// As [`super::snapback`], but for the number of plexes; `volume.open` for the volume itself; `undo.too-many`.
pub fn begin_restore(group: &Group, args: &RestoreArgs) -> Result<Change, Refused> {
    let found = returnable(group, &args.snapshot)?;
    let (origin, snapshot) = (found.origin, found.snapshot);
    if !args.holders.is_empty() {
        return Err(refuse::volume_open(&origin.name, args.holders));
    }
    let Some(plex) = found.complete.last().copied() else {
        return Err(refuse::snapback_too_few(&snapshot.name, 1, 0));
    };
    if args.archive.is_some() && origin.undos.len() >= MAX_UNDOS {
        return Err(refuse::too_many_undos(&origin.name));
    }
    is_stopped(snapshot)?;
    if origin.resizing.is_some() {
        return Err(refuse::resize_under_way(&origin.name));
    }
    let restore = Restore {
        phase: if args.archive.is_some() { RestorePhase::Saving } else { RestorePhase::Writing },
        snapshot: Some(snapshot.uuid),
        plex: Some(plex),
        returns: found.count,
        archive: args.archive.cloned(),
        keep: false,
    };
    edit(group, origin.uuid, |record| {
        record.restore = Some(restore);
        Ok(())
    })
}

/// The undo archive is durable: from now on the volume may be overwritten.
///
/// # Errors
/// `volume.gone`; `volume.not-restoring` in another phase.
pub fn restore_saved(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    turn(group, volume, RestorePhase::Saving, RestorePhase::Writing)
}

/// What was overwritten is put back from the undo archive.
///
/// # Errors
/// `volume.gone`; `volume.not-restoring` in another phase; `undo.none` without an archive.
pub fn restore_turns_back(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    let record = group.volume_by_id(volume).ok_or_else(|| refuse::volume_gone(volume))?;
    if record.restore.as_ref().is_some_and(|restore| restore.archive.is_none()) {
        return Err(refuse::no_undo(&record.name));
    }
    turn(group, volume, RestorePhase::Writing, RestorePhase::Undoing)
}

fn turn(group: &Group, volume: Uuid, from: RestorePhase, to: RestorePhase) -> Result<Change, Refused> {
    edit(group, volume, |record| match &mut record.restore {
        Some(restore) if restore.phase == from => {
            restore.phase = to;
            Ok(())
        }
        Some(_) | None => Err(refuse::not_restoring(&record.name)),
    })
}

/// Everything is copied and flushed: the volume equals the snapshot's plex, which goes back as a snapshot mirror that lacks
/// nothing, if it is to. The archive is kept as a way back, with a map of what is written from now on.
///
/// # Errors
/// `volume.gone`; `volume.not-restoring` in another phase; `volume.resyncing`; as [`super::snapback`].
pub fn finish_restore(group: &Group, volume: Uuid, ids: &mut Ids) -> Result<Change, Refused> {
    let record = group.volume_by_id(volume).ok_or_else(|| refuse::volume_gone(volume))?;
    let restore = record.restore.clone().filter(|restore| restore.phase == RestorePhase::Writing);
    let restore = restore.ok_or_else(|| refuse::not_restoring(&record.name))?;
    let snapshot = restore.snapshot.and_then(|snapshot| group.volume_by_id(snapshot));
    let snapshot = snapshot.ok_or_else(|| refuse::not_restoring(&record.name))?.name.clone();
    let mut done = group.clone();
    done.volume_mut(volume).ok_or_else(|| refuse::volume_gone(volume))?.restore = None;
    let args = SnapbackArgs { snapshot: snapshot.as_str(), plexes: Some(restore.returns), holders: &[] };
    let found = returnable(&done, &args)?;
    is_stopped(found.snapshot)?;
    let mut draft = Draft::new(&done, ids);
    if let Some(archive) = restore.archive {
        let map = draft.ids.uuid();
        draft.before.push(Effect::CreateMap { map, volume, fill: MapFill::Union(Vec::new()) });
        draft.volume(volume)?.undos.push(Undo { archive, map });
    }
    draft.return_plexes(&found, restore.plex)?;
    draft.finish()
}

/// The restore ends without being finished: nothing was overwritten yet, or everything is put back. Its archive goes,
/// unless it is to be kept.
///
/// # Errors
/// `volume.gone`; `volume.not-restoring` while the volume is half overwritten.
pub fn drop_restore(group: &Group, volume: Uuid, ids: &mut Ids) -> Result<Change, Refused> {
    let mut draft = Draft::new(group, ids);
    draft.drop_restore(volume)?;
    draft.finish()
}

/// An undo archive is to be put back: the newest, or the one called `id`. As a restore, it says so durably first.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.restoring`, `volume.not-started`, `volume.resyncing`, `volume.open` when there
/// are `holders`; `undo.none`, `undo.unknown`.
pub fn begin_undo(
    group: &Group,
    volume: &str,
    id: Option<&str>,
    holders: &[String],
    keep: bool,
) -> Result<Change, Refused> {
    let record = started_volume(group, volume)?;
    let undo = find_undo(record, id)?;
    if record.state() == VolumeState::Sync {
        return Err(refuse::volume_resyncing(&record.name));
    }
    if record.resizing.is_some() {
        return Err(refuse::resize_under_way(&record.name));
    }
    if !holders.is_empty() {
        return Err(refuse::volume_open(&record.name, holders));
    }
    let restore = Restore {
        phase: RestorePhase::Undoing,
        snapshot: None,
        plex: None,
        returns: 0,
        archive: Some(undo.archive.clone()),
        keep,
    };
    edit(group, record.uuid, |record| {
        record.restore = Some(restore);
        Ok(())
    })
}

/// The undo archive called `id` is given up.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.restoring`; `undo.none`, `undo.unknown`.
pub fn delete_undo(group: &Group, volume: &str, id: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = super::idle_volume(group, volume)?;
    let (uuid, id) = (record.uuid, find_undo(record, Some(id))?.archive.id);
    let mut draft = Draft::new(group, ids);
    draft.forget_undo(uuid, id)?;
    draft.finish()
}

/// The undo archive of `volume` called `id`, else the newest.
///
/// # Errors
/// `undo.none`, `undo.unknown`.
pub fn find_undo<'g>(volume: &'g Volume, id: Option<&str>) -> Result<&'g Undo, Refused> {
    match id {
        None => volume.undos.last().ok_or_else(|| refuse::no_undo(&volume.name)),
        Some(id) => volume
            .undos
            .iter()
            .find(|undo| undo.archive.short_id() == id || undo.archive.file == id)
            .ok_or_else(|| refuse::undo_unknown(&volume.name, id)),
    }
}

impl Draft<'_> {
    /// See [`drop_restore`].
    pub(super) fn drop_restore(&mut self, volume: Uuid) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let name = record.name.clone();
        let Some(restore) = record.restore.take_if(|restore| restore.phase != RestorePhase::Writing) else {
            return Err(refuse::not_restoring(&name));
        };
        let Some(archive) = restore.archive else { return Ok(()) };
        let is_kept = record.undos.iter().any(|undo| undo.archive.id == archive.id);
        match is_kept {
            true if restore.keep => Ok(()),
            true => self.forget_undo(volume, archive.id),
            // Ordering rule 21: what it held stands in the volume again, durably.
            false => {
                self.after.push(Effect::RemoveArchive { file: archive.file });
                Ok(())
            }
        }
    }

    /// Give up the archive `id` of `volume` with its map.
    pub(super) fn forget_undo(&mut self, volume: Uuid, id: Uuid) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let Some(at) = record.undos.iter().position(|undo| undo.archive.id == id) else { return Ok(()) };
        let Undo { archive, map } = record.undos.remove(at);
        self.after.extend([Effect::RemoveMap { map }, Effect::RemoveArchive { file: archive.file }]);
        Ok(())
    }
}
