//! Volumes whose daemon is gone: their living devices are taken over, those that cannot be are left waiting and told of,
//! and a person can try again or end the waiting.
//!
//! ```text
//!            start of the daemon                    `cleave start`
//!                    │                                    │
//!   attempts = limit ├─► given up: waits, told            │ attempts = 0
//!                    ▼                                    ▼
//!        attempts + 1, durable ──► take over ──► serves: attempts = 0
//!                                      └──► error: waits, told; tried again by the next daemon
//! ```
//!
//! The count is durable before the attempt, so that a recovery that takes the daemon down with it is counted too. Nothing
//! is deleted by itself: a device that waits, waits until somebody says otherwise.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::base::{Errno, FaultPoint, Refused, Uuid};
use crate::control::reply::Forced;
use crate::control::{Reply, What, request};
use crate::export::ublk::DeviceMark;
use crate::state::change;
use crate::state::{Group, Ids, Volume, refuse};

use super::bringup::{Face, ending};
use super::events::News;
use super::jobs::Job;
use super::live::Live;
use super::machine::{Living, Machine};
use super::owner::{GroupHandle, Owner, system};

/// Attempts in a row after which a volume is not tried again by itself: more than a few kills at a bad moment, few enough
/// that a daemon that dies of one volume comes up for the others within seconds.
pub const ATTEMPTS: u32 = 5;

/// How long a forced stop waits for what is in flight before it fails it.
const FORCE_LIMIT: Duration = Duration::from_secs(5);

/// How long the kernel may take to end a device that waits.
const DELETE_LIMIT: Duration = Duration::from_secs(10);

/// How long a forced stop waits for what else is at work on the volume.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of volumes that could not be taken over, and whether the daemon has come up.
pub struct Recovery {
    unrecovered: RefCell<BTreeMap<Uuid, String>>,
    up: watch::Sender<bool>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { unrecovered: RefCell::default(), up: watch::channel(false).0 }
    }
}

impl Recovery {
    /// Why `volume` could not be taken over, with a way out.
    #[must_use]
    pub fn why(&self, volume: Uuid) -> Option<String> {
        self.unrecovered.borrow().get(&volume).cloned()
    }

    /// Every volume was taken over that can be: verbs may begin.
    pub fn has_come_up(&self) {
        self.up.send_replace(true);
    }

    /// Wait until the daemon has come up.
    pub async fn come_up(&self) {
        // The sender lives as long as this does.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }
}

/// The device of `volume` among the `existing` ones. Its mark says so: the number that the record has may be older than the
/// device, and be another volume's by now.
fn device_of<'d>(volume: &Volume, existing: &'d [Living]) -> Option<&'d Living> {
    let mark = Some(DeviceMark::of(volume.uuid()));
    let mut its =
        existing.iter().filter(|device| device.mark == mark && volume.may_have_length(device.length));
    its.clone().find(|device| Some(device.id) == volume.device()).or_else(|| its.next())
}

/// Take over the devices of `groups` that a dead daemon left, all at once, and record which volumes do not run any more.
/// A group whose record cannot be written waits.
pub(super) async fn take_over<M: Machine>(owner: &Rc<Owner<M>>, groups: Vec<Rc<GroupHandle<M>>>) {
    let existing = owner.machine.devices().await.unwrap_or_else(|error| {
        tracing::error!("living devices cannot be listed: {error}");
        Vec::new()
    });
    FaultPoint::RecoveryListed.reached();
    let mut living = Vec::new();
    for group in groups {
        let record = group.record();
        let mut here = Vec::new();
        for volume in record.volumes().iter().filter(|volume| volume.state().is_started()) {
            // That one is gone is told with what else is settled.
            let device = device_of(volume, &existing).filter(|device| device.recoverable);
            here.extend(device.map(|device| (volume.uuid(), device.id)));
        }
        let uuids: Vec<Uuid> = here.iter().map(|(volume, _)| *volume).collect();
        if let Err(refused) = owner.settle_records(&group, &uuids).await {
            let (line, is_new) = owner.waiting.note(&group.directory, &refused);
            if is_new {
                tracing::error!(group = %group.name, "what was found cannot be recorded: {line}");
            }
            for volume in uuids {
                owner.left(volume, "its device waits", &line);
            }
            group.set_waiting(Some(line));
            continue;
        }
        FaultPoint::RecoveryRolledBack.reached();
        owner.remove_orphans(&group).await;
        owner.waiting.settled(&group.directory);
        group.set_waiting(None);
        for volume in record.volumes() {
            owner.recovery.unrecovered.borrow_mut().remove(&volume.uuid());
        }
        living.extend(here.into_iter().map(|(volume, number)| (Rc::clone(&group), volume, number)));
    }
    // Each by itself: one that waits for its fence holds up no other.
    let attempts = living.iter().map(|(group, volume, number)| async move {
        let _alone = owner.alone([*volume]).await;
        // A person was faster.
        if owner.live(*volume).is_some() {
            return;
        }
        if owner.is_given_up(group, *volume).await {
            return;
        }
        // What refused it was told.
        let _ = owner.attempt(group, *volume, *number).await;
    });
    join_all(attempts).await;
    // Links of what waits stay, and nobody knows which those are in a group that was not read.
    if owner.has_unread_groups() {
        return;
    }
    let mut keep = BTreeSet::new();
    for group in owner.all_groups() {
        for volume in group.record().volumes() {
            let served = owner.live(volume.uuid()).and_then(|live| live.number.get());
            let waits = || {
                let device = device_of(volume, &existing).filter(|_| volume.state().is_started())?;
                Some(device.id)
            };
            let number = served.or_else(waits);
            keep.extend(number.map(|number| (group.name.clone(), volume.name().clone(), number)));
        }
    }
    if let Err(refused) = owner.machine.sweep_links(keep).await {
        tracing::warn!("{refused}");
    }
}

