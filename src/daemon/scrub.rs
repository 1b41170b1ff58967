//! Scrubs: begun by a person or by their schedule, kept up to date in the catalogue, gone on with after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::{ByteRange, FaultPoint, Kind, Name, Refusal, Refused, Uuid};
use crate::control::reply::{Changed, Scrubbed};
use crate::control::row::DifferenceRow;
use crate::control::words::TaskKind;
use crate::control::{Reply, Row, request};
use crate::device::{Host, Moment};
use crate::mover::{self, Control, Decide, Ended, Flaw, ScrubPlan, ScrubReport, Tally, Tuning};
use crate::state::change::{self, Loss, RepairWish};
use crate::state::scrub::{Due, Hours, Limits, Repair, Schedule, ScrubRun, ScrubTally};
use crate::state::{Group, Volume as Record, VolumeState, refuse};
use crate::volume::{PlexDevice, RoutePlex, Volume};

use super::jobs;
use super::live::Live;
use super::machine::{Machine, Ring};
use super::owner::{GroupHandle, Owner};
use super::server::Answer;

/// Between two times at which the position of a scrub is made durable: what a crash has it do again.
const CHECKPOINT: Duration = Duration::from_secs(10);

/// Between two looks at the schedules.
const LOOK: Duration = Duration::from_secs(30);

/// After a scheduled scrub that could not begin, before it is tried again.
const RETRY: Duration = Duration::from_secs(3600);

/// Flaws that one scrub lists; all are counted.
const FLAWS_LISTED: usize = 64;

/// Few slots: a scrub has time, and the application has the disks.
const SLOTS: usize = 4;

/// Bytes that a scrub reads of each plex at a time, which bounds how long a write waits for its window.
const CHUNK_BYTES: usize = 512 << 10;

/// A scrub under way.
struct ScrubJob {
    task: u64,
    outcome: oneshot::Receiver<Result<Outcome, Refused>>,
}

/// A scrub that went through the whole volume.
struct Outcome {
    /// By the indexes of its flaws.
    plexes: Vec<Name>,
    report: ScrubReport,
    in_step: u32,
}

fn kept(tally: &Tally) -> ScrubTally {
    ScrubTally {
        position: tally.position,
        differing_bytes: tally.differing_bytes,
        unreadable_bytes: tally.unreadable_bytes,
        repaired_bytes: tally.repaired_bytes,
    }
}

fn gone_on(tally: &ScrubTally) -> Tally {
    Tally {
        position: tally.position,
        differing_bytes: tally.differing_bytes,
        unreadable_bytes: tally.unreadable_bytes,
        repaired_bytes: tally.repaired_bytes,
    }
}

fn wish(repair: &request::Repair) -> RepairWish<'_> {
    match repair {
        request::Repair::Report => RepairWish::Report,
        request::Repair::Majority => RepairWish::Majority,
        request::Repair::Source(plex) => RepairWish::Source(plex.as_str()),
    }
}

fn difference(flaw: &Flaw, plexes: &[Name]) -> DifferenceRow {
    DifferenceRow {
        reference: plexes[flaw.reference].clone(),
        plex: plexes[flaw.device].clone(),
        offset_bytes: flaw.range.offset,
        length_bytes: flaw.range.length,
        unreadable: flaw.unreadable,
        repaired: flaw.repaired,
    }
}

fn ending() -> Refused {
    Refusal::new(
        Kind::Aborted,
        "daemon.ending",
        "cleaved",
        "is ending",
        "the scrub goes on at its next start",
    )
}

fn stopped_with(volume: &Name) -> Refused {
    let (reason, way_out) = ("the scrub stopped with the volume", "it goes on at the next start");
    Refusal::new(Kind::Aborted, "task.aborted", volume, reason, way_out)
}

