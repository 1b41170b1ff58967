//! Requests to verbs: the one table of what the daemon can be asked, and the verbs that only look.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use crate::base::{Kind, Name, Refusal, Refused, Uuid};
use crate::control::reply::{Changed, Listed, Status, Verified};
use crate::control::row::{DifferenceRow, StatsRow};
use crate::control::{Event, PROTOCOL, Reply, Request, Row, request};
use crate::export::ublk::DataMode;
use crate::state::{DataPath, refuse};

use super::jobs;
use super::larger;
use super::live::Live;
use super::machine::{Machine, Shown};
use super::owner::{GroupHandle, Owner};
use super::rows::{self, LiveFacts};
use super::server::{Answer, Peer, Service};

impl<M: Machine> Service for Owner<M> {
    async fn serve(self: Rc<Self>, peer: Peer, request: Request, answer: Answer) -> Result<Reply, Refused> {
        // How it is can be asked at any time; everything else, once the volumes of the daemon before are taken over.
        if !matches!(request, Request::Overview(_) | Request::Events(_)) {
            self.recovery.come_up().await;
        }
        let served = Rc::clone(&self).carry_out(peer, request, answer).await;
        served.map_err(|refused| self.with_other_groups(refused))
    }
}

impl<M: Machine> Owner<M> {
    async fn carry_out(
        self: Rc<Self>,
        peer: Peer,
        request: Request,
        answer: Answer,
    ) -> Result<Reply, Refused> {
        let about = self.works_on(&request);
        match request {
            Request::GroupCreate(request) => self.group_create(request).await,
            Request::GroupAdd(request) => self.group_add(request).await,
            Request::GroupDestroy(request) => self.group_destroy(request).await,
            Request::GroupList => self.group_list(&answer).await,
            Request::Query(request) => self.query(request, &answer).await,
            Request::Make(request) => self.make(request, &answer).await,
            Request::Mirror(request) => {
                self.watched(&answer, about, |owner| async move { owner.mirror(request).await }).await
            }
            Request::RemoveMirror(request) => self.remove_mirror(request).await,
            Request::PlexAttach(request) => {
                self.watched(&answer, about, |owner| async move { owner.plex_attach(request).await }).await
            }
            Request::PlexOnline(request) => {
                self.watched(&answer, about, |owner| async move { owner.plex_online(request).await }).await
            }
            Request::PlexReplace(request) => {
                self.watched(&answer, about, |owner| async move { owner.plex_replace(request).await }).await
            }
            Request::PlexDetach(request) => self.plex_detach(request).await,
            Request::PlexOffline(request) => self.plex_offline(request).await,
            Request::PlexConvert(request) => self.plex_convert(request).await,
            Request::Set(request) => self.set(request).await,
            Request::Resize(request) => {
                let answer = &answer;
                self.watched(answer, about, |owner| async move { owner.resize(request, answer).await }).await
            }
            Request::Start(request) => self.start(request, &answer).await,
            Request::Stop(request) => self.stop(request, &answer).await,
            Request::StartAll(request) => self.start_all(request, &answer).await,
            Request::StopAll(request) => self.stop_all(request, &answer).await,
            Request::Recover(request) => {
                let answer = &answer;
                self.watched(answer, about, |owner| async move { owner.recover(request, answer).await }).await
            }
            Request::SnapStart(request) => {
                self.watched(&answer, about, |owner| async move { owner.snapstart(request).await }).await
            }
            Request::SnapWait(request) => self.snapwait(request, &answer).await,
            Request::Snapshot(request) => self.snapshot(request, &answer).await,
            Request::SnapAbort(request) => self.snapabort(request).await,
            Request::SnapBack(request) => {
                self.watched(&answer, about, |owner| async move { owner.snapback(request).await }).await
            }
            Request::Restore(request) => {
                let answer = &answer;
                self.watched(answer, about, |owner| async move { owner.restore(request, answer).await }).await
            }
            Request::Undo(request) => {
                let answer = &answer;
                self.watched(answer, about, |owner| async move { owner.undo_restore(request, answer).await })
                    .await
            }
            Request::UndoList(request) => self.undo_list(request, &answer).await,
            Request::UndoDelete(request) => self.undo_delete(request).await,
            Request::SnapClear(request) => self.snapclear(request).await,
            Request::Remove(request) => self.remove(request).await,
            Request::Verify(request) => self.verify(request, &answer).await,
            Request::Scrub(request) => self.scrub(request, &answer).await,
            Request::ScrubSchedule(request) => self.scrub_schedule(request, &answer).await,
            Request::GroupImport(request) => self.group_import(request, &answer).await,
            Request::GroupRemove(request) => self.group_remove(request).await,
            Request::GroupExport(request) => self.group_export(request).await,
            Request::GroupMoved(request) => self.group_moved(request).await,
            Request::GroupRestore(request) => self.group_restore(request, &answer).await,
            Request::TaskList(request) => self.task_list(request, &answer).await,
            Request::TaskWatch(request) => self.task_watch(request, &answer).await,
            Request::TaskPause(request) => {
                self.task_tell(request.task, &answer, |owner| owner.tasks.pause(request.task)).await
            }
            Request::TaskResume(request) => {
                self.task_tell(request.task, &answer, |owner| owner.tasks.resume(request.task)).await
            }
            Request::TaskAbort(request) => self.task_abort(request.task, &answer).await,
            Request::TaskThrottle(request) => {
                self.task_tell(request.task, &answer, |owner| {
                    owner.tasks.throttle(request.task, request.bytes_per_second)
                })
                .await
            }
            Request::TaskLatency(request) => {
                let target = request.latency_us.map(|micros| Duration::from_micros(micros.get()));
                self.task_tell(request.task, &answer, |owner| owner.tasks.heed(request.task, target)).await
            }
            Request::Overview(request) => self.overview(request, &answer).await,
            Request::ForceStop(request) => self.force_stop(request).await,
            Request::Upgrade(request) => self.upgrade(request).await,
            Request::Events(request) => self.events_told(request, &answer).await,
            Request::Stats(request) => self.stats(request, &answer).await,
            Request::Adopt(request) => self.adopt_existing(request, &answer).await,
            Request::Release(request) => self.release_images(request).await,
            Request::Explain(request) => self.explain(*request, &answer).await,
            Request::Heat(request) => self.heat(request, &answer).await,
            Request::Status => self.status(&answer).await,
            Request::Shutdown(request) => self.shutdown(request, peer).await,
        }
    }
}

