//! Jobs of the mover on started volumes: copies to plexes that lack something, the resync after a crash, comparisons.
//! Each is a task; what its end means for the records is decided here.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::{ByteRange, Errno, FaultPoint, Kind, Refusal, Refused, Uuid};
use crate::control::What;
use crate::control::words::TaskKind;
use crate::device::{Host, Space};
use crate::mover::{
    self, ComparePlan, CompareReport, Control, CopyPlan, CopyReport, Ended, FLUSH_EVERY_BYTES, Limits,
    MoverError, TargetZero, Tuning, Work,
};
use crate::state::change::{self, Loss};
use crate::state::{Group, MediumKind, Plex, PlexState};
use crate::volume::{PlexDevice, Role, Route, RoutePlex, Volume, VolumeQueue};

use super::bringup::role;
use super::events::{Cause, News};
use super::live::Live;
use super::machine::{Machine, Ring};
use super::owner::{GroupHandle, Owner, system};
use super::plex_faults::PlexFault;

/// Differences that one comparison lists; all are counted.
const DIFFERENCES_LISTED: usize = 64;

/// A job under way.
pub struct Job {
    /// Its task.
    pub task: u64,
    /// How it ends: the bytes that were written.
    pub outcome: oneshot::Receiver<Result<u64, Refused>>,
}

impl Job {
    /// Wait for the end.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn ended(self) -> Result<u64, Refused> {
        self.outcome.await.unwrap_or_else(|_| Err(ending_daemon()))
    }
}

fn ending_daemon() -> Refused {
    Refusal::new(Kind::Aborted, "daemon.ending", "cleaved", "is ending", "start it again")
}

/// What a copy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purpose {
    /// The task that people see.
    pub kind: TaskKind,
    /// The target was made just now and reads as zero.
    pub fresh: bool,
    /// How much it may get in the way, as who asked for it wants it.
    pub limits: Limits,
}

impl<M: Machine> Owner<M> {
    /// Copy to `plex`, which is in the write path, what its map says it lacks, and record that it is in step.
    ///
    /// # Errors
    /// The volume does not run or the plex is not in its write path.
    pub fn copy_to(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        plex: Uuid,
        purpose: Purpose,
    ) -> Result<Job, Refused> {
        live.check_stays()?;
        let record = group.record();
        let (volume_record, plex_record) = record.plex_by_id(plex).ok_or_else(|| plex_gone(plex))?;
        let route = live.volume.route();
        let target = route.plex(plex).cloned().ok_or_else(|| plex_gone(plex))?;
        let made = plex_record.medium().kind == MediumKind::Made;
        let space = if plex_record.medium().sparse { Space::Release } else { Space::Keep };
        let control = Control::within(purpose.limits, live.volume.latency());
        let total = target.behind.dirty_bytes();
        let name = plex_record.name().clone();
        let task = self.tasks.start(
            purpose.kind,
            &live.group,
            volume_record.uuid(),
            &live.name,
            Some(&name),
            total,
            Box::new(control.clone()),
        );
        // What it reads may be what its last flush has given up: it is written all the same.
        let in_doubt = live.doubts.borrow().contains_key(&plex);
        let at_work = live.at_work(plex, control.clone());
        let (tell, outcome) = oneshot::channel();
        let (owner, group, live) = (Rc::clone(self), Rc::clone(group), Rc::clone(live));
        self.machine.spawn(async move {
            let respite = owner.machine.sleep(live.respite.get().since(owner.machine.now()));
            let aborted = tokio::select! {
                biased;
                () = control.aborted() => true,
                () = respite => false,
            };
            let plan = Plan {
                target: target.clone(),
                target_zero: match purpose.kind {
                    _ if purpose.fresh && made => TargetZero::Known,
                    // One that is STALE may be so because its flush has failed.
                    TaskKind::Recover if !in_doubt => TargetZero::WhereHoles,
                    _ => TargetZero::Unknown,
                },
                compare_first: purpose.kind == TaskKind::Recover && !in_doubt,
                space,
            };
            let moved = match aborted {
                true => Ok((Ended::Aborted, 0)),
                false => {
                    let report = owner.run_copy(Arc::clone(&live.volume), plan, control).await;
                    report.map(|report| (report.ended, report.written_bytes))
                }
            };
            let end = match moved {
                Ok((ended, written)) => match ended {
                    Ended::Complete => owner.in_step(&group, &live, plex).await.map(|()| written),
                    Ended::Aborted => Err(owner.copy_aborted(&group, &live, plex, purpose, &name).await),
                    // Perhaps it was taken out on purpose, by another verb, which has the turn until the record says so.
                    Ended::Failed(MoverError::TargetFailed)
                        if owner.is_taken_out(&group, &live, plex).await =>
                    {
                        Err(owner.copy_aborted(&group, &live, plex, purpose, &name).await)
                    }
                    Ended::Failed(error) => {
                        Err(owner.copy_failed(&group, plex, purpose, &error, &name).await)
                    }
                },
                Err(refused) => Err(refused),
            };
            drop(at_work);
            owner.tasks.ended(task, end.as_ref().map(|_| ()).map_err(Clone::clone));
            // Who asked may have gone.
            let _ = tell.send(end);
        });
        Ok(Job { task, outcome })
    }

