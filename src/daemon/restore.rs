//! A volume is overwritten from a snapshot, or from an undo archive, and goes back the same way.
//!
//! ```text
//! hide the device ─► SAVING, durable ─► archive, durable ─► WRITING, durable ─► copy ─► flush ─► done, durable ─► show
//!                                                                 │ told to end
//!                                                                 └► UNDOING, durable ─► put back ─► done, durable ─► show
//! ```
//! Every overwritten byte goes the way of an application's write, through a queue of the volume: so the ordering rules of
//! writes hold, rule 5 above all, for every snapshot, mirror and stale plex that the volume has. As long as the record says
//! WRITING or UNDOING the volume has no device: nobody reads what is half one state and half the other. Who comes after a
//! crash starts the volume without a device and goes on.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::{Errno, FaultPoint, Kind, Name, Refusal, Refused, Uuid};
use crate::bitmap::ChangeMap;
use crate::control::What;
use crate::control::words::TaskKind;
use crate::device::{BlockDevice, Host, Request, Space};
use crate::format::undo::UndoHeader;
use crate::mover::{
    self, Control, CopyPlan, Ended, FLUSH_EVERY_BYTES, Limits, MoverError, NoWindows, SavePlan, TargetZero,
    Tuning,
};
use crate::ring::{Allocation, Opening};
use crate::state::change;
use crate::state::{Archive, Restore, RestorePhase, VolumeState, refuse};
use crate::volume::VolumeQueue;
use crate::volume::undo_file::{UndoReader, UndoWriter, Unfit, unit_bytes, unit_count};

use super::bringup::{CLOSING_LIMIT, Face, STOP_LIMIT};
use super::events::News;
use super::jobs::{Job, Purpose};
use super::live::Live;
use super::machine::{Machine, Ring};
use super::owner::{GroupHandle, Owner, system};

/// Between two looks whether the plexes are equal.
const EQUAL_POLL: Duration = Duration::from_millis(50);

/// A restore that runs: what it works with beyond its record.
pub(super) struct Carrying {
    /// What differs between the volume and the snapshot; not known to who goes on with it after a crash.
    pub differs: Option<Arc<ChangeMap>>,
    /// The snapshot volume, if it is to be started again where it stays.
    pub again: Option<Name>,
    /// How much it may get in the way.
    pub limits: Limits,
}

/// The header of `archive`, which holds what is marked in `map`.
fn header_of(archive: &Archive, volume: Uuid, name: &Name, map: &ChangeMap) -> UndoHeader {
    UndoHeader {
        archive: archive.id,
        volume,
        name: name.clone(),
        length: map.length(),
        unit: unit_bytes(map),
        units: unit_count(map),
        unix_s: archive.unix_s,
    }
}

/// Bytes of the file of an archive that holds what is marked in `map`.
pub(super) fn archive_bytes(archive: &Archive, volume: Uuid, name: &Name, map: &ChangeMap) -> u64 {
    header_of(archive, volume, name, map).file_bytes()
}

impl<M: Machine> Owner<M> {
    /// Every region in which `volume` and its snapshot volume may differ: what either side changed since the cut. A map that
    /// is not in memory counts as all ones.
    pub(super) fn differing(&self, group: &GroupHandle<M>, snapshot: Uuid) -> Option<ChangeMap> {
        let record = group.record();
        let (origin, link) = record.link_of(snapshot)?;
        let differs = ChangeMap::new(origin.length(), origin.region_size());
        for map in [link.origin_map, link.snapshot_map] {
            match self.maps.borrow().get(&map) {
                Some(map) => differs.or_from(map),
                None => differs.mark_all(),
            }
        }
        Some(differs)
    }

