//! Verbs on single plexes: attach, detach, offline, online, replace; and the settings of a volume.

use std::rc::Rc;
use std::time::Duration;

use crate::base::{Generation, Kind, Name, Refusal, Refused, Uuid};
use crate::catalog::judge::{self, Finding, Outcome, Verdict};
use crate::control::reply::Changed;
use crate::control::words::TaskKind;
use crate::control::{Reply, Row, request};
use crate::mover::Limits;
use crate::state::change::{self, Effect};
use crate::state::{DataPath, Plex, PlexState, ReadPolicy, Settings, SettingsChange, Volume, refuse};
use crate::volume::{Role, Route};

use super::bringup;
use super::jobs::{Job, Purpose, limits};
use super::live::Live;
use super::machine::{Machine, OpenMedium, Shown};
use super::media::Wanted;
use super::owner::{GroupHandle, Owner, system};
use super::rows;
use super::server::Answer;

/// How long a request that was left behind at a plex may take before the plex is not attached for it.
const STRAGGLER_LIMIT: Duration = Duration::from_secs(30);

/// Put `settings` in force on a volume that runs.
pub(super) fn put_in_force<M: Machine>(live: &Live<M>, settings: &Settings) {
    let limit = match settings.plex_timeout_s {
        0 => None,
        seconds => Some(Duration::from_secs(seconds.into())),
    };
    live.volume.set_plex_limit(limit);
    live.volume.intent().set_cap(settings.dirty_extents);
    // Pages that file systems may write into meanwhile are lent to one plex at a time, whatever is asked for.
    let still = live.device.borrow().as_ref().is_some_and(Shown::keeps_pages_still);
    live.volume.set_shares_pages(settings.data == DataPath::Zero && still);
}

impl<M: Machine> Owner<M> {
    /// The volume that has the plex called `name`: its name, its identity, the plex's.
    pub(super) fn named_plex(
        &self,
        group: &GroupHandle<M>,
        name: &Name,
    ) -> Result<(Name, Uuid, Uuid), Refused> {
        let record = group.record();
        let (volume, plex) = record.plex(name.as_str())?;
        Ok((volume.name().clone(), volume.uuid(), plex.uuid()))
    }

