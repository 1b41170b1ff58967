//! Plexes come, catch up, fall behind and go.

use super::super::group::{Birth, Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::plex::{PlexEvent, PlexState, Purpose};
use super::super::refuse;
use super::make::check_medium;
use super::{Change, Draft, Effect, Made, Route, Site, idle_volume, started_volume};
use crate::base::museum::{self, Exhibit};
use crate::base::{Refused, Uuid};

/// Why a plex leaves the write path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// A write or flush failed, or the medium is gone.
    Failed,
    /// As `Failed`, and no map can be made for it.
    Untracked,
    /// It is too slow to be waited for.
    Slow,
}

/// New mirrors in state TEMP, whose media are to be made; [`plex_ready`] follows for each, or [`remove_plex`].
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.empty`, `plex.none`, `plex.too-many`, `plex.too-small`, `medium.*`.
pub fn add_plexes(group: &Group, volume: &str, sites: &[Site], ids: &mut Ids) -> Result<Change, Refused> {
    grow(group, idle_volume(group, volume)?, sites, Birth::Mirror, ids)
}

/// New snapshot mirrors in state SNAPTMP, whose media are to be made; [`plex_ready`] follows for each, or `lose_plex`.
///
/// # Errors
/// As [`add_plexes`], and `volume.not-started`: the next start would remove them.
pub fn snapstart(group: &Group, volume: &str, sites: &[Site], ids: &mut Ids) -> Result<Change, Refused> {
    grow(group, started_volume(group, volume)?, sites, Birth::Snapshot, ids)
}

fn grow(
    group: &Group,
    volume: &Volume,
    sites: &[Site],
    birth: Birth,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    if volume.complete_plexes().next().is_none() {
        return Err(refuse::volume_state(volume, super::super::VolumeEvent::Start));
    }
    if sites.is_empty() {
        return Err(refuse::no_plexes(&volume.name));
    }
    let mut draft = Draft::new(group, ids);
    draft.add_plexes(volume.uuid, sites, birth)?;
    draft.finish()
}

/// The medium of a TEMP or SNAPTMP plex is there: it becomes STALE or SNAPATT with a full map, and on a started volume
/// it gets writes and is copied.
///
/// # Errors
/// `plex.gone`, `plex.too-small`, `plex.block-size`, `plex.state`.
pub fn plex_ready(group: &Group, made: &Made, ids: &mut Ids) -> Result<Change, Refused> {
    let (volume, plex) = group.plex_by_id(made.plex).ok_or_else(|| refuse::plex_gone(made.plex))?;
    let (name, path) = (&volume.name, &plex.medium.path);
    check_medium(plex, made, volume.length, name)?;
    if made.block_size > volume.block_size {
        return Err(refuse::plex_block_size(path, "block size", made.block_size, volume.block_size, name));
    }
    if made.memory_alignment > volume.memory_alignment {
        let (needs, fixed) = (made.memory_alignment, volume.memory_alignment);
        return Err(refuse::plex_block_size(path, "memory alignment", needs, fixed, name));
    }
    let (volume, started) = (volume.uuid, volume.state().is_started());
    let mut draft = Draft::new(group, ids);
    draft.step(volume, made.plex, PlexEvent::Associate, Route::Live)?;
    if started {
        draft.join(volume, made.plex)?;
    }
    draft.finish()
}

/// A copied plex is in step: SNAPATT becomes SNAPDONE, STALE becomes ACTIVE, or SNAPDONE if it is a snapshot mirror.
/// The caller has flushed it and found its map empty, with no write failed meanwhile (ordering rule 13).
///
/// # Errors
/// `plex.gone`; `plex.detached` when its copy was not begun; `plex.state`.
pub fn synced_plex(group: &Group, plex: Uuid, ids: &mut Ids) -> Result<Change, Refused> {
    let (volume, record) = group.plex_by_id(plex).ok_or_else(|| refuse::plex_gone(plex))?;
    let event = PlexEvent::Complete(record.purpose);
    if record.state().has_map() && !record.is_attached() {
        return Err(refuse::plex_not_attached(record));
    }
    let generation = volume.complete_plexes().next().map(|other| other.generation);
    let mut draft = Draft::new(group, ids);
    draft.step(volume.uuid, plex, event, Route::Live)?;
    for record in &mut draft.volume(volume.uuid)?.plexes {
        if let (true, Some(generation)) = (record.uuid == plex, generation) {
            record.take_generation(generation);
        }
    }
    draft.finish()
}

/// A plex leaves the write path of its volume, or is found missing (ordering rules 3 and 6).
///
/// An ACTIVE or SNAPDONE plex becomes STALE with a map that is seeded before the commit; an unfinished snapshot mirror is
/// removed unless it was only slow. When it was the source of a resync, authority moves to another ACTIVE plex in the
/// same step (ordering rule 14): to `heir`, if one is named that can be it, else to the oldest.
///
/// # Errors
/// `plex.gone`; `plex.last-active`: then the write fails, and the plex stays; `plex.state`.
pub fn lose_plex(
    group: &Group,
    plex: Uuid,
    loss: Loss,
    heir: Option<Uuid>,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let (volume, record) = group.plex_by_id(plex).ok_or_else(|| refuse::plex_gone(plex))?;
    let event = match loss {
        Loss::Failed => PlexEvent::Fail,
        Loss::Untracked => PlexEvent::FailUntracked,
        Loss::Slow => PlexEvent::Detach,
    };
    refuse_last(volume, record)?;
    let mut draft = Draft::new(group, ids);
    draft.step(volume.uuid, plex, event, Route::Live)?;
    draft.move_authority(volume.uuid, heir)?;
    draft.finish()
}

/// A plex is given up, with its space.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.empty`, `plex.unknown`, `plex.last-active`.
pub fn remove_plex(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = idle_volume(group, volume)?;
    let plex = record.plex(plex)?;
    if plex.state() == PlexState::Empty {
        return Err(refuse::volume_state(record, super::super::VolumeEvent::Start));
    }
    refuse_last(record, plex)?;
    let mut draft = Draft::new(group, ids);
    draft.step(record.uuid, plex.uuid, PlexEvent::Remove, Route::Live)?;
    draft.move_authority(record.uuid, None)?;
    draft.finish()
}