impl<M: Machine> Owner<M> {
    /// Whether taking over `volume` has failed too often to be tried again without a person's asking; that is told then.
    async fn is_given_up(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) -> bool {
        let before = self.on_catalog(group, move |catalog| catalog.attempts(volume)).await;
        let record = group.record();
        let Some(record) = record.volume_by_id(volume).filter(|_| before >= ATTEMPTS) else { return false };
        let why = format!("it could not be taken over {before} times in a row, and is not tried again");
        let news = News::new(What::VolumeGivenUp, &why).of_volume(&group.name, record.name());
        self.left(volume, &why, &news.way_out());
        self.events.raise(news);
        true
    }

    /// Try to take over the living device `number` of `volume`.
    async fn attempt(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        number: u32,
    ) -> Result<Vec<Job>, Refused> {
        let name = group.record().volume_by_id(volume).map(|volume| volume.name().clone());
        let name = name.ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
        let before = self.on_catalog(group, move |catalog| catalog.attempts(volume)).await;
        self.keep_attempts(group, volume, before.saturating_add(1)).await;
        match self.take_over_one(group, volume, number).await {
            Ok(jobs) => {
                self.recovery.unrecovered.borrow_mut().remove(&volume);
                self.keep_attempts(group, volume, 0).await;
                let text = format!("its device /dev/ublkb{number} was taken over");
                self.events.raise(News::new(What::VolumeTakenOver, text).of_volume(&group.name, &name));
                Ok(jobs)
            }
            Err(refused) => {
                let why = format!("it could not be taken over: {}: {}", refused.object, refused.reason);
                let text = format!("{why} (attempt {} of {ATTEMPTS})", before.saturating_add(1));
                let news = News::new(What::VolumeNotRecovered, text).of_volume(&group.name, &name);
                self.left(volume, &why, &news.way_out());
                self.events.raise(news);
                Err(refused)
            }
        }
    }

    /// Note why `volume` was left waiting.
    fn left(&self, volume: Uuid, why: &str, way_out: &str) {
        self.recovery.unrecovered.borrow_mut().insert(volume, format!("{why}; {way_out}"));
    }

    async fn keep_attempts(&self, group: &Rc<GroupHandle<M>>, volume: Uuid, attempts: u32) {
        let kept = self.on_catalog(group, move |catalog| catalog.keep_attempts(volume, attempts)).await;
        // A state directory that cannot be written is no reason to leave a volume waiting.
        if let Err(error) = kept {
            tracing::warn!(%volume, attempts, "the count of attempts to take it over cannot be kept: {error}");
        }
    }

    async fn take_over_one(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        number: u32,
    ) -> Result<Vec<Job>, Refused> {
        let record = group.record();
        let before = record.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
        let ending = ending(before);
        let recovered = async {
            let media = self.look_at_media(group, volume, true).await?;
            self.settle_resize(group, volume).await?;
            let change = |group: &Group, ids: &mut Ids| {
                change::recover(group, volume, &media, self.unix_seconds(), ids)
            };
            self.transact(group, change).await
        };
        let committed = match recovered.await {
            Ok(committed) => committed,
            Err(refused) => {
                self.close_media(before);
                return Err(refused);
            }
        };
        Self::tell_start(before, true);
        FaultPoint::RecoveryRecorded.reached();
        let jobs = self.run_after_start(group, volume, ending, Face::TakeOver(number), committed).await?;
        if let Some(live) = self.live(volume)
            && let Err(refused) = self.end_resize(group, &live).await
        {
            // It serves as it did, and the next one tries again.
            tracing::error!("{refused}");
        }
        if before.prepared().is_some() {
            // Its thaw writes, so it comes after the device serves again.
            for point in self.machine.thaw_left_over(number).await {
                let text = format!("{} was left frozen by a cut, and is thawed", point.display());
                let news = News::new(What::FilesystemThawed, text);
                self.events.raise(news.of_volume(&group.name, before.name()));
            }
        }
        Ok(jobs)
    }

