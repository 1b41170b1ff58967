//! The owner: what the daemon knows, and the one way in which the configuration changes.
//!
//! Everything here lives on one thread. It never blocks: files are made and configurations committed by workers, rings do
//! the I/O, and each answers by completing a future. A group's configuration changes by one transaction at a time
//! ([`Owner::transact`]); long work stands between transactions, never inside one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use futures_util::future::join_all;
use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::base::{Errno, FaultPoint, Generation, Kind, Name, Refusal, Refused, Uuid};
use crate::bitmap::ChangeMap;
use crate::catalog::Catalog;
use crate::device::Moment;
use crate::ring::Identity;
use crate::state::change::{self, Change, Effect};
use crate::state::{Group, Ids};

use super::events::{Events, News};
use super::keepers::Plea;
use super::live::Live;
use super::machine::Machine;
use super::takeover::Recovery;
use super::tasks::Tasks;
use super::this_host::ThisHost;
use super::waiting::{WaitingGroups, group_waits};

/// A group whose state directory is open and locked.
pub struct GroupHandle<M: Machine = ThisHost> {
    /// Its name.
    pub name: Name,
    /// Its state directory.
    pub directory: PathBuf,
    record: RefCell<Rc<Group>>,
    generation: Cell<u64>,
    pub(super) catalog: Arc<Mutex<Catalog<M::Files>>>,
    /// Told of each new record.
    changed: tokio::sync::Notify,
    /// One transaction at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Why its volumes are not taken over yet: nothing of it is changed before that.
    waits: RefCell<Option<String>>,
}

impl<M: Machine> GroupHandle<M> {
    /// The group as it was last committed.
    #[must_use]
    pub fn record(&self) -> Rc<Group> {
        Rc::clone(&self.record.borrow())
    }

    /// Generation of its configuration.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Take a configuration that was made durable otherwise than by a transaction.
    pub(super) fn replace(&self, record: Group, generation: Generation) {
        self.generation.set(generation.0);
        self.set_record(Rc::new(record));
    }

    fn set_record(&self, record: Rc<Group>) {
        *self.record.borrow_mut() = record;
        self.changed.notify_waiters();
    }

    /// Wait until the record is such that `wanted`.
    async fn until(&self, wanted: impl Fn(&Group) -> bool) {
        loop {
            // From before the look.
            let changed = self.changed.notified();
            if wanted(&self.record()) {
                return;
            }
            changed.await;
        }
    }

    /// Note why its volumes wait to be taken over, or that they do no longer.
    pub(super) fn set_waiting(&self, why: Option<String>) {
        *self.waits.borrow_mut() = why;
    }

    /// That it may be changed.
    ///
    /// # Errors
    /// `group.waits`: what the daemon before this one left is not settled yet.
    pub(super) fn is_settled(&self) -> Result<(), Refused> {
        match &*self.waits.borrow() {
            None => Ok(()),
            Some(why) => Err(group_waits(self.name.as_str(), why)),
        }
    }

