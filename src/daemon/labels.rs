//! Labels on the media of plexes: judged before a volume comes up, written with every change of its record.

use std::collections::VecDeque;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::base::{Errno, Generation, Kind, Refusal, Refused, Uuid};
use crate::catalog::judge::{self, Finding, Outcome, Verdict};
use crate::catalog::labels::{self, Found};
use crate::catalog::{Committed, foreign_signature};
use crate::control::What;
use crate::device::Host;
use crate::format::label::Label;
use crate::state::change::{self, Change, Presence};
use crate::state::{Group, Plex, Volume};
use crate::volume::HANGS_AFTER;

use super::bringup::maps_of;
use super::events::{Cause, News};
use super::machine::{Machine, OpenMedium, Ring};
use super::owner::{GroupHandle, Owner, system};

/// How often it is looked whether a label is written that somebody waits for.
const LABEL_POLL: Duration = Duration::from_millis(10);

/// How long the writes that met the loss of a plex wait for the label of another one that takes writes, but no label.
const SURVIVOR_LIMIT: Duration = Duration::from_secs(30);

/// What is to be done to the labels of a medium.
pub(super) enum LabelWork {
    /// The first label of a plex.
    First(Label),
    /// The label that follows the one that stands there.
    Next(Label),
    /// As `Next`, at the places that it has once the medium is `medium_length` bytes long.
    Fitting {
        /// The label.
        label: Label,
        /// Bytes that the volume has in the label before it, perhaps.
        other: u64,
        /// Bytes that the medium has, or will have.
        medium_length: u64,
    },
    /// None is left where the near one stood when the volume had another length.
    EraseStale {
        /// Bytes of the volume then.
        stale: u64,
        /// Bytes of the volume.
        length: u64,
        /// Bytes that the medium has, or will have.
        medium_length: u64,
    },
    /// None is left.
    Erase {
        /// Bytes of the volume.
        length: u64,
    },
}

/// Work on labels that waits for its turn at a medium.
pub(super) struct DueLabel<D> {
    medium: D,
    work: LabelWork,
    answer: oneshot::Sender<Result<(), Errno>>,
}

impl<M: Machine> Owner<M> {
    /// Open the media of all plexes of the volume and weigh what their labels say against its record; a label with a newer
    /// configuration is adopted first (ordering rule 16). What a start needs to know of each plex.
    ///
    /// # Errors
    /// `plex.ahead`, `plex.unrelated`; a newer configuration that cannot be adopted, or not while volumes run (`group.running`).
    pub(super) async fn look_at_media(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        fence: bool,
    ) -> Result<Vec<(Uuid, Presence)>, Refused> {
        // One adoption at most for each plex, because the next configuration is newer than every label; and one commit.
        for _ in 0..=crate::base::limits::MAX_PLEXES + 1 {
            let all = group.record();
            let record = all.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
            let findings = self.findings(&all, record, fence).await;
            match judge::judge(Generation(group.generation()), record, &findings)? {
                Outcome::Adopt(label) => self.adopt_label(group, &label).await?,
                Outcome::Stands(judgement) if judgement.intent_lost && !record.is_intent_lost() => {
                    // It was recorded on labels alone, and the catalogue has had other commits since (ordering rule 18). No
                    // label is written for it: media that are not to be believed would be by it.
                    self.transact_quietly(group, |group| change::set_intent_lost(group, volume, true))
                        .await?;
                }
                Outcome::Stands(judgement) => {
                    let doubted = self.find_doubts(record, fence).await;
                    let mut found = Vec::new();
                    for (plex, verdict) in judgement.verdicts {
                        let presence = match self.presence(record, plex, verdict).await {
                            Presence::Present(look) if doubted.contains(&plex) => Presence::Doubted(look),
                            other => other,
                        };
                        found.push((plex, presence));
                    }
                    return Ok(found);
                }
            }
        }
        Err(Refusal::new(
            Kind::Damaged,
            "label.endless",
            &group.name,
            "its labels become newer as fast as they are taken in: somebody else writes them",
            "see that no other host or daemon serves its media",
        ))
    }

