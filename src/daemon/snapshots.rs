//! The snapshot procedure: snapstart, snapwait, snapshot, snapback, snapabort.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{Errno, FaultPoint, Kind, Name, Refusal, Refused, Uuid};
use crate::control::reply::{Changed, Cut, Removed, Returned};
use crate::control::row::ForeseenRow;
use crate::control::words::{Consistency, TaskKind};
use crate::control::{Event, Reply, Row, request};
use crate::device::{BlockDevice, Host, Request};
use crate::state::change::{self, CutFacts, CutTarget, Presence, SnapbackArgs};
use crate::state::{Grade, Group, MediumKind, PlexState, Volume, VolumeState, refuse};
use crate::volume::Route;
use crate::volume::cut::Swap;
use crate::volume::map_file::Ending;

use super::bringup::Face;
use super::jobs::{Purpose, limits};
use super::live::Live;
use super::machine::{Machine, Ring};
use super::make::Added;
use super::media::Wanted;
use super::owner::{GroupHandle, Owner, system};
use super::rows;
use super::server::Answer;

/// How long a cut may hold requests before it backs out (ordering rule 11).
const CUT_LIMIT: Duration = Duration::from_secs(5);

/// How long a file system may stay frozen whatever happens (ordering rule 12).
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// A started volume and what becomes of its route.
type Swapping<M> = (Rc<Live<M>>, Swap<<M as Machine>::Medium>);

/// One volume of a cut while it is made.
struct Cutting<M: Machine> {
    live: Rc<Live<M>>,
    plexes: Vec<Uuid>,
    origin_map: Uuid,
    snapshot: Uuid,
    /// Where its file systems are mounted that are to be frozen.
    mounts: Vec<PathBuf>,
    frozen_for: Option<Duration>,
    grade: Grade,
}

/// When and how a cut was made.
#[derive(Clone, Copy)]
struct Taken {
    at: SystemTime,
    hold: Duration,
    drain: Duration,
}

impl Taken {
    fn unix(&self) -> Duration {
        self.at.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl<M: Machine> Owner<M> {
    pub(super) async fn snapstart(self: &Rc<Self>, request: request::SnapStart) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let length = group.record().volume(request.volume.as_str())?.length();
        let wanted = Wanted::to_snapstart(&request, length);
        let (plexes, jobs) = self
            .add_plexes(
                &group,
                &wanted,
                Added::Snapshots,
                limits(request.bytes_per_second, request.latency_us),
            )
            .await?;
        self.attached(request.volume, plexes, jobs, request.background, began).await
    }

    /// Wait, by events, until enough snapshot mirrors are SNAPDONE.
    pub(super) async fn snapwait(
        self: &Rc<Self>,
        request: request::SnapWait,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        // Listened to before the first look, so that nothing falls between.
        let mut events = self.events.subscribe();
        let mut progress = self.tasks.subscribe();
        loop {
            let record = group.record();
            let volume = record.volume(request.volume.as_str())?;
            let ready: Vec<_> =
                volume.plexes().iter().filter(|plex| plex.state() == PlexState::SnapDone).collect();
            if ready.len() >= request.nmirror as usize {
                let plexes = ready.iter().map(|plex| plex.name().clone()).collect();
                return self.attached(request.volume.clone(), plexes, Vec::new(), false, began).await;
            }
            let coming = volume
                .snapshot_mirrors()
                .filter(|plex| plex.state() != PlexState::Stale || plex.is_attached())
                .count();
            if coming < request.nmirror as usize {
                // A mirror that vanished takes its cause along, which its task tells a moment after it is gone.
                let latest = self.tasks.latest(volume.uuid(), &[TaskKind::SnapStart, TaskKind::SnapBack]);
                let gone = |task: &crate::control::row::TaskRow| {
                    task.plex.as_ref().is_some_and(|plex| volume.plex(plex.as_str()).is_err())
                };
                match latest {
                    Some(task) if gone(&task) && !task.state.ended() => {}
                    Some(task) if gone(&task) && task.fault.is_some() => {
                        return Err(task
                            .fault
                            .map_or_else(|| refuse::snapshot_no_mirror(volume.name()), Box::new));
                    }
                    Some(_) | None => return Err(refuse::snapshot_no_mirror(volume.name())),
                }
            }
            tokio::select! {
                biased;
                event = events.recv() => if let Ok(event) = event
                    && is_of(&event, &request.group, &request.volume) {
                        answer.event(event);
                    },
                event = progress.recv() => if let Ok(event) = event
                    && is_of(&event, &request.group, &request.volume) {
                        answer.event(event);
                    },
                () = answer.closed() => return Err(Refusal::new(Kind::Aborted, "client.gone", "client", "went away", "")),
            }
        }
    }

    pub(super) async fn snapabort(self: &Rc<Self>, request: request::SnapAbort) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let committed = self
            .transact(&group, |group, ids| {
                change::snapabort(group, request.volume.as_str(), Some(request.nmirror as usize), ids)
            })
            .await?;
        let volume = committed.before.volume(request.volume.as_str())?;
        let gone: Vec<_> =
            volume.plexes().iter().filter(|plex| committed.after.plex_by_id(plex.uuid()).is_none()).collect();
        let made = gone.iter().filter(|plex| plex.medium().kind == MediumKind::Made).count() as u64;
        Ok(Reply::Removed(Removed {
            volume: None,
            plexes: gone.iter().map(|plex| plex.name().clone()).collect(),
            freed_bytes: made * crate::state::medium_bytes(volume.length()),
            lost_bytes: 0,
            independent: Vec::new(),
        }))
    }

