//! Volumes are started, stopped, found after a crash, taken over, and made equal.

use std::collections::BTreeMap;

use super::super::group::{Group, Plex, ReadPolicy, Volume};
use super::super::ids::Ids;
use super::super::medium::Noted;
use super::super::plex::{PlexEvent, PlexState};
use super::super::recovery;
use super::super::refuse;
use super::super::restore::RestorePhase;
use super::super::snapshot::Resync;
use super::super::volume::{VolumeEvent, VolumeState};
use super::{Change, Draft, Effect, MapFill, Route, edit, idle_volume};
use crate::base::museum::{self, Exhibit};
use crate::base::{Generation, Name, Refused, Uuid};

/// What was found of a plex's medium before a start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It is there and its label fits; for a file, what it looks like now.
    Present(Option<Noted>),
    /// As `Present`, and the process that ran the volume before may have met a failed flush of it that nobody recorded: it may
    /// read for a while as it will not stay. Another plex is believed if there is one.
    Doubted(Option<Noted>),
    /// It cannot be used; the reason completes "v-01 is missing: ".
    Missing(String),
    /// It is there, but holds older data than the other plexes; the reason completes "v-01 is behind: ".
    Behind(String),
}

/// A start to be made.
#[derive(Clone, Debug)]
pub struct StartArgs<'a> {
    /// The volume as typed.
    pub volume: &'a str,
    /// What was found of each plex's medium; a plex that is not named counts as missing.
    pub media: &'a [(Uuid, Presence)],
    /// The plex to believe, where a person named one.
    pub source: Option<&'a str>,
    /// Now, in seconds since 1970-01-01 UTC.
    pub unix_s: i64,
}

/// The volume is started: CLEAN is revoked and a new run begins.
///
/// * Plexes in SNAPATT, SNAPTMP and TEMP are removed with their space, as VxVM does; a cut that was only prepared is
///   rolled back.
/// * A plex whose medium is missing becomes STALE, and the others take a new data-generation id (ordering rule 16).
/// * A plex that is behind the others becomes STALE throughout; it is believed only when it is named as the source, and
///   then all others are behind.
/// * After a clean stop, a file whose size or times changed is refused until a source is named; if the named source is
///   the changed one, every other plex and every change map counts as different throughout.
/// * After a crash, with more than one plex to rely on, the source of the resync is recorded (ordering rule 14): the one
///   that a person named; else the one recorded by a resync that was cut short; else the preferred plex of the read
///   policy; else the oldest complete plex; of the last two, one that is in no doubt if there is any.
///
/// # Errors
/// `volume.unknown`, `volume.started`, `volume.empty`, `volume.no-complete-plex`, `plex.changed`, `plex.unknown`,
/// `plex.source-unfit`; `volume.restoring` while another is restored from it.
pub fn start(group: &Group, args: &StartArgs, ids: &mut Ids) -> Result<Change, Refused> {
    let record = group.volume(args.volume)?;
    if let Some(origin) = group.restoring_from(record.uuid) {
        return Err(refuse::snapshot_restoring(&record.name, &origin.name));
    }
    let clean = record.state() == VolumeState::Clean;
    record.clone().step(VolumeEvent::Start)?;
    let volume = record.uuid;
    let source = args.source.map(|plex| record.plex(plex)).transpose()?.map(Plex::uuid);
    let media = Media::new(args.media);

    let mut draft = Draft::new(group, ids);
    draft.roll_back(volume, true)?;
    draft.part_with_missing(volume, &media, source)?;
    draft.judge_content(volume, &media, source, clean)?;
    if let Some(source) = source {
        let plex = record.plex_by_id(source).ok_or_else(|| refuse::plex_gone(source))?;
        let kept = draft.volume(volume)?.plex_by_id(source).is_some_and(|plex| plex.state().is_complete());
        if !kept {
            let why =
                media.missing(source).map_or_else(|| format!("it is {}", plex.state()), |why| why.to_owned());
            return Err(refuse::source_unfit(plex, &why));
        }
    }
    let plexes: Vec<_> = draft.volume(volume)?.plexes.iter().map(Plex::uuid).collect();
    for plex in plexes {
        draft.step(volume, plex, PlexEvent::Start, Route::Whole)?;
    }
    let record = draft.volume(volume)?;
    record.step(VolumeEvent::Start)?;
    // The maps of a volume that was never started carry the run 0.
    let stopped = clean && record.stop > Generation(0);
    record.crashed_run = if stopped { None } else { record.crashed_run.or(Some(record.run)) };
    record.run = record.run.max(record.stop).next();
    record.plexes.iter_mut().for_each(|plex| plex.noted = None);
    let number = record.device;
    draft.after.push(Effect::StartDevice { volume, number });
    if !clean {
        draft.begin_resync(volume, &media, source, args.unix_s)?;
    }
    draft.finish()
}

