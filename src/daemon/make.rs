//! Verbs that make and remove: groups, volumes, mirrors.

use std::rc::Rc;

use crate::base::{Errno, FaultPoint, Kind, Name, Refusal, Refused, Uuid};
use crate::control::reply::{Attached, Changed, Made as MadeReply, Removed};
use crate::control::words::{Init, TaskKind};
use crate::control::{Reply, Row, request};
use crate::device::Moment;
use crate::mover::Limits;
use crate::ring::Opening;
use crate::state::change::{self, Change, Effect, MakeArgs, RemoveArgs};
use crate::state::{
    DataPath, Group, Ids, MediumKind, MediumPath, Plex, PoolMedium, SettingsChange, Volume, refuse,
};

use super::bringup::role;
use super::jobs::{Job, Purpose, limits};
use super::machine::{Machine, Standing};
use super::media::{Wanted, medium_path};
use super::owner::{Committed, GroupHandle, Owner, system};
use super::rows;
use super::server::Answer;

/// What kind of plexes a change adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// Further mirrors.
    Mirrors,
    /// Snapshot mirrors.
    Snapshots,
}

impl<M: Machine> Owner<M> {
    pub(super) async fn group_create(
        self: &Rc<Self>,
        request: request::GroupCreate,
    ) -> Result<Reply, Refused> {
        let _turn = self.pooling.lock().await;
        if self.groups.borrow().contains_key(&request.group) {
            return Err(refuse::group_exists(&request.group));
        }
        let directory = self.root.join(request.group.as_str());
        let mut media = self.pool_media(&request.media).await?;
        if media.is_empty() {
            let own = directory.join("media");
            media.push(PoolMedium { path: medium_path(&own)?, block: false, name: None });
        }
        let record = change::create_group(request.group.as_str(), &media, &mut self.dice()?)?;
        let own_media = request.media.is_empty().then(|| directory.join("media"));
        let files = self.machine.create_files(&directory).await?;
        let first = record.clone();
        let made = self.machine.worker(move || crate::catalog::Catalog::create_on(files, &first)).await;
        let (catalog, generation) = made?;
        if let Some(media) = own_media {
            self.machine.make_directory(&media).await?;
        }
        self.adopt(&directory, catalog, record, generation.0);
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// Media as they are named, which are there and can be used.
    async fn pool_media(self: &Rc<Self>, wanted: &[request::MediumSpec]) -> Result<Vec<PoolMedium>, Refused> {
        let mut media = Vec::new();
        for medium in wanted {
            let path = medium_path(&medium.path)?;
            self.refuse_volume_below(&path).await?;
            let found = self.machine.standing(path.as_path()).await;
            let found =
                found.map_err(|error| refuse::medium_missing(&path, &Errno::from(error).to_string()))?;
            let block = match found {
                Standing::Directory => false,
                Standing::Disk => {
                    for group in self.all_groups() {
                        if group.record().media().iter().any(|other| other.path == path) {
                            return Err(refuse::medium_of_group(&path, &group.name));
                        }
                    }
                    // One that is mounted or read-only is told now, not by the first make.
                    self.machine.open(path.as_path(), Opening::WRITE).await?;
                    true
                }
                Standing::Other => {
                    return Err(refuse::medium_path(
                        &path.to_string(),
                        "is neither a directory nor a block device",
                    ));
                }
            };
            media.push(PoolMedium { path, block, name: medium.name.clone() });
        }
        Ok(media)
    }

    pub(super) async fn group_add(self: &Rc<Self>, request: request::GroupAdd) -> Result<Reply, Refused> {
        let _turn = self.pooling.lock().await;
        let group = self.group(&request.group)?;
        let media = self.pool_media(&request.media).await?;
        self.transact(&group, |group, _| {
            let has = |medium: &&PoolMedium| group.media().iter().any(|other| other.path == medium.path);
            if let Some(medium) = media.iter().find(has) {
                return Err(refuse::medium_of_group(&medium.path, group.name()));
            }
            let mut change = change::nothing(group);
            for medium in &media {
                change = change::add_medium(&change.group, medium.clone())?;
            }
            Ok(change)
        })
        .await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    pub(super) async fn group_destroy(
        self: &Rc<Self>,
        request: request::GroupDestroy,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        if group.record().volumes().is_empty() {
            self.release_leaving(&group, group.record().leaving().to_vec()).await?;
        }
        // Who has found it by now and would change it comes after this, and finds it gone.
        let _turn = group.turn.lock().await;
        self.refuse_destroyed(&group)?;
        group.is_settled()?;
        let record = group.record();
        change::destroy_group(&record)?;
        let last = (*record).clone();
        let destroyed = self.on_catalog(&group, move |catalog| catalog.destroy(&last)).await;
        if destroyed.as_ref().err().is_none_or(|failed| failed.has_begun) {
            self.groups.borrow_mut().remove(&request.group);
        }
        destroyed.map_err(|failed| failed.refused)?;
        if let Err(error) = self.on_catalog(&group, |catalog| catalog.remove_directory()).await {
            tracing::warn!(path = %group.directory.display(), %error, "the directory of a destroyed group stays");
        }
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// That this host can serve what is wanted.
    ///
    /// # Errors
    /// `volume.data-path`.
    pub(super) async fn refuse_data_path(
        &self,
        volume: &Name,
        wanted: Option<DataPath>,
    ) -> Result<(), Refused> {
        if wanted != Some(DataPath::Zero) || self.machine.zero_copy().await {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::System,
            "volume.data-path",
            volume,
            "this kernel does not lend requests' own pages (ublk's zero copy, from Linux 6.16 on)",
            "say data=auto, which uses them where they are, or data=copy",
        ))
    }

    /// The group, which is made on first use when it is `default`.
    pub(super) async fn group_or_default(
        self: &Rc<Self>,
        name: &Name,
    ) -> Result<Rc<GroupHandle<M>>, Refused> {
        if *name == request::default_group() && !self.groups.borrow().contains_key(name) {
            self.group_create(request::GroupCreate { group: name.clone(), media: Vec::new() }).await?;
        }
        self.group(name)
    }

    pub(super) async fn make(
        self: &Rc<Self>,
        request: request::Make,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        self.make_labelled(request, None, answer).await
    }

    /// Make a volume, with the labels of the plex at a path in a file of their own where there is to be one.
    pub(super) async fn make_labelled(
        self: &Rc<Self>,
        request: request::Make,
        label_file: Option<&MediumPath>,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let data = rows::data_setting(request.data);
        self.refuse_data_path(&request.volume, Some(data)).await?;
        refuse::check_length(request.length_bytes)?;
        let group = self.group_or_default(&request.group).await?;
        // The nearest reason first: a name that is taken is no question of room.
        if group.record().is_taken(request.volume.as_str()) {
            return Err(refuse::name_taken(&request.volume, &group.name));
        }
        let wanted = Wanted { label_file, ..Wanted::to_make(&request) };
        let sites = self.sites(&group, &wanted).await?;
        let args = MakeArgs {
            name: request.volume.as_str(),
            length: request.length_bytes,
            region_size: request.region,
            sites: &sites,
        };
        let mut alone = None;
        let committed = self
            .transact(&group, |group, ids| {
                let made = change::make_volume(group, &args, ids)?;
                let settings = SettingsChange { data: Some(data), ..SettingsChange::default() };
                let change = Change { group: change::set(&made.group, args.name, settings)?.group, ..made };
                // From before anybody can name it until it runs: a start would find media without labels.
                alone = Some(self.alone_with_new(change.group.volume(args.name)?.uuid()));
                Ok(change)
            })
            .await?;
        let volume = committed.after.volume(request.volume.as_str())?.uuid();
        FaultPoint::MakeRecorded.reached();
        let finished = async {
            let made = self.allocate(&committed.effects, request.force).await?;
            FaultPoint::MakeAllocated.reached();
            if request.init == Init::Zero {
                self.zero_media(&committed.after, volume).await?;
            }
            let equal = request.init != Init::Sync;
            let record = group.record();
            let next = change::finish_make(&record, volume, &made, equal, &mut self.dice()?)?.group;
            let plexes: Vec<Uuid> = made.iter().map(|one| one.plex).collect();
            self.label_new(&group, &next, &plexes).await?;
            FaultPoint::MakeLabelled.reached();
            self.transact(&group, |group, ids| change::finish_make(group, volume, &made, equal, ids)).await
        };
        if let Err(refused) = finished.await {
            let abandoned =
                self.transact(&group, |group, ids| change::abandon_make(group, volume, ids)).await;
            if let Err(later) = abandoned {
                tracing::warn!("a volume that could not be made goes at the next start: {later}");
            }
            return Err(refused);
        }
        FaultPoint::MakeFinished.reached();
        let jobs = match self.start_alone(&group, &request.volume, None).await {
            Ok(jobs) => jobs,
            Err(refused) => {
                // Nobody has seen it yet: a make that fails leaves nothing behind.
                let args = RemoveArgs {
                    volume: request.volume.as_str(),
                    recursive: true,
                    force: true,
                    holders: &[],
                };
                if self.live(volume).is_none() {
                    let remove = |group: &Group, ids: &mut Ids| -> Result<Change, Refused> {
                        change::remove_volume(group, &args, ids)
                    };
                    if let Err(later) = self.transact(&group, remove).await {
                        tracing::warn!("a volume that could not be started stays: {later}");
                    }
                }
                return Err(refused);
            }
        };
        self.answer_volume(&group, volume, answer).await;
        let task = jobs.first().map(|job| job.task);
        Ok(Reply::Made(MadeReply { volume: request.volume, uuid: volume, task }))
    }

    /// Add plexes to a started or stopped volume and begin to copy them.
    pub(super) async fn add_plexes(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        wanted: &Wanted<'_>,
        added: Added,
        limits: Limits,
    ) -> Result<(Vec<Name>, Vec<Job>), Refused> {
        let _alone = self.alone_with(group, wanted.volume).await?;
        let sites = self.sites(group, wanted).await?;
        let volume = wanted.volume.as_str();
        let committed = self
            .transact(group, |group: &Group, ids: &mut Ids| match added {
                Added::Mirrors => change::add_plexes(group, volume, &sites, ids),
                Added::Snapshots => change::snapstart(group, volume, &sites, ids),
            })
            .await?;
        let kind = match added {
            Added::Mirrors => TaskKind::Mirror,
            Added::Snapshots => TaskKind::SnapStart,
        };
        self.fill_new(group, wanted, committed, Purpose { kind, fresh: true, limits }).await
    }

    /// Make the media of plexes that a committed change has added, and begin to copy to them.
    pub(super) async fn fill_new(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        wanted: &Wanted<'_>,
        committed: Committed,
        purpose: Purpose,
    ) -> Result<(Vec<Name>, Vec<Job>), Refused> {
        let plexes: Vec<Uuid> = committed
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Allocate { plex, .. } => Some(*plex),
                _ => None,
            })
            .collect();
        FaultPoint::AttachRecorded.reached();
        let allocated = async {
            let made = self.allocate(&committed.effects, wanted.force).await?;
            self.label_new(group, &group.record(), &plexes).await?;
            Ok::<_, Refused>(made)
        };
        let made = match allocated.await {
            Ok(made) => made,
            Err(refused) => {
                for plex in plexes {
                    self.drop_unfinished(group, wanted.volume, plex).await;
                }
                return Err(refused);
            }
        };
        let (mut names, mut jobs) = (Vec::new(), Vec::new());
        FaultPoint::AttachAllocated.reached();
        for one in &made {
            let ready = self.transact(group, |group, ids| change::plex_ready(group, one, ids)).await;
            let committed = match ready {
                Ok(committed) => committed,
                Err(refused) => {
                    self.drop_unfinished(group, wanted.volume, one.plex).await;
                    return Err(refused);
                }
            };
            if let Some((_, plex)) = committed.after.plex_by_id(one.plex) {
                names.push(plex.name().clone());
            }
            FaultPoint::AttachReady.reached();
            match self.attach_and_copy(group, committed, purpose).await {
                Ok(more) => jobs.extend(more),
                Err(refused) => {
                    self.drop_unfinished(group, wanted.volume, one.plex).await;
                    return Err(refused);
                }
            }
        }
        Ok((names, jobs))
    }

