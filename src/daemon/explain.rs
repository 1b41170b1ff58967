//! What a request that overwrites or gives something up would come to, told by all the checks that it has to pass; nothing is
//! changed for that.

use std::rc::Rc;

use crate::base::units::{counted, human_bytes};
use crate::base::{Kind, Name, Refusal, Refused};
use crate::control::reply::Changed;
use crate::control::row::ForeseenRow;
use crate::control::{Reply, Request, Row, request};
use crate::state::change::{self, Change, Effect, MakeArgs, RemoveArgs, SnapbackArgs};
use crate::state::{Group, MediumKind, Volume, refuse};

use super::foreseen::{self, foreseen};
use super::machine::Machine;
use super::media::Wanted;
use super::owner::{GroupHandle, Owner};
use super::rows;
use super::server::Answer;

/// What would be done.
struct Foreseen {
    before: Rc<Group>,
    change: Change,
    /// What the configurations do not tell.
    more: Vec<ForeseenRow>,
}

impl Foreseen {
    fn new(before: Rc<Group>, change: Change) -> Self {
        Self { before, change, more: Vec::new() }
    }

    fn with(mut self, object: &Name, text: Option<String>) -> Self {
        self.more.extend(text.map(|text| ForeseenRow { object: object.to_string(), text }));
        self
    }
}

impl<M: Machine> Owner<M> {
    /// Tell what `request` would do.
    ///
    /// # Errors
    /// What the request itself would be refused with. `request.unforeseen` for one that neither overwrites nor destroys.
    pub(super) async fn explain(
        self: &Rc<Self>,
        request: Request,
        answer: &Answer,
    ) -> Result<Reply, Refused> {
        let told = match request {
            Request::Remove(request) => self.foresee_remove(&request).await?,
            Request::RemoveMirror(request) => {
                let group = self.group(&request.group)?;
                let record = group.record();
                let (volume, plex) = Self::mirror_to_remove(&record, &request)?;
                let names = (volume.name().as_str(), plex.name().as_str());
                let change = change::remove_plex(&record, names.0, names.1, &mut self.dice()?)?;
                Foreseen::new(Rc::clone(&record), change)
            }
            Request::SnapAbort(request) => {
                let record = self.group(&request.group)?.record();
                let count = Some(request.nmirror as usize);
                let change = change::snapabort(&record, request.volume.as_str(), count, &mut self.dice()?)?;
                Foreseen::new(record, change)
            }
            Request::Snapshot(request) => {
                let record = self.group(&request.group)?.record();
                let more = self.may_cut(&request)?;
                Foreseen { more, ..Foreseen::new(Rc::clone(&record), change::nothing(&record)) }
            }
            Request::SnapClear(request) => {
                let record = self.group(&request.group)?.record();
                let name = Self::snapshot_to_clear(&record, &request)?.name().as_str();
                let change = change::snapclear(&record, name, &mut self.dice()?)?;
                Foreseen::new(Rc::clone(&record), change)
            }
            Request::SnapBack(request) => self.foresee_snapback(&request).await?,
            Request::Release(request) => {
                let record = self.group(&request.group)?.record();
                let change = change::release_volume(&record, &request.volume, &mut self.dice()?)?;
                Foreseen::new(record, change)
            }
            Request::Resize(request) => self.foresee_resize(&request).await?,
            Request::Make(request) => self.foresee_make(&request).await?,
            Request::Mirror(request) => {
                let group = self.group(&request.group)?;
                let wanted = Wanted::to_mirror(&request, length_of(&group, &request.volume)?);
                let sites = self.sites(&group, &wanted).await?;
                let record = group.record();
                let change = change::add_plexes(&record, request.volume.as_str(), &sites, &mut self.dice()?)?;
                self.foresee_media(record, change, request.force).await?
            }
            Request::SnapStart(request) => {
                let group = self.group(&request.group)?;
                let wanted = Wanted::to_snapstart(&request, length_of(&group, &request.volume)?);
                let sites = self.sites(&group, &wanted).await?;
                let record = group.record();
                let change = change::snapstart(&record, request.volume.as_str(), &sites, &mut self.dice()?)?;
                self.foresee_media(record, change, request.force).await?
            }
            Request::PlexReplace(request) => self.foresee_replace(&request).await?,
            Request::Adopt(request) => {
                for row in self.foresee_adopt(&request).await? {
                    answer.row(Row::Foreseen(row)).await;
                }
                return Ok(Reply::Changed(Changed { changed: false }));
            }
            Request::UndoDelete(request) => {
                let record = self.group(&request.group)?.record();
                let (volume, archive) = (request.volume.as_str(), request.archive.as_str());
                let change = change::delete_undo(&record, volume, archive, &mut self.dice()?)?;
                Foreseen::new(record, change)
            }
            Request::GroupDestroy(request) => {
                let group = self.group(&request.group)?;
                let record = group.record();
                change::destroy_group(&record)?;
                let text = format!("goes, with {}", group.directory.display());
                Foreseen::new(Rc::clone(&record), change::nothing(&record)).with(&request.group, Some(text))
            }
            Request::GroupExport(request) => self.foresee_export(&request).await?,
            Request::GroupRestore(request) => {
                for row in self.foresee_group_restore(&request).await? {
                    answer.row(Row::Foreseen(row)).await;
                }
                return Ok(Reply::Changed(Changed { changed: false }));
            }
            other => {
                return Err(Refusal::new(
                    Kind::Usage,
                    "request.unforeseen",
                    other.verb(),
                    "neither overwrites nor gives up anything",
                    "ask for it without --dry-run",
                ));
            }
        };
        for row in foreseen(&told.before, &told.change).into_iter().chain(told.more) {
            answer.row(Row::Foreseen(row)).await;
        }
        Ok(Reply::Changed(Changed { changed: false }))
    }
}

