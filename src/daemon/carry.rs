//! A group goes to another host, media of it are found at other places, and one that is lost comes back from what was saved of it.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::join_all;

use crate::base::limits::MAX_CONFIG_BYTES;
use crate::base::{Errno, Generation, Kind, Name, Refusal, Refused, Uuid};
use crate::catalog::Catalog;
use crate::catalog::labels::{Found, label_of};
use crate::control::reply::{Changed, Exported, Moved, MovedPlex};
use crate::control::row::ForeseenRow;
use crate::control::{Reply, request};
use crate::format::config;
use crate::format::label::Label;
use crate::ring::{MediaKind, Opening};
use crate::state::change::{self, Carrier, Presence};
use crate::state::{Group, MediumPath, Volume, refuse};

use super::bringup::{NAMED_LIMIT, maps_of};
use super::foreseen;
use super::import::Labelled;
use super::labels::LabelWork;
use super::machine::{Machine, OpenMedium};
use super::media::medium_path;
use super::owner::{GroupHandle, Owner};
use super::rows;
use super::server::Answer;

/// A configuration as it was committed.
type Committed = crate::catalog::Committed;

/// A saved configuration, held against the media that are here.
struct SavedGroup<D> {
    saved: Generation,
    /// The group as it is taken in.
    taken: Group,
    /// Its media that bear its labels.
    carriers: Vec<Carrier>,
    /// Its media that bear none and are given them, by plex.
    bare: BTreeMap<Uuid, (MediumPath, D)>,
}

