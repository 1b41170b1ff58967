//! Cuts: SNAPDONE plexes of one or several volumes become snapshot volumes at one instant (ordering rule 11).

use super::super::group::{Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::plex::{PlexEvent, PlexState, Purpose};
use super::super::refuse;
use super::super::snapshot::{Grade, PreparedCut, SnapshotLink};
use super::super::volume::{VolumeEvent, VolumeState};
use super::{Change, Draft, Effect, MapFill, Route, started_volume};
use crate::base::{Generation, Name, Refused, Uuid};

/// One volume of a cut.
#[derive(Clone, Copy, Debug)]
pub struct CutTarget<'a> {
    /// The volume as typed.
    pub volume: &'a str,
    /// The name of its snapshot volume as typed; by default `SNAP-VOL`, then `SNAP1-VOL` and so on.
    pub name: Option<&'a str>,
    /// How many SNAPDONE plexes the snapshot volume takes, the oldest first.
    pub mirrors: usize,
}

/// How a cut went, for one of its volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutFacts {
    /// The origin.
    pub volume: Uuid,
    /// The consistency reached.
    pub grade: Grade,
    /// When the cut was made, in seconds since 1970-01-01 UTC.
    pub cut_unix_s: i64,
    /// How long writes were held, in nanoseconds.
    pub hold_ns: u64,
    /// How long the file system was frozen, in nanoseconds; 0 when it was not.
    pub frozen_ns: u64,
}

/// A cut of one or several volumes is prepared; once it is durable the hold may begin. The set's identity is returned:
/// [`commit_cut`] or [`roll_back_cut`] follows.
///
/// # Errors
/// `volume.unknown`, `volume.not-started`, `volume.busy`, `volume.resyncing`, `snapshot.no-snapdone`, `snapshot.twice`,
/// `volume.exists`, `name.*`, `plex.none`.
pub fn prepare_cut(group: &Group, targets: &[CutTarget], ids: &mut Ids) -> Result<(Uuid, Change), Refused> {
    let mut draft = Draft::new(group, ids);
    let set = draft.ids.uuid();
    for target in targets {
        if let Ok(earlier) = draft.group.volume(target.volume)
            && earlier.prepared.as_ref().is_some_and(|cut| cut.set == set)
        {
            return Err(refuse::snapshot_twice(&earlier.name));
        }
        let volume = started_volume(&draft.group, target.volume)?;
        if volume.state() == VolumeState::Sync {
            return Err(refuse::volume_resyncing(&volume.name));
        }
        if target.mirrors == 0 {
            return Err(refuse::no_plexes(&volume.name));
        }
        let ready = |plex: &&Plex| plex.state() == PlexState::SnapDone && plex.is_attached();
        let plexes: Vec<_> =
            volume.plexes.iter().filter(ready).take(target.mirrors).map(Plex::uuid).collect();
        if plexes.len() < target.mirrors {
            return Err(refuse::snapshot_no_snapdone(volume, target.mirrors));
        }
        let name = snapshot_name(&draft.group, &volume.name, target.name)?;
        let (origin, length) = (volume.uuid, volume.length);
        let cut = PreparedCut {
            set,
            name,
            volume: draft.ids.uuid(),
            plexes,
            origin_map: draft.ids.uuid(),
            snapshot_map: draft.ids.uuid(),
        };
        for map in [cut.origin_map, cut.snapshot_map] {
            draft.before.push(Effect::CreateMap { map, volume: origin, fill: MapFill::Empty });
        }
        draft.before.push(Effect::CreateIntent { volume: cut.volume, length });
        draft.volume(origin)?.prepared = Some(cut);
    }
    Ok((set, draft.finish()?))
}

/// The name of a snapshot of `volume`: the one typed, or the next default.
fn snapshot_name(group: &Group, volume: &Name, typed: Option<&str>) -> Result<Name, Refused> {
    if let Some(typed) = typed {
        let name = refuse::parse_name("volume", typed)?;
        return if group.is_taken(typed) { Err(refuse::name_taken(&name, &group.name)) } else { Ok(name) };
    }
    let numbered = |number: usize| match number {
        0 => format!("SNAP-{volume}"),
        _ => format!("SNAP{number}-{volume}"),
    };
    let free = (0..).map(numbered).find(|name| !group.is_taken(name)).unwrap_or_default();
    refuse::parse_name("volume", &free).map_err(|_| refuse::snapshot_name_too_long(volume))
}

