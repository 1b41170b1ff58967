//! What a person does with single plexes: attach, detach, take offline, bring online, replace; and what can be set.

use super::super::group::{Birth, Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::plex::{PlexEvent, PlexState, Purpose};
use super::super::refuse;
use super::super::settings::SettingsChange;
use super::super::volume::VolumeState;
use super::mirror::refuse_last;
use super::{Change, Draft, Route, Site, edit, idle_volume, started_volume};
use crate::base::{Refused, Uuid};

/// A STALE or IOFAIL plex of a started volume gets writes again and is copied.
///
/// # Errors
/// `volume.unknown`, `volume.not-started`, `volume.busy`, `plex.unknown`, `plex.state`.
pub fn attach_plex(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = started_volume(group, volume)?;
    let plex = record.plex(plex)?;
    if plex.is_attached() {
        return Err(refuse::plex_state(plex, PlexEvent::Attach));
    }
    let mut draft = Draft::new(group, ids);
    draft.join(record.uuid, plex.uuid)?;
    draft.finish()
}

/// A plex of a started volume leaves the write path by hand: it becomes STALE and goes on collecting what it misses, its
/// unflushed writes among it. Where it was the source of a resync, another takes its place.
///
/// # Errors
/// `volume.unknown`, `volume.not-started`, `volume.busy`, `plex.unknown`, `plex.last-active`, `plex.state`.
pub fn detach_plex(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = started_volume(group, volume)?;
    let plex = record.plex(plex)?;
    refuse_last(record, plex)?;
    if !plex.is_attached() {
        return Err(refuse::plex_state(plex, PlexEvent::Detach));
    }
    let mut draft = Draft::new(group, ids);
    draft.step(record.uuid, plex.uuid, PlexEvent::Detach, Route::Live)?;
    draft.move_authority(record.uuid, None)?;
    draft.finish()
}

/// A mirror that is in step is made a snapshot mirror, SNAPDONE at once: it goes on getting every write and serves no read.
/// That of a volume that is being made equal after a crash is not in step yet.
///
/// # Errors
/// `volume.unknown`, `volume.not-started`, `volume.busy`, `volume.resyncing`, `plex.unknown`, `plex.last-active`,
/// `plex.state`; `plex.replaced` when another is about to take its place.
pub fn convert_plex(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    let record = started_volume(group, volume)?;
    let plex = record.plex(plex)?;
    if record.state() == VolumeState::Sync {
        return Err(refuse::volume_resyncing(&record.name));
    }
    refuse_last(record, plex)?;
    if let Some(new) = record.plexes.iter().find(|new| new.replaces == Some(plex.uuid)) {
        return Err(refuse::replaced_already(plex, &new.name));
    }
    let mut draft = Draft::new(group, ids);
    draft.step(record.uuid, plex.uuid, PlexEvent::Convert, Route::Live)?;
    let converted = draft.plex(record.uuid, plex.uuid)?;
    (converted.purpose, converted.replaces) = (Purpose::Snapshot, None);
    draft.finish()
}

/// A STALE or IOFAIL plex is taken out by hand; what it misses from now on is not collected.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `plex.unknown`, `plex.state`.
pub fn take_offline(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    step_by_hand(group, volume, plex, PlexEvent::TakeOffline, ids)
}

/// An OFFLINE plex is taken in again: STALE, with a full map.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `plex.unknown`, `plex.state`.
pub fn bring_online(group: &Group, volume: &str, plex: &str, ids: &mut Ids) -> Result<Change, Refused> {
    step_by_hand(group, volume, plex, PlexEvent::BringOnline, ids)
}

fn step_by_hand(
    group: &Group,
    volume: &str,
    plex: &str,
    event: PlexEvent,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let record = idle_volume(group, volume)?;
    let plex = record.plex(plex)?;
    let mut draft = Draft::new(group, ids);
    draft.step(record.uuid, plex.uuid, event, Route::Live)?;
    draft.finish()
}

/// A new mirror in state TEMP that takes the place of `plex`: its medium is to be made and `plex_ready` follows, then it is
/// copied and becomes ACTIVE, and [`finish_replace`] removes the old one. Until then the old one stays what it is. A crash
/// before the medium is there rolls it back; after that the copy goes on at the next start, and so does the removal.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.not-started`, `plex.unknown`; `plex.replace-unfit` for a snapshot mirror or one
/// whose making is not done; `plex.replaced` when it is being replaced already; `plex.too-many`, `plex.too-small`,
/// `medium.*`.
pub fn replace_plex(
    group: &Group,
    volume: &str,
    plex: &str,
    site: Site,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let record = started_volume(group, volume)?;
    let old = record.plex(plex)?;
    if old.purpose != Purpose::Mirror || old.state() == PlexState::Temp {
        return Err(refuse::replace_unfit(old));
    }
    if let Some(new) = record.plexes.iter().find(|new| new.replaces == Some(old.uuid)) {
        return Err(refuse::replaced_already(old, &new.name));
    }
    let (volume, old) = (record.uuid, old.uuid);
    let mut draft = Draft::new(group, ids);
    for new in draft.add_plexes(volume, &[site], Birth::Mirror)? {
        draft.plex(volume, new)?.replaces = Some(old);
    }
    draft.finish()
}

/// The plexes of `volume` whose replacement is complete, so that [`finish_replace`] can remove them: the new one is ACTIVE,
/// and no resync after a crash is under way that could still need the old.
#[must_use]
pub fn replaced_plexes(volume: &Volume) -> Vec<Uuid> {
    if volume.state() != VolumeState::Active || volume.prepared.is_some() {
        return Vec::new();
    }
    let done = |plex: &&Plex| plex.state() == PlexState::Active && plex.is_attached();
    volume.plexes.iter().filter(done).filter_map(|plex| plex.replaces).collect()
}

/// The plex `old`, whose replacement is complete, is given up with its space.
///
/// # Errors
/// `volume.gone`, `plex.gone`; `plex.replace-unfit` when its replacement is not complete.
pub fn finish_replace(group: &Group, volume: Uuid, old: Uuid, ids: &mut Ids) -> Result<Change, Refused> {
    let record = group.volume_by_id(volume).ok_or_else(|| refuse::volume_gone(volume))?;
    let plex = record.plex_by_id(old).ok_or_else(|| refuse::plex_gone(old))?;
    if !replaced_plexes(record).contains(&old) {
        return Err(refuse::replace_unfit(plex));
    }
    let mut draft = Draft::new(group, ids);
    draft.step(volume, old, PlexEvent::Remove, Route::Live)?;
    draft.finish()
}

/// Settings of a volume, which hold at once and from then on.
///
/// # Errors
/// `volume.unknown`, `setting.range`.
pub fn set(group: &Group, volume: &str, change: SettingsChange) -> Result<Change, Refused> {
    let record = group.volume(volume)?;
    let settings = change.applied_to(record.settings);
    settings.check(&record.name)?;
    edit(group, record.uuid, |record| {
        record.settings = settings;
        Ok(())
    })
}