/// The length of a volume that is there.
fn length_of<M: Machine>(group: &GroupHandle<M>, volume: &Name) -> Result<u64, Refused> {
    Ok(group.record().volume(volume.as_str())?.length())
}

impl<M: Machine> Owner<M> {
    async fn foresee_remove(self: &Rc<Self>, request: &request::Remove) -> Result<Foreseen, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.object).await?;
        let record = group.record();
        let uuid = record.volume(request.object.as_str())?.uuid();
        let args = RemoveArgs {
            volume: request.object.as_str(),
            recursive: request.recursive,
            force: request.force,
            holders: &self.who_has(uuid).await,
        };
        let change = change::remove_volume(&record, &args, &mut self.dice()?)?;
        let lost = self.changed_since_cut(&group, uuid).await;
        Ok(Foreseen::new(record, change).with(&request.object, given_up(lost)))
    }

    async fn foresee_snapback(self: &Rc<Self>, request: &request::SnapBack) -> Result<Foreseen, Refused> {
        let group = self.group(&request.group)?;
        let record = group.record();
        let uuid = record.volume(request.snapshot.as_str())?.uuid();
        let origin = record.link_of(uuid).map(|(origin, _)| origin.uuid());
        let _alone = self.alone(origin.into_iter().chain([uuid])).await;
        let record = group.record();
        self.check_snapback(&record, request, &self.who_has(uuid).await)?;
        let lost = self.changed_since_cut(&group, uuid).await;
        let origin_name = record
            .link_of(uuid)
            .map_or_else(|| request.snapshot.clone(), |(origin, _)| origin.name().clone());
        // It is stopped for that.
        let stopped = match self.live(uuid) {
            Some(_) => change::stop(&record, request.snapshot.as_str(), &[], &mut self.dice()?)?.group,
            None => (*record).clone(),
        };
        let args = SnapbackArgs {
            snapshot: request.snapshot.as_str(),
            plexes: request.nmirror.map(|count| count as usize),
            holders: &[],
        };
        let change = change::snapback(&stopped, &args, &mut self.dice()?)?;
        let copied = self.differing(&group, uuid).map(|map| {
            format!(
                "at least {} in {} are copied from it to what comes back",
                human_bytes(map.dirty_bytes()),
                counted(map.dirty_regions(), "region")
            )
        });
        Ok(Foreseen::new(record, change).with(&origin_name, copied).with(&request.snapshot, given_up(lost)))
    }

    async fn foresee_export(self: &Rc<Self>, request: &request::GroupExport) -> Result<Foreseen, Refused> {
        let group = self.group(&request.group)?;
        let left_out = self.may_export(&group).await?;
        let record = group.record();
        let mut told = Foreseen::new(Rc::clone(&record), change::nothing(&record));
        for plex in record.volumes().iter().flat_map(Volume::plexes) {
            let text = match left_out.contains(plex.name()) {
                true => "stays behind: it is no copy of its volume".to_owned(),
                false => format!("goes: the label on {} tells of it", plex.medium().labels()),
            };
            told = told.with(plex.name(), Some(text));
        }
        let text = format!(
            "is given up here, with {} and the maps of what changed: a snapshot goes back by a full copy then",
            group.directory.display()
        );
        Ok(told.with(&request.group, Some(text)))
    }

    async fn foresee_resize(self: &Rc<Self>, request: &request::Resize) -> Result<Foreseen, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let (before, length) = (volume.length(), self.may_resize(&group, request).await?);
        let text = match length {
            _ if length == before => format!("has {} and keeps them", human_bytes(before)),
            _ if length < before => {
                format!(
                    "has {} then; its last {} are cut off",
                    human_bytes(length),
                    human_bytes(before - length)
                )
            }
            _ => format!(
                "has {} then; its last {} read as zero",
                human_bytes(length),
                human_bytes(length - before)
            ),
        };
        Ok(Foreseen::new(Rc::clone(&record), change::nothing(&record)).with(&request.volume, Some(text)))
    }

    async fn foresee_make(self: &Rc<Self>, request: &request::Make) -> Result<Foreseen, Refused> {
        self.refuse_data_path(&request.volume, Some(rows::data_setting(request.data))).await?;
        refuse::check_length(request.length_bytes)?;
        let group = self.group(&request.group)?;
        let record = group.record();
        if record.is_taken(request.volume.as_str()) {
            return Err(refuse::name_taken(&request.volume, &group.name));
        }
        let sites = self.sites(&group, &Wanted::to_make(request)).await?;
        let args = MakeArgs {
            name: request.volume.as_str(),
            length: request.length_bytes,
            region_size: request.region,
            sites: &sites,
        };
        let change = change::make_volume(&record, &args, &mut self.dice()?)?;
        self.foresee_media(record, change, request.force).await
    }

    async fn foresee_replace(self: &Rc<Self>, request: &request::PlexReplace) -> Result<Foreseen, Refused> {
        let group = self.group(&request.group)?;
        let (volume, ..) = self.named_plex(&group, &request.plex)?;
        let wanted = Wanted::to_replace(request, &volume, length_of(&group, &volume)?);
        let site = self.sites(&group, &wanted).await?.into_iter().next();
        let site = site.ok_or_else(|| refuse::no_plexes(&volume))?;
        let record = group.record();
        let names = (volume.as_str(), request.plex.as_str());
        let change = change::replace_plex(&record, names.0, names.1, site, &mut self.dice()?)?;
        let told = self.foresee_media(record, change, request.force).await?;
        Ok(told.with(&request.plex, Some("goes when the new one is complete".to_owned())))
    }

    /// A change that takes media, which have to be fit for it.
    async fn foresee_media(
        self: &Rc<Self>,
        before: Rc<Group>,
        change: Change,
        force: bool,
    ) -> Result<Foreseen, Refused> {
        let mut more = Vec::new();
        for effect in change.before_commit.iter().chain(&change.after_commit) {
            if let Effect::Allocate { medium, bytes, .. } = effect {
                self.refuse_volume_below(&medium.path).await?;
                if medium.kind != MediumKind::Made {
                    let open = self.open_existing(medium, *bytes, force).await?;
                    let holds = self.foreign_on(&open).await?;
                    more.extend(holds.map(|what| {
                        foreseen::row(&medium.path, format!("holds {what}, which is overwritten"))
                    }));
                }
            }
        }
        Ok(Foreseen { more, ..Foreseen::new(before, change) })
    }
}