/// Remove `count` snapshot mirrors that were not broken off (`None`: all): the least finished first, among those the
/// newest.
///
/// # Errors
/// `volume.unknown`, `volume.busy`; `snapshot.no-mirror` when there are not so many.
pub fn snapabort(
    group: &Group,
    volume: &str,
    count: Option<usize>,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let record = idle_volume(group, volume)?;
    let mut mirrors: Vec<_> = record.snapshot_mirrors().collect();
    mirrors.reverse();
    mirrors.sort_by_key(|plex| plex.state() == PlexState::SnapDone);
    let count = count.unwrap_or(mirrors.len());
    if count == 0 || mirrors.len() < count {
        return Err(refuse::snapshot_no_mirror(&record.name));
    }
    let mut draft = Draft::new(group, ids);
    for plex in &mirrors[..count] {
        draft.step(record.uuid, plex.uuid, PlexEvent::Remove, Route::Live)?;
    }
    draft.finish()
}

/// The last complete plex never goes.
pub(super) fn refuse_last(volume: &Volume, plex: &Plex) -> Result<(), Refused> {
    let others = volume.complete_plexes().filter(|other| other.uuid != plex.uuid).count();
    if plex.state().is_complete() && others == 0 {
        return Err(refuse::last_active(plex, &volume.name));
    }
    Ok(())
}

impl Draft<'_> {
    /// Attach a plex and have what it lacks copied.
    pub(super) fn join(&mut self, volume: Uuid, plex: Uuid) -> Result<(), Refused> {
        self.step(volume, plex, PlexEvent::Attach, Route::Live)?;
        self.after.push(Effect::Copy { volume, plex });
        Ok(())
    }

    /// Where the source of a resync is no complete plex any more, `heir` or the first that is takes its place.
    pub(super) fn move_authority(&mut self, volume: Uuid, heir: Option<Uuid>) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let named = record.complete_plexes().find(|plex| Some(plex.uuid) == heir);
        let next = named.or_else(|| record.complete_plexes().next()).map(|plex| plex.uuid);
        let Some(resync) = &mut record.resync else { return Ok(()) };
        let complete = |plex: &Plex| plex.uuid == resync.source && plex.state().is_complete();
        if !record.plexes.iter().any(complete)
            && let Some(source) = next
        {
            resync.source = source;
            if record.state().is_started() {
                self.after.push(Effect::Resync { volume, source });
            }
        }
        Ok(())
    }

    /// Whether more than one plex has to be made equal after a crash.
    pub(super) fn needs_resync(volume: &Volume) -> bool {
        let relied = |plex: &&Plex| match plex.purpose {
            Purpose::Mirror => plex.state().is_complete(),
            Purpose::Snapshot => {
                plex.state() == PlexState::SnapDone && !museum::shows(Exhibit::MirrorBelievedAfterCrash)
            }
        };
        volume.plexes.iter().filter(relied).count() > 1
    }
}