impl<M: Machine> Owner<M> {
    /// `refused` for a volume or a group that is not there, with the groups that may have been meant.
    fn with_other_groups(&self, refused: Refused) -> Refused {
        let groups = self.all_groups();
        let names = |wanted: &dyn Fn(&GroupHandle<M>) -> bool| -> Vec<Name> {
            groups.iter().filter(|group| wanted(group)).map(|group| group.name.clone()).collect()
        };
        match refused.id.as_str() {
            "volume.unknown" => {
                let others = names(&|group| group.record().volume(&refused.object).is_ok());
                refuse::volume_elsewhere(refused, &others)
            }
            // Whoever named none is told which there are.
            "group.unknown" if refused.object == request::default_group().as_str() => {
                refuse::group_elsewhere(refused, &names(&|_| true))
            }
            _ => refused,
        }
    }

    /// Run `work` and pass the events of tasks on meanwhile, of tasks at work on other volumes than it is `about` none.
    pub(super) async fn watched<F: Future>(
        self: &Rc<Self>,
        answer: &Answer,
        about: Option<(Name, Name)>,
        work: impl FnOnce(Rc<Self>) -> F,
    ) -> F::Output {
        let mut progress = self.tasks.subscribe();
        let mut work = std::pin::pin!(work(Rc::clone(self)));
        let others = |event: &Event| match (event, &about) {
            (Event::Progress(row), Some((group, volume))) => row.group != *group || row.volume != *volume,
            (_, _) => false,
        };
        loop {
            tokio::select! {
                biased;
                reply = &mut work => return reply,
                event = progress.recv() => match event {
                    Ok(event) if others(&event) => {}
                    Ok(event) => answer.event(event),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return work.await,
                },
            }
        }
    }

