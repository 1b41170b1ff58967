//! Configuration changes as pure transactions: from one [`Group`] to the next, with what has to be done around the commit.
//!
//! Each function looks at a group and returns a [`Change`] or a refusal. Its caller carries out `before_commit` in order,
//! makes `group` durable (labels of the volumes that [`Change::touched`] names, and the catalogue), then carries out
//! `after_commit` in order. When a step before the commit fails, the caller undoes the earlier ones and nothing has
//! changed; after the commit the change stands, and a step that was lost in a crash is found and repeated at the next
//! start, because it removes what no record names any more, or makes what a record names.
//!
//! Long work is two changes or more: a record is committed that holds the name (EMPTY, TEMP, SNAPTMP), the medium is
//! made, a second change takes it in; a crash between the two leaves a record whose space the next start frees.

mod by_hand;
mod carry;
mod cut;
mod import;
mod make;
mod mirror;
mod remove;
mod resize;
mod restore;
mod run;
mod scrub;
mod snapback;

pub use by_hand::{
    attach_plex, bring_online, convert_plex, detach_plex, finish_replace, replace_plex, replaced_plexes, set,
    take_offline,
};
pub use carry::{export_group, move_media, remove_medium};
pub use cut::{CutFacts, CutTarget, commit_cut, prepare_cut, roll_back_cut};
pub use import::{Carrier, import_group};
pub use make::{Made, MakeArgs, Site, add_medium, create_group, destroy_group, finish_make, make_volume};
pub use mirror::{Loss, add_plexes, lose_plex, plex_ready, remove_plex, snapabort, snapstart, synced_plex};
pub use remove::{RemoveArgs, abandon_make, release_volume, released, remove_volume, snapclear};
pub use resize::{resize_begin, resize_done, resize_record, resize_settle};
pub use restore::{
    RestoreArgs, begin_restore, begin_undo, delete_undo, drop_restore, find_undo, finish_restore,
    restore_saved, restore_turns_back,
};
pub use run::{
    Presence, StartArgs, after_restart, assign_device, crashed, move_authority, note_media, recover,
    resync_done, set_intent_lost, set_read_policy, start, stop,
};
pub use scrub::{
    RepairWish, scrub_begin, scrub_count_anew, scrub_end, scrub_progress, scrub_repair, scrub_schedule,
};
pub use snapback::{SnapbackArgs, snapback};

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::group::{Group, Plex, ReadPolicy, Volume};
use super::ids::Ids;
use super::medium::PlexMedium;
use super::plex::{PlexAction, PlexEvent};
use super::recovery::Leaving;
use super::refuse;
use super::volume::VolumeEvent;
use crate::base::museum::{self, Exhibit};
use crate::base::{Name, Refused, Uuid};

/// What a new change map or plex map starts with. On a started volume the map is in the route, and so collects, before
/// its first content is taken: no write falls between the two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MapFill {
    /// No bit.
    Empty,
    /// All bits.
    Full,
    /// Every region over which an intent bit is set.
    Intent,
    /// Every bit that one of these maps has.
    Union(Vec<Uuid>),
}

/// One thing to do around a commit. Each can be repeated: doing it again has no further effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effect {
    /// Make the preallocated file of a map, durably, with this content; on a started volume track writes in it from
    /// before the content is taken.
    CreateMap {
        /// The map.
        map: Uuid,
        /// The volume whose regions it counts and whose writes it collects; for the map of a snapshot volume to be,
        /// the origin.
        volume: Uuid,
        /// Its first content.
        fill: MapFill,
    },
    /// OR this content into a map that exists, durably.
    AddToMap {
        /// The map.
        map: Uuid,
        /// The volume whose intent map is meant by [`MapFill::Intent`].
        volume: Uuid,
        /// What is added.
        fill: MapFill,
    },
    /// Stop tracking in a map and remove its file.
    RemoveMap {
        /// The map.
        map: Uuid,
    },
    /// Make the preallocated, empty intent map of a volume.
    CreateIntent {
        /// The volume.
        volume: Uuid,
        /// Its length in bytes.
        length: u64,
    },
    /// Remove the intent map of a volume.
    RemoveIntent {
        /// The volume.
        volume: Uuid,
    },
    /// Make a plex's medium ready: a new file is made and allocated (or made sparse), an existing one is opened and
    /// measured. Then `finish_make` or `plex_ready` is due.
    Allocate {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
        /// Where it lies.
        medium: PlexMedium,
        /// Bytes that the medium must have: data and label areas.
        bytes: u64,
    },
    /// A plex is given up: remove the file that Cleave made; on any other medium erase Cleave's labels alone. The record
    /// keeps it as leaving until `released` says that this is done.
    Release {
        /// The plex.
        plex: Uuid,
        /// Where it lies.
        medium: PlexMedium,
        /// Length of the volume that it was a copy of, in bytes: tells where the labels stand.
        length: u64,
    },
    /// Remove an undo archive from the state directory.
    RemoveArchive {
        /// The file's name.
        file: String,
    },
    /// Take a plex into the route of its started volume: writes go to it from now on.
    Attach {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
    /// Leave a plex out of the route; what is in flight to it is waited for.
    Detach {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
    /// Copy to an attached plex what its map says it lacks, then call `synced_plex`.
    Copy {
        /// The volume.
        volume: Uuid,
        /// The plex.
        plex: Uuid,
    },
    /// Make the plexes equal over every set intent extent, reading unequal extents from the source alone, then call
    /// `resync_done`.
    Resync {
        /// The volume.
        volume: Uuid,
        /// The plex whose content counts.
        source: Uuid,
    },
    /// Make the volume's device, with this number if there is one, and its links.
    StartDevice {
        /// The volume.
        volume: Uuid,
        /// N of `/dev/ublkbN`.
        number: Option<u32>,
    },
    /// Drain, flush the plexes, make the change maps durable, clear the intent map, remove links and device.
    StopDevice {
        /// The volume.
        volume: Uuid,
        /// N of `/dev/ublkbN`.
        number: Option<u32>,
    },
}

/// A configuration change that was found possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The group after it.
    pub group: Group,
    /// To be done, in order, before the group is made durable.
    pub before_commit: Vec<Effect>,
    /// To be done, in order, after it.
    pub after_commit: Vec<Effect>,
}