/// A new daemon takes over the living device of a started volume: nothing was stopped, so unfinished snapshot mirrors go
/// on; a prepared cut is rolled back; STALE plexes wait to be attached again. With more than one plex to rely on, a
/// resync source is recorded as in [`start`].
///
/// # Errors
/// `volume.gone`, `volume.state`; `volume.no-complete-plex` when none is left: the device stays quiesced.
pub fn recover(
    group: &Group,
    volume: Uuid,
    media: &[(Uuid, Presence)],
    unix_s: i64,
    ids: &mut Ids,
) -> Result<Change, Refused> {
    let media = Media::new(media);
    let mut draft = Draft::new(group, ids);
    draft.volume(volume)?.step(VolumeEvent::Recover)?;
    draft.roll_back(volume, true)?;
    draft.part_with_missing(volume, &media, None)?;
    draft.judge_content(volume, &media, None, false)?;
    // A start gives up what was being copied; here it would go on by its map.
    let copied = |plex: &&Plex| plex.state() == PlexState::SnapAtt && media.behind(plex.uuid).is_some();
    let behind: Vec<_> = draft.volume(volume)?.plexes.iter().filter(copied).map(Plex::uuid).collect();
    for plex in behind {
        draft.step(volume, plex, PlexEvent::Distrust, Route::Whole)?;
    }
    let plexes: Vec<_> = draft.volume(volume)?.plexes.iter().map(|plex| (plex.uuid, plex.state())).collect();
    for (plex, state) in plexes {
        draft.step(volume, plex, PlexEvent::Recover, Route::Whole)?;
        if state == PlexState::SnapAtt {
            draft.after.push(Effect::Copy { volume, plex });
        }
    }
    draft.volume(volume)?.step(VolumeEvent::ResyncBegin)?;
    draft.begin_resync(volume, &media, None, unix_s)?;
    draft.finish()
}

/// What the records say after a restart of the machine or the daemon: a started volume whose device is not among the
/// `living` becomes NEEDSYNC; a volume that was never completely made is removed with its media, and so is a plex whose
/// medium was being made. A restore that had overwritten nothing yet is given up.
///
/// # Errors
/// None that a sound group can cause.
pub fn after_restart(group: &Group, living: &[Uuid], ids: &mut Ids) -> Result<Change, Refused> {
    let mut draft = Draft::new(group, ids);
    for volume in group.volumes() {
        if recovery::was_never_started(volume) {
            draft.drop_volume(volume.uuid)?;
        } else {
            if !living.contains(&volume.uuid) {
                draft.volume(volume.uuid)?.step(VolumeEvent::Crash)?;
            }
            if volume.restore.as_ref().is_some_and(|restore| restore.phase == RestorePhase::Saving) {
                draft.drop_restore(volume.uuid)?;
            }
            let being_made = |state| matches!(state, PlexState::Temp | PlexState::SnapTmp);
            for plex in volume.plexes.iter().filter(|plex| being_made(plex.state())) {
                draft.step(volume.uuid, plex.uuid, PlexEvent::Remove, Route::Whole)?;
            }
        }
    }
    draft.finish()
}

/// A volume that should run does not: it becomes NEEDSYNC.
///
/// # Errors
/// `volume.gone`.
pub fn crashed(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    edit(group, volume, |record| record.step(VolumeEvent::Crash))
}

/// The volume is stopped: its device ends in good order, then it is CLEAN with a new stop generation. While a resync is
/// under way it becomes NEEDSYNC instead, and keeps its source. `holders` name who has the device open.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.not-started`, `volume.empty`; `volume.open` when there are holders.
pub fn stop(group: &Group, volume: &str, holders: &[String], ids: &mut Ids) -> Result<Change, Refused> {
    let record = idle_volume(group, volume)?;
    if !record.state().is_started() {
        record.clone().step(VolumeEvent::Stop)?;
    }
    if !holders.is_empty() {
        return Err(refuse::volume_open(&record.name, holders));
    }
    let volume = record.uuid;
    let mut draft = Draft::new(group, ids);
    let record = draft.volume(volume)?;
    record.step(VolumeEvent::Stop)?;
    let number = record.device;
    if record.state() == VolumeState::Clean {
        record.stop = record.run.max(record.stop).next();
        record.crashed_run = None;
        record.intent_lost = false;
        let plexes: Vec<_> = record.plexes.iter().map(Plex::uuid).collect();
        for plex in plexes {
            draft.step(volume, plex, PlexEvent::Stop, Route::Whole)?;
        }
    }
    draft.before.push(Effect::StopDevice { volume, number });
    draft.finish()
}