    /// The file `name` in the state directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What a transaction left to be done, in order, now that it is durable.
pub struct Committed {
    /// The group before.
    pub before: Rc<Group>,
    /// The group after.
    pub after: Rc<Group>,
    /// The number of its configuration.
    pub generation: Generation,
    /// Effects that take their time: allocation, copies, devices, attaching.
    pub effects: Vec<Effect>,
}

/// What the daemon knows.
pub struct Owner<M: Machine = ThisHost> {
    /// What it stands on.
    pub machine: M,
    /// Directory of the groups' state directories.
    pub root: PathBuf,
    /// The ring thread of keepers, cuts and state files.
    pub keepers: M::Ring,
    /// The ring thread of the mover.
    pub movers: M::Ring,
    /// Long tasks.
    pub tasks: Rc<Tasks<M>>,
    /// Where keepers ask.
    pub pleas: mpsc::UnboundedSender<Plea>,
    /// Whom happenings are told to.
    pub events: Rc<Events>,
    pub(super) groups: RefCell<BTreeMap<Name, Rc<GroupHandle<M>>>>,
    pub(super) live: RefCell<BTreeMap<Uuid, Rc<Live<M>>>>,
    /// Told when a volume comes to `live` or goes, and when a schedule changes.
    pub(super) stirred: tokio::sync::Notify,
    /// Open media of plexes, by plex. A medium is opened once (ordering rule 20).
    pub(super) media: RefCell<BTreeMap<Uuid, M::Medium>>,
    /// What is to be done to the labels of plexes, while anything is.
    pub(super) labelling: RefCell<BTreeMap<Uuid, VecDeque<super::labels::DueLabel<M::Medium>>>>,
    /// The configuration on the label of each plex that this process has written to; the next commit records it.
    pub(super) labelled: RefCell<BTreeMap<Uuid, Generation>>,
    /// Where the flushes of plexes are counted, by plex.
    pub(super) flushes: RefCell<BTreeMap<Uuid, super::doubts::Counted>>,
    /// The file or disk that is each plex's medium: made for it by this process, labelled by it, or found to bear its label.
    pub(super) proven: RefCell<BTreeMap<Uuid, Identity>>,
    /// Plexes whose media never bore their label.
    pub(super) unlabelled: RefCell<BTreeSet<Uuid>>,
    /// Change maps in memory, by map.
    pub(super) maps: RefCell<BTreeMap<Uuid, Arc<ChangeMap>>>,
    /// One verb at a time that starts, stops, cuts, adds to or removes a volume.
    pub(super) verbs: RefCell<BTreeMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
    /// Plexes whose files could not be made: nothing at their paths is ours.
    pub(super) never_made: RefCell<BTreeSet<Uuid>>,
    /// What was told of plexes lately.
    pub(super) told: super::plex_faults::Told,
    /// When the daemon started.
    pub started: Moment,
    /// One hold at a time: two verbs may change the route of one volume at the same moment, and a gate is held once.
    pub(super) holds: Rc<tokio::sync::Mutex<()>>,
    /// Where this program was started from.
    pub(super) binary: Option<PathBuf>,
    /// The binary that is to take its place.
    pub(super) successor: RefCell<Option<PathBuf>>,
    /// Groups whose state directories cannot be used.
    pub(super) waiting: WaitingGroups,
    /// What could not be taken over.
    pub(super) recovery: Recovery,
    /// One at a time gives media to a group: a disk belongs to one.
    pub(super) pooling: Rc<tokio::sync::Mutex<()>>,
    /// What is free below the groups.
    pub(super) space: super::space::Space,
    /// Somebody asked the daemon to end.
    pub ending: tokio::sync::Notify,
}

/// A refusal for a system call that failed.
#[must_use]
pub fn system(object: impl std::fmt::Display, what: &str, errno: Errno) -> Refused {
    let (kind, id) = match errno {
        Errno::NO_SPACE => (Kind::NoSpace, "system.failed"),
        _ => (Kind::System, "system.failed"),
    };
    Refusal::new(kind, id, object, format!("{what}: {errno}"), "see the daemon's log, then try again")
}

impl<M: Machine> Owner<M> {
    /// An owner that knows nothing yet, with what the keepers of its volumes will ask.
    #[must_use]
    pub fn new(
        machine: M,
        root: PathBuf,
        keepers: M::Ring,
        movers: M::Ring,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Plea>) {
        let (pleas, heard) = mpsc::unbounded_channel();
        let owner = Self {
            root,
            keepers,
            movers,
            tasks: Tasks::new(machine.clone()),
            pleas,
            events: {
                let machine = machine.clone();
                Events::new(move || {
                    let since = machine.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
                    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
                })
            },
            groups: Default::default(),
            live: Default::default(),
            media: Default::default(),
            labelling: Default::default(),
            labelled: Default::default(),
            flushes: Default::default(),
            proven: Default::default(),
            unlabelled: Default::default(),
            maps: Default::default(),
            verbs: Default::default(),
            never_made: Default::default(),
            told: Default::default(),
            started: machine.now(),
            holds: Rc::default(),
            binary: super::upgrade::own_binary(),
            successor: Default::default(),
            waiting: WaitingGroups::default(),
            recovery: Recovery::default(),
            pooling: Rc::default(),
            space: super::space::Space::default(),
            ending: tokio::sync::Notify::new(),
            stirred: tokio::sync::Notify::new(),
            machine,
        };
        let told = Rc::clone(&owner.events);
        owner.tasks.when_failed(move |row| told.raise(News::of_task(row)));
        (Rc::new(owner), heard)
    }

