//! Plexes of a snapshot volume go back to the origin; only what differs has to be copied.

use super::super::group::{Group, Plex, Volume};
use super::super::ids::Ids;
use super::super::plex::{PlexEvent, Purpose};
use super::super::refuse;
use super::super::volume::VolumeState;
use super::{Change, Draft, Effect, MapFill, Route, idle_volume, started_volume};
use crate::base::limits::MAX_PLEXES;
use crate::base::{Refused, Uuid};

/// A snapback to be begun.
#[derive(Clone, Copy, Debug)]
pub struct SnapbackArgs<'a> {
    /// The snapshot volume as typed; it must be stopped, so that its change map is complete.
    pub snapshot: &'a str,
    /// How many plexes go back; `None` is all of them.
    pub plexes: Option<usize>,
    /// Who has its device open.
    pub holders: &'a [String],
}

/// Complete plexes of a stopped snapshot volume become snapshot mirrors of the origin again: SNAPATT, with the union of
/// what either side changed since the cut as their map. With its last complete plex the snapshot volume is removed, its
/// own changes given up; the maps of the relation go after the commit.
///
/// # Errors
/// `volume.unknown`, `volume.busy`, `volume.open`; `snapshot.not-a-snapshot`; `volume.started` or `snapshot.unclean` for a
/// snapshot volume that is not CLEAN; `volume.not-started` and `volume.resyncing` for the origin; `snapshot.too-few-plexes`,
/// `plex.too-many`; `volume.has-snapshots` when the snapshot volume would go and has snapshots itself.
pub fn snapback(group: &Group, args: &SnapbackArgs, ids: &mut Ids) -> Result<Change, Refused> {
    let found = returnable(group, args)?;
    if found.count == 0 {
        return Err(refuse::snapback_too_few(&found.snapshot.name, 0, found.complete.len()));
    }
    is_stopped(found.snapshot)?;
    let mut draft = Draft::new(group, ids);
    draft.return_plexes(&found, None)?;
    draft.finish()
}

/// What of a snapshot volume goes back to its origin.
pub(super) struct Returnable<'g> {
    pub origin: &'g Volume,
    pub snapshot: &'g Volume,
    /// The change maps of both sides.
    pub maps: Vec<Uuid>,
    /// The complete plexes of the snapshot volume, oldest first.
    pub complete: Vec<Uuid>,
    /// How many of them go back, the newest first.
    pub count: usize,
}

/// What would go back, but for the state of the snapshot volume.
pub(super) fn returnable<'g>(group: &'g Group, args: &SnapbackArgs) -> Result<Returnable<'g>, Refused> {
    let snapshot = idle_volume(group, args.snapshot)?;
    let (origin, link) =
        group.link_of(snapshot.uuid).ok_or_else(|| refuse::not_a_snapshot(&snapshot.name))?;
    if !args.holders.is_empty() {
        return Err(refuse::volume_open(&snapshot.name, args.holders));
    }
    let origin = started_volume(group, origin.name.as_str())?;
    if origin.state() == VolumeState::Sync {
        return Err(refuse::volume_resyncing(&origin.name));
    }
    let complete: Vec<_> = snapshot.complete_plexes().map(Plex::uuid).collect();
    let count = args.plexes.unwrap_or(complete.len());
    if count > complete.len() {
        return Err(refuse::snapback_too_few(&snapshot.name, count, complete.len()));
    }
    if origin.plexes.len() + count > MAX_PLEXES {
        return Err(refuse::too_many_plexes(&origin.name, origin.plexes.len() + count));
    }
    if count == complete.len() && !snapshot.snapshots.is_empty() {
        return Err(refuse::volume_has_snapshots(&snapshot.name, &group.snapshot_names(snapshot)));
    }
    Ok(Returnable { origin, snapshot, maps: vec![link.origin_map, link.snapshot_map], complete, count })
}

/// Last, so that a caller who stops it for this does so for nothing else that is refused.
pub(super) fn is_stopped(snapshot: &Volume) -> Result<(), Refused> {
    match snapshot.state() {
        VolumeState::Clean => Ok(()),
        VolumeState::Active | VolumeState::Sync => Err(refuse::volume_running(&snapshot.name)),
        VolumeState::Empty | VolumeState::NeedSync => Err(refuse::snapshot_unclean(&snapshot.name)),
    }
}

impl Draft<'_> {
    /// Give back what `found` says; the plex `equal` lacks nothing, any other may lack all that either side changed.
    pub(super) fn return_plexes(&mut self, found: &Returnable, equal: Option<Uuid>) -> Result<(), Refused> {
        let (origin, snapshot) = (found.origin.uuid, found.snapshot.uuid);
        // The newest go first, as they came last.
        for plex in found.complete.iter().rev().take(found.count) {
            let lacks = if equal == Some(*plex) { Vec::new() } else { found.maps.clone() };
            self.return_plex(snapshot, origin, *plex, lacks)?;
        }
        if found.count == found.complete.len() {
            self.drop_volume(snapshot)?;
        }
        Ok(())
    }

    fn return_plex(&mut self, from: Uuid, to: Uuid, uuid: Uuid, maps: Vec<Uuid>) -> Result<(), Refused> {
        let record = self.volume(from)?;
        let at = record.plexes.iter().position(|plex| plex.uuid == uuid);
        let mut plex = record.plexes.remove(at.ok_or_else(|| refuse::plex_gone(uuid))?);
        plex.purpose = Purpose::Snapshot;
        plex.noted = None;
        plex.replaces = None;
        self.volume(to)?.plexes.push(plex);
        self.step(to, uuid, PlexEvent::Return, Route::Live)?;
        self.give_map(to, uuid, None, MapFill::Union(maps))?;
        self.after.push(Effect::Copy { volume: to, plex: uuid });
        Ok(())
    }
}