    async fn presence(self: &Rc<Self>, record: &Volume, uuid: Uuid, verdict: Verdict) -> Presence {
        let medium = self.media.borrow().get(&uuid).cloned();
        let look = match (&medium, record.plex_by_id(uuid)) {
            (Some(medium), Some(plex)) => self.noted(medium, plex).await,
            _ => None,
        };
        if let (Some(medium), Verdict::Use | Verdict::Behind(_)) = (&medium, &verdict) {
            self.proven.borrow_mut().insert(uuid, medium.identity());
        }
        match verdict {
            Verdict::Use => Presence::Present(look),
            Verdict::Behind(why) => {
                let cause = Cause { reason: format!("it is behind: {why}"), hung: false };
                self.events.note_cause(uuid, cause);
                Presence::Behind(why)
            }
            Verdict::Missing(why) => {
                let cause = Cause { reason: format!("it is missing: {why}"), hung: false };
                self.events.note_cause(uuid, cause);
                self.media.borrow_mut().remove(&uuid);
                Presence::Missing(why)
            }
        }
    }

    async fn findings(self: &Rc<Self>, all: &Group, record: &Volume, fence: bool) -> Vec<(Uuid, Finding)> {
        let mut found = Vec::new();
        for plex in record.plexes() {
            let finding = match self.open_plex(record, plex, fence).await {
                Err(refused) => Finding::Absent(refused.reason),
                Ok(medium) => {
                    let read = self.label_on(medium, Some(record.length())).await;
                    Finding::new(read, all.uuid(), record, plex)
                }
            };
            found.push((plex.uuid(), finding));
        }
        found
    }

    /// The label on an open medium; `length` is that of its volume, if it is known.
    pub(super) async fn label_on(
        self: &Rc<Self>,
        medium: M::Medium,
        length: Option<u64>,
    ) -> Result<Found, Errno> {
        let read = self
            .keepers
            .run(move |host| async move { labels::read_label(&host.open(&medium.labels()), length).await });
        read.await.unwrap_or(Err(Errno::IO))
    }

    async fn adopt_label(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, label: &Label) -> Result<(), Refused> {
        let _turn = group.turn.lock().await;
        let (older, text) = (group.record(), label.configuration.clone());
        let record = (*older).clone();
        let from = format!("the label of plex {}", label.plex);
        // A volume that runs is as the older configuration has it: another under it may take it for one that was stopped.
        let mut running = older.volumes().iter().filter(|volume| self.live(volume.uuid()).is_some());
        if let Some(volume) = running.next() {
            let reason = format!(
                "{from} has generation {}, newer than the catalogue's {}, which volume {} runs by",
                label.config_generation,
                group.generation(),
                volume.name(),
            );
            let way_out = "stop all volumes of the group, and start the one with that plex first";
            return Err(Refusal::new(Kind::Busy, "group.running", &group.name, reason, way_out));
        }
        let news = format!(
            "{from} has generation {}, newer than the catalogue: it is adopted",
            label.config_generation
        );
        self.events.raise(News::new(What::GroupAdopted, news).of_group(&group.name));
        let adopted = self.on_catalog(group, move |catalog| catalog.adopt(&from, &text, &record)).await;
        let (committed, adopted) = adopted?;
        // What is known of volumes that do not run is what the older configuration vouched for.
        for volume in older.volumes().iter().filter(|volume| !volume.state().is_started()) {
            maps_of(&older, volume).iter().for_each(|map| drop(self.maps.borrow_mut().remove(map)));
        }
        group.replace(adopted, committed.generation);
        Ok(())
    }

