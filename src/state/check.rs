//! What holds of every group: after each change, and of whatever is loaded. A checksum does not make a text sensible.

use std::collections::BTreeSet;

use super::group::{Group, MAX_PAST_GENERATIONS, Volume};
use super::plex::{PlexState, Purpose};
use super::refuse;
use super::restore::{Archive, MAX_UNDOS, Restore, RestorePhase, is_archive_name};
use super::volume::VolumeState;
use crate::base::limits::{MAX_COUNT, MAX_PLEXES, PAGE_BYTES};
use crate::base::{Refused, Uuid};

impl Group {
    /// Whether the group makes sense: names, identities, maps, media and device numbers are there once; every volume
    /// that was made has a complete plex; states of volumes and plexes fit each other; relations agree on both sides.
    ///
    /// # Errors
    /// `group.inconsistent` names the object and what is wrong.
    pub fn check(&self) -> Result<(), Refused> {
        self.check_uniqueness()?;
        for volume in &self.volumes {
            check_volume(volume).map_err(|what| refuse::absurd(&volume.name, what))?;
            self.check_relations(volume).map_err(|what| refuse::absurd(&volume.name, what))?;
        }
        Ok(())
    }

    fn check_uniqueness(&self) -> Result<(), Refused> {
        let (mut names, mut uuids, mut paths) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut numbers = BTreeSet::new();
        let twice =
            |what: &str, object: &dyn std::fmt::Display| Err(refuse::absurd(object, format!("{what} twice")));
        let mut pool = BTreeSet::new();
        for medium in &self.media {
            if !pool.insert(&medium.path) {
                return twice("a medium is there", &medium.path);
            }
        }
        for volume in &self.volumes {
            if !names.insert(&volume.name) {
                return twice("the name is there", &volume.name);
            }
            let mut ids = vec![volume.uuid];
            if let Some(cut) = &volume.prepared {
                if !names.insert(&cut.name) {
                    return twice("the name is there", &cut.name);
                }
                ids.extend([cut.volume, cut.origin_map, cut.snapshot_map]);
            }
            ids.extend(volume.undos.iter().flat_map(|undo| [undo.map, undo.archive.id]));
            ids.extend(volume.snapshots.iter().flat_map(|link| [link.origin_map, link.snapshot_map]));
            for plex in &volume.plexes {
                if !names.insert(&plex.name) {
                    return twice("the name is there", &plex.name);
                }
                if !paths.insert(&plex.medium.path) {
                    return twice("its medium carries a plex", &plex.medium.path);
                }
                if let Some(label_file) = &plex.medium.label_file
                    && !paths.insert(label_file)
                {
                    return twice("its label file carries a plex, or the labels of one,", label_file);
                }
                ids.push(plex.uuid);
                ids.extend(plex.map);
            }
            for id in ids {
                if id.is_nil() || !uuids.insert(id) {
                    return twice("its identity is nil, or there", &id);
                }
            }
            if let Some(number) = volume.device
                && !numbers.insert(number)
            {
                return twice("its device number is there", &volume.name);
            }
        }
        for leaving in &self.leaving {
            if !uuids.insert(leaving.plex) {
                return twice("a plex that leaves is there", &leaving.plex);
            }
        }
        Ok(())
    }

    fn check_relations(&self, volume: &Volume) -> Result<(), String> {
        for link in &volume.snapshots {
            let snapshot = self.volume_by_id(link.volume).ok_or("the snapshot of a relation is not there")?;
            if snapshot.origin != Some(volume.uuid) {
                return Err(format!("{} does not know it as its origin", snapshot.name));
            }
            if snapshot.length != volume.length || snapshot.region_size != volume.region_size {
                return Err(format!("{} has another length or region size", snapshot.name));
            }
        }
        if let Some(restore) = &volume.restore {
            check_restore(volume, restore)?;
        }
        if let Some(origin) = volume.origin {
            let origin = self.volume_by_id(origin).ok_or("its origin is not there")?;
            let links = origin.snapshots.iter().filter(|link| link.volume == volume.uuid).count();
            if links != 1 {
                return Err(format!("origin {} has {links} relations to it", origin.name));
            }
        }
        let mut seen: BTreeSet<Uuid> = BTreeSet::new();
        let mut at = Some(volume);
        while let Some(ancestor) = at {
            if !seen.insert(ancestor.uuid) {
                return Err("it is its own ancestor".to_owned());
            }
            at = ancestor.origin.and_then(|uuid| self.volume_by_id(uuid));
        }
        Ok(())
    }
}

/// A restore names a snapshot of its volume or an archive, as its phase needs it.
fn check_restore(volume: &Volume, restore: &Restore) -> Result<(), String> {
    let is_linked =
        restore.snapshot.is_none_or(|snapshot| volume.snapshots.iter().any(|link| link.volume == snapshot));
    let fits = match restore.phase {
        RestorePhase::Saving => restore.snapshot.is_some() && restore.archive.is_some(),
        RestorePhase::Writing => restore.snapshot.is_some(),
        RestorePhase::Undoing => restore.archive.is_some(),
    };
    let is_safe = restore.archive.iter().chain(volume.undos.iter().map(|undo| &undo.archive));
    if !is_linked || !fits || restore.snapshot.is_some() != restore.plex.is_some() {
        return Err(format!("it is being restored as {restore:?}"));
    }
    if volume.prepared.is_some() || volume.state() == VolumeState::Empty {
        return Err(format!(
            "it is {} and being restored, with a cut prepared or never made",
            volume.state()
        ));
    }
    check_archives(is_safe)
}