    pub(super) async fn snapclear(self: &Rc<Self>, request: request::SnapClear) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let snapshot = Self::snapshot_to_clear(&record, &request)?;
        let origin = record.link_of(snapshot.uuid()).map(|(origin, _)| origin.uuid());
        let _alone = self.alone(origin.into_iter().chain([snapshot.uuid()])).await;
        let name = snapshot.name().as_str();
        self.transact(&group, |group, ids| change::snapclear(group, name, ids)).await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// The snapshot volume of the relation that is to end.
    pub(super) fn snapshot_to_clear<'a>(
        record: &'a Group,
        request: &request::SnapClear,
    ) -> Result<&'a Volume, Refused> {
        let mut snapshot = record.volume(request.snapshot.as_str())?;
        if let Some(other) = &request.other {
            let other = record.volume(other.as_str())?;
            // Either may be named first, as VxVM has an object of the relation at both.
            if record.link_of(other.uuid()).is_some_and(|(origin, _)| origin.uuid() == snapshot.uuid()) {
                snapshot = other;
            } else if let Some((origin, _)) = record.link_of(snapshot.uuid())
                && origin.uuid() != other.uuid()
            {
                return Err(refuse::snapshot_of_another(snapshot.name(), origin.name()));
            }
        }
        Ok(snapshot)
    }

    /// Break SNAPDONE mirrors off, of all volumes at one instant (ordering rules 11 and 12).
    pub(super) async fn snapshot(
        self: &Rc<Self>,
        request: request::Snapshot,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let record = group.record();
        let names = targets(&record, &request)?;
        let volumes: Result<Vec<_>, _> = names
            .iter()
            .map(|(name, _)| record.volume(name.as_str()).map(crate::state::Volume::uuid))
            .collect();
        let _alone = self.alone(volumes?).await;
        let lives = self.lives(&group, names.iter().map(|(volume, _)| volume))?;
        // No intent bit of the span is cleared before the commit.
        lives.iter().for_each(|live| live.volume.intent().pin());
        let outcome = self.cut(&group, &request, &names, &lives, answer).await;
        lives.iter().for_each(|live| live.volume.intent().unpin());
        let taken = outcome?;
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Ok(Reply::Cut(Cut {
            hold_us: micros(taken.hold),
            drain_us: micros(taken.drain),
            elapsed_ms: self.millis_since(began),
            taken_ms: taken.unix().as_millis() as u64,
        }))
    }

    /// What a cut would make, where it can be made.
    pub(super) fn may_cut(&self, request: &request::Snapshot) -> Result<Vec<ForeseenRow>, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let names = targets(&record, request)?;
        self.lives(&group, names.iter().map(|(volume, _)| volume))?;
        let targets = cut_targets(&names, request.nmirror);
        let (_, change) = change::prepare_cut(&record, &targets, &mut self.dice()?)?;
        let of = |volume: &Volume| {
            let cut = volume.prepared()?;
            let plexes = cut.plexes.iter().filter_map(|plex| volume.plex_by_id(*plex));
            let plexes: Vec<_> = plexes.map(|plex| plex.name().to_string()).collect();
            let text = format!("is made, a snapshot of {}, of {}", volume.name(), plexes.join(", "));
            Some(ForeseenRow { object: cut.name.to_string(), text })
        };
        Ok(change.group.volumes().iter().filter_map(of).collect())
    }

    fn lives<'n>(
        &self,
        group: &GroupHandle<M>,
        names: impl Iterator<Item = &'n Name>,
    ) -> Result<Vec<Rc<Live<M>>>, Refused> {
        let record = group.record();
        names
            .map(|name| {
                let volume = record.volume(name.as_str())?;
                self.live(volume.uuid()).ok_or_else(|| refuse::volume_not_started(name))
            })
            .collect()
    }

    async fn cut(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        request: &request::Snapshot,
        names: &[(Name, Option<Name>)],
        lives: &[Rc<Live<M>>],
        answer: &Answer,
    ) -> Result<Taken, Refused> {
        let targets = cut_targets(names, request.nmirror);
        let mut set = Uuid::NIL;
        let committed = self
            .transact(group, |group, ids| {
                let (prepared, change) = change::prepare_cut(group, &targets, ids)?;
                set = prepared;
                Ok(change)
            })
            .await?;
        let mut cutting = Vec::new();
        for live in lives {
            let uuid = live.volume.shape().uuid;
            let prepared = committed.after.volume_by_id(uuid).and_then(|volume| volume.prepared());
            let prepared = prepared.expect("a prepared cut has every volume that was asked for");
            cutting.push(Cutting {
                live: Rc::clone(live),
                plexes: prepared.plexes.clone(),
                origin_map: prepared.origin_map,
                snapshot: prepared.volume,
                mounts: Vec::new(),
                frozen_for: None,
                grade: Grade::Crash,
            });
        }
        FaultPoint::CutPrepared.reached();
        // From before anybody can name them until they run.
        let _alone = self.alone(cutting.iter().map(|one| one.snapshot)).await;
        let swapped = self.freeze_and_swap(request.consistency, &mut cutting).await;
        let taken = match swapped {
            Ok(taken) => taken,
            Err(refused) => {
                self.roll_back(group, set, false).await;
                return Err(refused);
            }
        };
        let finished = self.finish_cut(group, set, &cutting, &taken).await;
        if let Err(refused) = finished {
            self.roll_back(group, set, true).await;
            return Err(refused);
        }
        FaultPoint::CutCommitted.reached();
        let mut outcome = Ok(taken);
        for one in &cutting {
            let none = crate::base::Generation(0);
            let ending = Ending { run: none, before: None, stop: none, clean: true };
            let up = self.bring_up(group, one.snapshot, ending, Face::New(None)).await;
            if let Err(refused) = up {
                self.record_crash(group, one.snapshot).await;
                let way_out = "the snapshot was taken: start it with cleave start";
                let refused = Refused::from(Refusal { way_out: way_out.to_owned(), ..*refused });
                outcome = outcome.and(Err(refused));
                continue;
            }
            let record = group.record();
            if let Some(row) = self.snapshot_row(group, &record, one) {
                answer.row(Row::Snapshot(row)).await;
            }
        }
        outcome
    }

    fn snapshot_row(
        self: &Rc<Self>,
        group: &GroupHandle<M>,
        record: &Group,
        one: &Cutting<M>,
    ) -> Option<crate::control::row::SnapshotRow> {
        let snapshot = record.volume_by_id(one.snapshot)?;
        let facts = self.facts(snapshot);
        let volume = rows::volume(&group.name, record, snapshot, &facts);
        Some(crate::control::row::SnapshotRow {
            group: group.name.clone(),
            volume: one.live.name.clone(),
            snapshot: snapshot.name().clone(),
            plexes: snapshot.plexes().iter().map(|plex| plex.name().clone()).collect(),
            grade: rows::grade(one.grade),
            frozen_ms: one.frozen_for.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            device: volume.device?,
            links: volume.links,
        })
    }

    /// Freeze what is mounted, hold, drain, swap, release, thaw. Nothing has changed after an error.
    async fn freeze_and_swap(
        self: &Rc<Self>,
        consistency: Consistency,
        cutting: &mut [Cutting<M>],
    ) -> Result<Taken, Refused> {
        let frozen = match consistency {
            Consistency::Fs => Some(self.freeze(cutting, Grade::Fs).await?),
            Consistency::App => Some(self.freeze(cutting, Grade::App).await?),
            Consistency::Crash => None,
        };
        FaultPoint::CutFrozen.reached();
        let members: Vec<Swapping<M>> = cutting
            .iter()
            .filter_map(|one| {
                let map = self.maps.borrow().get(&one.origin_map).cloned()?;
                let plexes = one.plexes.clone();
                let swap = move |route: &Route<M::Medium>| {
                    let mut route = route.clone();
                    route.plexes.retain(|plex| !plexes.contains(&plex.uuid));
                    route.marks.push(map);
                    route
                };
                Some((Rc::clone(&one.live), Box::new(swap) as Swap<M::Medium>))
            })
            .collect();
        assert_eq!(members.len(), cutting.len(), "every prepared cut has its map in memory");
        let swapped = Live::swap(&self.keepers, members, CUT_LIMIT).await;
        let at = self.machine.wall();
        if let Some(frozen) = frozen {
            self.thaw(frozen, cutting).await;
        }
        FaultPoint::CutReleased.reached();
        match swapped {
            Ok(report) => Ok(Taken { at, hold: report.hold, drain: report.drain }),
            Err(errno) => Err(hold_expired(&cutting[0].live.name, errno)),
        }
    }

    /// Freeze the file systems of all volumes of the set together, so that none stays frozen while another is written out.
    /// `best` is the grade that this gives.
    async fn freeze(self: &Rc<Self>, cutting: &mut [Cutting<M>], best: Grade) -> Result<M::Frozen, Refused> {
        for one in cutting.iter_mut() {
            let Some(number) = one.live.number.get() else { continue };
            one.mounts = self.machine.mounts(number).await?;
            // Where nobody has it open, what stands on it is as consistent as who closed it left it; and an application at rest
            // may have it open without a file system.
            if best == Grade::App || !one.mounts.is_empty() || self.holders(&one.live).await.is_empty() {
                one.grade = best;
            }
        }
        loop {
            // A file system over several volumes of the set is frozen once.
            let points: BTreeSet<_> = cutting.iter().flat_map(|one| one.mounts.iter().cloned()).collect();
            let points: Vec<_> = points.into_iter().collect();
            let refused = match self.machine.freeze(points, FREEZE_LIMIT).await {
                Ok(frozen) => return Ok(frozen),
                Err(refused) => refused,
            };
            // A file system that cannot be frozen is cut as a crash would leave it, and the grade says so.
            let unfit = |one: &&mut Cutting<M>| one.mounts.iter().any(|point| refused.object == shown(point));
            let mut without = 0;
            if refused.id == "freeze.unsupported" {
                for one in cutting.iter_mut().filter(unfit) {
                    one.mounts.clear();
                    one.grade = Grade::Crash;
                    without += 1;
                }
            }
            if without == 0 {
                return Err(refused);
            }
            tracing::warn!("{refused}");
        }
    }

    async fn thaw(&self, frozen: M::Frozen, cutting: &mut [Cutting<M>]) {
        let thawed = self.machine.thaw(frozen).await;
        for one in cutting.iter_mut().filter(|one| !one.mounts.is_empty()) {
            match &thawed {
                Ok(span) => one.frozen_for = Some(*span),
                // A guard let go before we did: the cut may lie behind it.
                Err(refused) => {
                    tracing::warn!(volume = %one.live.name, "{refused}");
                    one.grade = Grade::Crash;
                }
            }
        }
    }

    /// After the release: flush what was detached, then commit.
    async fn finish_cut(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        set: Uuid,
        cutting: &[Cutting<M>],
        taken: &Taken,
    ) -> Result<(), Refused> {
        for one in cutting {
            for plex in &one.plexes {
                let medium = self.media.borrow().get(plex).cloned();
                let Some(medium) = medium else { continue };
                let flushed = self
                    .keepers
                    .run(move |host| async move { host.open(&medium).submit(Request::Flush).await });
                flushed
                    .await
                    .unwrap_or(Err(Errno::IO))
                    .map_err(|errno| system(&one.live.name, "the detached plex cannot be flushed", errno))?;
            }
        }
        FaultPoint::CutFlushed.reached();
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let facts: Vec<_> = cutting
            .iter()
            .map(|one| CutFacts {
                volume: one.live.volume.shape().uuid,
                grade: one.grade,
                cut_unix_s: i64::try_from(taken.unix().as_secs()).unwrap_or(i64::MAX),
                hold_ns: nanos(taken.hold),
                frozen_ns: one.frozen_for.map_or(0, nanos),
            })
            .collect();
        self.transact(group, |group, ids| change::commit_cut(group, set, &facts, ids)).await.map(drop)
    }

    async fn roll_back(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, set: Uuid, swapped: bool) {
        match self.transact(group, |group, ids| change::roll_back_cut(group, set, swapped, ids)).await {
            Ok(committed) => {
                FaultPoint::CutRolledBack.reached();
                // Detached plexes are tracked again: they lack what was written since the swap.
                for volume in committed.after.volumes() {
                    if let Some(live) = self.live(volume.uuid()) {
                        self.track_detached(&live, volume).await;
                    }
                }
            }
            Err(refused) => tracing::error!("a prepared cut stays until the next start: {refused}"),
        }
    }

    /// Mark writes for plexes of `volume` that are neither in the write path nor tracked.
    async fn track_detached(self: &Rc<Self>, live: &Rc<Live<M>>, volume: &crate::state::Volume) {
        for plex in volume.plexes().iter().filter(|plex| !plex.is_attached()) {
            let Some(map) = plex.map().and_then(|map| self.maps.borrow().get(&map).cloned()) else {
                continue;
            };
            let uuid = plex.uuid();
            let tracked = live
                .reroute(&self.keepers, move |route| {
                    let mut route = route.clone();
                    if route.plex(uuid).is_none() && route.absent.iter().all(|absent| absent.uuid != uuid) {
                        let absent = crate::volume::AbsentPlex {
                            uuid,
                            behind: map,
                            errno: Errno::GONE,
                            recorded: true,
                        };
                        route.absent.push(absent);
                    }
                    route
                })
                .await;
            // What was written before this is under intent bits, which are pinned; they are added once more.
            if let Some(map) = plex.map().and_then(|map| self.maps.borrow().get(&map).cloned()) {
                map.or_extents(live.volume.intent().durable());
            }
            if tracked.is_err() {
                tracing::error!(plex = %plex.name(), "a detached plex is not tracked: it will be copied in full");
                if let Some(map) = plex.map().and_then(|map| self.maps.borrow().get(&map).cloned()) {
                    map.mark_all();
                }
            }
        }
    }

    /// Give plexes of a snapshot volume back to the origin; only what differs is copied.
    pub(super) async fn snapback(self: &Rc<Self>, request: request::SnapBack) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        group.is_settled()?;
        let record = group.record();
        let uuid = record.volume(request.snapshot.as_str())?.uuid();
        let origin = record.link_of(uuid).map(|(origin, _)| origin.uuid());
        let _alone = self.alone(origin.into_iter().chain([uuid])).await;
        let record = group.record();
        let snapshot = record.volume(request.snapshot.as_str())?;
        let holders = match self.live(uuid) {
            Some(live) => self.holders(&live).await,
            None => Vec::new(),
        };
        self.check_snapback(&record, &request, &holders)?;
        let (origin, _) = record.link_of(uuid).ok_or_else(|| refuse::not_a_snapshot(snapshot.name()))?;
        let (origin_uuid, origin_name) = (origin.uuid(), origin.name().clone());
        // Started by its record and not served: it could not be taken over.
        self.live(origin_uuid).ok_or_else(|| refuse::volume_not_started(&origin_name))?;
        let lost_bytes = self.changed_since_cut(&group, uuid).await;
        let runs = self.live(uuid).is_some();
        if runs {
            self.stop_alone(&group, &request.snapshot).await?;
        }
        FaultPoint::SnapbackStopped.reached();
        let args = SnapbackArgs {
            snapshot: request.snapshot.as_str(),
            plexes: request.nmirror.map(|count| count as usize),
            holders: &[],
        };
        let back = match self.weigh_stopped_snapshot(&group, uuid, request.nmirror).await {
            Ok(()) => self.transact(&group, |group, ids| change::snapback(group, &args, ids)).await,
            Err(refused) => Err(refused),
        };
        let committed = match back {
            Ok(committed) => committed,
            Err(refused) => {
                self.close_media(snapshot);
                if runs {
                    self.start_again(&group, &request.snapshot).await;
                }
                return Err(refused);
            }
        };
        FaultPoint::SnapbackRecorded.reached();
        if let Some(rest) = committed.after.volume_by_id(uuid) {
            self.close_media(rest);
        }
        let live = self.live(origin_uuid).ok_or_else(|| refuse::volume_not_started(&origin_name))?;
        let returned: Vec<_> = committed
            .after
            .volume_by_id(origin_uuid)
            .into_iter()
            .flat_map(|volume| volume.plexes())
            .filter(|plex| record.volume_by_id(uuid).is_some_and(|old| old.plex_by_id(plex.uuid()).is_some()))
            .collect();
        let plexes: Vec<_> = returned.iter().map(|plex| plex.name().clone()).collect();
        let dirty_regions = returned
            .iter()
            .filter_map(|plex| self.maps.borrow().get(&plex.map()?).map(|map| map.dirty_regions()))
            .max()
            .unwrap_or(0);
        let snapshot_removed = committed.after.volume_by_id(uuid).is_none();
        if runs && !snapshot_removed {
            self.start_again(&group, &request.snapshot).await;
        }
        let shape = live.volume.shape();
        let limits = limits(request.bytes_per_second, request.latency_us);
        let purpose = Purpose { kind: TaskKind::SnapBack, fresh: false, limits };
        let jobs = self.attach_and_copy(&group, committed, purpose).await?;
        let mut reply = Returned {
            volume: origin_name,
            plexes,
            regions: shape.region_size.count(shape.geometry.length),
            dirty_regions,
            region_bytes: shape.region_size.bytes(),
            copied_bytes: 0,
            lost_bytes,
            snapshot_removed,
            tasks: Vec::new(),
            elapsed_ms: 0,
        };
        if request.background {
            reply.tasks = jobs.iter().map(|job| job.task).collect();
        } else {
            for job in jobs {
                reply.copied_bytes += job.ended().await?;
            }
        }
        reply.elapsed_ms = self.millis_since(began);
        Ok(Reply::Returned(reply))
    }

    /// Start a snapshot volume that was stopped to give a plex back.
    async fn start_again(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, snapshot: &Name) {
        if let Err(refused) = self.start_alone(group, snapshot, None).await {
            tracing::error!("a snapshot that was stopped for a snapback does not start again: {refused}");
        }
    }

    /// Bytes of regions that were written on the snapshot `volume` itself since its cut; none for another volume, and none where
    /// that is not known. The caller is alone with it.
    pub(super) async fn changed_since_cut(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) -> u64 {
        self.recall_map(group, volume).await;
        let record = group.record();
        let own = record.link_of(volume).map(|(_, link)| link.snapshot_map);
        own.and_then(|map| self.maps.borrow().get(&map).map(|map| map.dirty_bytes())).unwrap_or(0)
    }

    /// The own map of a stopped snapshot tells what differs on its plexes as long as nobody touched them since (ordering
    /// rules 15 and 16); else all of them does. A medium that cannot be told to be the plex's is refused.
    pub(super) async fn weigh_stopped_snapshot(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        snapshot: Uuid,
        count: Option<u32>,
    ) -> Result<(), Refused> {
        let found = self.look_at_media(group, snapshot, false).await?;
        let record = group.record();
        let volume = record.volume_by_id(snapshot).ok_or_else(|| system(snapshot, "is gone", Errno::GONE))?;
        let complete: Vec<_> = volume.complete_plexes().collect();
        let stay = complete.len().saturating_sub(count.map_or(usize::MAX, |count| count as usize));
        for plex in complete.into_iter().skip(stay) {
            let touched = match found.iter().find(|(uuid, _)| *uuid == plex.uuid()) {
                Some((_, Presence::Present(now))) => {
                    plex.noted().zip(*now).and_then(|(noted, now)| noted.difference(now))
                }
                Some((_, Presence::Doubted(_))) => Some("its last flush failed".to_owned()),
                Some((_, Presence::Behind(why))) => {
                    // It leaves no volume for that.
                    self.events.forget_cause(plex.uuid());
                    Some(why.clone())
                }
                Some((_, Presence::Missing(why))) => {
                    return Err(Refusal::new(
                        Kind::InvalidState,
                        "plex.not-itself",
                        plex.name(),
                        why,
                        format!(
                            "bring its medium back, or give the snapshot up with: cleave rm {}",
                            volume.name()
                        ),
                    ));
                }
                None => None,
            };
            if let Some((why, (_, link))) = touched.zip(record.link_of(snapshot)) {
                tracing::warn!(plex = %plex.name(), "all of it counts as changed: {why}");
                self.maps.borrow_mut().remove(&link.snapshot_map);
            }
        }
        Ok(())
    }

    /// Refuse a snapback before its snapshot volume is stopped for it.
    pub(super) fn check_snapback(
        &self,
        record: &Group,
        request: &request::SnapBack,
        holders: &[String],
    ) -> Result<(), Refused> {
        let args = SnapbackArgs {
            snapshot: request.snapshot.as_str(),
            plexes: request.nmirror.map(|count| count as usize),
            holders,
        };
        let running = record.volume(args.snapshot)?.state() == VolumeState::Active;
        match change::snapback(record, &args, &mut self.dice()?) {
            // It runs and is stopped for it.
            Err(refused) if running && refused.id == "volume.started" => Ok(()),
            Err(refused) => Err(refused),
            Ok(_) => Ok(()),
        }
    }
}