    /// Group and volume of the tasks that a request begins, where these are one volume's.
    fn works_on(&self, request: &Request) -> Option<(Name, Name)> {
        let of_plex = |group: &Name, plex: &Name| {
            let record = self.group(group).ok()?.record();
            Some((group.clone(), record.plex(plex.as_str()).ok()?.0.name().clone()))
        };
        let of_snapshot = |group: &Name, snapshot: &Name| {
            let record = self.group(group).ok()?.record();
            let uuid = record.volume(snapshot.as_str()).ok()?.uuid();
            Some((group.clone(), record.link_of(uuid)?.0.name().clone()))
        };
        match request {
            Request::Mirror(request) => Some((request.group.clone(), request.volume.clone())),
            Request::SnapStart(request) => Some((request.group.clone(), request.volume.clone())),
            Request::Resize(request) => Some((request.group.clone(), request.volume.clone())),
            Request::Undo(request) => Some((request.group.clone(), request.volume.clone())),
            Request::PlexAttach(request) | Request::PlexOnline(request) => {
                of_plex(&request.group, &request.plex)
            }
            Request::PlexReplace(request) => of_plex(&request.group, &request.plex),
            Request::SnapBack(request) => of_snapshot(&request.group, &request.snapshot),
            Request::Restore(request) => of_snapshot(&request.group, &request.snapshot),
            _ => None,
        }
    }

    /// Live facts of a volume for its rows.
    pub(super) fn facts(self: &Rc<Self>, volume: &crate::state::Volume) -> LiveFacts {
        let live = self.live(volume.uuid());
        let of_device = live.as_ref().and_then(|live| {
            live.device.borrow().as_ref().map(|device| (rows::data_path(device.data()), device.queues()))
        });
        let hanging = live.iter().flat_map(|live| {
            let hangs = volume.plexes().iter().filter(|plex| live.volume.hangs(plex.uuid()));
            hangs.map(|plex| format!("plex {} does not answer", plex.name()))
        });
        let mut found: Vec<_> = hanging.collect();
        let device = live.as_ref().map(|live| live.device.borrow());
        let moves = |device: &M::Device| device.data() == DataMode::Zero && !device.keeps_pages_still();
        if volume.settings().data == DataPath::Zero
            && device.is_some_and(|one| one.as_ref().is_some_and(moves))
        {
            found.push(
                "its device does not keep pages still: what goes to several plexes is copied".to_owned(),
            );
        }
        let maps = self.maps.borrow();
        LiveFacts {
            device: live.as_ref().and_then(|live| live.number.get()),
            data_path: of_device.map(|(path, _)| path),
            queues: of_device.map(|(_, queues)| queues),
            dirty_regions: maps.iter().map(|(map, bits)| (*map, bits.dirty_regions())).collect(),
            notes: self.notes_of(volume).into_iter().chain(found).collect(),
        }
    }

    /// What the administrator should know of a volume beyond its record.
    fn notes_of(&self, volume: &crate::state::Volume) -> Vec<String> {
        let group = self.group_of(volume.uuid());
        let waits = group.map(|group| self.events.waits(&group.name, volume.name())).unwrap_or_default();
        let restoring = volume.restore().map(|_| {
            let name = volume.name();
            let runs = self.live(volume.uuid()).is_some_and(|live| live.is_at_work_on(volume.uuid()));
            let way_out = if runs {
                "see: cleave task list".to_owned()
            } else {
                format!("go on with: cleave start {name}")
            };
            format!("it is being overwritten by a restore and has no device meanwhile; {way_out}")
        });
        self.recovery.why(volume.uuid()).into_iter().chain(waits).chain(restoring).collect()
    }

    /// Who has the device of a volume open, as people are told it.
    pub(super) async fn holders(self: &Rc<Self>, live: &Rc<Live<M>>) -> Vec<String> {
        let Some(number) = live.number.get() else { return Vec::new() };
        self.machine.holders(number).await
    }

    async fn group_list(self: &Rc<Self>, answer: &Answer) -> Result<Reply, Refused> {
        let mut count = 0;
        for group in self.all_groups() {
            for row in self.group_rows(&group).await {
                answer.row(row).await;
                count += 1;
            }
        }
        Ok(Reply::Listed(Listed { rows: count }))
    }

    async fn group_rows(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) -> Vec<Row> {
        let record = group.record();
        let rooms = self.rooms(&record).await;
        let mut all = vec![Row::Group(rows::group(&record, &group.directory, group.generation()))];
        all.extend(rows::media(&record, &rooms).into_iter().map(Row::Medium));
        all
    }