/// What the files of a CLEAN volume look like after the last write to them, label included.
///
/// # Errors
/// `volume.gone`; `volume.started` when it was started meanwhile.
pub fn note_media(group: &Group, volume: Uuid, noted: &[(Uuid, Noted)]) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        if record.state().is_started() {
            return Err(refuse::volume_running(&record.name));
        }
        for plex in &mut record.plexes {
            plex.noted = noted.iter().find(|(uuid, _)| *uuid == plex.uuid).map(|(_, noted)| *noted);
        }
        Ok(())
    })
}

/// Every plex is equal over every extent that the resync had to look at: SYNC becomes ACTIVE.
///
/// # Errors
/// `volume.gone`, `volume.state`.
pub fn resync_done(group: &Group, volume: Uuid) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        record.step(VolumeEvent::ResyncDone)?;
        record.resync = None;
        Ok(())
    })
}

/// The resync of a volume goes on from `source`, which is equal to the plex that was believed before (ordering rule 14).
///
/// # Errors
/// `volume.gone`; `plex.gone` when `source` is no complete plex of it; `volume.state` without a resync.
pub fn move_authority(group: &Group, volume: Uuid, source: Uuid) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        if !record.complete_plexes().any(|plex| plex.uuid == source) {
            return Err(refuse::plex_gone(source));
        }
        match &mut record.resync {
            Some(resync) => {
                resync.source = source;
                Ok(())
            }
            None => Err(refuse::volume_state(record, VolumeEvent::ResyncDone)),
        }
    })
}

/// The volume got this device number, which shows it, or gives its number up. The kernel gives a number to one device at a time: a
/// volume that had it before, and hoped to have it again, gets another one at its next start.
///
/// # Errors
/// `volume.gone`.
pub fn assign_device(group: &Group, volume: Uuid, number: Option<u32>) -> Result<Change, Refused> {
    let mut group = group.clone();
    for other in group.volumes.iter_mut().filter(|other| other.uuid != volume && other.device == number) {
        other.device = None;
    }
    edit(&group, volume, |record| {
        record.device = number;
        record.crashed_run = None;
        Ok(())
    })
}

/// The intent map cannot be written, or a new one is whole again (ordering rule 18). A clean stop ends it too.
///
/// # Errors
/// `volume.gone`.
pub fn set_intent_lost(group: &Group, volume: Uuid, lost: bool) -> Result<Change, Refused> {
    edit(group, volume, |record| {
        record.intent_lost = lost;
        Ok(())
    })
}

/// Which plex shall serve reads.
///
/// # Errors
/// `volume.unknown`; `plex.unknown` when the preferred plex is none of the volume's.
pub fn set_read_policy(group: &Group, volume: &str, policy: ReadPolicy) -> Result<Change, Refused> {
    let record = group.volume(volume)?;
    if let ReadPolicy::Prefer(plex) = &policy {
        record.plex(plex.as_str())?;
    }
    edit(group, record.uuid, |record| {
        record.read_policy = policy;
        Ok(())
    })
}

/// What was found of the media, by plex.
struct Media<'a>(BTreeMap<Uuid, &'a Presence>);

impl<'a> Media<'a> {
    fn new(found: &'a [(Uuid, Presence)]) -> Self {
        Self(found.iter().map(|(plex, presence)| (*plex, presence)).collect())
    }

    fn missing(&self, plex: Uuid) -> Option<&'a str> {
        match self.0.get(&plex) {
            Some(Presence::Present(_) | Presence::Doubted(_) | Presence::Behind(_)) => None,
            Some(Presence::Missing(why)) => Some(why),
            None => Some("it was not looked for"),
        }
    }

    fn behind(&self, plex: Uuid) -> Option<&'a str> {
        match self.0.get(&plex) {
            Some(Presence::Behind(why)) => Some(why),
            Some(Presence::Present(_) | Presence::Doubted(_) | Presence::Missing(_)) | None => None,
        }
    }

    fn is_doubted(&self, plex: Uuid) -> bool {
        match self.0.get(&plex) {
            Some(Presence::Doubted(_)) => true,
            Some(Presence::Present(_) | Presence::Missing(_) | Presence::Behind(_)) | None => false,
        }
    }

    /// Why the plex cannot be believed by itself, as a person is told.
    fn flaw(&self, plex: &Plex) -> Option<String> {
        let missing = self.missing(plex.uuid).map(|why| format!("{} is missing: {why}", plex.name));
        missing.or_else(|| self.behind(plex.uuid).map(|why| format!("{} is behind: {why}", plex.name)))
    }

    fn looks(&self, plex: Uuid) -> Option<Noted> {
        match self.0.get(&plex) {
            Some(Presence::Present(noted) | Presence::Doubted(noted)) => *noted,
            Some(Presence::Missing(_) | Presence::Behind(_)) | None => None,
        }
    }
}