fn cut_targets(names: &[(Name, Option<Name>)], nmirror: u32) -> Vec<CutTarget<'_>> {
    names
        .iter()
        .map(|(volume, snapshot)| CutTarget {
            volume: volume.as_str(),
            name: snapshot.as_ref().map(Name::as_str),
            mirrors: nmirror as usize,
        })
        .collect()
}

fn shown(point: &Path) -> String {
    point.display().to_string()
}

fn is_of(event: &Event, group: &Name, volume: &Name) -> bool {
    match event {
        Event::Progress(row) => row.group == *group && row.volume == *volume,
        Event::Happened(happening) => {
            happening.group.as_ref() == Some(group) && happening.volume.as_ref() == Some(volume)
        }
        Event::Alive => true,
    }
}

/// The volumes of a cut, with the names of their snapshots where one was given.
fn targets(record: &Group, request: &request::Snapshot) -> Result<Vec<(Name, Option<Name>)>, Refused> {
    let members: Vec<_> = if request.members.is_empty() {
        let origins = record.volumes().iter().filter(|volume| volume.origin().is_none());
        origins.map(|volume| (volume.name().clone(), None)).collect()
    } else {
        request.members.iter().map(|member| (member.volume.clone(), member.snapshot.clone())).collect()
    };
    let Some(pattern) = &request.pattern else { return Ok(members) };
    let mut taken: Vec<String> = Vec::new();
    members
        .into_iter()
        .map(|(volume, given)| {
            if given.is_some() {
                return Ok((volume, given));
            }
            let numbered = (0..)
                .map(|serial: usize| {
                    pattern.replace("%v", volume.as_str()).replace("%d", &serial.to_string())
                })
                .take(if pattern.contains("%d") { usize::MAX } else { 1 })
                .find(|name| !record.is_taken(name) && !taken.contains(name))
                .unwrap_or_else(|| pattern.replace("%v", volume.as_str()));
            let name = refuse::parse_name("volume", &numbered)?;
            taken.push(numbered);
            Ok((volume, Some(name)))
        })
        .collect()
}

fn hold_expired(volume: &Name, errno: Errno) -> Refused {
    let (kind, id) = match errno {
        Errno::TIMED_OUT => (Kind::TimedOut, "snapshot.hold-expired"),
        _ => (Kind::System, "snapshot.hold-expired"),
    };
    let reason = format!("requests in flight did not end within {} s", CUT_LIMIT.as_secs());
    let way_out = "nothing was changed; look for a slow plex with cleave show, then try again";
    Refusal::new(kind, id, volume, reason, way_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{name, refused};

    #[test]
    fn a_cut_that_could_not_wait_for_what_was_in_flight_changed_nothing() {
        for (errno, kind) in [(Errno::TIMED_OUT, Kind::TimedOut), (Errno::IO, Kind::System)] {
            let told = refused::<()>(Err(hold_expired(&name("v"), errno)), "snapshot.hold-expired", kind);
            assert!(told.way_out.starts_with("nothing was changed"), "{told}");
        }
    }
}
