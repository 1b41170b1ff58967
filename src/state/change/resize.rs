//! A volume becomes longer or shorter: begun, recorded, settled, done. The media are the caller's; what it has to do between
//! these steps is in [`super::super::Resizing`].

use super::super::group::{Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::plex::{PlexEvent, PlexState};
use super::super::refuse;
use super::super::resize::{ResizeStage, Resizing};
use super::super::volume::{VolumeEvent, VolumeState};
use super::{Change, Draft, Route, edit, idle_volume};
use crate::base::{Kind, Refused, Uuid};

/// The length of a volume shall become `to` bytes. Nothing is different yet, but that labels may bear either length, and that
/// what is noted of files counts no more: they are about to be written to.
///
/// All plexes must be in step and no snapshot related: then no change map has to be made longer or shorter with it.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `size.*`; `resize.under-way`; `volume.empty`, `resize.unclean`, `volume.resyncing`;
/// `resize.started` for a volume that runs and shall become shorter; `resize.related`; `resize.undo`; `resize.plex`; `resize.scrub`.
pub fn resize_begin(group: &Group, volume: &str, to: u64) -> Result<Change, Refused> {
    let record = idle_volume(group, volume)?;
    refuse::check_length(to)?;
    if record.resizing.is_some() {
        return Err(refuse::resize_under_way(&record.name));
    }
    check_fit(group, record, to)?;
    let from = record.length;
    edit(group, record.uuid, |record| {
        record.resizing = Some(Resizing { from, to, stage: ResizeStage::Begun });
        record.plexes.iter_mut().for_each(|plex| plex.noted = None);
        Ok(())
    })
}

/// Every medium has room for the new length, reads alike from the old one to it, and bears a label of it where it becomes
/// longer: from this commit on it counts.
///
/// # Errors
/// `volume.gone`; `resize.under-way` when it was not begun; as [`resize_begin`] when a plex has left meanwhile.
pub fn resize_record(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    let record = group.volume_by_id(volume).ok_or_else(|| refuse::volume_gone(volume))?;
    let Some(resizing) = record.resizing.filter(|resizing| resizing.stage == ResizeStage::Begun) else {
        return Err(refuse::resize_under_way(&record.name));
    };
    check_fit(group, record, resizing.to)?;
    edit(group, volume, |record| {
        record.length = resizing.to;
        record.resizing = Some(Resizing { stage: ResizeStage::Recorded, ..resizing });
        Ok(())
    })
}

/// The media that are there are as the length that counts wants them. One that was only begun is over with that. What
/// became of those that are `absent` nobody knows: they are not believed any more, and STALE throughout.
///
/// # Errors
/// `volume.gone`; `group.inconsistent` when no complete plex would be left.
pub fn resize_settle(group: &Group, volume: Uuid, absent: &[Uuid], ids: &mut Ids) -> Result<Change, Refused> {
    let mut draft = Draft::new(group, ids);
    let record = draft.volume(volume)?;
    record.resizing = match record.resizing {
        Some(Resizing { stage: ResizeStage::Begun, .. }) | None => None,
        Some(resizing) => Some(Resizing { stage: ResizeStage::Settled, ..resizing }),
    };
    let lost = |plex: &&Plex| {
        let relied = plex.state().is_complete() || plex.state() == PlexState::SnapDone;
        let mapped = plex.state() == PlexState::Stale;
        absent.contains(&plex.uuid()) && (relied || mapped)
    };
    let lost: Vec<_> = record.plexes.iter().filter(lost).map(Plex::uuid).collect();
    for plex in lost {
        draft.step(volume, plex, PlexEvent::Distrust, Route::Whole)?;
    }
    draft.finish()
}

/// The device, where there is one, has the length that counts: nothing of the change is left to be done.
///
/// # Errors
/// `volume.gone`.
pub fn resize_done(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        record.resizing = None;
        Ok(())
    })
}

/// Whether `record` can have the length `to` as it is now.
fn check_fit(group: &Group, record: &Volume, to: u64) -> Result<(), Refused> {
    let name = &record.name;
    match record.state() {
        VolumeState::Clean => {}
        VolumeState::Active if to > record.length => {}
        VolumeState::Active => return Err(refuse::resize_started(name)),
        VolumeState::Sync => return Err(refuse::volume_resyncing(name)),
        VolumeState::NeedSync => return Err(refuse::resize_unclean(name)),
        VolumeState::Empty => return Err(refuse::volume_state(record, VolumeEvent::Start)),
    }
    if !record.snapshots.is_empty() {
        return Err(refuse::volume_related(
            Kind::InvalidState,
            "resize.related",
            name,
            &group.snapshot_names(record),
        ));
    }
    if record.origin.is_some() {
        return Err(refuse::volume_related(Kind::InvalidState, "resize.related", name, &[name]));
    }
    if let Some(undo) = record.undos.first() {
        return Err(refuse::resize_undo(name, &undo.archive.short_id()));
    }
    if record.scrub.run.is_some() {
        return Err(refuse::resize_scrub(name));
    }
    if let Some(plex) = record.plexes.iter().find(|plex| plex.medium.label_file.is_some()) {
        return Err(refuse::resize_label_file(name, &plex.name));
    }
    let in_step = |plex: &&Plex| match plex.state() {
        PlexState::Clean | PlexState::Active | PlexState::SnapDone => true,
        PlexState::Empty
        | PlexState::Stale
        | PlexState::IoFail
        | PlexState::SnapAtt
        | PlexState::SnapTmp
        | PlexState::Temp
        | PlexState::Offline => false,
    };
    match record.plexes.iter().find(|plex| !in_step(plex)) {
        Some(plex) => Err(refuse::resize_plex(name, plex)),
        None => Ok(()),
    }
}