    pub(super) async fn plex_attach(self: &Rc<Self>, request: request::PlexAttach) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let (volume, uuid, _) = self.named_plex(&group, &request.plex)?;
        if let Some(wanted) = &request.volume {
            group.record().volume(wanted.as_str())?.plex(request.plex.as_str())?;
        }
        let alone = self.alone([uuid]).await;
        let record = group.record();
        let (_, plex) = record.plex(request.plex.as_str())?;
        if plex.state() == PlexState::Offline {
            return Err(Refusal::new(
                Kind::InvalidState,
                "plex.offline",
                plex.name(),
                "it was taken offline, and what it misses is not known",
                format!("have all of it copied with: cleave plex online {}", plex.name()),
            ));
        }
        let jobs = match plex.state().is_complete() && plex.is_attached() {
            // As it should be.
            true => Vec::new(),
            false => {
                self.attach_again(
                    &group,
                    uuid,
                    &request.plex,
                    false,
                    limits(request.bytes_per_second, request.latency_us),
                )
                .await?
            }
        };
        drop(alone);
        self.attached(volume, vec![request.plex], jobs, request.background, began).await
    }

    pub(super) async fn plex_online(self: &Rc<Self>, request: request::PlexAttach) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let (volume, uuid, _) = self.named_plex(&group, &request.plex)?;
        let alone = self.alone([uuid]).await;
        let name = (volume.as_str(), request.plex.as_str());
        self.transact(&group, |group, ids| change::bring_online(group, name.0, name.1, ids)).await?;
        // On a stopped volume the next start copies it.
        let jobs = match self.live(uuid).is_some() {
            true => {
                self.attach_again(
                    &group,
                    uuid,
                    &request.plex,
                    true,
                    limits(request.bytes_per_second, request.latency_us),
                )
                .await?
            }
            false => Vec::new(),
        };
        drop(alone);
        self.attached(volume, vec![request.plex], jobs, request.background, began).await
    }

    pub(super) async fn plex_detach(self: &Rc<Self>, request: request::PlexRef) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let (_, uuid, _) = self.named_plex(&group, &request.plex)?;
        let _alone = self.alone([uuid]).await;
        let changed = self.take_out(&group, &request.plex).await?;
        Ok(Reply::Changed(Changed { changed }))
    }

    pub(super) async fn plex_offline(self: &Rc<Self>, request: request::PlexRef) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let (volume, uuid, _) = self.named_plex(&group, &request.plex)?;
        let _alone = self.alone([uuid]).await;
        if group.record().plex(request.plex.as_str())?.1.state() == PlexState::Offline {
            return Ok(Reply::Changed(Changed { changed: false }));
        }
        self.take_out(&group, &request.plex).await?;
        let name = (volume.as_str(), request.plex.as_str());
        self.transact(&group, |group, ids| change::take_offline(group, name.0, name.1, ids)).await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    pub(super) async fn plex_convert(self: &Rc<Self>, request: request::PlexRef) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let (volume, uuid, id) = self.named_plex(&group, &request.plex)?;
        let _alone = self.alone([uuid]).await;
        let live = self.live(uuid).ok_or_else(|| refuse::volume_not_started(&volume))?;
        let names = (volume.as_str(), request.plex.as_str());
        self.transact(&group, |group, ids| change::convert_plex(group, names.0, names.1, ids)).await?;
        // Read until then, from a plex that is as good as before; from then on nothing waits long for it (ordering rule 6).
        let given = live.give_role(&self.keepers, id, Role::WriteOnly).await;
        given.map_err(|errno| system(&volume, "the plex cannot be given its role", errno))?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// Take a plex out of the write path of its volume, if it is in it.
    async fn take_out(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, name: &Name) -> Result<bool, Refused> {
        let record = group.record();
        let (volume, plex) = record.plex(name.as_str())?;
        let (volume, uuid, id) = (volume.name().clone(), volume.uuid(), plex.uuid());
        if !plex.is_attached() && plex.state().has_map() {
            return Ok(false);
        }
        if !plex.is_attached() && plex.state() == PlexState::IoFail {
            return Ok(false);
        }
        let names = (volume.as_str(), name.as_str());
        let committed =
            self.transact(group, |group, ids| change::detach_plex(group, names.0, names.1, ids)).await?;
        if let Some(live) = self.live(uuid) {
            live.abort_jobs(|on| on == id);
        }
        self.survivor_tells(&committed, uuid).await;
        // Closed, so that its medium can be looked at and mended.
        self.media.borrow_mut().remove(&id);
        Ok(true)
    }

    pub(super) async fn recover(
        self: &Rc<Self>,
        request: request::Recover,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let names: Vec<Name> = match request.volumes.as_slice() {
            [] => group.record().volumes().iter().map(|volume| volume.name().clone()).collect(),
            named => named.to_vec(),
        };
        let mut changed = false;
        let mut jobs = Vec::new();
        for name in &names {
            match self.recover_volume(&group, name, request.start).await {
                Ok(Some((uuid, begun))) => {
                    changed = true;
                    jobs.extend(begun);
                    self.answer_volume(&group, uuid, answer).await;
                }
                Ok(None) => {}
                Err(refused) => answer.row(Row::Failure(*refused)).await,
            }
        }
        if !request.background {
            for job in jobs {
                if let Err(refused) = job.ended().await {
                    answer.row(Row::Failure(*refused)).await;
                }
            }
        }
        Ok(Reply::Changed(Changed { changed }))
    }

    /// Have the plexes of a volume that fell behind copied, or start it, which does so too: what was begun, if anything.
    async fn recover_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &Name,
        start: bool,
    ) -> Result<Option<(Uuid, Vec<Job>)>, Refused> {
        let uuid = group.record().volume(name.as_str())?.uuid();
        if self.live(uuid).is_none() {
            return match start {
                true => self.start_volume(group, name, None).await.map(|_| Some((uuid, Vec::new()))),
                false => Ok(None),
            };
        }
        let _alone = self.alone([uuid]).await;
        let record = group.record();
        let behind = |plex: &&Plex| {
            !plex.is_attached() && matches!(plex.state(), PlexState::Stale | PlexState::IoFail)
        };
        let plexes: Vec<Name> = record
            .volume(name.as_str())?
            .plexes()
            .iter()
            .filter(behind)
            .map(|plex| plex.name().clone())
            .collect();
        let mut jobs = Vec::new();
        for plex in &plexes {
            jobs.extend(self.attach_again(group, uuid, plex, false, Limits::default()).await?);
        }
        Ok((!plexes.is_empty()).then_some((uuid, jobs)))
    }

    /// Attach the plex `name` of a started volume and have copied what it lacks. `whole` is whether its map says everything
    /// already, so that what its label says of its data does not matter.
    async fn attach_again(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        name: &Name,
        whole: bool,
        limits: Limits,
    ) -> Result<Vec<Job>, Refused> {
        let record = group.record();
        let (volume_record, plex) = record.plex(name.as_str())?;
        let live = self.live(volume).ok_or_else(|| refuse::volume_not_started(volume_record.name()))?;
        // Refused by the record before its medium is touched.
        let names = (volume_record.name().as_str(), name.as_str());
        change::attach_plex(&record, names.0, names.1, &mut self.dice()?)?;
        self.wait_for_stragglers(&live, plex).await?;
        live.lost.borrow_mut().remove(&plex.uuid());
        // Opened anew: another file may stand at the path by now, and a flush that failed is held against the open one.
        self.media.borrow_mut().remove(&plex.uuid());
        let medium = self.open_plex(volume_record, plex, false).await?;
        let identity = medium.identity();
        if let Err(refused) = self.look_at_plex(group, volume_record, plex, medium, whole).await {
            self.media.borrow_mut().remove(&plex.uuid());
            return Err(refused);
        }
        self.proven.borrow_mut().insert(plex.uuid(), identity);
        let committed =
            self.transact(group, |group, ids| change::attach_plex(group, names.0, names.1, ids)).await?;
        let purpose = Purpose { kind: TaskKind::Resync, fresh: false, limits };
        self.attach_and_copy(group, committed, purpose).await
    }

    /// Wait until the kernel has nothing more of `plex` in hand from before it left.
    pub(super) async fn wait_for_stragglers(
        self: &Rc<Self>,
        live: &Rc<Live<M>>,
        plex: &Plex,
    ) -> Result<(), Refused> {
        self.wait_for(live, plex, STRAGGLER_LIMIT).await
    }

    /// [`Self::wait_for_stragglers`] for as long as `limit`.
    pub(super) async fn wait_for(
        self: &Rc<Self>,
        live: &Rc<Live<M>>,
        plex: &Plex,
        limit: Duration,
    ) -> Result<(), Refused> {
        let deadline = self.machine.now().after(limit);
        while live.volume.stragglers_of(plex.uuid()) > 0 || live.is_at_work_on(plex.uuid()) {
            if self.machine.now() > deadline {
                return Err(Refusal::new(
                    Kind::TimedOut,
                    "plex.request-in-flight",
                    plex.name(),
                    "a request from before it left has still not ended",
                    "see to its medium, then try again",
                ));
            }
            self.machine.sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Whether the medium of a plex that is to be attached again is the one that left.
    async fn look_at_plex(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: &Volume,
        plex: &Plex,
        medium: M::Medium,
        whole: bool,
    ) -> Result<(), Refused> {
        let read = self.label_on(medium, Some(volume.length())).await;
        let finding = Finding::new(read, group.record().uuid(), volume, plex);
        let refuse = |why: String, way_out: String| {
            Err(Refusal::new(Kind::InvalidState, "plex.not-itself", plex.name(), why, way_out))
        };
        let replace = || format!("put another in its place with: cleave plex replace {}", plex.name());
        match judge::judge(Generation(group.generation()), volume, &[(plex.uuid(), finding)])? {
            Outcome::Adopt(_) => refuse("its label is newer than the configuration".to_owned(), replace()),
            Outcome::Stands(judgement) => match judgement.verdicts.into_iter().next() {
                Some((_, Verdict::Missing(why))) => refuse(why, replace()),
                Some((_, Verdict::Behind(why))) if !whole => refuse(
                    why,
                    format!(
                        "have all of it copied: cleave plex offline {0}, cleave plex online {0}",
                        plex.name()
                    ),
                ),
                Some((_, Verdict::Behind(_) | Verdict::Use)) | None => Ok(()),
            },
        }
    }

    pub(super) async fn plex_replace(
        self: &Rc<Self>,
        request: request::PlexReplace,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let (volume, uuid, _) = self.named_plex(&group, &request.plex)?;
        let alone = self.alone([uuid]).await;
        let length = group.record().volume(volume.as_str())?.length();
        let wanted = Wanted::to_replace(&request, &volume, length);
        let sites = self.sites(&group, &wanted).await?;
        let site = sites.into_iter().next().ok_or_else(|| refuse::no_plexes(&volume))?;
        let names = (volume.as_str(), request.plex.as_str());
        let committed = self
            .transact(&group, |group, ids| change::replace_plex(group, names.0, names.1, site, ids))
            .await?;
        let limits = limits(request.bytes_per_second, request.latency_us);
        let purpose = Purpose { kind: TaskKind::Mirror, fresh: true, limits };
        let (names, jobs) = self.fill_new(&group, &wanted, committed, purpose).await?;
        drop(alone);
        self.attached(volume, names, jobs, request.background, began).await
    }

    /// Remove the plexes of a volume whose replacements are complete. What fails is tried again at the next start.
    pub(super) async fn finish_replacements(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) {
        let record = group.record();
        let Some(record) = record.volume_by_id(volume) else { return };
        for old in change::replaced_plexes(record) {
            let removed =
                self.transact(group, |group, ids| change::finish_replace(group, volume, old, ids)).await;
            match removed {
                Ok(committed) => {
                    assert!(
                        committed.effects.iter().all(|effect| !matches!(effect, Effect::Copy { .. })),
                        "a removal copies nothing"
                    );
                    tracing::info!(volume = %record.name(), plex = %old, "replaced and removed");
                }
                Err(refused) => tracing::warn!("a plex that was replaced stays for now: {refused}"),
            }
        }
    }

    pub(super) async fn set(self: &Rc<Self>, request: request::Set) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let change = SettingsChange {
            plex_timeout_s: request.plex_timeout_s,
            dirty_extents: request.dirty_extents,
            data: request.data.map(rows::data_setting),
            queues: request.queues,
            affinity: request.affinity,
            autostart: request.autostart,
        };
        self.refuse_data_path(&request.volume, change.data).await?;
        let name = request.volume.as_str();
        if change.data == Some(DataPath::Zero) && !bringup::lends(group.record().volume(name)?) {
            return Err(Refusal::new(
                Kind::System,
                "volume.data-path",
                name,
                "its plexes need memory that is aligned to more than a sector, which applications need not have",
                "leave data=auto",
            ));
        }
        let before = *group.record().volume(name)?.settings();
        let mut changed = false;
        if change.applied_to(before) != before {
            let committed = self.transact(&group, |group, _| change::set(group, name, change)).await?;
            let volume = committed.after.volume(name)?;
            if let Some(live) = self.live(volume.uuid()) {
                put_in_force(&live, volume.settings());
            }
            changed = true;
        }
        if let Some(from) = &request.read_from {
            changed |= self.read_from(&group, name, rows::read_policy(from)).await?;
        }
        Ok(Reply::Changed(Changed { changed }))
    }

    /// Have a volume serve its reads by `policy` from now on; whether it did not before.
    async fn read_from(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: &str,
        policy: ReadPolicy,
    ) -> Result<bool, Refused> {
        if *group.record().volume(name)?.read_policy() == policy {
            return Ok(false);
        }
        let committed = self.transact(group, |group, _| change::set_read_policy(group, name, policy)).await?;
        let volume = committed.after.volume(name)?;
        if let Some(live) = self.live(volume.uuid()) {
            let policy = bringup::read_policy(volume);
            let swapped = live.reroute(&self.keepers, move |route| Route { policy, ..route.clone() }).await;
            swapped.map_err(|errno| system(volume.name(), "cannot be told whom to read from", errno))?;
        }
        Ok(true)
    }
}