impl<M: Machine> Owner<M> {
    /// Scrub a started volume.
    pub(super) async fn scrub(
        self: &Rc<Self>,
        request: request::Scrub,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let live = self.live(volume.uuid()).ok_or_else(|| refuse::volume_not_started(volume.name()))?;
        let repair = change::scrub_repair(volume, wish(&request.repair))?;
        let latency_us = request.latency_us.map(NonZeroU64::get);
        let limits = Limits { rate: request.bytes_per_second, latency_us };
        let job = self.begin_scrub(&group, &live, repair, limits, false).await?;
        let mut reply = Scrubbed {
            volume: request.volume,
            task: Some(job.task),
            plexes: 0,
            compared_bytes: 0,
            differing_bytes: 0,
            unreadable_bytes: 0,
            repaired_bytes: 0,
            elapsed_ms: 0,
        };
        if request.background {
            return Ok(Reply::Scrubbed(reply));
        }
        let about = Some((request.group.clone(), reply.volume.clone()));
        let ended = self.watched(answer, about, |_| job.outcome).await;
        let Outcome { plexes, report, in_step } = ended.unwrap_or_else(|_| Err(ending()))?;
        for flaw in &report.flaws {
            answer.row(Row::Difference(difference(flaw, &plexes))).await;
        }
        reply.task = None;
        reply.plexes = in_step.into();
        reply.compared_bytes = report.tally.position;
        reply.differing_bytes = report.tally.differing_bytes;
        reply.unreadable_bytes = report.tally.unreadable_bytes;
        reply.repaired_bytes = report.tally.repaired_bytes;
        reply.elapsed_ms = u64::try_from(self.machine.now().since(began).as_millis()).unwrap_or(u64::MAX);
        Ok(Reply::Scrubbed(reply))
    }

