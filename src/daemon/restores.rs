//! The verbs `restore` and `undo`: what is refused before anything is done, what is told first, and how it begins.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::{Errno, Name, Refused, Uuid};
use crate::bitmap::ChangeMap;
use crate::control::reply::{Changed, Listed, Restored};
use crate::control::row::{RestoringRow, UndoRow};
use crate::control::{Reply, Row, request};
use crate::device::Moment;
use crate::state::change::{self, RestoreArgs, SnapbackArgs};
use crate::state::place::Room;
use crate::state::{Archive, Group, MediumPath, PoolMedium, VolumeState, refuse};

use super::jobs::{Job, limits};
use super::machine::Machine;
use super::owner::{GroupHandle, Owner, system};
use super::restore::{Carrying, archive_bytes};
use super::server::Answer;

/// Bytes of the state directory's file system that an undo archive leaves alone: configurations and the maps of the next
/// snapshots go on being written. A map of a volume of 1 TiB takes 4 MiB.
const HEAD_ROOM: u64 = 16 << 20;

impl<M: Machine> Owner<M> {
    /// Overwrite a volume from one of its snapshots.
    pub(super) async fn restore(
        self: &Rc<Self>,
        request: request::Restore,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        group.is_settled()?;
        let record = group.record();
        let snapshot = record.volume(request.snapshot.as_str())?.uuid();
        let origin = record.link_of(snapshot).map(|(origin, _)| origin.uuid());
        let alone = self.alone(origin.into_iter().chain([snapshot])).await;
        let record = group.record();
        let (origin, _) =
            record.link_of(snapshot).ok_or_else(|| refuse::not_a_snapshot(&request.snapshot))?;
        let (uuid, name) = (origin.uuid(), origin.name().clone());
        let (of_snapshot, of_origin) = (self.who_has(snapshot).await, self.who_has(uuid).await);
        let mut args = RestoreArgs {
            snapshot: SnapbackArgs {
                snapshot: request.snapshot.as_str(),
                plexes: request.nmirror.map(|count| count as usize),
                holders: &of_snapshot,
            },
            holders: &of_origin,
            archive: None,
        };
        let runs = self.live(snapshot).is_some();
        check(&record, &args, runs)?;
        // Started by its record and not served: it could not be taken over.
        let live = self.live(uuid).ok_or_else(|| refuse::volume_not_started(&name))?;
        let snapshot_bytes = self.changed_since_cut(&group, snapshot).await;
        let gone = || system(snapshot, "is gone", Errno::GONE);
        let differs = self.differing(&group, snapshot).ok_or_else(gone)?;
        let archive = match request.safety {
            true => {
                Some(Archive::new(&name, self.dice()?.uuid(), self.unix_seconds(), differs.dirty_bytes()))
            }
            false => None,
        };
        args.archive = archive.as_ref();
        check(&record, &args, runs)?;
        if let Some(archive) = &archive {
            let needed = archive_bytes(archive, uuid, &name, &differs);
            self.has_room(&group, &name, needed).await?;
        }
        let row = RestoringRow {
            group: group.name.clone(),
            volume: name.clone(),
            snapshot: Some(request.snapshot.clone()),
            overwritten_bytes: differs.dirty_bytes(),
            overwritten_regions: differs.dirty_regions(),
            regions: differs.bits().len(),
            snapshot_bytes,
            since_bytes: 0,
            archive: archive.as_ref().map(|archive| Self::archive_path(&group, archive)),
        };
        answer.row(Row::Restoring(row)).await;
        if request.dry_run {
            return Ok(Reply::Changed(Changed { changed: false }));
        }
        if runs {
            self.stop_alone(&group, &request.snapshot).await?;
        }
        let begun = async {
            // Whoever touched the plexes while they were stopped may have changed all of them.
            self.weigh_stopped_snapshot(&group, snapshot, None).await?;
            let differs = self.differing(&group, snapshot).ok_or_else(gone)?;
            let bytes = differs.dirty_bytes();
            let archive = archive.as_ref().map(|archive| Archive { bytes, ..archive.clone() });
            if let Some(volume) = group.record().volume_by_id(snapshot) {
                self.close_media(volume);
            }
            self.hide(&group, &live).await?;
            let args = RestoreArgs {
                snapshot: SnapbackArgs { holders: &[], ..args.snapshot },
                holders: &[],
                archive: archive.as_ref(),
            };
            match self.transact(&group, |group, _| change::begin_restore(group, &args)).await {
                Ok(_) => Ok(differs),
                Err(refused) => {
                    self.show_again(&group, &live).await;
                    Err(refused)
                }
            }
        };
        let differs = match begun.await {
            Ok(differs) => differs,
            Err(refused) => {
                if let Some(volume) = group.record().volume_by_id(snapshot) {
                    self.close_media(volume);
                }
                if runs && let Err(again) = self.start_alone(&group, &request.snapshot, None).await {
                    tracing::error!(
                        "a snapshot that was stopped for a restore does not start again: {again}"
                    );
                }
                return Err(refused);
            }
        };
        let carrying = Carrying {
            differs: Some(Arc::new(differs)),
            again: runs.then(|| request.snapshot.clone()),
            limits: limits(request.bytes_per_second, None),
        };
        let job = self.carry_on(&group, &live, carrying)?;
        drop(alone);
        self.restored(name, archive.as_ref(), job, request.background, began).await
    }