impl<M: Machine> Owner<M> {
    pub(super) async fn group_remove(
        self: &Rc<Self>,
        request: request::GroupRemove,
    ) -> Result<Reply, Refused> {
        let _turn = self.pooling.lock().await;
        let group = self.group(&request.group)?;
        let path = rows::medium_named(&group.record(), &request.medium)?;
        self.transact(&group, |group, _| change::remove_medium(group, &path)).await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// Give a group up here once every label tells that it goes: whoever takes it in elsewhere knows by that nobody has run it
    /// since.
    pub(super) async fn group_export(
        self: &Rc<Self>,
        request: request::GroupExport,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        group.is_settled()?;
        self.release_leaving(&group, group.record().leaving().to_vec()).await?;
        let _alone = self.alone(group.record().volumes().iter().map(Volume::uuid)).await;
        change::export_group(&group.record())?;
        let exported = self.export_alone(&group).await;
        if exported.is_err() {
            // It stays, and its volumes are stopped: what was looked at is nobody's.
            group.record().volumes().iter().for_each(|volume| self.close_media(volume));
        }
        exported
    }

    /// The plexes that would stay behind if `group` were exported now.
    ///
    /// # Errors
    /// What an export would be refused with.
    pub(super) async fn may_export(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
    ) -> Result<Vec<Name>, Refused> {
        group.is_settled()?;
        let _alone = self.alone(group.record().volumes().iter().map(Volume::uuid)).await;
        change::export_group(&group.record())?;
        let left_out = self.left_out(group).await;
        group.record().volumes().iter().for_each(|volume| self.close_media(volume));
        left_out
    }

    /// The plexes of `group` that cannot tell of an export and need not.
    async fn left_out(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) -> Result<Vec<Name>, Refused> {
        let mut left_out = Vec::new();
        for volume in group.record().volumes() {
            left_out.extend(self.refuse_incomplete(group, volume.uuid()).await?);
        }
        Ok(left_out)
    }

    async fn export_alone(self: &Rc<Self>, group: &Rc<GroupHandle<M>>) -> Result<Reply, Refused> {
        let left_out = self.left_out(group).await?;
        let _turn = group.turn.lock().await;
        self.refuse_destroyed(group)?;
        let exported = change::export_group(&group.record())?.group;
        let exported = exported.with_labelled(&self.labelled.borrow());
        let next = exported.clone();
        let committed = self.on_catalog(group, move |catalog| catalog.commit(&next)).await?;
        group.replace(exported.clone(), committed.generation);
        if let Err(refused) = self.label_all(&exported, &committed, &left_out).await {
            // What its labels say of an export counts for nothing once others are written.
            self.commit_quietly(group, exported.served()).await?;
            return Err(refused);
        }
        let last = exported.clone();
        let given_up = self.on_catalog(group, move |catalog| catalog.give_up(&last)).await;
        if let Err(failed) = given_up {
            if failed.has_begun {
                self.groups.borrow_mut().remove(&group.name);
                self.forget_group(&exported).await;
            } else {
                self.commit_quietly(group, exported.served()).await?;
            }
            return Err(failed.refused);
        }
        self.groups.borrow_mut().remove(&group.name);
        if let Err(error) = self.on_catalog(group, |catalog| catalog.remove_directory()).await {
            tracing::info!(path = %group.directory.display(), %error, "the directory of an exported group stays");
        }
        self.forget_group(&exported).await;
        let plexes = exported.volumes().iter().flat_map(Volume::plexes);
        let goes = plexes.filter(|plex| !left_out.contains(plex.name()));
        let media = goes.map(|plex| plex.medium().labels().as_path().to_owned()).collect();
        tracing::warn!(group = %group.name, generation = %committed.generation, "group exported");
        Ok(Reply::Exported(Exported { group: group.name.clone(), media, left_out }))
    }

    /// Keep nothing in memory of what belongs to a group that is gone from here: should it come back, somebody else has run it
    /// meanwhile, and a map that was kept would tell that nothing changed.
    async fn forget_group(self: &Rc<Self>, group: &Group) {
        for volume in group.volumes() {
            self.close_media(volume);
            maps_of(group, volume).iter().for_each(|map| drop(self.maps.borrow_mut().remove(map)));
            self.machine.forget_unflushed(volume.uuid()).await;
            for plex in volume.plexes() {
                self.labelled.borrow_mut().remove(&plex.uuid());
                self.proven.borrow_mut().remove(&plex.uuid());
                self.forget_counts(plex.uuid()).await;
            }
        }
    }

    /// That every complete plex of `volume` can be labelled; the names of others that cannot.
    async fn refuse_incomplete(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
    ) -> Result<Vec<Name>, Refused> {
        let found = self.look_at_media(group, volume, false).await?;
        let record = group.record();
        let mut left_out = Vec::new();
        for (uuid, presence) in found {
            let Some((_, plex)) = record.plex_by_id(uuid) else { continue };
            let why = match presence {
                Presence::Present(look) => {
                    let changed = plex.noted().zip(look).and_then(|(noted, now)| noted.difference(now));
                    match changed {
                        None => continue,
                        Some(how) => format!("it was changed while its volume was stopped: {how}"),
                    }
                }
                Presence::Doubted(_) => {
                    "a flush of it may have failed; start its volume and stop it".to_owned()
                }
                Presence::Missing(why) | Presence::Behind(why) => why,
            };
            if plex.state().is_complete() {
                return Err(refuse::group_incomplete(&group.name, plex.name(), &why));
            }
            left_out.push(plex.name().clone());
        }
        Ok(left_out)
    }

    /// Write the label of every plex of `all` whose medium is open. One that is `left_out` keeps the label that it has: by another
    /// the older data on it would be taken for those of today (ordering rule 16).
    async fn label_all(
        self: &Rc<Self>,
        all: &Group,
        committed: &Committed,
        left_out: &[Name],
    ) -> Result<(), Refused> {
        let mut work = Vec::new();
        for volume in all.volumes() {
            for plex in volume.plexes() {
                if left_out.contains(plex.name()) {
                    continue;
                }
                let Some(medium) = self.media.borrow().get(&plex.uuid()).cloned() else { continue };
                let label = LabelWork::Next(label_of(all, committed, volume, plex));
                let written = self.label(plex.uuid(), medium, label);
                work.push(async move { (plex, written.await) });
            }
        }
        for (plex, written) in join_all(work).await {
            if let Err(errno) = written
                && plex.state().is_complete()
            {
                let why = format!("its label cannot be written: {errno}");
                return Err(refuse::group_incomplete(all.name(), plex.name(), &why));
            }
        }
        Ok(())
    }

    /// The disks of this host that carry plexes, by what `wanted` says of the group in their labels.
    pub(super) async fn labelled_disks(self: &Rc<Self>, wanted: impl Fn(&Label) -> bool) -> Vec<PathBuf> {
        // Side by side, for one that is in use is waited for.
        let looks = self.machine.disks().await.into_iter().map(async |path| {
            let medium = self.machine.open(&path, Opening::READ.waiting(NAMED_LIMIT)).await.ok()?;
            match self.label_on(medium, None).await {
                Ok(Found::Label(label)) if wanted(&label) => Some(path),
                Ok(_) | Err(_) => None,
            }
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    /// Take note of where media of a group are now.
    pub(super) async fn group_moved(self: &Rc<Self>, request: request::GroupMoved) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        group.is_settled()?;
        let _alone = self.alone(group.record().volumes().iter().map(Volume::uuid)).await;
        let record = group.record();
        let named = !request.media.is_empty();
        let media = match named {
            true => request.media,
            false => self.labelled_disks(|label| label.group == record.uuid()).await,
        };
        let mut carriers: Vec<Carrier> = Vec::new();
        for path in media {
            let path = medium_path(&path)?;
            let Labelled { block, label_file, label, .. } = self.labelled(path.clone()).await?;
            let ours = record.plex_by_id(label.plex).filter(|_| label.group == record.uuid());
            let Some((volume, plex)) = ours else {
                if named {
                    return Err(unrelated(&path, &group.name));
                }
                continue;
            };
            let carrier = Carrier { plex: label.plex, path: path.clone(), block, label_file, newest: true };
            let before = carrier.before(plex.medium()).as_path();
            if self.machine.identity_at(before).await == self.machine.identity_at(path.as_path()).await {
                continue;
            }
            // It is at one place: another medium with its label is a copy.
            let length = volume.length();
            let there = match self.machine.open(before, Opening::READ.waiting(NAMED_LIMIT)).await {
                Ok(medium) => self.label_on(medium, Some(length)).await.ok(),
                Err(_) => None,
            };
            let other =
                carriers.iter().find(|other| other.plex == label.plex).map(|other| other.path.to_string());
            let there = matches!(there, Some(Found::Label(there)) if there.plex == label.plex);
            if let Some(other) = other.or_else(|| there.then(|| before.display().to_string())) {
                return Err(Refusal::new(
                    Kind::Medium,
                    "moved.twice",
                    &path,
                    format!("it and {other} both carry plex {}: one is a copy of the other", plex.name()),
                    "take one of them away, or erase its labels",
                ));
            }
            carriers.push(carrier);
        }
        if !carriers.is_empty() {
            self.transact(&group, |group, _| change::move_media(group, &carriers)).await?;
        }
        let mut plexes = Vec::new();
        for carrier in &carriers {
            self.media.borrow_mut().remove(&carrier.plex);
            if let Some((_, plex)) = record.plex_by_id(carrier.plex) {
                let before = carrier.before(plex.medium()).as_path().to_owned();
                let now = carrier.path.as_path().to_owned();
                plexes.push(MovedPlex { plex: plex.name().clone(), before, now });
            }
        }
        Ok(Reply::Moved(Moved { group: request.group, plexes }))
    }

    /// What the configuration that was saved of a group comes to on the media that are here.
    ///
    /// # Errors
    /// What taking it in would be refused with.
    async fn may_restore_group(
        self: &Rc<Self>,
        request: &request::GroupRestore,
    ) -> Result<SavedGroup<M::Medium>, Refused> {
        let (saved, record) = self.saved_configuration(&request.path).await?;
        self.refuse_here(&record, record.name())?;
        let mut carriers = Vec::new();
        let mut bare = BTreeMap::new();
        for volume in record.volumes() {
            let mut unlabelled = Vec::new();
            let mut told = false;
            for plex in volume.plexes() {
                let path = &plex.medium().path;
                self.refuse_volume_below(path).await?;
                let (place, label_file) = (plex.medium().labels(), plex.medium().label_file.is_some());
                self.refuse_volume_below(place).await?;
                let needed = plex.medium().needed_bytes(volume.length());
                let opening = Opening::WRITE.at_least(needed).waiting(NAMED_LIMIT);
                let Ok(medium) = self.open_medium(plex.medium(), opening).await else { continue };
                let block = medium.kind() == MediaKind::Disk;
                match self.label_on(medium.clone(), Some(volume.length())).await {
                    Ok(Found::Label(label)) if label.plex == plex.uuid() => {
                        if label.config_generation > saved {
                            return Err(outdated(&request.path, saved, place, label.config_generation));
                        }
                        told |= plex.state().is_complete();
                        let newest = label.config_generation == saved;
                        let (plex, path) = (plex.uuid(), place.clone());
                        carriers.push(Carrier { plex, path, block, label_file, newest });
                    }
                    Ok(Found::None | Found::Damaged(_)) if plex.state().is_complete() => {
                        unlabelled.push((plex.uuid(), (place.clone(), medium)));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            // Where one tells what the volume holds, the others are written anew from it.
            if !told {
                bare.extend(unlabelled);
            }
        }
        if let Some((path, _)) = bare.values().next()
            && !request.force
        {
            return Err(unlabelled(path, bare.len()));
        }
        let taken = change::import_group(&record, &carriers, None)?;
        Ok(SavedGroup { saved, taken, carriers, bare })
    }

    /// Tell what would be taken in from the configuration that was saved of a group.
    pub(super) async fn foresee_group_restore(
        self: &Rc<Self>,
        request: &request::GroupRestore,
    ) -> Result<Vec<ForeseenRow>, Refused> {
        let SavedGroup { taken, carriers, bare, .. } = self.may_restore_group(request).await?;
        let directory = self.root.join(taken.name().as_str());
        let text = format!("is taken in, with its state in {}", directory.display());
        let mut told = vec![foreseen::row(taken.name(), text)];
        for volume in taken.volumes() {
            for plex in volume.plexes() {
                let place = plex.medium().labels();
                let text = if carriers.iter().any(|carrier| carrier.plex == plex.uuid()) {
                    format!("is believed by its label on {place}")
                } else if bare.contains_key(&plex.uuid()) {
                    format!("is believed unseen: labels are written on {place}")
                } else {
                    format!("is not believed: {place} does not tell that it is there")
                };
                told.push(foreseen::row(plex.name(), text));
            }
        }
        Ok(told)
    }

    /// Take a group in from the configuration that was saved of it, as far as media bear its labels; those that bear none are
    /// given them, if that is wanted and no other plex of their volume has one.
    pub(super) async fn group_restore(
        self: &Rc<Self>,
        request: request::GroupRestore,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let SavedGroup { saved, taken, bare, .. } = self.may_restore_group(&request).await?;
        let (group, committed) = self.take_in(taken, saved).await?;
        tracing::warn!(group = %group.name, generation = %committed.generation, from = %request.path.display(), "group taken in from what was saved");
        let all = group.record();
        for (uuid, (path, medium)) in bare {
            let Some((volume, plex)) = all.plex_by_id(uuid) else { continue };
            let label = LabelWork::First(label_of(&all, &committed, volume, plex));
            if let Err(errno) = self.label(uuid, medium, label).await {
                // Its volume cannot be started from it, and says so then.
                tracing::warn!(%path, %errno, "its label cannot be written");
            }
        }
        for volume in all.volumes() {
            self.answer_volume(&group, volume.uuid(), answer).await;
        }
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// That this host serves neither another group called `name` nor this very one by any name: two would write to the same media.
    ///
    /// # Errors
    /// `group.exists`.
    pub(super) fn refuse_here(&self, record: &Group, name: &Name) -> Result<(), Refused> {
        let groups = self.groups.borrow();
        if let Some(same) = groups.values().find(|group| group.record().uuid() == record.uuid()) {
            let reason = format!("it is served here already, as group {}", same.name);
            let way_out = format!("export that first: cleave group export {}", same.name);
            return Err(Refusal::new(Kind::Exists, "group.exists", record.name(), reason, way_out));
        }
        if groups.contains_key(name) {
            return Err(Refusal::new(
                Kind::Exists,
                "group.exists",
                name,
                "a group of this name exists",
                "to take another in from its labels, name it otherwise: cleave group import --name GROUP",
            ));
        }
        Ok(())
    }

    /// Commit a group that was found elsewhere than in a state directory, in configurations up to `newest`, and serve it.
    pub(super) async fn take_in(
        self: &Rc<Self>,
        record: Group,
        newest: Generation,
    ) -> Result<(Rc<GroupHandle<M>>, Committed), Refused> {
        let directory = self.root.join(record.name().as_str());
        let (files, taken) = (self.machine.create_files(&directory).await?, record.clone());
        let imported = self.machine.worker(move || Catalog::import_on(files, &taken, newest)).await;
        let (catalog, committed) = imported?;
        let group = self.adopt(&directory, catalog, record, committed.generation.0);
        Ok((group, committed))
    }

    async fn saved_configuration(self: &Rc<Self>, path: &Path) -> Result<(Generation, Group), Refused> {
        let file = path.to_owned();
        let read = self.machine.worker(move || -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            let file = std::fs::File::open(file)?;
            if !file.metadata()?.is_file() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            file.take(MAX_CONFIG_BYTES as u64 + 1).read_to_end(&mut text)?;
            Ok(text)
        });
        let unfit = |reason: String| {
            let way_out = "name a file that cleave group save wrote";
            Refusal::new(Kind::Damaged, "saved.unfit", path.display(), reason, way_out)
        };
        let text = read.await.map_err(|error| unfit(format!("it cannot be read: {}", Errno::from(error))))?;
        let (generation, group) = config::decode::<Group>(&text)
            .map_err(|error| unfit(format!("the configuration in it {error}")))?;
        group.check().map_err(|refused| unfit(refused.to_string()))?;
        Ok((generation, group))
    }
}

fn unrelated(path: &MediumPath, group: &Name) -> Refused {
    let reason = format!("it carries no plex of group {group}");
    Refusal::new(
        Kind::Medium,
        "moved.unrelated",
        path,
        reason,
        "name media that do: see cleave dump --medium",
    )
}

fn outdated(file: &Path, saved: Generation, path: &MediumPath, found: Generation) -> Refused {
    let reason =
        format!("it has generation {saved}, and the label of {path} generation {found}, which is newer");
    let way_out = "take the group in from its labels: cleave group import MEDIUM...";
    Refusal::new(Kind::InvalidState, "saved.outdated", file.display(), reason, way_out)
}

fn unlabelled(path: &MediumPath, count: usize) -> Refused {
    let more = match count {
        1 => "bears".to_owned(),
        count => format!("and {} more bear", count - 1),
    };
    let reason = format!("it {more} no label: only the saved configuration says that a volume lies there");
    let way_out = "if that is so, have labels written on it: --force";
    Refusal::new(Kind::Medium, "saved.unlabelled", path, reason, way_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Request;
    use crate::control::words::Consistency;
    use crate::daemon::testing::{Daemon, ask, foretold, make, name, refused, snapstarting, with_daemon};
    use crate::format::label::Places;
    use crate::state::VolumeState;
    use std::os::unix::fs::FileExt;

    fn export(group: &str) -> Request {
        Request::GroupExport(request::GroupExport { group: name(group) })
    }

    fn import(media: &[PathBuf], new: Option<&str>) -> Request {
        Request::GroupImport(request::GroupImport { media: media.to_vec(), group: None, name: new.map(name) })
    }

    fn moved(media: &[PathBuf]) -> Request {
        Request::GroupMoved(request::GroupMoved { group: request::default_group(), media: media.to_vec() })
    }

    fn restore(path: &Path, force: bool) -> Request {
        Request::GroupRestore(request::GroupRestore { path: path.to_owned(), force })
    }

    /// A stopped volume `v` of two plexes in files.
    async fn stopped(owner: &Daemon) -> Vec<PathBuf> {
        let group = make(owner, "v", 2).await;
        owner.stop_volume(&group, &name("v")).await.unwrap();
        let record = group.record();
        record
            .volume("v")
            .unwrap()
            .plexes()
            .iter()
            .map(|plex| plex.medium().path.as_path().to_owned())
            .collect()
    }

    fn state(owner: &Daemon, group: &str) -> VolumeState {
        owner.group(&name(group)).unwrap().record().volume("v").unwrap().state()
    }

    fn erase_labels(path: &Path, volume_length: u64) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        for at in Places::new(volume_length, length).unwrap().all() {
            file.write_all_at(&vec![0; 512 << 10], at).unwrap();
        }
    }

    #[test]
    fn what_goes_and_what_comes_is_foretold_and_nothing_is_changed() {
        let kept = tempfile::tempdir().unwrap();
        let file = kept.path().join("saved");
        with_daemon(async |owner, _| {
            let group = make(&owner, "v", 2).await;
            refused(foretold(&owner, export("default")).await, "group.started", Kind::Started);
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let (record, number) = (group.record(), group.generation());
            let told = foretold(&owner, export("default")).await.unwrap();
            for part in ["v-01: goes: the label on /", "v-02: goes: ", "default: is given up here, with /"] {
                assert!(told.iter().any(|line| line.contains(part)), "{part} is not foretold: {told:?}");
            }
            let destroy = request::GroupDestroy { group: request::default_group() };
            let destroyed = foretold(&owner, Request::GroupDestroy(destroy)).await;
            refused(destroyed, "group.not-empty", Kind::Busy);
            assert_eq!((group.record(), group.generation()), (record.clone(), number));

            std::fs::copy(group.directory.join("configuration"), &file).unwrap();
            let plexes = record.volume("v").unwrap().plexes();
            let media: Vec<_> = plexes.iter().map(|plex| plex.medium().path.as_path()).collect();
            let saved = kept.path().join("one");
            std::fs::copy(media[0], &saved).unwrap();
            ask(&owner, export("default")).await.unwrap();
            for medium in &media {
                erase_labels(medium, record.volume("v").unwrap().length());
            }
            refused(foretold(&owner, restore(&file, false)).await, "saved.unlabelled", Kind::Medium);
            let told = foretold(&owner, restore(&file, true)).await.unwrap();
            assert!(told.iter().any(|line| line.starts_with("v-01: is believed unseen: ")), "{told:?}");
            std::fs::copy(&saved, media[0]).unwrap();
            let told = foretold(&owner, restore(&file, true)).await.unwrap();
            for part in
                ["default: is taken in, ", "v-01: is believed by its label ", "v-02: is not believed: "]
            {
                assert!(told.iter().any(|line| line.starts_with(part)), "{part} is not foretold: {told:?}");
            }
            assert!(owner.all_groups().is_empty());
        });
    }

    #[test]
    fn an_exported_group_is_taken_in_without_a_resync_and_by_another_name() {
        with_daemon(async |owner, _| {
            let media = stopped(&owner).await;
            let Reply::Exported(told) = ask(&owner, export("default")).await.unwrap() else {
                panic!("exported")
            };
            assert_eq!((told.media, told.left_out), (media.clone(), Vec::new()));
            refused(ask(&owner, export("default")).await, "group.unknown", Kind::NoGroup);
            ask(&owner, import(&media, Some("moved"))).await.unwrap();
            assert_eq!(state(&owner, "moved"), VolumeState::Clean);
            let group = owner.group(&name("moved")).unwrap();
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            assert_eq!(state(&owner, "moved"), VolumeState::Active);
            // A group of that name is here now.
            make(&owner, "w", 1).await;
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let Reply::Exported(told) = ask(&owner, export("moved")).await.unwrap() else {
                panic!("exported")
            };
            let there = refused(
                ask(&owner, import(&told.media, Some("default"))).await,
                "group.exists",
                Kind::Exists,
            );
            assert!(there.way_out.contains("--name"), "{there}");
            // One of two may have been run elsewhere: it is not believed that nothing happened.
            ask(&owner, import(&told.media[..1], None)).await.unwrap();
            assert_eq!(state(&owner, "moved"), VolumeState::NeedSync);
        });
    }

    #[test]
    fn what_was_known_of_changes_is_forgotten_with_the_group() {
        with_daemon(async |owner, _| {
            let group = make(&owner, "v", 1).await;
            ask(&owner, snapstarting("v", false)).await.unwrap();
            let cut = request::Snapshot {
                group: request::default_group(),
                members: vec![request::CutMember { volume: name("v"), snapshot: Some(name("s")) }],
                pattern: None,
                consistency: Consistency::Crash,
                nmirror: 1,
            };
            ask(&owner, Request::Snapshot(cut)).await.unwrap();
            for volume in ["s", "v"] {
                owner.stop_volume(&group, &name(volume)).await.unwrap();
            }
            let map = group.record().volume("v").unwrap().snapshots()[0].snapshot_map;
            assert!(owner.change_map(map).is_some(), "a snapback of the stopped snapshot goes by it");
            drop(group);
            let Reply::Exported(told) = ask(&owner, export("default")).await.unwrap() else {
                panic!("exported")
            };
            ask(&owner, import(&told.media, None)).await.unwrap();
            assert!(owner.change_map(map).is_none(), "another host may have written since");
        });
    }

    #[test]
    fn a_group_is_not_here_twice_by_two_names() {
        with_daemon(async |owner, root| {
            let media = stopped(&owner).await;
            let told =
                refused(ask(&owner, import(&media, Some("other"))).await, "group.exists", Kind::Exists);
            assert!(told.reason.contains("as group default"), "{told}");
            let group = owner.group(&request::default_group()).unwrap();
            let saved = root.join("saved");
            std::fs::copy(group.directory.join("configuration"), &saved).unwrap();
            refused(ask(&owner, restore(&saved, true)).await, "group.exists", Kind::Exists);
        });
    }

    #[test]
    fn rule_16_a_plex_that_is_behind_keeps_its_label_when_the_group_goes() {
        with_daemon(async |owner, root| {
            let group = make(&owner, "v", 1).await;
            ask(&owner, snapstarting("v", false)).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let mirror = group.record().volume("v").unwrap().plexes()[1].clone();
            let (path, old) = (mirror.medium().path.as_path().to_owned(), root.join("old"));
            std::fs::copy(&path, &old).unwrap();
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            owner.stop_volume(&group, &name("v")).await.unwrap();
            // What it was before the last run is there again.
            std::fs::copy(&old, &path).unwrap();
            let Reply::Exported(told) = ask(&owner, export("default")).await.unwrap() else {
                panic!("exported")
            };
            assert_eq!(told.left_out, [mirror.name().clone()]);
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&old).unwrap(), "it has a label of today");
        });
    }

    #[test]
    fn a_group_that_cannot_go_whole_stays() {
        with_daemon(async |owner, _| {
            let group = make(&owner, "v", 2).await;
            refused(ask(&owner, export("default")).await, "group.started", Kind::Started);
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let second = group.record().volume("v").unwrap().plexes()[1].medium().path.as_path().to_owned();
            let away = second.with_extension("away");
            std::fs::rename(&second, &away).unwrap();
            let told = refused(ask(&owner, export("default")).await, "group.incomplete", Kind::Medium);
            assert!(told.reason.contains("v-02"), "{told}");
            std::fs::rename(&away, &second).unwrap();
            // Somebody else's work may be in it.
            let told = refused(ask(&owner, export("default")).await, "group.incomplete", Kind::Medium);
            assert!(told.reason.contains("was changed while"), "{told}");
            owner.start_volume(&group, &name("v"), Some(&name("v-01"))).await.unwrap();
        });
    }

    #[test]
    fn media_are_found_where_they_are_now_by_their_labels() {
        with_daemon(async |owner, root| {
            let media = stopped(&owner).await;
            let there = root.join("elsewhere.img");
            let plain = root.join("plain");
            std::fs::write(&plain, vec![0; 8 << 20]).unwrap();
            std::fs::copy(&media[0], &there).unwrap();
            let told =
                refused(ask(&owner, moved(std::slice::from_ref(&there))).await, "moved.twice", Kind::Medium);
            assert!(told.reason.contains("v-01"), "{told}");
            std::fs::remove_file(&media[0]).unwrap();
            refused(ask(&owner, moved(&[plain])).await, "import.unlabelled", Kind::Medium);
            let Reply::Moved(told) = ask(&owner, moved(&[there.clone(), media[1].clone()])).await.unwrap()
            else {
                panic!("moved")
            };
            let one = MovedPlex { plex: name("v-01"), before: media[0].clone(), now: there };
            assert_eq!(told.plexes, [one]);
            let group = owner.group(&request::default_group()).unwrap();
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            assert_eq!(state(&owner, "default"), VolumeState::Active);
            owner.stop_volume(&group, &name("v")).await.unwrap();
            let Reply::Moved(told) = ask(&owner, moved(&[media[1].clone()])).await.unwrap() else {
                panic!("moved")
            };
            assert_eq!(told.plexes, []);
        });
    }

    #[test]
    fn a_medium_of_another_group_is_not_ours() {
        let kept = tempfile::tempdir().unwrap();
        let other = kept.path().join("other.img");
        with_daemon(async |owner, _| {
            std::fs::copy(&stopped(&owner).await[0], &other).unwrap();
        });
        with_daemon(async |owner, _| {
            stopped(&owner).await;
            refused(ask(&owner, moved(std::slice::from_ref(&other))).await, "moved.unrelated", Kind::Medium);
        });
    }

    #[test]
    fn a_saved_configuration_brings_a_group_back_whose_labels_are_lost_too() {
        with_daemon(async |owner, root| {
            let media = stopped(&owner).await;
            let group = owner.group(&request::default_group()).unwrap();
            let length = group.record().volume("v").unwrap().length();
            let saved = root.join("saved");
            std::fs::copy(group.directory.join("configuration"), &saved).unwrap();
            drop(group);
            refused(ask(&owner, restore(&saved, false)).await, "group.exists", Kind::Exists);
            ask(&owner, export("default")).await.unwrap();
            // Their labels know more than the file does.
            refused(ask(&owner, restore(&saved, true)).await, "saved.outdated", Kind::InvalidState);
            refused(ask(&owner, restore(&media[0], true)).await, "saved.unfit", Kind::Damaged);
            media.iter().for_each(|path| erase_labels(path, length));
            let told = refused(ask(&owner, restore(&saved, false)).await, "saved.unlabelled", Kind::Medium);
            assert!(told.reason.contains("it and 1 more bear no label"), "{told}");
            ask(&owner, restore(&saved, true)).await.unwrap();
            assert_eq!(state(&owner, "default"), VolumeState::NeedSync);
            let group = owner.group(&request::default_group()).unwrap();
            owner.start_volume(&group, &name("v"), None).await.unwrap();
            let record = group.record();
            assert!(record.volume("v").unwrap().plexes().iter().all(|plex| plex.is_attached()));
        });
    }

    #[test]
    fn nothing_is_found_on_a_host_without_labelled_disks() {
        with_daemon(async |owner, _| {
            let import = request::GroupImport { media: Vec::new(), group: Some(name("g")), name: None };
            refused(ask(&owner, Request::GroupImport(import)).await, "import.not-found", Kind::NoGroup);
        });
    }
}