impl Change {
    /// The volumes whose records differ from those of `before`: their plexes' labels are rewritten with the commit.
    #[must_use]
    pub fn touched(&self, before: &Group) -> Vec<Uuid> {
        let changed = |volume: &&Volume| before.volume_by_id(volume.uuid()) != Some(*volume);
        self.group.volumes().iter().filter(changed).map(Volume::uuid).collect()
    }

    /// Whether a volume has another run than in `before`, or a plex another data generation: labels of before tell of older
    /// data from then on.
    #[must_use]
    pub fn outdates_labels(&self, before: &Group) -> bool {
        let run = |volume: &Volume| {
            before.volume_by_id(volume.uuid()).is_some_and(|before| before.run() != volume.run())
        };
        let data = |plex: &Plex| {
            before.plex_by_id(plex.uuid()).is_some_and(|(_, before)| before.generation() != plex.generation())
        };
        self.group.volumes().iter().any(|volume| run(volume) || volume.plexes().iter().any(data))
    }
}

/// Whether route changes of single plexes are effects of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    /// The volume runs on: the data path is told of each plex.
    Live,
    /// The whole route is made or ended with the device, or swapped at a cut.
    Whole,
}

/// A change in the making.
struct Draft<'a> {
    group: Group,
    before: Vec<Effect>,
    after: Vec<Effect>,
    ids: &'a mut Ids,
    parted: BTreeSet<Uuid>,
}

impl<'a> Draft<'a> {
    fn new(group: &Group, ids: &'a mut Ids) -> Self {
        Self { group: group.clone(), before: Vec::new(), after: Vec::new(), ids, parted: BTreeSet::new() }
    }

    fn volume(&mut self, uuid: Uuid) -> Result<&mut Volume, Refused> {
        self.group.volume_mut(uuid).ok_or_else(|| refuse::volume_gone(uuid))
    }

    fn plex(&mut self, volume: Uuid, plex: Uuid) -> Result<&mut Plex, Refused> {
        let record = self.volume(volume)?;
        record.plexes.iter_mut().find(|p| p.uuid == plex).ok_or_else(|| refuse::plex_gone(plex))
    }

    /// Step one plex and turn its actions into effects and record changes.
    fn step(&mut self, volume: Uuid, plex: Uuid, event: PlexEvent, route: Route) -> Result<(), Refused> {
        let record = self.volume(volume)?;
        let length = record.length;
        let live = record.state().is_started() && route == Route::Live;
        let record = self.plex(volume, plex)?;
        let was_attached = record.is_attached();
        let actions = record.step(event)?;
        let (old_map, medium) = (record.map, record.medium.clone());
        for action in actions {
            match action {
                PlexAction::JoinRoute if live => self.after.push(Effect::Attach { volume, plex }),
                PlexAction::LeaveRoute if live && was_attached => {
                    self.before.push(Effect::Detach { volume, plex });
                }
                PlexAction::JoinRoute | PlexAction::LeaveRoute => {}
                PlexAction::FullMap => self.give_map(volume, plex, old_map, MapFill::Full)?,
                PlexAction::SeedMap => self.give_map(volume, plex, old_map, MapFill::Intent)?,
                PlexAction::RetireMap => {
                    self.after.extend(old_map.map(|map| Effect::RemoveMap { map }));
                    self.set_map(volume, plex, None)?;
                }
                PlexAction::NewGeneration => {
                    self.parted.insert(volume);
                }
                PlexAction::Release => {
                    self.volume(volume)?.plexes.retain(|p| p.uuid != plex);
                    self.after.extend(old_map.map(|map| Effect::RemoveMap { map }));
                    let effects = match museum::shows(Exhibit::SpaceFreedBeforeCommit) {
                        true => &mut self.before,
                        false => &mut self.after,
                    };
                    effects.push(Effect::Release { plex, medium: medium.clone(), length });
                    self.group.leaving.push(Leaving { plex, medium: medium.clone(), length });
                }
            }
        }
        Ok(())
    }

