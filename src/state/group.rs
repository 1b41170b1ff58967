//! The records that last: a group, its volumes, their plexes.
//!
//! They are read through accessors. The states of volumes and plexes change through `step` only, which asks the
//! machines; the other fields are open to this room alone, where [`super::change`] is their one writer.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::medium::{Noted, PlexMedium, PoolMedium};
use super::plex::{KernelState, PlexAction, PlexEvent, PlexMode, PlexState, Purpose};
use super::recovery::Leaving;
use super::refuse;
use super::resize::Resizing;
use super::restore::{Restore, Undo};
use super::scrub::Scrub;
use super::settings::Settings;
use super::snapshot::{PreparedCut, Resync, SnapshotLink};
use super::volume::{VolumeEvent, VolumeState};
use crate::base::{Generation, GenerationId, Name, Refused, RegionSize, Uuid};

/// Which plex serves a read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadPolicy {
    /// In turn.
    Round,
    /// As the volume sees fit.
    #[default]
    Select,
    /// This one while it is ACTIVE.
    Prefer(Name),
}

/// Past data-generation ids that a plex remembers: more partings than that are not told apart, and count as unrelated.
pub const MAX_PAST_GENERATIONS: usize = 16;

/// One full copy of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plex {
    pub(super) name: Name,
    pub(super) uuid: Uuid,
    pub(super) medium: PlexMedium,
    #[serde(default)]
    pub(super) purpose: Purpose,
    state: PlexState,
    attached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) map: Option<Uuid>,
    pub(super) generation: GenerationId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) past: Vec<GenerationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) noted: Option<Noted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replaces: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labelled: Option<Generation>,
}

/// In which state a plex is born.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Birth {
    /// With its volume: EMPTY.
    WithVolume,
    /// As a further mirror: TEMP.
    Mirror,
    /// As a snapshot mirror: SNAPTMP.
    Snapshot,
}

impl Plex {
    pub(super) const fn new(
        name: Name,
        uuid: Uuid,
        medium: PlexMedium,
        birth: Birth,
        id: GenerationId,
    ) -> Self {
        let (state, purpose) = match birth {
            Birth::WithVolume => (PlexState::Empty, Purpose::Mirror),
            Birth::Mirror => (PlexState::Temp, Purpose::Mirror),
            Birth::Snapshot => (PlexState::SnapTmp, Purpose::Snapshot),
        };
        Self {
            name,
            uuid,
            medium,
            purpose,
            state,
            attached: false,
            map: None,
            generation: id,
            past: Vec::new(),
            noted: None,
            replaces: None,
            labelled: None,
        }
    }

    /// Take the step of `event`; what goes along with it is returned.
    ///
    /// # Errors
    /// `plex.state` when the event does not fit; nothing changes.
    pub(super) fn step(&mut self, event: PlexEvent) -> Result<&'static [PlexAction], Refused> {
        let (state, actions) = self.state.step(event).map_err(|_| refuse::plex_state(self, event))?;
        self.state = state;
        for action in actions {
            match action {
                PlexAction::JoinRoute => self.attached = true,
                PlexAction::LeaveRoute => self.attached = false,
                PlexAction::FullMap
                | PlexAction::SeedMap
                | PlexAction::RetireMap
                | PlexAction::NewGeneration
                | PlexAction::Release => {}
            }
        }
        Ok(actions)
    }

    /// Take `id` as the current data-generation id and remember the one before.
    pub(super) fn take_generation(&mut self, id: GenerationId) {
        if self.generation != id {
            self.past.retain(|past| *past != id);
            self.past.insert(0, self.generation);
            self.past.truncate(MAX_PAST_GENERATIONS);
            self.generation = id;
        }
    }

    /// Its name, `VOL-NN`; it keeps it when it moves to a snapshot volume and back.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its identity.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Where it lies.
    #[must_use]
    pub const fn medium(&self) -> &PlexMedium {
        &self.medium
    }

    /// What it is kept for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> PlexState {
        self.state
    }

    /// Whether it is in the route of its started volume, so that writes go to it.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.attached
    }

    /// The map of what it lacks, in states STALE and SNAPATT.
    #[must_use]
    pub const fn map(&self) -> Option<Uuid> {
        self.map
    }

    /// The id of the state of its data.
    #[must_use]
    pub const fn generation(&self) -> GenerationId {
        self.generation
    }

    /// The ids that it had before, newest first.
    #[must_use]
    pub fn past_generations(&self) -> &[GenerationId] {
        &self.past
    }

    /// What its file looked like after the last clean stop; none for block devices and while the volume runs.
    #[must_use]
    pub const fn noted(&self) -> Option<Noted> {
        self.noted
    }

    /// The configuration that its label bore last, as far as that was recorded. A label that is no older is not one that came
    /// back: it lacks at most what was being recorded when the daemon ended.
    #[must_use]
    pub const fn labelled(&self) -> Option<Generation> {
        self.labelled
    }

    /// The plex whose place it takes as soon as it is ACTIVE.
    #[must_use]
    pub const fn replaces(&self) -> Option<Uuid> {
        self.replaces
    }

    /// VxVM's kernel state of this plex in a volume whose kernel state is `volume`.
    #[must_use]
    pub const fn kernel(&self, volume: KernelState) -> KernelState {
        match volume {
            KernelState::Disabled => KernelState::Disabled,
            KernelState::Enabled | KernelState::Detached => {
                if self.attached {
                    KernelState::Enabled
                } else {
                    KernelState::Detached
                }
            }
        }
    }

    /// Its mode, RW or WO.
    #[must_use]
    pub const fn mode(&self) -> PlexMode {
        self.state.mode()
    }
}