/// The names of archives are files beside the configuration: nothing else may be meant by one.
fn check_archives<'a>(mut archives: impl Iterator<Item = &'a Archive>) -> Result<(), String> {
    match archives.find(|archive| !is_archive_name(&archive.file)) {
        Some(archive) => Err(format!("its undo archive is called {:?}", archive.file)),
        None => Ok(()),
    }
}

fn check_volume(volume: &Volume) -> Result<(), String> {
    refuse::check_length(volume.length).map_err(|refused| refused.to_string())?;
    volume.settings.check(&volume.name).map_err(|refused| refused.to_string())?;
    if let Some(resizing) = &volume.resizing {
        let other = refuse::check_length(resizing.other());
        if other.is_err() || resizing.other() == volume.length || resizing.length() != volume.length {
            return Err(format!("it has {} bytes with {resizing:?}", volume.length));
        }
    }
    let (block, memory) = (volume.block_size, volume.memory_alignment);
    if !block.is_power_of_two() || !(512..=PAGE_BYTES as u32).contains(&block) || !memory.is_power_of_two() {
        return Err(format!("block size {block}, memory alignment {memory}"));
    }
    check_archives(volume.undos.iter().map(|undo| &undo.archive))?;
    if volume.undos.len() > MAX_UNDOS {
        return Err(format!("it has {} undo archives", volume.undos.len()));
    }
    if volume.plexes.is_empty() || volume.plexes.len() > MAX_PLEXES {
        return Err(format!("it has {} plexes", volume.plexes.len()));
    }
    if volume.run > MAX_COUNT || volume.stop > MAX_COUNT {
        return Err(format!(
            "it is in run {} after stop {}, which no counting reaches",
            volume.run, volume.stop
        ));
    }
    if let Some(crashed) = volume.crashed_run.filter(|crashed| *crashed >= volume.run) {
        return Err(format!("it is in run {} after a crash of run {crashed}", volume.run));
    }
    let state = volume.state();
    let complete = volume.complete_plexes().count();
    if (state == VolumeState::Empty) != (complete == 0) {
        return Err(format!("it is {state} with {complete} complete plexes"));
    }
    for plex in &volume.plexes {
        let fits = match plex.state() {
            PlexState::Empty => state == VolumeState::Empty,
            PlexState::Clean => state == VolumeState::Clean,
            PlexState::Active => state.is_started() || state == VolumeState::NeedSync,
            PlexState::Stale
            | PlexState::IoFail
            | PlexState::SnapAtt
            | PlexState::SnapDone
            | PlexState::SnapTmp
            | PlexState::Temp
            | PlexState::Offline => state != VolumeState::Empty,
        };
        if !fits {
            return Err(format!("it is {state} with plex {} {}", plex.name, plex.state()));
        }
        let purpose_fits = match plex.state() {
            PlexState::SnapAtt | PlexState::SnapDone | PlexState::SnapTmp => {
                plex.purpose == Purpose::Snapshot
            }
            PlexState::Empty | PlexState::Clean | PlexState::Active | PlexState::Temp => {
                plex.purpose == Purpose::Mirror
            }
            PlexState::Stale | PlexState::IoFail | PlexState::Offline => true,
        };
        if !purpose_fits {
            return Err(format!("plex {} is {} as {:?}", plex.name, plex.state(), plex.purpose));
        }
        if plex.map.is_some() != plex.state().has_map() {
            return Err(format!("plex {} is {} and has map {:?}", plex.name, plex.state(), plex.map));
        }
        if plex.is_attached() && !state.is_started() && state != VolumeState::NeedSync {
            return Err(format!("plex {} is in the route of a stopped volume", plex.name));
        }
        if state.is_started() && plex.state() == PlexState::Active && !plex.is_attached() {
            return Err(format!("plex {} is ACTIVE and not in the route", plex.name));
        }
        if let Some(old) = plex.replaces {
            let fits = plex.purpose == Purpose::Mirror && old != plex.uuid;
            if !fits || !volume.plexes.iter().any(|other| other.uuid == old) {
                return Err(format!("plex {} takes the place of {old}, which it cannot", plex.name));
            }
        }
        if plex.past.len() > MAX_PAST_GENERATIONS {
            return Err(format!("plex {} has {} past generations", plex.name, plex.past.len()));
        }
        if plex.past.contains(&plex.generation) {
            return Err(format!("plex {} has its present generation in its past", plex.name));
        }
    }
    let mut generations = volume.complete_plexes().map(|plex| plex.generation);
    if let Some(first) = generations.next()
        && generations.any(|other| other != first)
    {
        return Err("complete plexes differ in their data generation".to_owned());
    }
    check_progress(volume)
}

/// A resync and a prepared cut name plexes that are there, in states that have them.
fn check_progress(volume: &Volume) -> Result<(), String> {
    let state = volume.state();
    let resync_fits = match state {
        VolumeState::Sync => volume.resync.is_some(),
        VolumeState::NeedSync => true,
        VolumeState::Empty | VolumeState::Clean | VolumeState::Active => volume.resync.is_none(),
    };
    let source_is_complete = volume
        .resync
        .as_ref()
        .is_none_or(|resync| volume.complete_plexes().any(|plex| plex.uuid == resync.source));
    if !resync_fits || !source_is_complete {
        return Err(format!("it is {state} with resync {:?}", volume.resync));
    }
    if let Some(cut) = &volume.prepared {
        if !state.is_started() && state != VolumeState::NeedSync {
            return Err(format!("it is {state} with a cut prepared"));
        }
        if cut.plexes.is_empty() {
            return Err("a cut without plexes is prepared".to_owned());
        }
    }
    Ok(())
}
