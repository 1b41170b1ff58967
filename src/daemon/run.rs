//! A volume is started and stopped: its record, then the volume itself, then what has to be copied; and back.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{FaultPoint, Name, Refused, Uuid};
use crate::control::words::TaskKind;
use crate::mover::Limits;
use crate::state::change::{self, Effect};
use crate::state::{Plex, PlexState, Volume, VolumeState, refuse};
use crate::volume::map_file::Ending;

use super::bringup::{Face, STOP_LIMIT, ending};
use super::jobs::{Job, Purpose};
use super::live::Live;
use super::machine::Machine;
use super::owner::{Committed, GroupHandle, Owner};

/// How long media may have pages of requests that are under way before the volume counts as in use.
const LENT_IN_USE: Duration = Duration::from_secs(2);

impl<M: Machine> Owner<M> {
    /// Start the volume `name`: its record, then the volume itself, then what has to be copied.
    pub(super) async fn start_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &Name,
        source: Option<&Name>,
    ) -> Result<Vec<Job>, Refused> {
        let _alone = self.alone_with(group, name).await?;
        self.start_alone(group, name, source).await
    }

    /// [`Self::start_volume`] for a verb that is alone with the volume.
    pub(super) async fn start_alone(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &Name,
        source: Option<&Name>,
    ) -> Result<Vec<Job>, Refused> {
        group.is_settled()?;
        let record = group.record();
        let volume = record.volume(name.as_str())?;
        let uuid = volume.uuid();
        if let Some(live) = self.live(uuid) {
            return match self.go_on(group, &live)? {
                Some(job) => Ok(vec![job]),
                None => Err(refuse::volume_running(name)),
            };
        }
        // One that could not be taken over is tried again, because a person says so.
        if volume.state().is_started()
            && let Some(jobs) = self.try_again(group, uuid).await?
        {
            return Ok(jobs);
        }
        let record = group.record();
        let volume = record.volume(name.as_str())?;
        let media = match self.look_at_media(group, uuid, false).await {
            Ok(media) => media,
            Err(refused) => {
                self.close_media(volume);
                return Err(refused);
            }
        };
        FaultPoint::StartJudged.reached();
        if let Err(refused) = self.settle_before_start(group, uuid).await {
            self.close_media(volume);
            return Err(refused);
        }
        // A newer configuration may have been adopted from a label.
        let record = group.record();
        let volume = record.volume(name.as_str())?;
        let ending = ending(volume);
        let args = change::StartArgs {
            volume: name.as_str(),
            media: &media,
            source: source.map(Name::as_str),
            unix_s: self.unix_seconds(),
        };
        let committed = match self.transact(group, |group, ids| change::start(group, &args, ids)).await {
            Ok(committed) => committed,
            Err(refused) => {
                self.close_media(volume);
                return Err(refused);
            }
        };
        Self::tell_start(volume, false);
        FaultPoint::StartRecorded.reached();
        // Half overwritten it is shown to nobody: its restore goes on first.
        let face = if volume.restore().is_some() { Face::Hidden } else { Face::New(volume.device()) };
        let mut jobs = self.run_after_start(group, uuid, ending, face, committed).await?;
        if let Some(live) = self.live(uuid) {
            jobs.extend(self.go_on(group, &live)?);
        }
        // Attempts to take over the device that it had before count for nothing any more.
        self.forget_unrecovered(group, uuid).await;
        Ok(jobs)
    }

    /// End a change of the length of a volume that has no device, whose media were just looked at.
    async fn settle_before_start(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
    ) -> Result<(), Refused> {
        if group.record().volume_by_id(uuid).is_none_or(|volume| volume.resizing().is_none()) {
            return Ok(());
        }
        self.settle_resize(group, uuid).await?;
        self.transact(group, |group, _| change::resize_done(group, uuid)).await.map(drop)
    }

    /// Bring a volume up whose record was just started or recovered; a failure makes the record say that it does not run.
    pub(super) async fn run_after_start(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
        ending: Ending,
        face: Face,
        committed: Committed,
    ) -> Result<Vec<Job>, Refused> {
        self.survivor_tells(&committed, uuid).await;
        let live = match self.bring_up(group, uuid, ending, face).await {
            Ok(live) => live,
            Err(refused) => {
                if matches!(face, Face::New(_) | Face::Hidden) {
                    self.record_crash(group, uuid).await;
                }
                return Err(refused);
            }
        };
        let mut jobs = Vec::new();
        for effect in committed.effects {
            match effect {
                Effect::Resync { .. } => jobs.extend(self.resync(group, &live)),
                Effect::Copy { plex, .. } => {
                    jobs.push(self.copy_to(
                        group,
                        &live,
                        plex,
                        Purpose { kind: TaskKind::SnapStart, fresh: false, limits: Limits::default() },
                    )?);
                }
                Effect::StartDevice { .. } => {}
                other => unreachable!("{other:?} does not follow a start"),
            }
        }
        jobs.extend(self.attach_stale(group, uuid).await);
        self.finish_replacements(group, uuid).await;
        self.resume_scrub(group, &live);
        Ok(jobs)
    }

    /// Attach every STALE plex of a started volume whose medium was found to be its own: it is copied what it missed.
    pub(super) async fn attach_stale(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) -> Vec<Job> {
        let record = group.record();
        let Some(volume) = record.volume_by_id(volume) else { return Vec::new() };
        let mut jobs = Vec::new();
        for plex in volume.plexes().iter().filter(|plex| plex.state() == PlexState::Stale) {
            // Only what was looked at and bears its own label: a path may lead to another disk since.
            if plex.is_attached() || !self.media.borrow().contains_key(&plex.uuid()) {
                continue;
            }
            let names = (volume.name().as_str(), plex.name().as_str());
            let attached =
                self.transact(group, |group, ids| change::attach_plex(group, names.0, names.1, ids)).await;
            match attached {
                Ok(committed) => {
                    match self
                        .attach_and_copy(
                            group,
                            committed,
                            Purpose { kind: TaskKind::Resync, fresh: false, limits: Limits::default() },
                        )
                        .await
                    {
                        Ok(more) => jobs.extend(more),
                        Err(refused) => tracing::warn!("{refused}"),
                    }
                }
                Err(refused) => tracing::warn!("{refused}"),
            }
        }
        jobs
    }

    /// Record that a volume which should run does not.
    pub(super) async fn record_crash(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) {
        if let Err(refused) = self.transact(group, |group, _| change::crashed(group, volume)).await {
            tracing::error!(group = %group.name, "the catalogue cannot be brought up to date: {refused}");
        }
    }

    /// Stop a started volume that nobody has open. The snapshot mirrors that were still being copied: the next
    /// start gives them up.
    pub(super) async fn stop_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &Name,
    ) -> Result<Vec<Name>, Refused> {
        let _alone = self.alone_with(group, name).await?;
        self.stop_alone(group, name).await
    }

    /// [`Self::stop_volume`] for a verb that is alone with the volume: the volume first, then its record.
    pub(super) async fn stop_alone(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &Name,
    ) -> Result<Vec<Name>, Refused> {
        let record = group.record();
        let uuid = record.volume(name.as_str())?.uuid();
        let live = self.live(uuid);
        let holders = match &live {
            Some(live) => self.holders(live).await,
            None => Vec::new(),
        };
        // Refused before anything is done, and again when it is recorded.
        let planned = change::stop(&record, name.as_str(), &holders, &mut self.dice()?)?;
        let stop = planned
            .group
            .volume_by_id(uuid)
            .filter(|volume| volume.state() == VolumeState::Clean)
            .map(Volume::stop);
        // What cannot be recorded is not begun: a device that is gone does not come back.
        self.transact_quietly(group, |group| Ok(change::nothing(group))).await?;
        if let Some(live) = live {
            self.withhold(&live).await?;
            live.stopping.set(true);
            if let Err(refused) = self.take_down(&live, stop).await {
                if self.live(uuid).is_some() {
                    live.stopping.set(false);
                    return Err(refused);
                }
                self.record_crash(group, uuid).await;
                self.close_media(&record.volume(name.as_str())?.clone());
                return Err(refused);
            }
        }
        let committed =
            self.transact(group, |group, ids| change::stop(group, name.as_str(), &[], ids)).await?;
        FaultPoint::StopRecorded.reached();
        if let Some(volume) = committed.after.volume_by_id(uuid) {
            if volume.state() == VolumeState::Clean {
                self.machine.forget_unflushed(uuid).await;
                self.note_media(group, volume).await;
                FaultPoint::StopNoted.reached();
            }
            self.close_media(volume);
            let mut maps = self.maps.borrow_mut();
            let theirs =
                volume.plexes().iter().filter_map(Plex::map).chain(volume.link_maps(&committed.after));
            // A snapshot's own map is needed by a snapback while the snapshot is stopped; the file has it as well.
            let keep: Vec<_> =
                committed.after.link_of(uuid).map(|(_, link)| link.snapshot_map).into_iter().collect();
            theirs.filter(|map| !keep.contains(map)).for_each(|map| {
                maps.remove(&map);
            });
        }
        // From before it was begun: the end of a copy may have taken its mirror away since.
        let mirrors = record.volume(name.as_str())?.snapshot_mirrors();
        let given_up = mirrors.filter(|plex| {
            let now = committed.after.plex_by_id(plex.uuid()).map(|(_, plex)| plex.state());
            now.is_none_or(|state| matches!(state, PlexState::SnapAtt | PlexState::SnapTmp))
        });
        Ok(given_up.map(|plex| plex.name().clone()).collect())
    }

    /// Let nobody open the device of a volume that is about to stop.
    ///
    /// # Errors
    /// `volume.open`: somebody has opened it since its holders were looked for.
    pub(super) async fn withhold(self: &Rc<Self>, live: &Rc<Live<M>>) -> Result<(), Refused> {
        let Some(number) = live.number.get() else { return Ok(()) };
        // While a medium has pages of its requests, somebody uses it; and the kernel is not asked then, see `reclaim`.
        if self.returned(live, LENT_IN_USE).await && self.machine.withhold(number, STOP_LIMIT).await? {
            return Ok(());
        }
        let mut holders = self.holders(live).await;
        if holders.is_empty() {
            // A moment ago, or where this process cannot look.
            holders.push("opened by a process that is not known".to_owned());
        }
        Err(refuse::volume_open(&live.name, &holders))
    }

    /// Note what the file plexes of a stopped volume look like after the last write to them, labels included, and close them:
    /// a transaction of another volume may have this one's labels written for as long as they are open.
    pub(super) async fn note_media(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: &Volume) {
        let _turn = group.turn.lock().await;
        let mut looks = Vec::new();
        for plex in volume.plexes() {
            let medium = self.media.borrow().get(&plex.uuid()).cloned();
            if let Some(medium) = medium
                && let Some(noted) = self.noted(&medium, plex).await
            {
                looks.push((plex.uuid(), noted));
            }
        }
        // Labels are not written for it: that would change what was just noted.
        let noted = match change::note_media(&group.record(), volume.uuid(), &looks) {
            Ok(change) => self.commit_quietly(group, change.group).await,
            Err(refused) => Err(refused),
        };
        if let Err(refused) = noted {
            tracing::warn!("the look of plex files cannot be noted: {refused}");
        }
        self.close_media(volume);
    }
}