    /// See to it that `plex` has a map with at least `fill`.
    fn give_map(
        &mut self,
        volume: Uuid,
        plex: Uuid,
        old: Option<Uuid>,
        fill: MapFill,
    ) -> Result<(), Refused> {
        if let Some(map) = old {
            self.before.push(Effect::AddToMap { map, volume, fill });
            return Ok(());
        }
        let map = self.ids.uuid();
        self.before.push(Effect::CreateMap { map, volume, fill });
        self.set_map(volume, plex, Some(map))
    }

    fn set_map(&mut self, volume: Uuid, plex: Uuid, map: Option<Uuid>) -> Result<(), Refused> {
        self.plex(volume, plex)?.map = map;
        Ok(())
    }

    /// The plexes that are left take a new data-generation id where one parted from them (ordering rule 16); one id for
    /// all that parted in this change, so that those that did not see it keep the id their labels bear.
    fn finish(mut self) -> Result<Change, Refused> {
        for uuid in std::mem::take(&mut self.parted) {
            let id = self.ids.generation();
            let Some(volume) = self.group.volume_mut(uuid) else { continue };
            for plex in &mut volume.plexes {
                if plex.state().is_complete() || plex.state() == super::PlexState::SnapDone {
                    plex.take_generation(id);
                }
            }
        }
        for volume in &mut self.group.volumes {
            let here: Vec<Uuid> = volume.plexes.iter().map(Plex::uuid).collect();
            // What was to take the place of a plex that is gone, or went elsewhere, is a mirror like any other.
            for plex in &mut volume.plexes {
                plex.replaces = plex.replaces.filter(|old| here.contains(old));
            }
            if let ReadPolicy::Prefer(preferred) = &volume.read_policy
                && volume.plex(preferred.as_str()).is_err()
            {
                volume.read_policy = ReadPolicy::default();
            }
        }
        self.group.check()?;
        Ok(Change { group: self.group, before_commit: self.before, after_commit: self.after })
    }
}

/// No change: to see whether one could be recorded.
#[must_use]
pub fn nothing(group: &Group) -> Change {
    Change { group: group.clone(), before_commit: Vec::new(), after_commit: Vec::new() }
}

/// A change that only edits records.
fn edit(
    group: &Group,
    volume: Uuid,
    change: impl FnOnce(&mut Volume) -> Result<(), Refused>,
) -> Result<Change, Refused> {
    let mut group = group.clone();
    change(group.volume_mut(volume).ok_or_else(|| refuse::volume_gone(volume))?)?;
    group.check()?;
    Ok(Change { group, before_commit: Vec::new(), after_commit: Vec::new() })
}

/// The volume called `name`, unless a cut or a restore of it is under way, or a restore from it.
fn idle_volume<'g>(group: &'g Group, name: &str) -> Result<&'g Volume, Refused> {
    let volume = group.volume(name)?;
    if volume.prepared.is_some() {
        return Err(refuse::volume_busy(&volume.name));
    }
    if volume.restore.is_some() {
        return Err(refuse::volume_restoring(&volume.name));
    }
    match group.restoring_from(volume.uuid) {
        Some(origin) => Err(refuse::snapshot_restoring(&volume.name, &origin.name)),
        None => Ok(volume),
    }
}

/// The volume called `name`, which must be started and in no cut.
fn started_volume<'g>(group: &'g Group, name: &str) -> Result<&'g Volume, Refused> {
    let volume = idle_volume(group, name)?;
    if volume.state().is_started() { Ok(volume) } else { Err(refuse::volume_not_started(&volume.name)) }
}

/// The lowest free name `VOL-NN` for a plex.
fn plex_name(group: &Group, volume: &Name) -> Result<Name, Refused> {
    (1..)
        .map(|number| format!("{volume}-{number:02}"))
        .find(|name| !group.is_taken(name))
        .map_or_else(|| Err(refuse::too_many_plexes(volume, usize::MAX)), |name| refuse::plex_name(&name))
}

/// Bytes that a medium needs for a plex of `volume`.
#[must_use]
pub const fn needed_bytes(volume: &Volume) -> u64 {
    crate::base::limits::medium_bytes(volume.length)
}

#[cfg(test)]
mod by_hand_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod release_tests;
#[cfg(test)]
mod resize_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
pub(in crate::state) mod tests;