    /// Take the device of a volume away that nobody has open, while the volume itself runs on.
    ///
    /// # Errors
    /// `volume.open`, `device.lingers`; what cannot be recorded is not begun.
    pub(super) async fn hide(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Result<(), Refused> {
        self.transact_quietly(group, |group| Ok(change::nothing(group))).await?;
        self.withhold(live).await?;
        if let Err(refused) = self.machine.remove_links(&live.group, &live.name).await {
            tracing::warn!("{refused}");
        }
        self.reclaim(live, STOP_LIMIT).await?;
        let device = live.device.borrow_mut().take();
        if let Some(device) = device {
            self.machine.stop(device, STOP_LIMIT).await?;
        }
        live.number.set(None);
        FaultPoint::RestoreHidden.reached();
        Ok(())
    }

    /// Give a volume its device again, by its old number if it can be had.
    pub(super) async fn show_again(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, live: &Rc<Live<M>>) {
        let (record, uuid) = (group.record(), live.volume.shape().uuid);
        let Some(volume) = record.volume_by_id(uuid) else { return };
        if live.number.get().is_some() || live.stopping.get() {
            return;
        }
        let Err(refused) = self.show(group, live, volume, Face::New(volume.device())).await else { return };
        tracing::error!("a volume has no device after a restore, and counts as crashed: {refused}");
        live.stopping.set(true);
        self.went(uuid);
        // The run ends as a crash would end it: its bits stay.
        live.volume.intent().pin();
        let _ = live.keeper.stop(None).await;
        self.close_media(volume);
        self.record_crash(group, uuid).await;
    }

    /// Go on with the restore that the record of a volume names, from where it is, as a task.
    ///
    /// # Errors
    /// The volume is being stopped, or its record names none.
    pub(super) fn carry_on(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        carrying: Carrying,
    ) -> Result<Job, Refused> {
        live.check_stays()?;
        let uuid = live.volume.shape().uuid;
        let restore = self.restore_of(group, uuid)?;
        let kind = match restore.phase {
            RestorePhase::Saving | RestorePhase::Writing => TaskKind::Restore,
            RestorePhase::Undoing => TaskKind::Undo,
        };
        let total = carrying.differs.as_ref().map(|map| map.dirty_bytes());
        let total = total.or(restore.archive.map(|archive| archive.bytes)).unwrap_or(0);
        let control = Control::within(carrying.limits, live.volume.latency());
        let task =
            self.tasks.start(kind, &live.group, uuid, &live.name, None, total, Box::new(control.clone()));
        let at_work = live.at_work(uuid, control.clone());
        let (tell, outcome) = oneshot::channel();
        let (owner, group, live) = (Rc::clone(self), Rc::clone(group), Rc::clone(live));
        self.machine.spawn(async move {
            let end = owner.carry(&group, &live, &carrying, control).await;
            drop(at_work);
            let over = owner.restore_of(&group, uuid).is_err();
            if over && !live.stopping.get() {
                let alone = owner.alone([uuid]).await;
                owner.show_again(&group, &live).await;
                // What could not be attached meanwhile goes on where it has a device again.
                owner.attach_stale(&group, uuid).await;
                drop(alone);
                if let Some(snapshot) = &carrying.again
                    && group.record().volume(snapshot.as_str()).is_ok()
                    && let Err(refused) = owner.start_volume(&group, snapshot, None).await
                {
                    tracing::error!(
                        "a snapshot that was stopped for a restore does not start again: {refused}"
                    );
                }
            } else if let Err(refused) = &end {
                let news = News::new(
                    What::VolumeHalfRestored,
                    format!("it stays without a device: {}", refused.reason),
                );
                owner.events.raise(news.of_volume(&live.group, &live.name));
            }
            owner.tasks.ended(task, end.as_ref().map(|_| ()).map_err(Clone::clone));
            // Who asked may have gone.
            let _ = tell.send(end);
        });
        Ok(Job { task, outcome })
    }

    /// The restore that the record of `volume` names.
    fn restore_of(&self, group: &GroupHandle<M>, volume: Uuid) -> Result<Restore, Refused> {
        let record = group.record();
        let restore = record.volume_by_id(volume).and_then(|volume| volume.restore().cloned());
        restore.ok_or_else(|| system(volume, "is not being restored", Errno::GONE))
    }

    /// From the phase of the record to the end; the bytes that were written.
    async fn carry(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        carrying: &Carrying,
        control: Control,
    ) -> Result<u64, Refused> {
        let uuid = live.volume.shape().uuid;
        let mut restore = self.restore_of(group, uuid)?;
        if restore.phase == RestorePhase::Saving {
            let saved = self.save(group, live, &restore, carrying, &control).await;
            if let Err(refused) = saved {
                // Nothing is overwritten: it is as if it had never begun.
                self.transact(group, |group, ids| change::drop_restore(group, uuid, ids)).await?;
                return Err(refused);
            }
            FaultPoint::RestoreSaved.reached();
            self.transact(group, |group, _| change::restore_saved(group, uuid)).await?;
            restore.phase = RestorePhase::Writing;
        }
        if restore.phase == RestorePhase::Writing {
            let refused = match self.overwrite(group, live, &restore, carrying, &control).await {
                Ok(written) => {
                    self.finish(group, live).await?;
                    return Ok(written);
                }
                Err(refused) => refused,
            };
            if refused.kind != Kind::Aborted || restore.archive.is_none() || live.stopping.get() {
                return Err(refused);
            }
            self.transact(group, |group, _| change::restore_turns_back(group, uuid)).await?;
            // The old one stays aborted.
            let control = Control::within(carrying.limits, live.volume.latency());
            let _at_work = live.at_work(uuid, control.clone());
            self.put_back(group, live, &restore, &control).await?;
            self.finish_back(group, live).await?;
            let reason = "the restore was aborted; what it had overwritten was put back";
            return Err(Refusal::new(Kind::Aborted, "task.aborted", &live.name, reason, ""));
        }
        let written = self.put_back(group, live, &restore, &control).await?;
        self.finish_back(group, live).await?;
        Ok(written)
    }

    /// Copy what will be overwritten to the undo archive, durably (ordering rule 21).
    async fn save(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        restore: &Restore,
        carrying: &Carrying,
        control: &Control,
    ) -> Result<(), Refused> {
        let (Some(archive), Some(map)) = (&restore.archive, &carrying.differs) else {
            return Err(system(&live.name, "what is to be saved is not known", Errno::INVALID));
        };
        let uuid = live.volume.shape().uuid;
        let header = header_of(archive, uuid, &live.name, map);
        let path = group.file(&archive.file);
        let medium = self.machine.create_file(&path, header.file_bytes(), Allocation::Full).await?;
        let (volume, map, control) = (Arc::clone(&live.volume), Arc::clone(map), control.clone());
        let ended = self.movers.run(move |host| async move {
            let source = VolumeQueue::new(host.clone(), volume)?.for_mover();
            let archive = UndoWriter::new(host.open(&medium), header, &map);
            let plan = SavePlan { source: &source, archive: &archive, map: &map, tuning: Tuning::default() };
            Some(mover::save(plan, &control, host.clock()).await)
        });
        match ended.await {
            Ok(Some(Ended::Complete)) => Ok(()),
            Ok(Some(Ended::Aborted)) => {
                let reason = "the restore was aborted before anything was overwritten";
                Err(Refusal::new(Kind::Aborted, "task.aborted", &live.name, reason, ""))
            }
            Ok(Some(Ended::Failed(error))) => Err(not_saved(&live.name, &error)),
            Ok(None) | Err(_) => Err(too_many_jobs(&live.name)),
        }
    }

    /// Overwrite the volume with what differs on the snapshot's plex.
    async fn overwrite(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        restore: &Restore,
        carrying: &Carrying,
        control: &Control,
    ) -> Result<u64, Refused> {
        let (Some(snapshot), Some(plex)) = (restore.snapshot, restore.plex) else {
            return Err(system(&live.name, "names no snapshot", Errno::INVALID));
        };
        let map = match &carrying.differs {
            Some(map) => map.copy(),
            None => self.differing_after_crash(group, live, restore, snapshot).await?,
        };
        let record = group.record();
        let source = record.plex_by_id(plex).map(|(_, plex)| plex.medium());
        let source = source.ok_or_else(|| system(plex, "is gone", Errno::GONE))?;
        let bytes = source.needed_bytes(live.volume.shape().geometry.length);
        // Not among the open media of plexes: the labels of those are kept up to date.
        let opening = Opening::WRITE.at_least(bytes).waiting(CLOSING_LIMIT);
        let medium = self.machine.open(source.path.as_path(), opening).await?;
        let (volume, control) = (Arc::clone(&live.volume), control.clone());
        let ended = self.movers.run(move |host| async move {
            let source = host.open(&medium);
            overwrite(&host, source, volume, &map, &control).await
        });
        self.overwritten(live, ended.await)
    }

    /// What differs, for who did not see how the restore began. What the archive holds is all that differed then.
    async fn differing_after_crash(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        restore: &Restore,
        snapshot: Uuid,
    ) -> Result<ChangeMap, Refused> {
        self.recall_map(group, snapshot).await;
        self.weigh_stopped_snapshot(group, snapshot, None).await?;
        if let Some(volume) = group.record().volume_by_id(snapshot) {
            self.close_media(volume);
        }
        match &restore.archive {
            Some(archive) => {
                let shape = live.volume.shape();
                let map = ChangeMap::new(shape.geometry.length, shape.region_size);
                self.with_archive(group, live, archive, map, false).await
            }
            None => self.differing(group, snapshot).ok_or_else(|| system(snapshot, "is gone", Errno::GONE)),
        }
    }

    /// Overwrite the volume with what the undo archive holds.
    async fn put_back(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        restore: &Restore,
        control: &Control,
    ) -> Result<u64, Refused> {
        let archive = restore.archive.as_ref().ok_or_else(|| refuse::no_undo(&live.name))?;
        let shape = live.volume.shape();
        let map = ChangeMap::new(shape.geometry.length, shape.region_size);
        let map = self.with_archive(group, live, archive, map, false).await?;
        let medium = self.open_archive(group, archive).await?;
        let (volume, control) = (Arc::clone(&live.volume), control.clone());
        let ended = self.movers.run(move |host| async move {
            let source = UndoReader::open(host.open(&medium)).await.ok()?;
            overwrite(&host, source, volume, &map, &control).await
        });
        self.overwritten(live, ended.await)
    }

    async fn open_archive(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        archive: &Archive,
    ) -> Result<M::Medium, Refused> {
        let path = group.file(&archive.file);
        Ok(self.machine.open(&path, Opening::WRITE.waiting(CLOSING_LIMIT)).await?)
    }

    /// Mark in `map` what `archive` holds of the volume; its bytes are all read and checked first if `whole`.
    ///
    /// # Errors
    /// `undo.damaged`: it is not to be put back; the file cannot be read.
    pub(super) async fn with_archive(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        archive: &Archive,
        map: ChangeMap,
        whole: bool,
    ) -> Result<ChangeMap, Refused> {
        let medium = self.open_archive(group, archive).await?;
        let wanted = (archive.id, live.volume.shape().uuid, live.volume.shape().geometry.length);
        let looked = self.movers.run(move |host| async move {
            let reader = UndoReader::open(host.open(&medium)).await?;
            let header = reader.header();
            if (header.archive, header.volume, header.length) != wanted {
                return Err(Unfit::Damaged("is the archive of another volume or length".to_owned()));
            }
            if whole {
                reader.check().await?;
            }
            reader.mark(&map);
            Ok(map)
        });
        let looked = looked.await.unwrap_or(Err(Unfit::Unreadable(Errno::IO)));
        let path = group.file(&archive.file);
        looked.map_err(|unfit| match unfit {
            Unfit::Unreadable(errno) => system(path.display(), "cannot be read", errno),
            Unfit::Damaged(why) => {
                let way_out =
                    format!("give it up: cleave undo --delete {} {}", live.name, archive.short_id());
                Refusal::new(Kind::Damaged, "undo.damaged", path.display(), why, way_out)
            }
        })
    }

    /// What a copy onto the volume came to.
    fn overwritten(
        &self,
        live: &Live<M>,
        ended: Result<Option<(Ended, u64)>, oneshot::error::RecvError>,
    ) -> Result<u64, Refused> {
        let name = &live.name;
        let way_out = format!("go on with: cleave start {name}; or put back what was: cleave undo {name}");
        match ended {
            Ok(Some((Ended::Complete, written))) => Ok(written),
            Ok(Some((Ended::Aborted, _))) => {
                let reason = "the copy was aborted with the volume half overwritten";
                Err(Refusal::new(Kind::Aborted, "task.aborted", name, reason, way_out))
            }
            Ok(Some((Ended::Failed(error), _))) => {
                let reason = format!("{error}; the volume is half overwritten");
                Err(Refusal::new(Kind::Io, "restore.failed", name, reason, way_out))
            }
            Ok(None) | Err(_) => Err(too_many_jobs(name)),
        }
    }

    /// Everything is copied and flushed: the record says so, and the snapshot's plex goes back.
    async fn finish(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, live: &Rc<Live<M>>) -> Result<(), Refused> {
        let uuid = live.volume.shape().uuid;
        self.until_equal(group, live).await?;
        FaultPoint::RestoreWritten.reached();
        let _alone = self.alone([uuid]).await;
        let committed = self.transact(group, |group, ids| change::finish_restore(group, uuid, ids)).await?;
        FaultPoint::RestoreRecorded.reached();
        let news = News::new(What::VolumeRestored, "it was overwritten from a snapshot");
        self.events.raise(news.of_volume(&live.group, &live.name));
        let purpose = Purpose { kind: TaskKind::SnapBack, fresh: false, limits: Limits::default() };
        // The volume is restored whatever becomes of a plex that goes back.
        match self.attach_and_copy(group, committed, purpose).await {
            Ok(jobs) => {
                for job in jobs {
                    if let Err(refused) = job.ended().await {
                        tracing::warn!("a plex of the snapshot does not go back: {refused}");
                    }
                }
            }
            Err(refused) => tracing::warn!("a plex of the snapshot does not go back: {refused}"),
        }
        Ok(())
    }

    /// Everything is put back and flushed.
    async fn finish_back(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Result<(), Refused> {
        let uuid = live.volume.shape().uuid;
        self.until_equal(group, live).await?;
        FaultPoint::UndoWritten.reached();
        let _alone = self.alone([uuid]).await;
        self.transact(group, |group, ids| change::drop_restore(group, uuid, ids)).await?;
        FaultPoint::UndoRecorded.reached();
        let news = News::new(What::VolumeRestored, "what it held before a restore was put back");
        self.events.raise(news.of_volume(&live.group, &live.name));
        Ok(())
    }

    /// Wait until the plexes are equal that a crash may have left unequal, and have the change maps durable.
    async fn until_equal(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Result<(), Refused> {
        let uuid = live.volume.shape().uuid;
        let state = || group.record().volume_by_id(uuid).map(crate::state::Volume::state);
        while state() == Some(VolumeState::Sync) {
            if live.stopping.get() || live.jobs.borrow().len() < 2 {
                // The resync records its end a moment after its last job.
                self.machine.sleep(EQUAL_POLL * 20).await;
                if live.stopping.get() || (state() == Some(VolumeState::Sync) && live.jobs.borrow().len() < 2)
                {
                    let way_out = format!("go on with: cleave start {}", live.name);
                    let reason = "its plexes are not equal yet";
                    return Err(Refusal::new(Kind::Busy, "volume.resyncing", &live.name, reason, way_out));
                }
            }
            self.machine.sleep(EQUAL_POLL).await;
        }
        let persisted = live.keeper.persist().await;
        persisted.map_err(|errno| system(&live.name, "a change map cannot be written", errno))
    }

    /// Go on with the restores that the daemon before this one left, or that died with the machine.
    pub(super) async fn resume_restores(self: &Rc<Self>) {
        for group in self.all_groups() {
            let record = group.record();
            for volume in record.volumes().iter().filter(|volume| volume.restore().is_some()) {
                let name = volume.name().clone();
                if let Err(refused) = self.start_volume(&group, &name, None).await {
                    tracing::error!("a restore cannot go on: {refused}");
                }
            }
        }
    }

    /// A volume that is half overwritten was started, or runs without a task: its restore goes on. None for any other volume.
    ///
    /// # Errors
    /// As [`Self::carry_on`].
    pub(super) fn go_on(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
    ) -> Result<Option<Job>, Refused> {
        let uuid = live.volume.shape().uuid;
        if self.restore_of(group, uuid).is_err() || live.is_at_work_on(uuid) {
            return Ok(None);
        }
        let carrying = Carrying { differs: None, again: None, limits: Limits::default() };
        self.carry_on(group, live, carrying).map(Some)
    }

    /// The place of `archive`.
    pub(super) fn archive_path(group: &GroupHandle<M>, archive: &Archive) -> PathBuf {
        group.file(&archive.file)
    }
}

/// Copy what is marked in `map` from `source` onto the volume, through a queue of it; the end is a flush.
async fn overwrite<H: Host, S: BlockDevice>(
    host: &H,
    source: S,
    volume: Arc<crate::volume::Volume<H::Medium>>,
    map: &ChangeMap,
    control: &Control,
) -> Option<(Ended, u64)> {
    let target = VolumeQueue::new(host.clone(), volume)?.for_mover();
    let plan = CopyPlan {
        source: &source,
        target: &target,
        // A write of the queue takes its place among the others by itself.
        windows: &NoWindows,
        map,
        target_zero: TargetZero::Unknown,
        compare_first: false,
        space: Space::Keep,
        flush_every_bytes: FLUSH_EVERY_BYTES,
        target_failed: &|| false,
        tuning: Tuning::default(),
    };
    let report = mover::copy(plan, control, host.clock()).await;
    if report.ended == Ended::Complete
        && let Err(errno) = target.submit(Request::Flush).await
    {
        return Some((Ended::Failed(MoverError::Flush { errno }), 0));
    }
    Some((report.ended, report.written_bytes + report.zeroed_bytes))
}

fn not_saved(volume: &Name, error: &MoverError) -> Refused {
    let (kind, id) = match error {
        MoverError::Write { errno: Errno::NO_SPACE, .. } | MoverError::Flush { errno: Errno::NO_SPACE } => {
            (Kind::NoSpace, "restore.not-saved")
        }
        _ => (Kind::Io, "restore.not-saved"),
    };
    let reason = format!("its undo archive cannot be made: {error}; nothing was overwritten");
    Refusal::new(kind, id, volume, reason, "see to the state directory")
}

fn too_many_jobs(volume: &Name) -> Refused {
    Refusal::new(
        Kind::Busy,
        "volume.too-many-jobs",
        volume,
        "too many jobs work on it, or its archive cannot be read",
        format!("wait for one of them: cleave task list; then go on with: cleave start {volume}"),
    )
}

#[cfg(test)]
mod tests;