    /// Do `work` on the labels of `plex`, which lies on `medium`, after what is under way there and in order; what came of it.
    /// It goes on when nobody waits for it.
    pub(super) fn label(
        self: &Rc<Self>,
        plex: Uuid,
        medium: M::Medium,
        work: LabelWork,
    ) -> impl Future<Output = Result<(), Errno>> + use<M> {
        let (answer, outcome) = oneshot::channel();
        let due = DueLabel { medium, work, answer };
        let under_way = match self.labelling.borrow_mut().entry(plex) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(due);
                true
            }
            Entry::Vacant(none) => {
                none.insert(VecDeque::from([due]));
                false
            }
        };
        if !under_way {
            let owner = Rc::clone(self);
            self.machine.spawn(async move {
                while let Some(due) = owner.next_label(plex) {
                    // A label is flushed with all that its plex has: how that ends is the plex's as well.
                    owner.label_flush_begins(plex);
                    let generation = match &due.work {
                        LabelWork::First(label)
                        | LabelWork::Next(label)
                        | LabelWork::Fitting { label, .. } => Some(label.config_generation),
                        LabelWork::EraseStale { .. } | LabelWork::Erase { .. } => None,
                    };
                    let identity = due.medium.identity();
                    let done = owner.keepers.run(move |host| async move {
                        let device = host.open(&due.medium.labels());
                        match &due.work {
                            LabelWork::First(label) => {
                                labels::write_first_label(&device, label).await.map(drop)
                            }
                            LabelWork::Next(label) => labels::write_label(&device, label).await.map(drop),
                            LabelWork::Fitting { label, other, medium_length } => {
                                labels::write_label_for(&device, label, *other, *medium_length)
                                    .await
                                    .map(drop)
                            }
                            LabelWork::EraseStale { stale, length, medium_length } => {
                                labels::erase_stale_label(&device, *stale, *length, *medium_length).await
                            }
                            LabelWork::Erase { length } => labels::erase_labels(&device, *length).await,
                        }
                    });
                    let done = done.await.unwrap_or(Err(Errno::IO));
                    owner.label_flush_ended(plex, done);
                    if let (Ok(()), Some(generation)) = (done, generation) {
                        owner.labelled.borrow_mut().insert(plex, generation);
                        owner.proven.borrow_mut().insert(plex, identity);
                    }
                    // Who asked may have given up waiting, and recorded what it knew.
                    if due.answer.send(done).is_err()
                        && let Some(group) = owner.group_of_plex(plex)
                    {
                        owner.record_labels_soon(&group);
                    }
                }
            });
        }
        async move { outcome.await.unwrap_or(Err(Errno::IO)) }
    }

    fn next_label(&self, plex: Uuid) -> Option<DueLabel<M::Medium>> {
        let mut labelling = self.labelling.borrow_mut();
        let due = labelling.get_mut(&plex).and_then(VecDeque::pop_front);
        if due.is_none() {
            labelling.remove(&plex);
        }
        due
    }

    /// Write the labels of `volume` on every open medium of it. A medium that cannot be labelled is told of and found by its
    /// next write; the catalogue stands already. While the volume runs, so is one that takes longer than a plex may before it
    /// hangs: what is to be recorded of one plex does not wait for another. Its label follows when it answers.
    pub(super) async fn write_labels(self: &Rc<Self>, all: &Group, volume: &Volume, committed: &Committed) {
        let runs = volume.state().is_started();
        let mut work = Vec::new();
        for plex in volume.plexes() {
            let uuid = plex.uuid();
            let Some(medium) = self.media.borrow().get(&uuid).cloned() else { continue };
            // One that leaves because it hangs would have the record wait for it: the survivors tell. One that is being added
            // gets its first label before a record relies on it.
            if runs && !plex.is_attached() || self.unlabelled.borrow().contains(&uuid) {
                continue;
            }
            // What is noted of a file says that nobody writes to it: a start that looks at it has it open, and another
            // volume's change may reach this record meanwhile.
            if plex.noted().is_some() {
                continue;
            }
            let label = LabelWork::Next(labels::label_of(all, committed, volume, plex));
            let written = self.label(uuid, medium, label);
            work.push(async move {
                let outcome = match runs {
                    true => self.within(HANGS_AFTER, written).await,
                    false => Some(written.await),
                };
                (uuid, outcome)
            });
        }
        for (plex, outcome) in join_all(work).await {
            let why = match outcome {
                Some(Ok(())) => continue,
                Some(Err(errno)) => format!("its label cannot be written: {errno}"),
                None => format!(
                    "its label has not been written for {} s: it follows when its medium answers",
                    HANGS_AFTER.as_secs()
                ),
            };
            let news = News::new(What::LabelFailing, why);
            self.events.raise(self.news_about(news, volume.uuid(), Some(plex)));
        }
    }

    /// When a complete plex of `volume` has left by what was `committed`, wait until the label of another one tells of it: the
    /// catalogue alone may be lost, and then the one that left would be believed (ordering rule 3). Where none is being written
    /// any more they have failed, and their plexes with them, but for the last.
    pub(super) async fn survivor_tells(self: &Rc<Self>, committed: &super::owner::Committed, volume: Uuid) {
        let complete = |all: &Group| -> Vec<Uuid> {
            let plexes = all.volume_by_id(volume).map(Volume::plexes).unwrap_or_default();
            plexes.iter().filter(|plex| plex.state().is_complete()).map(Plex::uuid).collect()
        };
        let survivors = complete(&committed.after);
        if complete(&committed.before).iter().all(|plex| survivors.contains(plex)) {
            return;
        }
        let told = |plex: &Uuid| {
            self.labelled.borrow().get(plex).is_some_and(|label| *label >= committed.generation)
        };
        let is_due = |plex: &Uuid| self.labelling.borrow().contains_key(plex);
        let written = async {
            while !survivors.iter().any(told) && survivors.iter().any(is_due) {
                self.machine.sleep(LABEL_POLL).await;
            }
        };
        if self.within(SURVIVOR_LIMIT, written).await.is_none() {
            let why = format!("no label has told for {} s that a plex has left", SURVIVOR_LIMIT.as_secs());
            self.events.raise(self.news_about(News::new(What::LabelFailing, why), volume, None));
        }
    }

    /// Write the first labels of `plexes`, whose media were just made ready, as `next` will have them, before a commit relies on
    /// them: after a crash between that commit and its labels their media would be strangers'. No transaction waits for them.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub(super) async fn label_new(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        next: &Group,
        plexes: &[Uuid],
    ) -> Result<(), Refused> {
        let record = group.record();
        let generation = Generation(group.generation());
        let text = crate::format::config::encode(generation, &*record)
            .map_err(|error| system(&group.name, &format!("the configuration {error}"), Errno::NO_SPACE))?;
        let committed = Committed { generation, text };
        for uuid in plexes {
            let Some((volume, plex)) = next.plex_by_id(*uuid) else { continue };
            let Some(medium) = self.media.borrow().get(uuid).cloned() else { continue };
            let label = labels::label_of(next, &committed, volume, plex);
            // One that comes through in part has to be erased too.
            self.unlabelled.borrow_mut().remove(uuid);
            self.label(*uuid, medium, LabelWork::First(label))
                .await
                .map_err(|errno| system(&plex.medium().path, "its label cannot be written", errno))?;
        }
        Ok(())
    }

    /// Record a change of one volume on the labels of all its ACTIVE plexes, when the catalogue cannot be written. They are
    /// newer than it then, and win at the next start.
    ///
    /// # Errors
    /// What `change` refuses; a plex whose label cannot be written.
    pub(super) async fn record_on_labels(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        change: impl FnOnce(&Group) -> Result<Change, Refused>,
    ) -> Result<(), Refused> {
        let _turn = group.turn.lock().await;
        let change = change(&group.record())?;
        let next = change.group.clone();
        let committed = self.on_catalog(group, move |catalog| catalog.outside(&next)).await?;
        let record =
            change.group.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
        for plex in record.complete_plexes() {
            let medium = self.media.borrow().get(&plex.uuid()).cloned();
            let medium = medium.ok_or_else(|| system(plex.name(), "is not open", Errno::GONE))?;
            let label = LabelWork::Next(labels::label_of(&change.group, &committed, record, plex));
            self.label(plex.uuid(), medium, label)
                .await
                .map_err(|errno| system(plex.name(), "its label cannot be written", errno))?;
        }
        group.replace(change.group, committed.generation);
        Ok(())
    }

    /// Erase Cleave's labels from a medium that is not ours to remove.
    pub(super) async fn erase_labels(self: &Rc<Self>, plex: Uuid, medium: M::Medium, length: u64) {
        let shown = medium.path().display().to_string();
        if let Err(errno) = self.label(plex, medium, LabelWork::Erase { length }).await {
            tracing::warn!(path = shown, %errno, "the labels of a plex that was given up cannot be erased");
        }
    }

    /// Refuse a medium on which somebody else keeps something.
    pub(super) async fn refuse_foreign(self: &Rc<Self>, medium: &M::Medium) -> Result<(), Refused> {
        match self.foreign_on(medium).await? {
            None => Ok(()),
            Some(what) => Err(Refusal::new(
                Kind::Medium,
                "medium.foreign",
                medium.path().display(),
                format!("it holds {what}, which would be overwritten"),
                "name another medium, or add -f if nothing on it is needed",
            )),
        }
    }

    /// What somebody else keeps on `medium`, where that is known.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn foreign_on(
        self: &Rc<Self>,
        medium: &M::Medium,
    ) -> Result<Option<&'static str>, Refused> {
        let (shown, medium) = (medium.path().display().to_string(), medium.clone());
        let found = self.keepers.run(move |host| async move { foreign_signature(&host.open(&medium)).await });
        found.await.unwrap_or(Err(Errno::IO)).map_err(|errno| system(&shown, "cannot be read", errno))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use crate::base::Name;
    use crate::control::request;
    use crate::control::words::{DataPath, Init};
    use crate::daemon::offline::with_owner;
    use crate::daemon::server::Answer;
    use crate::daemon::testing::{self, with_daemon};
    use crate::format::config;
    use crate::format::label::{COPY_BYTES, Label, Places, newest};
    use crate::state::change::{self, Presence};

    /// A start looks at the files of a stopped volume while another verb changes the volume's record.
    #[test]
    fn the_files_of_a_volume_at_rest_are_not_written_while_a_start_looks_at_them() {
        let root = tempfile::tempdir().unwrap();
        let name = |text: &str| Name::new(text).unwrap();
        with_owner(root.path(), async |owner| {
            let (messages, _kept) = tokio::sync::mpsc::channel(64);
            let make = request::Make {
                group: request::default_group(),
                volume: name("v"),
                length_bytes: 4 << 20,
                nmirror: 2,
                media: Vec::new(),
                plexes: Vec::new(),
                sparse: true,
                region: None,
                init: Init::Active,
                data: DataPath::Auto,
                force: false,
            };
            owner.make(make, &Answer::new(messages)).await.unwrap();
            let group = owner.group(&request::default_group()).unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let uuid = group.record().volume("v").unwrap().uuid();
            let looks = async || {
                let found = owner.look_at_media(&group, uuid, false).await.unwrap();
                assert_eq!(found.len(), 2);
                found
            };
            let noted = |plex| group.record().plex_by_id(plex).unwrap().1.noted();
            for (plex, presence) in looks().await {
                assert!(noted(plex).is_some() && presence == Presence::Present(noted(plex)), "{presence:?}");
            }
            // Longer than a clock of a file system stands still.
            tokio::time::sleep(Duration::from_millis(30)).await;
            owner.transact(&group, |group, _| change::assign_device(group, uuid, Some(7))).await.unwrap();
            for (plex, presence) in looks().await {
                assert_eq!(presence, Presence::Present(noted(plex)), "its file was written");
            }
            // Another start of it labels its plexes as ever.
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            for (plex, presence) in looks().await {
                assert_eq!(presence, Presence::Present(noted(plex)));
            }
            Ok(())
        })
        .unwrap();
    }

    /// A lock keeps nobody away who does not ask for it, as another host that serves the same disk.
    #[test]
    fn labels_that_somebody_else_keeps_writing_are_not_taken_in_for_ever() {
        with_daemon(async |owner, _| {
            let group = testing::make(&owner, "v", 1).await;
            owner.stop_volume(&group, &testing::name("v")).await.unwrap();
            let record = group.record();
            let volume = record.volume("v").unwrap();
            let path = volume.plexes()[0].medium().path.as_path();
            let file = File::options().read(true).write(true).open(path).unwrap();
            let places = Places::new(volume.length(), file.metadata().unwrap().len()).unwrap();
            let copies = places.all().map(|at| {
                let mut bytes = vec![0; COPY_BYTES as usize];
                file.read_exact_at(&mut bytes, at).unwrap();
                Label::decode(&bytes, at)
            });
            let mut label = newest(copies).unwrap();
            let (others, done) = ((*record).clone(), Arc::new(AtomicBool::new(false)));
            let ended = Arc::clone(&done);
            let other_host = std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    label.sequence += 1;
                    label.config_generation.0 += 1000;
                    label.configuration =
                        config::encode(label.config_generation, &others).unwrap().into_bytes();
                    for at in places.of_sequence(label.sequence) {
                        file.write_all_at(&label.encode(at), at).unwrap();
                    }
                }
            });
            // A look that comes between two of its labels goes well, or meets two of one number.
            let uuid = volume.uuid();
            let mut met = String::new();
            for _ in 0..10_000 {
                match owner.look_at_media(&group, uuid, false).await {
                    Err(refused) if refused.id == "label.endless" => {
                        met.clone_from(&refused.id);
                        break;
                    }
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
            done.store(true, Ordering::Relaxed);
            other_host.join().unwrap();
            assert_eq!(met, "label.endless");
        });
    }
}