    /// Put an undo archive back.
    pub(super) async fn undo_restore(
        self: &Rc<Self>,
        request: request::Undo,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        group.is_settled()?;
        let alone = self.alone_with(&group, &request.volume).await?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let (uuid, name, id) = (volume.uuid(), volume.name().clone(), request.archive.as_deref());
        if let Some(turned) = self.turn_back(&group, uuid).await? {
            drop(alone);
            // Its archive goes when everything is put back.
            return self.restored(name, None, turned, request.background, began).await;
        }
        let holders = self.who_has(uuid).await;
        change::begin_undo(&record, name.as_str(), id, &holders, request.keep)?;
        let live = self.live(uuid).ok_or_else(|| refuse::volume_not_started(&name))?;
        let undo = change::find_undo(volume, id)?.clone();
        // All of it is read before anything is overwritten.
        let held = ChangeMap::new(volume.length(), volume.region_size());
        let held = self.with_archive(&group, &live, &undo.archive, held, true).await?;
        let since = self.written_since(undo.map, &held);
        if since.dirty_regions() > 0 && !request.force {
            return Err(refuse::undo_written_since(&name, since.dirty_regions(), since.dirty_bytes()));
        }
        let row = RestoringRow {
            group: group.name.clone(),
            volume: name.clone(),
            snapshot: None,
            overwritten_bytes: held.dirty_bytes(),
            overwritten_regions: held.dirty_regions(),
            regions: held.bits().len(),
            snapshot_bytes: 0,
            since_bytes: self.maps.borrow().get(&undo.map).map_or(volume.length(), |map| map.dirty_bytes()),
            archive: Some(Self::archive_path(&group, &undo.archive)),
        };
        answer.row(Row::Restoring(row)).await;
        if request.dry_run {
            return Ok(Reply::Changed(Changed { changed: false }));
        }
        self.hide(&group, &live).await?;
        let archive = undo.archive.short_id();
        let begin =
            |group: &Group| change::begin_undo(group, name.as_str(), Some(&archive), &[], request.keep);
        if let Err(refused) = self.transact(&group, |group, _| begin(group)).await {
            self.show_again(&group, &live).await;
            return Err(refused);
        }
        let limits = limits(request.bytes_per_second, None);
        let job = self.carry_on(&group, &live, Carrying { differs: None, again: None, limits })?;
        drop(alone);
        let kept = request.keep.then_some(&undo.archive);
        self.restored(name, kept, job, request.background, began).await
    }