/// The plex that a resync reads, by the rule of [`start`].
fn choose_source(volume: &Volume, media: &Media, named: Option<Uuid>) -> Option<Uuid> {
    let complete = |uuid: &Uuid| volume.complete_plexes().any(|plex| plex.uuid == *uuid);
    let preferred = |name: &Name| volume.plexes.iter().find(|plex| plex.name == *name).map(Plex::uuid);
    let known = volume.resync.as_ref().filter(|_| !museum::shows(Exhibit::SourceChosenAnew));
    let recorded = known.map(|resync| resync.source);
    let policy = match &volume.read_policy {
        ReadPolicy::Prefer(name) => preferred(name),
        ReadPolicy::Round | ReadPolicy::Select => None,
    };
    let trusted = |uuid: &Uuid| !media.is_doubted(*uuid);
    let sound = volume.complete_plexes().map(Plex::uuid).find(trusted);
    let oldest = volume.complete_plexes().next().map(Plex::uuid);
    [named, recorded, policy.filter(trusted), sound, policy, oldest].into_iter().flatten().find(complete)
}

impl Draft<'_> {
    /// Plexes whose media are missing leave; without any complete one left that can be believed it is refused.
    fn part_with_missing(
        &mut self,
        volume: Uuid,
        media: &Media,
        source: Option<Uuid>,
    ) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let usable = |plex: &Plex| {
            media.flaw(plex).is_none() || (Some(plex.uuid) == source && media.missing(plex.uuid).is_none())
        };
        if !record.complete_plexes().any(usable) {
            let list: Vec<_> = record.complete_plexes().filter_map(|plex| media.flaw(plex)).collect();
            let behind = record.complete_plexes().find(|plex| media.behind(plex.uuid).is_some());
            return Err(refuse::no_complete_plex(&record.name, &list.join(", "), behind));
        }
        let missing: Vec<_> =
            record.plexes.iter().map(Plex::uuid).filter(|plex| media.missing(*plex).is_some()).collect();
        for plex in missing {
            self.step(volume, plex, PlexEvent::Fail, Route::Whole)?;
        }
        Ok(())
    }

    /// Plexes that are behind, or, after a clean stop, whose file was changed behind our back (ordering rule 15).
    fn judge_content(
        &mut self,
        volume: Uuid,
        media: &Media,
        source: Option<Uuid>,
        clean: bool,
    ) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let name = record.name.clone();
        let clean = clean && !museum::shows(Exhibit::ChangedFileBelieved);
        let how = |plex: &Plex| if clean { plex.noted?.difference(media.looks(plex.uuid)?) } else { None };
        let doubtful: Vec<_> = record
            .plexes
            .iter()
            .filter(|plex| how(plex).is_some() || media.behind(plex.uuid).is_some())
            .map(Plex::uuid)
            .collect();
        let first = record.complete_plexes().find_map(|plex| how(plex).map(|how| (plex, how)));
        if let (Some((plex, how)), None) = (first, source) {
            return Err(refuse::plex_changed(plex, &name, &how));
        }
        let other_truth = source.is_some_and(|source| doubtful.contains(&source));
        let plexes: Vec<_> = record.plexes.iter().map(|plex| (plex.uuid, plex.state())).collect();
        for (plex, state) in plexes {
            let holds_data = state.is_complete() || state == PlexState::SnapDone || state == PlexState::Stale;
            if holds_data && Some(plex) != source && (other_truth || doubtful.contains(&plex)) {
                self.step(volume, plex, PlexEvent::Distrust, Route::Whole)?;
            }
        }
        if other_truth {
            let maps = self.group.volume_by_id(volume).map(|record| record.link_maps(&self.group));
            for map in maps.unwrap_or_default() {
                self.before.push(Effect::AddToMap { map, volume, fill: MapFill::Full });
            }
        }
        Ok(())
    }

    /// The volume is SYNC: record the source, or go on at once where one plex alone is relied on.
    fn begin_resync(
        &mut self,
        volume: Uuid,
        media: &Media,
        named: Option<Uuid>,
        unix_s: i64,
    ) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        if !Self::needs_resync(record) {
            record.resync = None;
            return record.step(VolumeEvent::ResyncDone);
        }
        let source = choose_source(record, media, named)
            .ok_or_else(|| refuse::no_complete_plex(&record.name, "none is complete", None))?;
        let since_unix_s =
            record.resync.as_ref().filter(|old| old.source == source).map_or(unix_s, |old| old.since_unix_s);
        record.resync = Some(Resync { source, since_unix_s });
        self.after.push(Effect::Resync { volume, source });
        Ok(())
    }
}