    async fn run_copy(
        self: &Rc<Self>,
        volume: Arc<Volume<M::Medium>>,
        plan: Plan<M::Medium>,
        control: Control,
    ) -> Result<CopyReport, Refused> {
        let report = self.movers.run(move |host| async move {
            let source = VolumeQueue::new(host.clone(), Arc::clone(&volume))?.for_mover();
            let uuid = plan.target.uuid;
            let device = PlexDevice::new(&host, Arc::clone(&volume), uuid, &plan.target.medium);
            let copy = CopyPlan {
                source: &source,
                target: &device,
                windows: &volume,
                map: &plan.target.behind,
                target_zero: plan.target_zero,
                compare_first: plan.compare_first,
                space: plan.space,
                flush_every_bytes: FLUSH_EVERY_BYTES,
                target_failed: &|| volume.route().plex(uuid).is_none(),
                tuning: Tuning::default(),
            };
            Some(mover::copy(copy, &control, host.clock()).await)
        });
        match report.await {
            Ok(Some(report)) => Ok(report),
            Ok(None) => Err(Refusal::new(
                Kind::Busy,
                "volume.too-many-jobs",
                "mover",
                "too many jobs work on one volume",
                "wait for one of them: cleave task list",
            )),
            Err(_) => Err(ending_daemon()),
        }
    }

    /// Everything is copied and flushed: the plex is in step, durably before anything relies on it (ordering rule 13).
    async fn in_step(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        plex: Uuid,
    ) -> Result<(), Refused> {
        let failed = |what: &'static str| move |errno| system(&live.name, what, errno);
        live.keeper.persist().await.map_err(failed("a change map cannot be written"))?;
        FaultPoint::StepPersisted.reached();
        let kept = |record: &Plex| record.state().has_map();
        let has_map = group.record().plex_by_id(plex).is_some_and(|(_, record)| kept(record));
        if !has_map {
            // A resync after a crash: the plex is ACTIVE already.
            return Ok(());
        }
        // From before the record relies on it no flush is acknowledged without it; it is read only after.
        live.give_role(&self.keepers, plex, Role::Joining)
            .await
            .map_err(failed("the plex cannot be given its role"))?;
        FaultPoint::StepJoined.reached();
        live.keeper.flush().await.map_err(failed("the plexes cannot be flushed"))?;
        FaultPoint::StepFlushed.reached();
        if live.volume.route().plex(plex).is_none_or(|plex| !plex.behind.is_clean()) {
            return Err(plex_gone(plex));
        }
        let committed = self.transact(group, |group, ids| change::synced_plex(group, plex, ids)).await?;
        FaultPoint::StepRecorded.reached();
        let state = committed.after.plex_by_id(plex).map(|(_, record)| record.state());
        if let Some(state) = state {
            // Without it the plex is believed and gets everything, and serves no read.
            live.give_role(&self.keepers, plex, role(state))
                .await
                .map_err(failed("the plex cannot be given its role"))?;
            // Only now does it serve in the place of the other.
            self.finish_replacements(group, live.volume.shape().uuid).await;
        }
        Ok(())
    }

    /// Whether `plex` has left, and not because it failed.
    async fn is_taken_out(&self, group: &Rc<GroupHandle<M>>, live: &Live<M>, plex: Uuid) -> bool {
        let _turn = group.turn.lock().await;
        let failed = live.lost.borrow().contains_key(&plex);
        group.record().plex_by_id(plex).is_none_or(|(_, plex)| !plex.is_attached()) && !failed
    }