    /// Seconds since 1970 (UTC).
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        let since = self.machine.wall().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// Fresh identities from the machine's random source.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn dice(&self) -> Result<Ids, Refused> {
        self.machine.seed().map(Ids::from_seed)
    }

    /// Run `work` on the catalogue of `group`, off this thread.
    pub(super) async fn on_catalog<T: Send + 'static>(
        &self,
        group: &GroupHandle<M>,
        work: impl FnOnce(&mut Catalog<M::Files>) -> T + Send + 'static,
    ) -> T {
        let catalog = Arc::clone(&group.catalog);
        self.machine.worker(move || work(&mut catalog.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// The group `name`.
    ///
    /// # Errors
    /// `group.unknown`.
    pub fn group(&self, name: &Name) -> Result<Rc<GroupHandle<M>>, Refused> {
        let groups = self.groups.borrow();
        groups.get(name).cloned().ok_or_else(|| crate::state::refuse::group_unknown(name.as_str()))
    }

    /// That `group`, which was found some time ago, was not destroyed since.
    ///
    /// # Errors
    /// `group.unknown`.
    pub(super) fn refuse_destroyed(&self, group: &Rc<GroupHandle<M>>) -> Result<(), Refused> {
        match self.groups.borrow().get(&group.name) {
            Some(now) if Rc::ptr_eq(now, group) => Ok(()),
            _ => Err(crate::state::refuse::group_unknown(group.name.as_str())),
        }
    }

    /// All groups, by name.
    #[must_use]
    pub fn all_groups(&self) -> Vec<Rc<GroupHandle<M>>> {
        self.groups.borrow().values().cloned().collect()
    }

    /// The group that has the volume.
    #[must_use]
    pub fn group_of(&self, volume: Uuid) -> Option<Rc<GroupHandle<M>>> {
        self.groups.borrow().values().find(|group| group.record().volume_by_id(volume).is_some()).cloned()
    }

    /// The group that has the plex of that identity.
    #[must_use]
    pub fn group_of_plex(&self, plex: Uuid) -> Option<Rc<GroupHandle<M>>> {
        self.groups.borrow().values().find(|group| group.record().plex_by_id(plex).is_some()).cloned()
    }

    /// `news` of the volume, and of its plex where one is named, by their present names; of nothing when they are gone.
    #[must_use]
    pub fn news_about(&self, news: News, volume: Uuid, plex: Option<Uuid>) -> News {
        let Some(group) = self.group_of(volume) else { return news };
        let record = group.record();
        let Some(found) = record.volume_by_id(volume) else { return news };
        let news = news.of_volume(&group.name, found.name());
        match plex.and_then(|plex| found.plex_by_id(plex)) {
            Some(plex) => news.of_plex(plex.name()),
            None => news,
        }
    }

    /// The started volume.
    #[must_use]
    pub fn live(&self, volume: Uuid) -> Option<Rc<Live<M>>> {
        self.live.borrow().get(&volume).cloned()
    }

    /// `live` is started.
    pub(super) fn came(&self, live: &Rc<Live<M>>) {
        self.live.borrow_mut().insert(live.volume.shape().uuid, Rc::clone(live));
        self.stirred.notify_waiters();
    }

    /// `volume` is started no longer.
    pub(super) fn went(&self, volume: Uuid) {
        self.live.borrow_mut().remove(&volume);
        self.stirred.notify_waiters();
    }

    /// The change map, if it is in memory.
    #[must_use]
    pub fn change_map(&self, map: Uuid) -> Option<Arc<ChangeMap>> {
        self.maps.borrow().get(&map).cloned()
    }

    /// All started volumes, in the order of their identities.
    #[must_use]
    pub fn all_live(&self) -> Vec<Rc<Live<M>>> {
        self.live.borrow().values().cloned().collect()
    }

    /// Wait until no other verb is at work on `volumes`, and keep others from beginning while the answer lives. Taken before
    /// a group's turn, never within it; jobs of the mover do not take it.
    pub(super) async fn alone(&self, volumes: impl IntoIterator<Item = Uuid>) -> Vec<OwnedMutexGuard<()>> {
        // In one order, so that two who want the same ones do not wait for each other.
        let volumes: BTreeSet<Uuid> = volumes.into_iter().collect();
        let mut held = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let verb = Arc::clone(self.verbs.borrow_mut().entry(volume).or_default());
            held.push(verb.lock_owned().await);
        }
        held
    }

    /// [`Self::alone`] with a volume that is not yet in force, so that nobody else can be at work on it.
    pub(super) fn alone_with_new(&self, volume: Uuid) -> OwnedMutexGuard<()> {
        let verb = Arc::clone(self.verbs.borrow_mut().entry(volume).or_default());
        verb.try_lock_owned().expect("nobody knows of it")
    }

    /// [`Self::alone`] with the volume `name` of `group`.
    ///
    /// # Errors
    /// `volume.unknown`.
    pub(super) async fn alone_with(
        &self,
        group: &GroupHandle<M>,
        name: &Name,
    ) -> Result<Vec<OwnedMutexGuard<()>>, Refused> {
        let volume = group.record().volume(name.as_str())?.uuid();
        Ok(self.alone([volume]).await)
    }

    /// Take a group into the daemon's care.
    pub(super) fn adopt(
        &self,
        directory: &Path,
        catalog: Catalog<M::Files>,
        record: Group,
        generation: u64,
    ) -> Rc<GroupHandle<M>> {
        let handle = Rc::new(GroupHandle {
            name: record.name().clone(),
            directory: directory.to_owned(),
            record: RefCell::new(Rc::new(record)),
            generation: Cell::new(generation),
            catalog: Arc::new(Mutex::new(catalog)),
            changed: tokio::sync::Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            waits: RefCell::default(),
        });
        self.groups.borrow_mut().insert(handle.name.clone(), Rc::clone(&handle));
        handle
    }

    /// Change the configuration of `group` by one transaction (ordering rule 17): the effects before the commit, labels
    /// and catalogue, the quick effects after it. What takes its time is returned.
    ///
    /// # Errors
    /// What `plan` refuses, or a step before the commit that failed: it was undone, and nothing has changed. `group.waits`.
    pub async fn transact(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        plan: impl FnOnce(&Group, &mut Ids) -> Result<Change, Refused>,
    ) -> Result<Committed, Refused> {
        group.is_settled()?;
        self.transact_unsettled(group, plan).await
    }

    /// [`Owner::transact`] for who settles what the daemon before this one left.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn transact_unsettled(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        plan: impl FnOnce(&Group, &mut Ids) -> Result<Change, Refused>,
    ) -> Result<Committed, Refused> {
        let _turn = group.turn.lock().await;
        self.transact_in_turn(group, plan).await
    }

    /// [`Owner::transact`], unless the record comes to be such that it is `moot` before its turn has come: none then. Who has
    /// the turn may wait for requests that wait for whoever asks.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn transact_unless(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        moot: impl Fn(&Group) -> bool,
        plan: impl FnOnce(&Group, &mut Ids) -> Result<Change, Refused>,
    ) -> Result<Option<Committed>, Refused> {
        group.is_settled()?;
        let _turn = tokio::select! {
            biased;
            () = group.until(moot) => return Ok(None),
            turn = group.turn.lock() => turn,
        };
        self.transact_in_turn(group, plan).await.map(Some)
    }

    async fn transact_in_turn(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        plan: impl FnOnce(&Group, &mut Ids) -> Result<Change, Refused>,
    ) -> Result<Committed, Refused> {
        self.refuse_destroyed(group)?;
        let before = group.record();
        let change = plan(&before, &mut self.dice()?)?;
        if self.takes_out_a_plex(&change) {
            // What is taken out before a commit that does not come cannot be put back: nothing would be acknowledged then.
            self.commit_quietly(group, (*before).clone()).await?;
        }
        let mut done = Vec::new();
        for effect in &change.before_commit {
            if let Err(refused) = self.before_commit(group, &change, &done, effect).await {
                self.undo(group, &done).await;
                return Err(refused);
            }
            done.push(effect.clone());
        }
        FaultPoint::TransactionPrepared.reached();
        let committed = self.commit(group, &before, &change).await;
        self.events.state_directory(&group.name, committed.as_ref().map(drop).map_err(|refused| &**refused));
        let after = match committed {
            Ok(after) => Rc::new(after),
            Err(refused) => {
                self.undo(group, &done).await;
                return Err(refused);
            }
        };
        let generation = Generation(group.generation());
        FaultPoint::TransactionLabelled.reached();
        let news = self.events.news_of(&before, &change);
        group.set_record(Rc::clone(&after));
        if change.outdates_labels(&before) {
            self.record_labels_soon(group);
        }
        let (mut effects, mut released) = (Vec::new(), Vec::new());
        for effect in change.after_commit {
            effects.extend(self.after_commit(group, effect, &mut released).await);
        }
        if !released.is_empty()
            && let Err(refused) = self.commit_quietly(group, change::released(&after, &released)?.group).await
        {
            // They are freed once more at the next start, which finds nothing to free.
            tracing::warn!("that plexes are gone cannot be recorded yet: {refused}");
        }
        self.settle_absent(&before, &after);
        FaultPoint::TransactionDone.reached();
        news.into_iter().for_each(|news| self.events.raise(news));
        Ok(Committed { before, after, generation, effects })
    }

    /// Whether `change` takes a plex out of the write path of a volume that runs.
    fn takes_out_a_plex(&self, change: &Change) -> bool {
        change.before_commit.iter().any(|effect| match effect {
            Effect::Detach { volume, plex } => {
                self.live(*volume).is_some_and(|live| live.volume.route().plex(*plex).is_some())
            }
            _ => false,
        })
    }

    /// As [`Owner::transact`] for a change without effects that the labels need not carry.
    ///
    /// # Errors
    /// What `change` refuses, or the commit.
    pub async fn transact_quietly(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        change: impl FnOnce(&Group) -> Result<Change, Refused>,
    ) -> Result<(), Refused> {
        let _turn = group.turn.lock().await;
        let change = change(&group.record())?;
        assert!(
            change.before_commit.is_empty() && change.after_commit.is_empty(),
            "a quiet change has no effects"
        );
        self.commit_quietly(group, change.group).await
    }

    /// Record which labels were written, without keeping anybody waiting, unless another commit does it first: until then a
    /// medium that is put back to what it was before they were would be believed.
    pub(super) fn record_labels_soon(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) {
        let (owner, group) = (Rc::clone(self), Rc::clone(group));
        self.machine.spawn(async move {
            let _turn = group.turn.lock().await;
            let record = group.record();
            let noted = (*record).clone().with_labelled(&owner.labelled.borrow());
            if owner.refuse_destroyed(&group).is_err() || noted == *record {
                return;
            }
            if let Err(refused) = owner.commit_quietly(&group, noted).await {
                tracing::warn!("that labels are written cannot be recorded yet: {refused}");
            }
        });
    }

    /// Commit without labels and effects; the group's turn is held.
    pub(super) async fn commit_quietly(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        record: Group,
    ) -> Result<(), Refused> {
        self.refuse_destroyed(group)?;
        let record = record.with_labelled(&self.labelled.borrow());
        let next = record.clone();
        let committed = self.on_catalog(group, move |catalog| catalog.commit(&next)).await?;
        group.replace(record, committed.generation);
        Ok(())
    }

    /// Commit `change` and write the labels of what it touches; the group as it was committed.
    async fn commit(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        before: &Group,
        change: &Change,
    ) -> Result<Group, Refused> {
        let after = change.group.clone().with_labelled(&self.labelled.borrow());
        let next = after.clone();
        let committed = self.on_catalog(group, move |catalog| catalog.commit(&next)).await?;
        group.generation.set(committed.generation.0);
        FaultPoint::TransactionCommitted.reached();
        // The catalogue names the change first; labels follow.
        let touched = change.touched(before);
        tracing::debug!(group = %group.name, generation = %committed.generation, ?touched, "committed");
        let records = touched.into_iter().filter_map(|volume| after.volume_by_id(volume));
        join_all(records.map(|record| self.write_labels(&after, record, &committed))).await;
        Ok(after)
    }
}