fn given_up(lost: u64) -> Option<String> {
    (lost > 0).then(|| format!("{} changed in it since its cut are given up", human_bytes(lost)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::offline::with_owner;
    use crate::daemon::testing::{foretold, make, making, refused, with_daemon};
    use tokio::sync::mpsc;

    #[test]
    fn what_is_overwritten_by_force_is_named() {
        with_daemon(async |owner, root| {
            make(&owner, "v", 1).await;
            let path = root.join("disk");
            let mut bytes = vec![0; 12 << 20];
            bytes[..4].copy_from_slice(b"XFSB");
            std::fs::write(&path, &bytes).unwrap();
            let asked = |force| {
                let plexes = vec![path.clone()];
                Request::Make(request::Make { plexes, force, ..making("w", 1) })
            };
            refused(foretold(&owner, asked(false)).await, "medium.foreign", Kind::Medium);
            let told = foretold(&owner, asked(true)).await.unwrap();
            let line = format!("{}: holds XFS, which is overwritten", path.display());
            assert!(told.contains(&line), "{told:?}");
            assert!(std::fs::read(&path).unwrap() == bytes && owner.all_groups().len() == 1);
        });
    }

    #[test]
    fn what_overwrites_nothing_is_not_foretold() {
        let root = tempfile::tempdir().unwrap();
        with_owner(root.path(), async |owner| {
            let answer = Answer::new(mpsc::channel(1).0);
            let twice = Request::Explain(Box::new(Request::Status));
            for request in [Request::Status, twice, Request::GroupList] {
                let refused = owner.explain(request, &answer).await.unwrap_err();
                assert_eq!((refused.id.as_str(), refused.kind), ("request.unforeseen", Kind::Usage));
            }
            Ok(())
        })
        .unwrap();
    }
}