    async fn drop_unfinished(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: &Name, plex: Uuid) {
        let record = group.record();
        let Some((_, record)) = record.plex_by_id(plex) else { return };
        let name = record.name().clone();
        let removed = self
            .transact(group, |group, ids| change::remove_plex(group, volume.as_str(), name.as_str(), ids))
            .await;
        if let Err(refused) = removed {
            tracing::warn!("an unfinished plex is removed at the next start: {refused}");
        }
    }

    /// Carry out the attaching and copying that a committed change asks for.
    pub(super) async fn attach_and_copy(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        committed: Committed,
        purpose: Purpose,
    ) -> Result<Vec<Job>, Refused> {
        let mut jobs = Vec::new();
        for effect in committed.effects {
            match effect {
                Effect::Attach { volume, plex } => {
                    let Some(live) = self.live(volume) else { continue };
                    let Some((record, plex_record)) = committed.after.plex_by_id(plex) else { continue };
                    let medium = self.open_plex(record, plex_record, false).await?;
                    let behind = self.behind_of(record, plex_record);
                    self.wait_for_stragglers(&live, plex_record).await?;
                    self.count_anew(&live, plex).await;
                    let route_plex = crate::volume::RoutePlex {
                        uuid: plex,
                        medium,
                        role: role(plex_record.state()),
                        behind,
                    };
                    live.attach(&self.keepers, route_plex).await.map_err(|errno| {
                        system(&live.name, "the plex cannot be taken into the write path", errno)
                    })?;
                    FaultPoint::AttachJoined.reached();
                }
                Effect::Copy { volume, plex } => {
                    let Some(live) = self.live(volume) else { continue };
                    jobs.push(self.copy_to(group, &live, plex, purpose)?);
                }
                other => unreachable!("{other:?} does not follow the adding of plexes"),
            }
        }
        Ok(jobs)
    }