/// What the user mounts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    pub(super) name: Name,
    pub(super) uuid: Uuid,
    pub(super) length: u64,
    pub(super) region_size: RegionSize,
    pub(super) block_size: u32,
    pub(super) memory_alignment: u32,
    state: VolumeState,
    pub(super) run: Generation,
    pub(super) stop: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crashed_run: Option<Generation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<u32>,
    #[serde(default)]
    pub(super) read_policy: ReadPolicy,
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub(super) settings: Settings,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) intent_lost: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Uuid>,
    pub(super) plexes: Vec<Plex>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) snapshots: Vec<SnapshotLink>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resync: Option<Resync>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prepared: Option<PreparedCut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restore: Option<Restore>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) undos: Vec<Undo>,
    #[serde(default, skip_serializing_if = "Scrub::is_empty")]
    pub(super) scrub: Scrub,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resizing: Option<Resizing>,
}

impl Volume {
    pub(super) fn new(name: Name, uuid: Uuid, length: u64, region_size: RegionSize) -> Self {
        Self {
            name,
            uuid,
            length,
            region_size,
            block_size: 512,
            memory_alignment: 1,
            state: VolumeState::Empty,
            run: Generation(0),
            stop: Generation(0),
            crashed_run: None,
            device: None,
            read_policy: ReadPolicy::Select,
            settings: Settings::default(),
            intent_lost: false,
            origin: None,
            plexes: Vec::new(),
            snapshots: Vec::new(),
            resync: None,
            prepared: None,
            restore: None,
            undos: Vec::new(),
            scrub: Scrub::default(),
            resizing: None,
        }
    }