/// The swap is done and the detached plexes are flushed: the snapshot volumes come to be, started, linked with their
/// origins by a change map on each side. A volume of the set for which no facts are given counts as cut with grade
/// `crash` at time 0.
///
/// # Errors
/// `snapshot.no-cut`; `plex.gone` or `plex.state` when a plex left after the preparation: then it is rolled back.
pub fn commit_cut(group: &Group, set: Uuid, facts: &[CutFacts], ids: &mut Ids) -> Result<Change, Refused> {
    let mut draft = Draft::new(group, ids);
    for origin in members(group, set)? {
        let generation = draft.ids.generation();
        let record = draft.volume(origin)?;
        let Some(cut) = record.prepared.take() else { continue };
        let facts = facts.iter().find(|facts| facts.volume == origin).copied().unwrap_or(CutFacts {
            volume: origin,
            grade: Grade::Crash,
            cut_unix_s: 0,
            hold_ns: 0,
            frozen_ns: 0,
        });
        let mut snapshot = Volume::new(cut.name, cut.volume, record.length, record.region_size);
        snapshot.block_size = record.block_size;
        snapshot.memory_alignment = record.memory_alignment;
        snapshot.origin = Some(origin);
        snapshot.run = Generation(1);
        snapshot.crashed_run = Some(Generation(0));
        snapshot.step(VolumeEvent::Initialise)?;
        snapshot.step(VolumeEvent::Start)?;
        record.snapshots.push(SnapshotLink {
            volume: cut.volume,
            origin_map: cut.origin_map,
            snapshot_map: cut.snapshot_map,
            grade: facts.grade,
            cut_unix_s: facts.cut_unix_s,
            hold_ns: facts.hold_ns,
            frozen_ns: facts.frozen_ns,
        });
        for uuid in cut.plexes {
            draft.step(origin, uuid, PlexEvent::Break, Route::Whole)?;
            let record = draft.volume(origin)?;
            let at = record.plexes.iter().position(|plex| plex.uuid == uuid);
            let mut plex = record.plexes.remove(at.ok_or_else(|| refuse::plex_gone(uuid))?);
            plex.purpose = Purpose::Mirror;
            plex.take_generation(generation);
            snapshot.plexes.push(plex);
        }
        draft.after.push(Effect::StartDevice { volume: snapshot.uuid, number: None });
        draft.group.volumes.push(snapshot);
    }
    draft.finish()
}

/// A prepared cut is given up. When the routes were `swapped`, or that is not known, its plexes may lack writes of that
/// span, all of which intent bits cover: they become STALE and are resynced.
///
/// # Errors
/// `snapshot.no-cut`.
pub fn roll_back_cut(group: &Group, set: Uuid, swapped: bool, ids: &mut Ids) -> Result<Change, Refused> {
    let members = members(group, set)?;
    let mut draft = Draft::new(group, ids);
    for volume in members {
        draft.roll_back(volume, swapped)?;
    }
    draft.finish()
}

fn members(group: &Group, set: Uuid) -> Result<Vec<Uuid>, Refused> {
    let in_set = |volume: &&Volume| volume.prepared.as_ref().is_some_and(|cut| cut.set == set);
    let members: Vec<_> = group.volumes.iter().filter(in_set).map(Volume::uuid).collect();
    if members.is_empty() { Err(refuse::cut_unknown(set)) } else { Ok(members) }
}

impl Draft<'_> {
    /// Give up the prepared cut of a volume, if it has one.
    pub(super) fn roll_back(&mut self, volume: Uuid, swapped: bool) -> Result<(), Refused> {
        let Some(cut) = self.volume(volume)?.prepared.take() else { return Ok(()) };
        for plex in cut.plexes {
            let state = self.volume(volume)?.plex_by_id(plex).map(Plex::state);
            if swapped && state == Some(PlexState::SnapDone) {
                self.step(volume, plex, PlexEvent::Detach, Route::Whole)?;
            }
        }
        self.after.push(Effect::RemoveMap { map: cut.origin_map });
        self.after.push(Effect::RemoveMap { map: cut.snapshot_map });
        self.after.push(Effect::RemoveIntent { volume: cut.volume });
        Ok(())
    }
}