    pub(super) async fn mirror(self: &Rc<Self>, request: request::Mirror) -> Result<Reply, Refused> {
        let began = self.machine.now();
        let group = self.group(&request.group)?;
        let wanted = Wanted::to_mirror(&request, group.record().volume(request.volume.as_str())?.length());
        let (plexes, jobs) = self
            .add_plexes(&group, &wanted, Added::Mirrors, limits(request.bytes_per_second, request.latency_us))
            .await?;
        self.attached(request.volume, plexes, jobs, request.background, began).await
    }

    pub(super) async fn remove_mirror(
        self: &Rc<Self>,
        request: request::RemoveMirror,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let of = Self::mirror_to_remove(&group.record(), &request)?.0.uuid();
        let _alone = self.alone([of]).await;
        let record = group.record();
        let (volume, plex) = Self::mirror_to_remove(&record, &request)?;
        let name = plex.name().clone();
        self.transact(&group, |group, ids| {
            change::remove_plex(group, volume.name().as_str(), name.as_str(), ids)
        })
        .await?;
        let freed_bytes = freed_bytes(&group.record(), volume, [plex]);
        Ok(Reply::Removed(Removed {
            volume: None,
            plexes: vec![name],
            freed_bytes,
            lost_bytes: 0,
            independent: Vec::new(),
        }))
    }