    async fn query(self: &Rc<Self>, request: request::Query, answer: &Answer) -> Result<Reply, Refused> {
        let groups = match &request.group {
            Some(name) if *name == request::default_group() && !self.groups.borrow().contains_key(name) => {
                // It is made on first use; until then it is empty.
                match request.objects.first() {
                    None => Vec::new(),
                    Some(object) => return Err(refuse::volume_unknown(object.as_str(), name)),
                }
            }
            Some(name) => vec![self.group(name)?],
            None => self.all_groups(),
        };
        let mut found: Vec<&Name> = Vec::new();
        let mut count = 0;
        for group in &groups {
            let record = group.record();
            let mut all = if request.media { self.group_rows(group).await } else { Vec::new() };
            for volume in record.volumes() {
                let named = |object: &&Name| {
                    *object == volume.name() || volume.plexes().iter().any(|plex| plex.name() == *object)
                };
                let known = found.len();
                found.extend(request.objects.iter().filter(named));
                if found.len() == known && !request.objects.is_empty() {
                    continue;
                }
                all.extend(self.volume_rows(group, &record, volume));
                if request.tasks {
                    all.extend(self.tasks.of_volume(volume.uuid()).into_iter().map(Row::Task));
                }
            }
            for row in all {
                answer.row(row).await;
                count += 1;
            }
        }
        if let Some(missing) = request.objects.iter().find(|object| !found.contains(object)) {
            let group = request.group.clone().unwrap_or_else(request::default_group);
            return Err(refuse::volume_unknown(missing.as_str(), &group));
        }
        Ok(Reply::Listed(Listed { rows: count }))
    }

    async fn start(self: &Rc<Self>, request: request::Start, answer: &Answer) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        self.start_volume(&group, &request.volume, request.source.as_ref()).await?;
        let uuid = group.record().volume(request.volume.as_str())?.uuid();
        self.answer_volume(&group, uuid, answer).await;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn stop(self: &Rc<Self>, request: request::Stop, answer: &Answer) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let gone = self.stop_volume(&group, &request.volume).await?;
        let uuid = group.record().volume(request.volume.as_str())?.uuid();
        self.answer_stopped(&group, uuid, &gone, answer).await;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn start_all(
        self: &Rc<Self>,
        request: request::StartAll,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let stopped: Vec<_> = group
            .record()
            .volumes()
            .iter()
            .filter(|volume| !volume.state().is_started())
            .map(|volume| (volume.name().clone(), volume.uuid()))
            .collect();
        let mut changed = false;
        for (name, uuid) in stopped {
            match self.start_volume(&group, &name, None).await {
                Ok(_) => {
                    changed = true;
                    self.answer_volume(&group, uuid, answer).await;
                }
                Err(refused) => answer.row(Row::Failure(*refused)).await,
            }
        }
        Ok(Reply::Changed(Changed { changed }))
    }