    /// The copy was told to end: by a person, by a stop, or because its plex has left.
    async fn copy_aborted(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        plex: Uuid,
        purpose: Purpose,
        name: &crate::base::Name,
    ) -> Refused {
        let record = group.record();
        let found = record.plex_by_id(plex);
        let still = found.is_some_and(|(_, plex)| plex.is_attached());
        let unfinished = found.is_some() && purpose.kind == TaskKind::Mirror;
        if (still || unfinished) && !live.stopping.get() && purpose.kind != TaskKind::Recover {
            self.back_out(group, plex, purpose).await;
        }
        if still {
            return Refusal::new(Kind::Aborted, "task.aborted", &live.name, "the copy was aborted", "");
        }
        // A write of the application, not the copy itself, may have met the end of the medium.
        let errno = live.lost.borrow().get(&plex).copied();
        let why = "the plex left the volume while it was copied";
        match errno {
            Some(Errno::NO_SPACE) => Refusal::new(
                Kind::NoSpace,
                "medium.full",
                name,
                format!("{why}: its medium is full"),
                "make room or name another medium, then add it again",
            ),
            Some(errno) => Refusal::new(
                Kind::Io,
                "plex.copy-failed",
                name,
                format!("{why}: {errno}"),
                "mend the medium or name another, then add it again",
            ),
            None => Refusal::new(Kind::Aborted, "task.aborted", &live.name, why, ""),
        }
    }

    /// The copy failed: a snapshot mirror or a mirror that was being added is removed with its space, one that was
    /// complete before becomes STALE; the volume is unharmed. When it was the source of a resync that could not be read,
    /// its target stays: it may hold the only good copy.
    async fn copy_failed(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        plex: Uuid,
        purpose: Purpose,
        error: &MoverError,
        name: &crate::base::Name,
    ) -> Refused {
        let source_failed = matches!(error, MoverError::Read { device: mover::SOURCE, .. });
        if purpose.kind != TaskKind::Recover || !source_failed {
            self.events.note_cause(plex, Cause { reason: error.to_string(), hung: false });
            self.back_out(group, plex, purpose).await;
        }
        let record = group.record();
        let found = record.plex_by_id(plex);
        let full = matches!(
            error,
            MoverError::Write { errno: Errno::NO_SPACE, .. } | MoverError::Flush { errno: Errno::NO_SPACE }
        );
        let (kind, id) = if full { (Kind::NoSpace, "medium.full") } else { (Kind::Io, "plex.copy-failed") };
        let (fate, way_out) = match found {
            None => (
                "the mirror was removed and its space freed",
                "make room or name another medium, then add it again",
            ),
            Some((_, plex)) if plex.is_attached() => (
                "the plexes are not equal there yet",
                "look at the source plex, and start the volume with another: cleave start --source PLEX",
            ),
            Some(_) => (
                "the plex is STALE, the volume is unharmed",
                "mend the medium, then have it copied what it misses: cleave plex attach PLEX",
            ),
        };
        Refusal::new(kind, id, name, format!("{error}; {fate}"), way_out)
    }

    /// Take a plex out whose copy did not end. One that was being added was never complete: it holds nothing worth
    /// tracking, and goes with its space.
    async fn back_out(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, plex: Uuid, purpose: Purpose) {
        if purpose.kind == TaskKind::Mirror {
            let record = group.record();
            let Some((volume, found)) = record.plex_by_id(plex) else { return };
            let (volume, name) = (volume.name().as_str(), found.name().as_str());
            let removed =
                self.transact(group, |group, ids| change::remove_plex(group, volume, name, ids)).await;
            match removed {
                Ok(_) => return,
                Err(refused) => tracing::warn!("a mirror that is not complete stays for now: {refused}"),
            }
        }
        self.give_up(group, plex, Loss::Failed).await;
    }

    /// Take a plex out that cannot be brought into step.
    pub(super) async fn give_up(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, plex: Uuid, loss: Loss) {
        if let Err(refused) =
            self.transact(group, |group, ids| change::lose_plex(group, plex, loss, None, ids)).await
        {
            tracing::warn!(%plex, "a plex cannot be given up: {refused}");
        }
    }

    /// Copy to `plex`, which refused a write as invalid and is in step elsewhere, what it lacks.
    pub(super) fn even_out(self: &Rc<Self>, volume: Uuid, plex: Uuid) {
        let Some((live, group)) = self.live(volume).zip(self.group_of(volume)) else { return };
        if live.stopping.get() || live.is_at_work_on(plex) {
            return;
        }
        let purpose = Purpose { kind: TaskKind::Recover, fresh: false, limits: Limits::default() };
        if let Err(refused) = self.copy_to(&group, &live, plex, purpose) {
            tracing::warn!("{refused}");
        }
    }