    /// The plex that is named, or the last mirror.
    pub(super) fn mirror_to_remove<'a>(
        record: &'a Group,
        request: &request::RemoveMirror,
    ) -> Result<(&'a Volume, &'a Plex), Refused> {
        let Some(volume) = &request.volume else {
            // Whoever names neither means no plex that there could be.
            return record.plex(request.plex.as_ref().map_or("", Name::as_str));
        };
        let volume = record.volume(volume.as_str())?;
        let plex = match &request.plex {
            Some(name) => volume.plex(name.as_str())?,
            None => volume
                .plexes()
                .iter()
                .rev()
                .find(|plex| plex.purpose() == crate::state::Purpose::Mirror)
                .ok_or_else(|| refuse::no_plexes(volume.name()))?,
        };
        Ok((volume, plex))
    }

    pub(super) async fn remove(self: &Rc<Self>, request: request::Remove) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.object).await?;
        let record = group.record();
        let volume = record.volume(request.object.as_str())?;
        let uuid = volume.uuid();
        // A handle kept here would keep its media open, and with that locked.
        let (runs, holders) = match self.live(uuid) {
            Some(live) => (true, self.holders(&live).await),
            None => (false, Vec::new()),
        };
        let args = RemoveArgs {
            volume: request.object.as_str(),
            recursive: request.recursive,
            force: request.force,
            holders: &holders,
        };
        // Refused before anything is done.
        change::remove_volume(&record, &args, &mut self.dice()?)?;
        let plexes: Vec<_> = volume.plexes().iter().map(|plex| plex.name().clone()).collect();
        let lost = self.changed_since_cut(&group, uuid).await;
        if runs {
            self.stop_alone(&group, &request.object).await?;
        }
        FaultPoint::RemoveStopped.reached();
        let args = RemoveArgs { holders: &[], ..args };
        let committed = self
            .transact(&group, |group: &Group, ids: &mut Ids| -> Result<Change, Refused> {
                change::remove_volume(group, &args, ids)
            })
            .await?;
        FaultPoint::RemoveRecorded.reached();
        let of_it = |snapshot: &&Volume| {
            committed.before.link_of(snapshot.uuid()).is_some_and(|(origin, _)| origin.uuid() == uuid)
        };
        let independent = committed.before.volumes().iter().filter(of_it);
        Ok(Reply::Removed(Removed {
            volume: Some(request.object),
            plexes,
            freed_bytes: freed_bytes(&group.record(), volume, volume.plexes()),
            lost_bytes: lost,
            independent: independent.map(|snapshot| snapshot.name().clone()).collect(),
        }))
    }

    /// Send the rows of a volume.
    pub(super) async fn answer_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        answer: &Answer,
    ) {
        let record = group.record();
        if let Some(volume) = record.volume_by_id(volume) {
            for row in self.volume_rows(group, &record, volume) {
                answer.row(row).await;
            }
        }
    }

    /// The rows of a volume and its plexes.
    pub(super) fn volume_rows(
        self: &Rc<Self>,
        group: &GroupHandle<M>,
        record: &Group,
        volume: &crate::state::Volume,
    ) -> Vec<Row> {
        let facts = self.facts(volume);
        let mut all = vec![Row::Volume(rows::volume(&group.name, record, volume, &facts))];
        all.extend(
            volume
                .plexes()
                .iter()
                .map(|plex| Row::Plex(rows::plex(&group.name, record, volume, plex, &facts))),
        );
        all
    }

    /// Close the answer to a request that added plexes.
    pub(super) async fn attached(
        &self,
        volume: Name,
        plexes: Vec<Name>,
        jobs: Vec<Job>,
        background: bool,
        began: Moment,
    ) -> Result<Reply, Refused> {
        let elapsed = || self.millis_since(began);
        let mut copied_bytes = 0;
        if background {
            let tasks = jobs.iter().map(|job| job.task).collect();
            return Ok(Reply::Attached(Attached {
                volume,
                plexes,
                tasks,
                copied_bytes,
                elapsed_ms: elapsed(),
            }));
        }
        for job in jobs {
            copied_bytes += job.ended().await?;
        }
        Ok(Reply::Attached(Attached {
            volume,
            plexes,
            tasks: Vec::new(),
            copied_bytes,
            elapsed_ms: elapsed(),
        }))
    }

    /// Milliseconds since `began`.
    pub(super) fn millis_since(&self, began: Moment) -> u64 {
        u64::try_from(self.machine.now().since(began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Bytes that `gone`, plexes of `volume` that are no longer in `group`, have given back. What could not be freed yet still
/// stands in its record.
fn freed_bytes<'a>(group: &Group, volume: &Volume, gone: impl IntoIterator<Item = &'a Plex>) -> u64 {
    let is_left = |plex: &Plex| group.leaving().iter().any(|left| left.plex == plex.uuid());
    let made = gone.into_iter().filter(|plex| plex.medium().kind == MediumKind::Made && !is_left(plex));
    made.map(|_| crate::state::medium_bytes(volume.length())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::offline::{Deviceless, with_owner};

    #[test]
    fn a_group_that_was_destroyed_meanwhile_is_not_changed_and_its_name_is_free() {
        let root = tempfile::tempdir().unwrap();
        let name = Name::new("g").unwrap();
        with_owner(root.path(), async |owner| {
            let destroy = || {
                let (owner, group) = (Rc::clone(&owner), name.clone());
                tokio::task::spawn_local(
                    async move { owner.group_destroy(request::GroupDestroy { group }).await },
                )
            };
            let change_nothing = |group: &Rc<GroupHandle<Deviceless>>| {
                let (owner, group) = (Rc::clone(&owner), Rc::clone(group));
                tokio::task::spawn_local(async move {
                    owner.transact(&group, |group, _| Ok(change::nothing(group))).await.map(drop)
                })
            };
            let create = || request::GroupCreate { group: name.clone(), media: Vec::new() };
            owner.group_create(create()).await.unwrap();
            let group = owner.group(&name).unwrap();

            let turn = group.turn.lock().await;
            let came = [destroy(), destroy()];
            let change = change_nothing(&group);
            // All of them have found it, and wait for their turns in that order.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            drop(turn);
            let [first, second] = came;
            assert!(first.await.unwrap().is_ok());
            assert_eq!(second.await.unwrap().unwrap_err().id, "group.unknown");
            assert_eq!(change.await.unwrap().unwrap_err().id, "group.unknown");
            assert!(!root.path().join("g").exists());

            // Gone with the mark, whatever becomes of its files; and its name is free.
            owner.group_create(create()).await.unwrap();
            let obstacle = root.path().join("g").join("configuration.damaged");
            std::fs::create_dir(&obstacle).unwrap();
            assert_eq!(destroy().await.unwrap().unwrap_err().id, "state.directory");
            assert_eq!(destroy().await.unwrap().unwrap_err().id, "group.unknown");
            std::fs::remove_dir(&obstacle).unwrap();
            owner.group_create(create()).await.unwrap();
            assert!(!root.path().join("g").join("group.removed").exists(), "it would go with the next start");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_group_is_given_a_medium_once_also_by_two_at_a_time() {
        let (root, media) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = Name::new("g").unwrap();
        with_owner(root.path(), async |owner| {
            owner
                .group_create(request::GroupCreate { group: name.clone(), media: Vec::new() })
                .await
                .unwrap();
            let add = || {
                let spec = request::MediumSpec { name: None, path: media.path().to_owned() };
                owner.group_add(request::GroupAdd { group: name.clone(), media: vec![spec] })
            };
            let (first, second) = tokio::join!(add(), add());
            first.unwrap();
            assert_eq!(second.unwrap_err().id, "medium.of-group");
            assert_eq!(owner.group(&name).unwrap().record().media().len(), 2);
            Ok(())
        })
        .unwrap();
    }
}