    async fn stop_all(self: &Rc<Self>, request: request::StopAll, answer: &Answer) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let started: Vec<_> = group
            .record()
            .volumes()
            .iter()
            .filter(|volume| volume.state().is_started())
            .map(|volume| (volume.name().clone(), volume.uuid()))
            .collect();
        let mut changed = false;
        for (name, uuid) in started {
            match self.stop_volume(&group, &name).await {
                Ok(gone) => {
                    changed = true;
                    self.answer_stopped(&group, uuid, &gone, answer).await;
                }
                Err(refused) => answer.row(Row::Failure(*refused)).await,
            }
        }
        Ok(Reply::Changed(Changed { changed }))
    }

    /// Send the rows of a volume that was stopped, and what went with that.
    async fn answer_stopped(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        gone: &[Name],
        answer: &Answer,
    ) {
        self.answer_volume(group, volume, answer).await;
        let record = group.record();
        let Some(volume) = record.volume_by_id(volume) else { return };
        for plex in gone {
            let again = format!("{} snapstart {}", larger::cleave(&group.name), volume.name());
            let text = format!(
                "{plex}: the snapshot mirror of {} was not complete and goes at its next start; begin anew then: {again}",
                volume.name()
            );
            answer.row(Row::Note(text)).await;
        }
    }

    async fn verify(self: &Rc<Self>, request: request::Verify, answer: &Answer) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let live = self.live(volume.uuid()).ok_or_else(|| refuse::volume_not_started(volume.name()))?;
        let plexes = jobs::complete(&live.volume.route());
        let names: Vec<_> = plexes
            .iter()
            .filter_map(|plex| volume.plex_by_id(plex.uuid).map(|plex| plex.name().clone()))
            .collect();
        let count = plexes.len() as u64;
        let mut verified = Verified {
            volume: request.volume.clone(),
            plexes: count,
            compared_bytes: 0,
            differing_bytes: 0,
            elapsed_ms: 0,
        };
        if plexes.len() > 1 {
            let about = Some((request.group.clone(), request.volume.clone()));
            let compared =
                self.watched(answer, about, |owner| async move { owner.compare(&live, plexes).await });
            let (report, _) = compared.await?;
            for difference in &report.differences {
                answer
                    .row(Row::Difference(DifferenceRow {
                        reference: names[0].clone(),
                        plex: names[difference.device].clone(),
                        offset_bytes: difference.range.offset,
                        length_bytes: difference.range.length,
                        unreadable: false,
                        repaired: false,
                    }))
                    .await;
            }
            verified.compared_bytes = report.compared_bytes;
            verified.differing_bytes = report.differing_bytes;
        }
        verified.elapsed_ms = self.millis_since(began);
        Ok(Reply::Verified(verified))
    }

    async fn task_list(
        self: &Rc<Self>,
        request: request::TaskList,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let tasks = self.tasks.list(request.group.as_ref());
        let rows = tasks.len() as u64;
        for task in tasks {
            answer.row(Row::Task(task)).await;
        }
        Ok(Reply::Listed(Listed { rows }))
    }

    async fn task_watch(
        self: &Rc<Self>,
        request: request::TaskWatch,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let mut progress = self.tasks.subscribe();
        let wanted: Vec<u64> = match (request.task, &request.volume) {
            (Some(task), _) => {
                self.tasks.row(task)?;
                vec![task]
            }
            (None, Some(volume)) => {
                let uuid: Uuid = self.group(&request.group)?.record().volume(volume.as_str())?.uuid();
                self.tasks
                    .of_volume(uuid)
                    .iter()
                    .filter(|row| !row.state.ended())
                    .map(|row| row.task)
                    .collect()
            }
            (None, None) => {
                self.tasks.list(None).iter().filter(|row| !row.state.ended()).map(|row| row.task).collect()
            }
        };
        loop {
            let rows: Vec<_> = wanted.iter().filter_map(|task| self.tasks.row(*task).ok()).collect();
            if rows.iter().all(|row| row.state.ended()) {
                let count = rows.len() as u64;
                for row in rows {
                    answer.row(Row::Task(row)).await;
                }
                return Ok(Reply::Listed(Listed { rows: count }));
            }
            tokio::select! {
            biased;
                            event = progress.recv() => match event {
                                Ok(Event::Progress(row)) if wanted.contains(&row.task) => answer.event(Event::Progress(row)),
                                Ok(_) | Err(RecvError::Lagged(_)) => {}
                                Err(RecvError::Closed) => return Err(Refusal::new(Kind::Aborted, "daemon.ending", "cleaved", "is ending", "")),
                            },
                            () = answer.closed() => return Err(Refusal::new(Kind::Aborted, "client.gone", "client", "went away", "")),
                        }
        }
    }

    async fn task_tell(
        self: &Rc<Self>,
        task: u64,
        answer: &Answer,
        tell: impl FnOnce(&Self) -> Result<(), Refused>,
    ) -> Result<Reply, Refused> {
        tell(self)?;
        answer.row(Row::Task(self.tasks.row(task)?)).await;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn task_abort(self: &Rc<Self>, task: u64, answer: &Answer) -> Result<Reply, Refused> {
        let mut progress = self.tasks.subscribe();
        self.tasks.abort(task)?;
        while !self.tasks.row(task)?.state.ended() {
            // Any event is a reason to look again; a lost one is too.
            if matches!(progress.recv().await, Err(RecvError::Closed)) {
                break;
            }
        }
        answer.row(Row::Task(self.tasks.row(task)?)).await;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    async fn stats(self: &Rc<Self>, request: request::Stats, answer: &Answer) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let volumes: Vec<_> = match request.volumes.as_slice() {
            [] => record.volumes().iter().collect(),
            named => named.iter().map(|name| record.volume(name.as_str())).collect::<Result<_, _>>()?,
        };
        for volume in &volumes {
            let live = self.live(volume.uuid());
            let counts = live.as_ref().map(|live| live.counts(request.reset)).unwrap_or_default();
            let (group, volume) = (group.name.clone(), volume.name().clone());
            answer.row(Row::Stats(StatsRow { group, volume, counts })).await;
        }
        Ok(Reply::Listed(Listed { rows: volumes.len() as u64 }))
    }

    async fn status(self: &Rc<Self>, answer: &Answer) -> Result<Reply, Refused> {
        let groups = self.all_groups();
        for group in &groups {
            for volume in group.record().volumes() {
                for plex in volume.plexes().iter().filter(|plex| rows::is_degraded(plex)) {
                    answer
                        .row(Row::Note(format!(
                            "{}/{}: plex {} is {}",
                            group.name,
                            volume.name(),
                            plex.name(),
                            plex.state()
                        )))
                        .await;
                }
            }
        }
        Ok(Reply::Status(self.daemon_status()))
    }

    /// How the daemon is.
    pub(super) fn daemon_status(&self) -> Status {
        let groups = self.all_groups();
        Status {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            uptime_ms: self.millis_since(self.started),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            groups: groups.len() as u64,
            volumes: groups.iter().map(|group| group.record().volumes().len() as u64).sum(),
            started: self.live.borrow().len() as u64,
            tasks: self.tasks.list(None).iter().filter(|row| !row.state.ended()).count() as u64,
        }
    }

    async fn shutdown(self: &Rc<Self>, request: request::Shutdown, peer: Peer) -> Result<Reply, Refused> {
        if request.stop_volumes {
            let all: Vec<_> = self.live.borrow().values().cloned().collect();
            for live in all {
                let holders = self.holders(&live).await;
                if !holders.is_empty() {
                    return Err(refuse::volume_open(&live.name, &holders));
                }
            }
            self.stop_idle().await;
        }
        tracing::info!(uid = peer.uid, pid = peer.pid, "asked to end");
        self.ending.notify_one();
        Ok(Reply::Changed(Changed { changed: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::{ask, ask_for_rows, make, name, paused, refused, snapstarting, with_daemon};

    fn group_create(group: &str) -> Request {
        Request::GroupCreate(request::GroupCreate { group: name(group), media: Vec::new() })
    }

    fn stop(group: &str, volume: &str) -> Request {
        Request::Stop(request::Stop { group: name(group), volume: name(volume) })
    }

    #[test]
    fn a_volume_that_another_group_has_is_pointed_at() {
        with_daemon(async |owner, _| {
            ask(&owner, group_create("dg")).await.unwrap();
            let told = refused(ask(&owner, stop("default", "v")).await, "group.unknown", Kind::NoGroup);
            assert_eq!(told.way_out, "name the one that is there: -g dg");
            make(&owner, "v", 1).await;
            let told = refused(ask(&owner, stop("dg", "v")).await, "volume.unknown", Kind::NotFound);
            assert_eq!(told.way_out, "group default has one of that name: say -g default if it is meant");
            let told = refused(ask(&owner, stop("default", "w")).await, "volume.unknown", Kind::NotFound);
            assert_eq!(told.way_out, "list the volumes with: cleave list");
            let told = refused(ask(&owner, stop("none", "v")).await, "group.unknown", Kind::NoGroup);
            assert_eq!(told.way_out, "list the groups with: cleave group list");
        });
        let both = [name("a"), name("b")];
        let told = refuse::volume_elsewhere(refuse::volume_unknown("v", &name("c")), &both);
        assert_eq!(told.way_out, "groups a, b have one of that name: say with -g which one is meant");
        let told = refuse::group_elsewhere(refuse::group_unknown("default"), &both);
        assert_eq!(told.way_out, "name one that is there with -g: a, b");
    }

    #[test]
    fn a_stop_names_the_snapshot_mirror_that_goes_with_it() {
        with_daemon(async |owner, _| {
            let group = make(&owner, "v", 1).await;
            let (_, copied) = paused(&owner, snapstarting("v", false)).await;
            let (rows, reply) = ask_for_rows(&owner, stop("default", "v")).await;
            assert_eq!(reply.unwrap(), Reply::Changed(Changed { changed: true }));
            let notes: Vec<_> = rows.iter().filter(|row| matches!(row, Row::Note(_))).collect();
            let line = "v-02: the snapshot mirror of v was not complete and goes at its next start; begin anew then: cleave snapstart v";
            assert_eq!(notes, [&Row::Note(line.to_owned())]);
            refused(copied.await.unwrap(), "task.aborted", Kind::Aborted);

            // One that is complete stays, and nothing is said of it.
            ask(
                &owner,
                Request::Start(request::Start { group: name("default"), volume: name("v"), source: None }),
            )
            .await
            .unwrap();
            assert_eq!(group.record().volume("v").unwrap().plexes().len(), 1, "as it was told");
            ask(&owner, snapstarting("v", false)).await.unwrap();
            let (rows, reply) = ask_for_rows(&owner, stop("default", "v")).await;
            reply.unwrap();
            assert!(!rows.iter().any(|row| matches!(row, Row::Note(_))), "{rows:?}");
        });
    }
}