    /// Rewrite what `plex` could not read from the plexes that can (ordering rule 10). One that cannot be written either is
    /// lost.
    pub(super) async fn mend(self: &Rc<Self>, volume: Uuid, plex: Uuid, range: ByteRange, errno: Errno) {
        self.plex_fault(volume, plex, &PlexFault::ReadFailed(range, errno));
        let Some((live, group)) = self.live(volume).zip(self.group_of(volume)) else { return };
        let Some(target) = live.volume.route().plex(plex).cloned() else { return };
        // What is not mended now is told again by the next read of it.
        if live.stopping.get() || live.is_at_work_on(plex) {
            return;
        }
        let at_work = live.at_work(plex, Control::new(None));
        let shared = Arc::clone(&live.volume);
        let mended = self.movers.run(move |host| async move {
            let source = VolumeQueue::new(host.clone(), Arc::clone(&shared))?.for_mover().avoiding(plex);
            let device = PlexDevice::new(&host, Arc::clone(&shared), plex, &target.medium);
            Some(mover::repair(&source, &device, &shared, range).await)
        });
        let mended = mended.await;
        drop(at_work);
        match mended {
            Ok(Some(Ok(()))) => self.plex_fault(volume, plex, &PlexFault::Mended(range)),
            Ok(Some(Err(error @ MoverError::Read { .. }))) => {
                let text = format!("could not be read at {range} ({errno}), and not be rewritten: {error}");
                self.events.raise(self.news_about(News::new(What::ReadNotMended, text), volume, Some(plex)));
            }
            Ok(Some(Err(error))) => {
                let reason = format!("could not be read at {range} ({errno}), and not be rewritten: {error}");
                self.events.note_cause(plex, Cause { reason, hung: false });
                self.give_up(&group, plex, Loss::Failed).await;
            }
            Ok(None) | Err(_) => {}
        }
    }

    /// Make the plexes of a volume equal that came up after a crash (ordering rule 14), one after the other, and record that
    /// they are. The job of the first.
    pub(super) fn resync(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, live: &Rc<Live<M>>) -> Vec<Job> {
        let mut tried = BTreeSet::new();
        let first = self.resync_next(group, live, &mut tried);
        let (tell, told) = oneshot::channel();
        let shown = first.as_ref().map(|job| Job { task: job.task, outcome: told });
        let (owner, group, live) = (Rc::clone(self), Rc::clone(group), Rc::clone(live));
        self.machine.spawn(async move {
            let mut next = first;
            let mut tell = Some(tell);
            while let Some(job) = next {
                let end = job.ended().await;
                if let Some(tell) = tell.take() {
                    // Who asked may have gone.
                    let _ = tell.send(end);
                }
                next = owner.resync_next(&group, &live, &mut tried);
            }
            if let Some(job) = owner.resync_source(&group, &live).await {
                // What it came to is seen by what the plex lacks.
                let _ = job.ended().await;
            }
            let uuid = live.volume.shape().uuid;
            // A plex that could not be made equal has left.
            let route = live.volume.route();
            let relied: Vec<Uuid> = relied_on(&group.record(), &route);
            let equal = |uuid: &Uuid| route.plex(*uuid).is_none_or(|plex| plex.behind.is_clean());
            if !relied.iter().all(equal) || live.stopping.get() {
                let news = News::new(What::ResyncUnfinished, "its plexes could not be made equal");
                owner.events.raise(news.of_volume(&live.group, &live.name));
                return;
            }
            FaultPoint::ResyncEqual.reached();
            match owner.transact(&group, |group, _| change::resync_done(group, uuid)).await {
                Ok(_) => {
                    FaultPoint::ResyncRecorded.reached();
                    owner.settle_doubts(live.doubts.take());
                    live.volume.intent().unpin();
                    owner.finish_replacements(&group, uuid).await;
                }
                Err(refused) => {
                    tracing::warn!(volume = %live.name, "the end of a resync cannot be recorded: {refused}")
                }
            }
        });
        shown.into_iter().collect()
    }

    /// Begin to make the next plex equal; each is tried once.
    fn resync_next(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        tried: &mut BTreeSet<Uuid>,
    ) -> Option<Job> {
        let purpose = Purpose { kind: TaskKind::Recover, fresh: false, limits: Limits::default() };
        loop {
            let relied = relied_on(&group.record(), &live.volume.route());
            let plex = live.volume.next_unequal(|plex| relied.contains(&plex) && !tried.contains(&plex))?;
            tried.insert(plex);
            match self.copy_to(group, live, plex, purpose) {
                Ok(job) => return Some(job),
                Err(refused) => tracing::warn!("{refused}"),
            }
        }
    }