    /// A restore of `volume` that is half done and has no task goes back instead of on.
    async fn turn_back(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
    ) -> Result<Option<Job>, Refused> {
        let Some(live) = self.live(volume) else { return Ok(None) };
        if live.is_at_work_on(volume)
            || group.record().volume_by_id(volume).is_none_or(|one| one.restore().is_none())
        {
            return Ok(None);
        }
        let turned = self.transact(group, |group, _| change::restore_turns_back(group, volume)).await;
        match turned {
            Ok(_) => self.go_on(group, &live),
            // It goes back already.
            Err(refused) if refused.id == "volume.not-restoring" => self.go_on(group, &live),
            Err(refused) => Err(refused),
        }
    }

    /// What was written since a restore and is not among the `held` regions of its archive.
    fn written_since(&self, map: Uuid, held: &ChangeMap) -> ChangeMap {
        let since = ChangeMap::new(held.length(), held.region_size());
        match self.maps.borrow().get(&map) {
            Some(map) => since.or_from(map),
            None => since.mark_all(),
        }
        since.and_not_from(held);
        since
    }

    pub(super) async fn undo_list(
        self: &Rc<Self>,
        request: request::UndoList,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let volumes = match &request.volume {
            Some(name) => vec![record.volume(name.as_str())?],
            None => record.volumes().iter().collect(),
        };
        let mut rows = 0;
        for volume in volumes {
            for undo in volume.undos() {
                let since = self.maps.borrow().get(&undo.map).map(|map| map.dirty_bytes());
                let row = UndoRow {
                    group: group.name.clone(),
                    volume: volume.name().clone(),
                    archive: undo.archive.short_id(),
                    path: Self::archive_path(&group, &undo.archive),
                    taken_ms: u64::try_from(undo.archive.unix_s).unwrap_or(0).saturating_mul(1000),
                    bytes: undo.archive.bytes,
                    written_since_bytes: since,
                };
                answer.row(Row::Undo(row)).await;
                rows += 1;
            }
        }
        Ok(Reply::Listed(Listed { rows }))
    }

    pub(super) async fn undo_delete(self: &Rc<Self>, request: request::UndoDelete) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let (volume, archive) = (request.volume.as_str(), request.archive.as_str());
        self.transact(&group, |group, ids| change::delete_undo(group, volume, archive, ids)).await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn restored(
        self: &Rc<Self>,
        volume: Name,
        archive: Option<&Archive>,
        job: Job,
        background: bool,
        began: Moment,
    ) -> Result<Reply, Refused> {
        let task = background.then_some(job.task);
        let written_bytes = if background { 0 } else { job.ended().await? };
        let (archive, elapsed_ms) = (archive.map(Archive::short_id), self.millis_since(began));
        Ok(Reply::Restored(Restored { volume, written_bytes, archive, task, elapsed_ms }))
    }

    /// Who has the device of `volume` open.
    pub(super) async fn who_has(self: &Rc<Self>, volume: Uuid) -> Vec<String> {
        match self.live(volume) {
            Some(live) => self.holders(&live).await,
            None => Vec::new(),
        }
    }

    /// Refuse an archive of `needed` bytes for which the state directory has no room.
    async fn has_room(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: &Name,
        needed: u64,
    ) -> Result<(), Refused> {
        let place = group.directory.display().to_string();
        let room =
            self.machine.room(&PoolMedium { path: MediumPath::new(&place)?, block: false, name: None }).await;
        match room {
            Room::Directory { free } if free.saturating_sub(HEAD_ROOM) < needed => {
                Err(refuse::no_room_for_undo(volume, place, needed, free.saturating_sub(HEAD_ROOM)))
            }
            // Where it cannot be told, the making of the file tells.
            _ => Ok(()),
        }
    }
}

/// Refuse a restore before its snapshot volume is stopped for it.
fn check(record: &Group, args: &RestoreArgs, runs: bool) -> Result<(), Refused> {
    let state = record.volume(args.snapshot.snapshot)?.state();
    match change::begin_restore(record, args) {
        // It runs and is stopped for it.
        Err(refused) if runs && state == VolumeState::Active && refused.id == "volume.started" => Ok(()),
        other => other.map(drop),
    }
}