    /// Take the step of `event`.
    ///
    /// # Errors
    /// `volume.started`, `volume.not-started` or `volume.state` when it does not fit; nothing changes.
    pub(super) fn step(&mut self, event: VolumeEvent) -> Result<(), Refused> {
        self.state = self.state.step(event).map_err(|_| refuse::volume_state(self, event))?;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its identity.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The unit of its change maps.
    #[must_use]
    pub const fn region_size(&self) -> RegionSize {
        self.region_size
    }

    /// Logical block size in bytes: the largest of its first plexes, fixed when it was made.
    #[must_use]
    pub const fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Alignment that its buffers need in memory, in bytes: the largest of its first plexes, fixed when it was made.
    #[must_use]
    pub const fn memory_alignment(&self) -> u32 {
        self.memory_alignment
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> VolumeState {
        self.state
    }

    /// The generation of its present or latest run.
    #[must_use]
    pub const fn run(&self) -> Generation {
        self.run
    }

    /// The generation of its latest clean stop; run and stop generations are drawn from one rising counter.
    #[must_use]
    pub const fn stop(&self) -> Generation {
        self.stop
    }

    /// The run that crashed last, or 0 before the first one, for as long as no start after it is known to have come as far as
    /// showing a device: maps that carry it, or the run of one of those starts, lack nothing (ordering rule 15).
    #[must_use]
    pub const fn crashed_run(&self) -> Option<Generation> {
        self.crashed_run
    }

    /// The number N of its `/dev/ublkbN`, kept so that a restart gets the same node.
    #[must_use]
    pub const fn device(&self) -> Option<u32> {
        self.device
    }

    /// Which plex serves reads.
    #[must_use]
    pub const fn read_policy(&self) -> &ReadPolicy {
        &self.read_policy
    }

    /// What a person has set.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether its intent map could not be written, so that everything has to be resynced (ordering rule 18).
    #[must_use]
    pub const fn is_intent_lost(&self) -> bool {
        self.intent_lost
    }

    /// The volume that it was broken off from.
    #[must_use]
    pub const fn origin(&self) -> Option<Uuid> {
        self.origin
    }

    /// Its plexes, oldest first.
    #[must_use]
    pub fn plexes(&self) -> &[Plex] {
        &self.plexes
    }

    /// The links to its snapshot volumes, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[SnapshotLink] {
        &self.snapshots
    }

    /// The resync that is or was under way.
    #[must_use]
    pub const fn resync(&self) -> Option<&Resync> {
        self.resync.as_ref()
    }

    /// The cut that is prepared and not committed.
    #[must_use]
    pub const fn prepared(&self) -> Option<&PreparedCut> {
        self.prepared.as_ref()
    }

    /// The change of its length that is under way, if one is.
    #[must_use]
    pub const fn resizing(&self) -> Option<&Resizing> {
        self.resizing.as_ref()
    }

    /// Whether labels of its plexes, or its device, may say that it has `bytes`.
    #[must_use]
    pub fn may_have_length(&self, bytes: u64) -> bool {
        bytes == self.length || self.resizing.is_some_and(|resizing| bytes == resizing.other())
    }

    /// The restore that is under way.
    #[must_use]
    pub const fn restore(&self) -> Option<&Restore> {
        self.restore.as_ref()
    }

    /// The ways back from restores that are done, oldest first.
    #[must_use]
    pub fn undos(&self) -> &[Undo] {
        &self.undos
    }

    /// Its scrubs.
    #[must_use]
    pub const fn scrub(&self) -> &Scrub {
        &self.scrub
    }

    /// The plex of that name.
    ///
    /// # Errors
    /// `plex.unknown`.
    pub fn plex(&self, name: &str) -> Result<&Plex, Refused> {
        self.plexes
            .iter()
            .find(|plex| plex.name.as_str() == name)
            .ok_or_else(|| refuse::plex_unknown(name, &self.name))
    }

    /// The plex of that identity.
    #[must_use]
    pub fn plex_by_id(&self, uuid: Uuid) -> Option<&Plex> {
        self.plexes.iter().find(|plex| plex.uuid == uuid)
    }

    /// Plexes that hold every acknowledged write: CLEAN or ACTIVE.
    pub fn complete_plexes(&self) -> impl Iterator<Item = &Plex> {
        self.plexes.iter().filter(|plex| plex.state.is_complete())
    }

    /// The change maps that this volume's writes are marked in, apart from the plexes' own: one a snapshot relation, one an
    /// undo archive.
    /// `group` is needed for a snapshot volume, whose link stands at its origin.
    #[must_use]
    pub fn link_maps(&self, group: &Group) -> Vec<Uuid> {
        let mut maps: Vec<_> = self.snapshots.iter().map(|link| link.origin_map).collect();
        maps.extend(self.undos.iter().map(|undo| undo.map));
        maps.extend(group.link_of(self.uuid).map(|(_, link)| link.snapshot_map));
        if let Some(cut) = &self.prepared {
            maps.push(cut.origin_map);
        }
        maps
    }

    /// The number of plexes that snapwait waits for: snapshot mirrors in state SNAPDONE.
    #[must_use]
    pub fn snapdone_count(&self) -> usize {
        self.plexes.iter().filter(|plex| plex.state == PlexState::SnapDone).count()
    }

    /// The snapshot mirrors in whatever state.
    pub fn snapshot_mirrors(&self) -> impl Iterator<Item = &Plex> {
        self.plexes.iter().filter(|plex| plex.purpose == Purpose::Snapshot)
    }
}

/// A namespace of volumes and the media on which their plexes may lie.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub(super) name: Name,
    pub(super) uuid: Uuid,
    pub(super) media: Vec<PoolMedium>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leaving: Vec<Leaving>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) exported: bool,
}

impl Group {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its identity.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The media on which new plexes may be put.
    #[must_use]
    pub fn media(&self) -> &[PoolMedium] {
        &self.media
    }