    /// Compare all plexes of the volume that are in step, over all of it.
    ///
    /// # Errors
    /// Fewer than two plexes are in step, or one cannot be read.
    pub(super) async fn compare(
        self: &Rc<Self>,
        live: &Rc<Live<M>>,
        plexes: Vec<RoutePlex<M::Medium>>,
    ) -> Result<(CompareReport, u64), Refused> {
        live.check_stays()?;
        let control = Control::within(Limits::default(), live.volume.latency());
        let length = live.volume.shape().geometry.length;
        let uuid = live.volume.shape().uuid;
        let task = self.tasks.start(
            TaskKind::Verify,
            &live.group,
            uuid,
            &live.name,
            None,
            length,
            Box::new(control.clone()),
        );
        let at_work = live.at_work(uuid, control.clone());
        let (volume, compared) = (Arc::clone(&live.volume), plexes.iter().map(|plex| plex.uuid));
        let compared: Vec<Uuid> = compared.collect();
        let report = self.movers.run(move |host| async move {
            let open = |plex: RoutePlex<M::Medium>| {
                PlexDevice::while_in_path(&host, Arc::clone(&volume), plex.uuid, &plex.medium)
            };
            let devices: Vec<_> = plexes.into_iter().map(open).collect();
            let whole = [ByteRange::new(0, length)];
            let plan = ComparePlan {
                devices: &devices,
                windows: &volume,
                work: Work::Ranges(&whole),
                trust_holes: false,
                mark: None,
                list_at_most: DIFFERENCES_LISTED,
                tuning: Tuning::default(),
            };
            mover::compare(plan, &control, host.clock()).await
        });
        let report = report.await.map_err(|_| ending_daemon());
        drop(at_work);
        let end = report.as_ref().map_err(Clone::clone).and_then(|report| match &report.ended {
            Ended::Complete => Ok(()),
            Ended::Aborted => {
                Err(Refusal::new(Kind::Aborted, "task.aborted", &live.name, "the comparison was aborted", ""))
            }
            Ended::Failed(MoverError::Read { errno: Errno::GONE, .. })
                if compared.iter().any(|plex| live.volume.route().plex(*plex).is_none()) =>
            {
                Err(Refusal::new(
                    Kind::Changed,
                    "verify.plex-left",
                    &live.name,
                    "one of its plexes left it while they were compared",
                    format!("compare those that are left: cleave verify {}", live.name),
                ))
            }
            Ended::Failed(error) => Err(Refusal::new(
                Kind::Io,
                "verify.unreadable",
                &live.name,
                error,
                "see which plex it is: cleave show",
            )),
        });
        self.tasks.ended(task, end.clone());
        end.and(report).map(|report| (report, task))
    }
}

struct Plan<D> {
    target: RoutePlex<D>,
    target_zero: TargetZero,
    compare_first: bool,
    space: Space,
}

/// Plexes of a route that hold all of the volume: the readable ones, and snapshot mirrors in step.
#[must_use]
pub fn complete<D: Clone>(route: &Route<D>) -> Vec<RoutePlex<D>> {
    route
        .plexes
        .iter()
        .filter(|plex| plex.role == Role::ReadWrite || plex.behind.is_clean())
        .cloned()
        .collect()
}

/// The plexes of a route that must be equal: those that are read, and snapshot mirrors that were in step.
fn relied_on<D: Clone>(record: &Group, route: &Route<D>) -> Vec<Uuid> {
    let in_step =
        |uuid: Uuid| record.plex_by_id(uuid).is_some_and(|(_, plex)| plex.state() == PlexState::SnapDone);
    let relied = |plex: &&RoutePlex<D>| plex.role == Role::ReadWrite || in_step(plex.uuid);
    route.plexes.iter().filter(relied).map(|plex| plex.uuid).collect()
}

fn plex_gone(plex: Uuid) -> Refused {
    Refusal::new(Kind::Changed, "plex.gone", plex, "left the volume meanwhile", "look at it: cleave show")
}

/// The limits that a request names.
pub(super) fn limits(rate: Option<NonZeroU64>, latency_us: Option<NonZeroU64>) -> Limits {
    Limits { rate, latency: latency_us.map(|micros| Duration::from_micros(micros.get())) }
}

#[cfg(test)]
mod tests;