    /// Set when a volume is scrubbed by itself.
    pub(super) async fn scrub_schedule(
        self: &Rc<Self>,
        request: request::ScrubSchedule,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let schedule = match request.every_s {
            None => None,
            Some(every_s) => Some(Schedule {
                every_s,
                hours: request.hours.map(|(from, to)| Hours::new(from, to)).transpose()?,
                repair: change::scrub_repair(volume, wish(&request.repair))?,
                rate: request.bytes_per_second,
                latency_us: request.latency_us.map(NonZeroU64::get),
            }),
        };
        let uuid = volume.uuid();
        let (name, now) = (request.volume.as_str(), self.unix_seconds());
        self.transact_quietly(&group, |group| change::scrub_schedule(group, name, schedule, now)).await?;
        self.stirred.notify_waiters();
        self.answer_volume(&group, uuid, answer).await;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn begin_scrub(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        repair: Repair,
        limits: Limits,
        scheduled: bool,
    ) -> Result<ScrubJob, Refused> {
        live.check_stays()?;
        let now = self.unix_seconds();
        let begin =
            |group: &Group| change::scrub_begin(group, live.name.as_str(), repair, limits, scheduled, now);
        self.transact_quietly(group, begin).await?;
        FaultPoint::ScrubRecorded.reached();
        // A stop waits for the jobs that it has found.
        if live.stopping.get() {
            return Err(stopped_with(&live.name));
        }
        self.go_on_scrubbing(group, live).ok_or_else(ending)
    }

    /// Go on with the scrub that the record of a started volume has; none where it has none.
    fn go_on_scrubbing(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, live: &Rc<Live<M>>) -> Option<ScrubJob> {
        let uuid = live.volume.shape().uuid;
        let run = group.record().volume_by_id(uuid)?.scrub().run?;
        let nonzero = |limit: Option<u64>| limit.and_then(NonZeroU64::new);
        let limits = super::jobs::limits(nonzero(run.rate), nonzero(run.latency_us));
        let control = Control::within(limits, live.volume.latency());
        let length = live.volume.shape().geometry.length;
        let handle = Box::new(control.clone());
        let task = self.tasks.start(
            TaskKind::Scrub,
            &live.group,
            uuid,
            &live.name,
            None,
            length - run.tally.position.min(length),
            handle,
        );
        let at_work = live.at_work(uuid, control.clone());
        let (tell, outcome) = oneshot::channel();
        let (owner, group, live) = (Rc::clone(self), Rc::clone(group), Rc::clone(live));
        self.machine.spawn(async move {
            let end = owner.scrub_to_the_end(&group, &live, run, control).await;
            drop(at_work);
            owner.tasks.ended(task, end.as_ref().map(|_| ()).map_err(Clone::clone));
            // Who asked may have gone.
            let _ = tell.send(end);
        });
        Some(ScrubJob { task, outcome })
    }

    /// As a volume comes up: the scrub that was under way goes on.
    pub(super) fn resume_scrub(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, live: &Rc<Live<M>>) {
        if let Some(job) = self.go_on_scrubbing(group, live) {
            tracing::info!(volume = %live.name, task = job.task, "its scrub goes on");
        }
    }

    async fn scrub_to_the_end(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        run: ScrubRun,
        control: Control,
    ) -> Result<Outcome, Refused> {
        let uuid = live.volume.shape().uuid;
        // While plexes are made equal after a crash, differences are no news.
        while group.record().volume_by_id(uuid).is_some_and(|volume| volume.state() == VolumeState::Sync) {
            if control.wanted() == mover::Wanted::Abort {
                return Err(self.scrub_stopped(group, live, &gone_on(&run.tally)).await);
            }
            self.machine.sleep(Duration::from_secs(1)).await;
        }
        let plexes = jobs::complete(&live.volume.route());
        let record = group.record();
        let name =
            |plex: &RoutePlex<M::Medium>| record.plex_by_id(plex.uuid).map(|(_, plex)| plex.name().clone());
        let names: Vec<Name> = plexes.iter().filter_map(name).collect();
        let decide = match run.repair {
            Repair::Report => Some(Decide::Report),
            Repair::Majority => Some(Decide::Majority),
            Repair::Source(source) => plexes.iter().position(|plex| plex.uuid == source).map(Decide::Source),
        };
        let Some(decide) = decide.filter(|_| plexes.len() >= 2 && names.len() == plexes.len()) else {
            self.record_scrub_end(group, uuid, &gone_on(&run.tally), None).await;
            return Err(Refusal::new(
                Kind::InvalidState,
                "scrub.plexes",
                &live.name,
                "the plexes to be compared are not in step any more",
                "look at them with cleave show, then scrub again",
            ));
        };
        let uuids: Vec<Uuid> = plexes.iter().map(|plex| plex.uuid).collect();
        // What they lie on is given to the mover alone: a plex that leaves is let go of at once.
        let report = self.scrub_on_the_ring(group, live, plexes, decide, run, control).await?;
        self.scrub_ended(group, live, &uuids, names, report).await
    }

    /// Run the mover's scrub, and make its position durable now and then.
    async fn scrub_on_the_ring(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        plexes: Vec<RoutePlex<M::Medium>>,
        decide: Decide,
        run: ScrubRun,
        control: Control,
    ) -> Result<ScrubReport, Refused> {
        let uuid = live.volume.shape().uuid;
        let told = Arc::new(Mutex::new(gone_on(&run.tally)));
        let (volume, tell) = (Arc::clone(&live.volume), Arc::clone(&told));
        let mut report = self.movers.run(move |host| async move {
            let uuids: Vec<Uuid> = plexes.iter().map(|plex| plex.uuid).collect();
            let open = |plex: RoutePlex<M::Medium>| {
                PlexDevice::while_in_path(&host, Arc::clone(&volume), plex.uuid, &plex.medium)
            };
            let devices: Vec<_> = plexes.into_iter().map(open).collect();
            let counters = volume.counters();
            let plan = ScrubPlan {
                devices: &devices,
                windows: &volume,
                done: gone_on(&run.tally),
                length: volume.shape().geometry.length,
                decide,
                in_step: &|device, range| is_in_step(&volume, uuids[device], range),
                changed: &|range| volume.route().mark(range),
                activity: &|| {
                    [&counters.reads, &counters.writes, &counters.flushes]
                        .iter()
                        .fold(0, |sum, counter| sum + counter.load(std::sync::atomic::Ordering::Relaxed))
                },
                settled: &|tally| *tell.lock().unwrap_or_else(PoisonError::into_inner) = *tally,
                list_at_most: FLAWS_LISTED,
                tuning: Tuning::new(SLOTS, CHUNK_BYTES),
            };
            mover::scrub(plan, &control, host.clock()).await
        });
        let mut durable = run.tally;
        loop {
            tokio::select! {
                biased;
                report = &mut report => return report.map_err(|_| ending()),
                () = self.machine.sleep(CHECKPOINT) => {
                    let tally = kept(&told.lock().unwrap_or_else(PoisonError::into_inner));
                    if tally != durable {
                        durable = tally;
                        self.record_scrub_progress(group, uuid, tally).await;
                    }
                }
            }
        }
    }

    async fn scrub_ended(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        plexes: &[Uuid],
        names: Vec<Name>,
        report: ScrubReport,
    ) -> Result<Outcome, Refused> {
        let uuid = live.volume.shape().uuid;
        for flaw in &report.flaws {
            let (plex, range) = (&names[flaw.device], flaw.range);
            let (unreadable, repaired) = (flaw.unreadable, flaw.repaired);
            tracing::warn!(volume = %live.name, %plex, %range, unreadable, repaired, "scrub: a plex is not as the others");
        }
        match report.ended {
            Ended::Complete => {
                let route = live.volume.route();
                let left = plexes.iter().filter(|plex| route.plex(**plex).is_some()).count();
                let in_step = u32::try_from(left).unwrap_or(u32::MAX);
                FaultPoint::ScrubCompared.reached();
                self.record_scrub_end(group, uuid, &report.tally, Some(in_step)).await;
                let tally = report.tally;
                tracing::info!(
                    volume = %live.name, plexes = in_step, differing_bytes = tally.differing_bytes,
                    unreadable_bytes = tally.unreadable_bytes, repaired_bytes = tally.repaired_bytes, "scrubbed"
                );
                Ok(Outcome { plexes: names, report, in_step })
            }
            Ended::Aborted => Err(self.scrub_stopped(group, live, &report.tally).await),
            Ended::Failed(error) => {
                self.record_scrub_end(group, uuid, &report.tally, None).await;
                let failed = report.failed.map(|device| (&names[device], &plexes[device]));
                // What could not be written lacks what was to be repaired; what cannot be read is found by reads.
                let lost = matches!(error, mover::MoverError::Write { .. } | mover::MoverError::Flush { .. });
                if let Some((_, plex)) = failed.filter(|_| lost) {
                    self.give_up(group, *plex, Loss::Failed).await;
                }
                let object = failed.map_or(&live.name, |(name, _)| name);
                let way_out = "see to its medium, then scrub again";
                Err(Refusal::new(
                    Kind::Io,
                    "scrub.failed",
                    object,
                    format!("the scrub ended: {error}"),
                    way_out,
                ))
            }
        }
    }

    /// A scrub that was told to end: with the volume, and then it goes on with it; or by a person, for good.
    async fn scrub_stopped(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        tally: &Tally,
    ) -> Refused {
        let uuid = live.volume.shape().uuid;
        if live.stopping.get() {
            self.record_scrub_progress(group, uuid, kept(tally)).await;
            return stopped_with(&live.name);
        }
        self.record_scrub_end(group, uuid, tally, None).await;
        Refusal::new(Kind::Aborted, "task.aborted", &live.name, "the scrub was aborted", "")
    }

    async fn record_scrub_progress(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        tally: ScrubTally,
    ) {
        let recorded =
            self.transact_quietly(group, |group| change::scrub_progress(group, volume, tally)).await;
        if let Err(refused) = recorded {
            tracing::warn!("how far a scrub has come cannot be recorded: {refused}");
        }
    }

    async fn record_scrub_end(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        tally: &Tally,
        plexes: Option<u32>,
    ) {
        let (tally, now) = (kept(tally), self.unix_seconds());
        let end = |group: &Group| change::scrub_end(group, volume, tally, plexes, now);
        if let Err(refused) = self.transact_quietly(group, end).await {
            tracing::warn!("the end of a scrub cannot be recorded: {refused}");
        }
    }

    /// Begin and hold scrubs by their schedules, as long as the daemon lives.
    pub(super) async fn keep_scrub_schedules(self: Rc<Self>) {
        let mut held = BTreeSet::new();
        let mut refused: BTreeMap<Uuid, Moment> = BTreeMap::new();
        loop {
            // Where there is no schedule nothing is looked at before one is set or a volume comes.
            let stirred = self.stirred.notified();
            if self.has_scrub_schedules() {
                self.machine.sleep(LOOK).await;
            } else {
                stirred.await;
                continue;
            }
            for group in self.all_groups() {
                for volume in group.record().volumes() {
                    let Some(live) = self.live(volume.uuid()).filter(|live| !live.stopping.get()) else {
                        continue;
                    };
                    self.keep_schedule(&group, volume, &live, &mut held, &mut refused).await;
                }
            }
        }
    }

    /// Whether a started volume is scrubbed by itself.
    fn has_scrub_schedules(&self) -> bool {
        let scheduled =
            |volume: &Record| volume.scrub().schedule.is_some() && self.live(volume.uuid()).is_some();
        self.all_groups().iter().any(|group| group.record().volumes().iter().any(scheduled))
    }

    async fn keep_schedule(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: &Record,
        live: &Rc<Live<M>>,
        held: &mut BTreeSet<u64>,
        refused: &mut BTreeMap<Uuid, Moment>,
    ) {
        let uuid = volume.uuid();
        let now = self.unix_seconds();
        let task = self.tasks.latest(uuid, &[TaskKind::Scrub]).filter(|task| !task.state.ended());
        match volume.scrub().due(now) {
            Due::Nothing => {}
            Due::CountAnew => {
                tracing::warn!(volume = %live.name, "the clock was set back: the interval of its scrubs counts from now");
                let anew = |group: &Group| change::scrub_count_anew(group, uuid, now);
                if let Err(refused) = self.transact_quietly(group, anew).await {
                    tracing::warn!("{refused}");
                }
            }
            Due::Begin(schedule) => {
                if refused.get(&uuid).is_some_and(|since| self.machine.now().since(*since) < RETRY) {
                    return;
                }
                let limits = Limits { rate: schedule.rate, latency_us: schedule.latency_us };
                match self.begin_scrub(group, live, schedule.repair, limits, true).await {
                    Ok(job) => {
                        tracing::info!(volume = %live.name, task = job.task, "its scrub is due and begins")
                    }
                    Err(error) => {
                        tracing::warn!("a scrub is due and cannot begin: {error}");
                        refused.insert(uuid, self.machine.now());
                    }
                }
            }
            Due::Run => {
                if let Some(task) = task.filter(|task| held.remove(&task.task))
                    && let Err(refused) = self.tasks.resume(task.task)
                {
                    tracing::warn!("{refused}");
                }
            }
            Due::Wait => {
                let running = |task: &crate::control::row::TaskRow| {
                    task.state == crate::control::words::TaskState::Running
                };
                if let Some(task) = task.filter(running) {
                    match self.tasks.pause(task.task) {
                        Ok(()) => drop(held.insert(task.task)),
                        Err(refused) => tracing::warn!("{refused}"),
                    }
                }
            }
        }
    }
}

/// Whether a plex is in the write path and lacks nothing of `range`.
fn is_in_step<D: Clone + Send + Sync + 'static>(volume: &Volume<D>, plex: Uuid, range: ByteRange) -> bool {
    volume.route().plex(plex).is_some_and(|plex| !plex.behind.is_marked(range))
}

#[cfg(test)]
mod tests;