    /// Its volumes, oldest first.
    #[must_use]
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// Plexes that were given up and whose media are not freed yet, oldest first.
    #[must_use]
    pub fn leaving(&self) -> &[Leaving] {
        &self.leaving
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// `volume.unknown`.
    pub fn volume(&self, name: &str) -> Result<&Volume, Refused> {
        self.volumes
            .iter()
            .find(|volume| volume.name.as_str() == name)
            .ok_or_else(|| refuse::volume_unknown(name, &self.name))
    }

    /// The volume that has the plex called `name`, and the plex.
    ///
    /// # Errors
    /// `plex.unknown`.
    pub fn plex(&self, name: &str) -> Result<(&Volume, &Plex), Refused> {
        self.volumes
            .iter()
            .find_map(|volume| Some((volume, volume.plexes.iter().find(|plex| plex.name.as_str() == name)?)))
            .ok_or_else(|| refuse::plex_nowhere(name, &self.name))
    }

    /// The volume of that identity.
    #[must_use]
    pub fn volume_by_id(&self, uuid: Uuid) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.uuid == uuid)
    }

    /// The volume that has the plex of that identity, and the plex.
    #[must_use]
    pub fn plex_by_id(&self, uuid: Uuid) -> Option<(&Volume, &Plex)> {
        self.volumes.iter().find_map(|volume| volume.plex_by_id(uuid).map(|plex| (volume, plex)))
    }

    /// The origin of the snapshot volume `snapshot` and the link between the two.
    #[must_use]
    pub fn link_of(&self, snapshot: Uuid) -> Option<(&Volume, &SnapshotLink)> {
        self.volumes.iter().find_map(|origin| {
            origin.snapshots.iter().find(|link| link.volume == snapshot).map(|link| (origin, link))
        })
    }

    /// The volume that is being restored from the snapshot volume `snapshot`.
    #[must_use]
    pub fn restoring_from(&self, snapshot: Uuid) -> Option<&Volume> {
        let from =
            |volume: &&Volume| volume.restore.as_ref().is_some_and(|one| one.snapshot == Some(snapshot));
        self.volumes.iter().find(from)
    }

    /// Whether a volume or plex is called `name`; both share one namespace, as in VxVM.
    #[must_use]
    pub fn is_taken(&self, name: &str) -> bool {
        self.volumes.iter().any(|volume| {
            volume.name.as_str() == name
                || volume.plexes.iter().any(|plex| plex.name.as_str() == name)
                || volume.prepared.as_ref().is_some_and(|cut| cut.name.as_str() == name)
        })
    }

    /// With the configurations that stand on the labels of plexes.
    #[must_use]
    pub fn with_labelled(mut self, labelled: &BTreeMap<Uuid, Generation>) -> Self {
        for plex in self.volumes.iter_mut().flat_map(|volume| &mut volume.plexes) {
            plex.labelled = labelled.get(&plex.uuid).copied().or(plex.labelled);
        }
        self
    }

    /// Without what is known of labels: it was not this group's directory that followed them last.
    #[must_use]
    pub fn without_labelled(mut self) -> Self {
        self.volumes.iter_mut().flat_map(|volume| &mut volume.plexes).for_each(|plex| plex.labelled = None);
        self
    }

    /// Whether it was given up here, to be taken in elsewhere: no volume of it has run since.
    #[must_use]
    pub const fn is_exported(&self) -> bool {
        self.exported
    }

    /// As a host has it that serves it.
    #[must_use]
    pub fn served(mut self) -> Self {
        self.exported = false;
        self
    }

    pub(super) fn volume_mut(&mut self, uuid: Uuid) -> Option<&mut Volume> {
        self.volumes.iter_mut().find(|volume| volume.uuid == uuid)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
pub(super) const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::super::medium::{MediumKind, MediumPath};
    use super::*;

    #[test]
    fn a_plex_remembers_a_bounded_past() {
        let id = |n: u8| GenerationId(Uuid::from_random([n; 16]));
        let medium = PlexMedium {
            path: MediumPath::new("/m/p").unwrap(),
            kind: MediumKind::Made,
            sparse: false,
            label_file: None,
        };
        let mut plex = Plex::new(Name::new("v-01").unwrap(), Uuid::NIL, medium, Birth::WithVolume, id(0));
        for n in 1..40 {
            plex.take_generation(id(n));
        }
        plex.take_generation(id(39));
        assert_eq!(plex.generation(), id(39));
        assert_eq!(plex.past_generations().len(), MAX_PAST_GENERATIONS);
        assert_eq!(plex.past_generations()[0], id(38));
        plex.take_generation(id(30));
        assert!(!plex.past_generations().contains(&id(30)));
    }
}