    /// A person starts a volume that runs by its record and is not served: its device is taken over after all. Without a
    /// device it has crashed, and the caller starts it anew: `None`.
    pub(super) async fn try_again(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
    ) -> Result<Option<Vec<Job>>, Refused> {
        match self.waiting_device(group, volume).await? {
            Some(number) => {
                self.keep_attempts(group, volume, 0).await;
                self.attempt(group, volume, number).await.map(Some)
            }
            None => {
                self.record_crash(group, volume).await;
                self.forget_unrecovered(group, volume).await;
                Ok(None)
            }
        }
    }

    /// The number of the device of `volume` that this process does not serve, if there is one.
    async fn waiting_device(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
    ) -> Result<Option<u32>, Refused> {
        let record = group.record();
        let Some(volume) = record.volume_by_id(volume) else { return Ok(None) };
        let existing = self.machine.devices().await?;
        Ok(device_of(volume, &existing).map(|device| device.id))
    }

    /// `volume` serves, or waits no more: attempts to take it over count anew.
    pub(super) async fn forget_unrecovered(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) {
        self.recovery.unrecovered.borrow_mut().remove(&volume);
        self.keep_attempts(group, volume, 0).await;
    }

    /// End a volume whatever hangs below it: what waits for it fails with EIO within seconds.
    pub(super) async fn force_stop(self: &Rc<Self>, request: request::ForceStop) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let uuid = volume.uuid();
        let mut steps = Vec::new();
        // A verb that hangs on the volume is no reason to let it hang on.
        let alone = self.within(PATIENCE, self.alone([uuid])).await;
        if alone.is_none() {
            steps.push(format!(
                "a verb that is at work on it was not waited for any longer than {} s",
                PATIENCE.as_secs()
            ));
        }
        match self.live(uuid) {
            Some(live) => self.cut_off(&live, &mut steps).await?,
            None if !volume.state().is_started() => return Err(refuse::volume_not_started(volume.name())),
            None => match self.waiting_device(&group, uuid).await? {
                Some(number) => {
                    self.machine.delete(number, DELETE_LIMIT).await?;
                    steps.push(format!(
                        "/dev/ublkb{number}, which waited for a daemon, was removed: what waited for it got EIO"
                    ));
                }
                None => steps.push("it had no device any more".to_owned()),
            },
        }
        if let Err(refused) = self.machine.remove_links(&group.name, volume.name()).await {
            tracing::warn!("{refused}");
        }
        self.close_media(volume);
        self.record_crash(&group, uuid).await;
        self.forget_unrecovered(&group, uuid).await;
        let after = group.record();
        if let Some(volume) = after.volume_by_id(uuid) {
            steps.push(format!(
                "its record says {}: not stopped in good order; its next start makes its plexes equal",
                volume.state()
            ));
        }
        let news = News::new(What::VolumeForceStopped, format!("was stopped by force: {}", steps.join("; ")));
        self.events.raise(news.of_volume(&group.name, volume.name()));
        let elapsed = self.machine.now().since(began);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok(Reply::Forced(Forced { volume: volume.name().clone(), steps, elapsed_ms }))
    }

    /// Take a volume down that this process serves, failing what does not end in time.
    async fn cut_off(self: &Rc<Self>, live: &Rc<Live<M>>, steps: &mut Vec<String>) -> Result<(), Refused> {
        live.stopping.set(true);
        live.abort_jobs(|_| true);
        let ended = self.within(PATIENCE, async {
            while !live.jobs.borrow().is_empty() {
                self.machine.sleep(Duration::from_millis(5)).await;
            }
        });
        if ended.await.is_none() {
            steps.push("tasks on it that hang were left behind".to_owned());
        }
        let number = live.number.get().unwrap_or_default();
        let failed = self.reclaim(live, FORCE_LIMIT).await?;
        let device = live.device.borrow_mut().take();
        match device {
            Some(device) => {
                steps.push(match self.machine.force(device, FORCE_LIMIT).await? || failed {
                    false => format!("/dev/ublkb{number} was removed; what was in flight had ended"),
                    true => format!(
                        "/dev/ublkb{number} was removed; what had not ended after {} s got EIO",
                        FORCE_LIMIT.as_secs()
                    ),
                });
            }
            // A restore has taken it away.
            None if live.number.get().is_none() => steps.push("it had no device".to_owned()),
            // An earlier stop did not end it.
            None => {
                let limit = DELETE_LIMIT;
                match self.machine.delete(number, limit).await {
                    Ok(()) => steps.push(format!("/dev/ublkb{number} was removed")),
                    Err(refused) if refused.id == "ublk.no-such-device" => {}
                    Err(refused) => return Err(refused),
                }
            }
        }
        // The run ends as a crash would end it: its bits stay.
        live.volume.intent().pin();
        if self.within(PATIENCE, live.keeper.stop(None)).await.is_none() {
            steps.push(
                "a medium hangs: what was written and not flushed on it is made equal later".to_owned(),
            );
        }
        self.went(live.volume.shape().uuid);
        Ok(())
    }
}
