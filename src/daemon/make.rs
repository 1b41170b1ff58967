//! Verbs that make and remove: groups, volumes, mirrors.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::base::limits::MAX_DISCARD_BYTES;
use crate::base::{ByteRange, Errno, Kind, Name, Refusal, Refused, Uuid};
use crate::control::reply::{Attached, Changed, Made as MadeReply, Removed};
use crate::control::words::{DataPath, Init, TaskKind};
use crate::control::{Reply, Row, request};
use crate::device::{BlockDevice, Durability, Host, Request, Space};
use crate::ring::{Allocation, Identity, MediaKind, Medium, Opening};
use crate::state::change::{self, Change, Effect, Made, MakeArgs, RemoveArgs, Site};
use crate::state::place::{self, Room};
use crate::state::{Group, Ids, MediumKind, MediumPath, PlexMedium, PoolMedium, refuse};

use super::bringup::{Face, ending, role};
use super::jobs::{Job, Purpose};
use super::owner::{Committed, GroupHandle, Owner, system, unix_seconds, worker};
use super::rows;
use super::server::Answer;

/// How long a write to a plex that was left behind may take before no plex is attached for it.
const STRAGGLER_LIMIT: Duration = Duration::from_secs(30);

/// What kind of plexes a change adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// Further mirrors.
    Mirrors,
    /// Snapshot mirrors.
    Snapshots,
}

/// Where plexes shall come from: pool media by name, or paths.
pub(super) struct Wanted<'a> {
    pub(super) volume: &'a Name,
    pub(super) length: u64,
    pub(super) count: u32,
    pub(super) media: &'a [Name],
    pub(super) plexes: &'a [PathBuf],
    pub(super) sparse: bool,
    pub(super) force: bool,
}

impl Owner {
    pub(super) async fn group_create(
        self: &Rc<Self>,
        request: request::GroupCreate,
    ) -> Result<Reply, Refused> {
        if self.groups.borrow().contains_key(&request.group) {
            return Err(refuse::group_exists(&request.group));
        }
        let directory = self.root.join(request.group.as_str());
        let mut media = Vec::new();
        for medium in &request.media {
            let path = medium_path(&medium.path)?;
            let found = worker({
                let path = path.as_path().to_owned();
                move || std::fs::metadata(path)
            })
            .await
            .map_err(|error| refuse::medium_missing(&path, &Errno::from(error).to_string()))?;
            let block = !found.is_dir();
            if block {
                if !found.file_type().is_block_device() {
                    return Err(refuse::medium_path(
                        &path.to_string(),
                        "is neither a directory nor a block device",
                    ));
                }
                // One that is mounted or read-only is told now, not by the first make.
                let disk = path.as_path().to_owned();
                worker(move || Medium::open(&disk, Opening::WRITE)).await?;
            }
            media.push(PoolMedium { path, block });
        }
        if media.is_empty() {
            let own = directory.join("media");
            media.push(PoolMedium { path: medium_path(&own)?, block: false });
        }
        let record = change::create_group(request.group.as_str(), &media, &mut super::owner::dice()?)?;
        let own_media = request.media.is_empty().then(|| directory.join("media"));
        let (catalog, generation) = {
            let (directory, record) = (directory.clone(), record.clone());
            worker(move || {
                let made = crate::catalog::Catalog::create(&directory, &record)?;
                if let Some(media) = own_media {
                    super::startup::make_directory(&media, 0o700)?;
                }
                Ok::<_, Refused>(made)
            })
            .await?
        };
        self.adopt(&directory, catalog, record, generation.0);
        Ok(Reply::Changed(Changed { changed: true }))
    }

    pub(super) async fn group_destroy(
        self: &Rc<Self>,
        request: request::GroupDestroy,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        change::destroy_group(&group.record())?;
        let removed = self.groups.borrow_mut().remove(&request.group);
        let directory = group.directory.clone();
        drop((group, removed));
        worker(move || crate::catalog::Catalog::destroy(&directory)).await?;
        Ok(Reply::Changed(Changed { changed: true }))
    }

    /// The group, which is made on first use when it is `default`.
    pub(super) async fn group_or_default(self: &Rc<Self>, name: &Name) -> Result<Rc<GroupHandle>, Refused> {
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
        if request.data == DataPath::Zero {
            return Err(Refusal::new(
                Kind::Usage,
                "volume.data-path",
                &request.volume,
                "the data path 'zero' is not served",
                "leave data= away or say data=copy",
            ));
        }
        refuse::check_length(request.length_bytes)?;
        let group = self.group_or_default(&request.group).await?;
        let wanted = Wanted {
            volume: &request.volume,
            length: request.length_bytes,
            count: request.nmirror,
            media: &request.media,
            plexes: &request.plexes,
            sparse: request.sparse,
            force: request.force,
        };
        let sites = self.sites(&group, &wanted).await?;
        let args = MakeArgs {
            name: request.volume.as_str(),
            length: request.length_bytes,
            region_size: request.region,
            sites: &sites,
        };
        let committed = self.transact(&group, |group, ids| change::make_volume(group, &args, ids)).await?;
        let volume = committed.after.volume(request.volume.as_str())?.uuid();
        let finished = async {
            let made = self.allocate(&committed.effects, request.force).await?;
            if request.init == Init::Zero {
                self.zero_media(&committed.after, volume).await?;
            }
            let equal = request.init != Init::Sync;
            self.transact(&group, |group, ids| change::finish_make(group, volume, &made, equal, ids)).await
        };
        if let Err(refused) = finished.await {
            self.transact(&group, |group, ids| change::abandon_make(group, volume, ids)).await?;
            return Err(refused);
        }
        let jobs = match self.start_volume(&group, &request.volume, None).await {
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
                    self.transact(&group, |group: &Group, ids: &mut Ids| -> Result<Change, Refused> {
                        change::remove_volume(group, &args, ids)
                    })
                    .await?;
                }
                return Err(refused);
            }
        };
        self.answer_volume(&group, volume, answer).await;
        let task = jobs.first().map(|job| job.task);
        Ok(Reply::Made(MadeReply { volume: request.volume, uuid: volume, task }))
    }

    /// Sites for the plexes that are wanted.
    pub(super) async fn sites(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<Site>, Refused> {
        let record = group.record();
        let mut sites = Vec::new();
        for path in wanted.plexes {
            let path = medium_path(path)?;
            sites.push(self.site_of(&path, wanted).await?);
        }
        let missing = (wanted.count as usize).saturating_sub(sites.len());
        if missing > 0 {
            let rooms = self.rooms(&record).await;
            let named = wanted
                .media
                .iter()
                .map(|name| rows::medium_named(&record, name))
                .collect::<Result<Vec<_>, _>>()?;
            let request = place::Request {
                volume: wanted.volume,
                length: wanted.length,
                count: missing,
                sparse: wanted.sparse,
                named: &named,
            };
            sites.extend(place::place(&record, &request, &rooms)?);
        }
        Ok(sites)
    }

    /// The plex that an open medium of ours at `file` carries, whatever that is called there.
    async fn carried_by(self: &Rc<Self>, file: &Path) -> Option<Name> {
        let file = file.to_owned();
        let identity = worker(move || {
            let found = std::fs::metadata(file).ok()?;
            Some(if found.file_type().is_block_device() {
                Identity::Disk { number: found.rdev() }
            } else {
                Identity::File { device: found.dev(), inode: found.ino() }
            })
        })
        .await?;
        let plex = self.media.borrow().iter().find(|(_, medium)| medium.identity() == identity)?.0.to_owned();
        self.all_groups().iter().find_map(|group| Some(group.record().plex_by_id(plex)?.1.name().clone()))
    }

    async fn site_of(self: &Rc<Self>, path: &MediumPath, wanted: &Wanted<'_>) -> Result<Site, Refused> {
        let file = path.as_path().to_owned();
        // Our own lock on it would only name this daemon.
        if let Some(plex) = self.carried_by(&file).await {
            return Err(refuse::medium_in_use(path, &plex));
        }
        let found = worker(move || match std::fs::metadata(&file) {
            Ok(_) => Medium::open(&file, Opening::WRITE).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // What stands in the way is told by the opening.
            Err(_) => Medium::open(&file, Opening::WRITE).map(Some),
        })
        .await?;
        Ok(match found {
            None => Site::NewFile { path: path.clone(), sparse: wanted.sparse },
            Some(medium) => match medium.kind() {
                MediaKind::File => Site::File { path: path.clone(), bytes: medium.length() },
                MediaKind::Disk => Site::Block { path: path.clone(), bytes: medium.length() },
            },
        })
    }

    /// What there is room for on the media of a group.
    pub(super) async fn rooms(self: &Rc<Self>, group: &Group) -> Vec<(MediumPath, Room)> {
        let media: Vec<_> = group.media().to_vec();
        worker(move || {
            media
                .into_iter()
                .map(|medium| {
                    let room = crate::catalog::files::room(medium.path.as_path(), medium.block);
                    (medium.path, room)
                })
                .collect()
        })
        .await
    }

    /// Make the media ready that `effects` name. After an error those that were made are removed by the record's next
    /// change.
    pub(super) async fn allocate(
        self: &Rc<Self>,
        effects: &[Effect],
        force: bool,
    ) -> Result<Vec<Made>, Refused> {
        let mut made = Vec::new();
        for effect in effects {
            let Effect::Allocate { plex, medium, bytes, .. } = effect else { continue };
            let open = match self.allocate_one(medium.clone(), *bytes, force).await {
                Ok(open) => open,
                Err(refused) => {
                    // What stands there is not ours to remove, be it the name of a plex that was made meanwhile.
                    self.never_made.borrow_mut().insert(*plex);
                    return Err(refused);
                }
            };
            made.push(Made {
                plex: *plex,
                bytes: open.length(),
                block_size: open.block_size(),
                memory_alignment: open.memory_alignment(),
            });
            self.media.borrow_mut().insert(*plex, open);
            self.unlabelled.borrow_mut().insert(*plex);
        }
        Ok(made)
    }

    /// Write zeroes over the media of a new volume that Cleave did not make.
    async fn zero_media(self: &Rc<Self>, group: &Group, volume: Uuid) -> Result<(), Refused> {
        let Some(record) = group.volume_by_id(volume) else { return Ok(()) };
        let whole = ByteRange::new(0, record.length());
        for plex in record.plexes().iter().filter(|plex| plex.medium().kind != MediumKind::Made) {
            let Some(medium) = self.media.borrow().get(&plex.uuid()).cloned() else { continue };
            let zeroed = self.movers.run(move |host| async move {
                let device = host.open(&medium);
                for range in whole.pieces(MAX_DISCARD_BYTES.into()) {
                    let (space, durability) = (Space::Keep, Durability::Volatile);
                    device.submit(Request::WriteZeroes { range, space, durability }).await?;
                }
                device.submit(Request::Flush).await
            });
            zeroed
                .await
                .unwrap_or(Err(Errno::IO))
                .map_err(|errno| system(&plex.medium().path, "cannot be zeroed", errno))?;
        }
        Ok(())
    }

    async fn allocate_one(
        self: &Rc<Self>,
        medium: PlexMedium,
        bytes: u64,
        force: bool,
    ) -> Result<Medium, Refused> {
        let taken: Vec<_> = self.media.borrow().values().map(Medium::identity).collect();
        let path = medium.path.clone();
        let open = worker(move || {
            let path = medium.path.as_path();
            match medium.kind {
                MediumKind::Made => {
                    let how = if medium.sparse { Allocation::Sparse } else { Allocation::Full };
                    Medium::create_file(path, bytes, how)
                }
                MediumKind::Foreign | MediumKind::Block => Medium::open(path, Opening::WRITE.at_least(bytes)),
            }
        })
        .await?;
        if taken.contains(&open.identity()) {
            return Err(refuse::medium_twice(&path));
        }
        if !force {
            self.refuse_foreign(&open).await?;
        }
        Ok(open)
    }

    /// Start the volume `name`: its record, then the volume itself, then what has to be copied.
    pub(super) async fn start_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        name: &Name,
        source: Option<&Name>,
    ) -> Result<Vec<Job>, Refused> {
        let _alone = self.alone_with(group, name).await?;
        self.start_alone(group, name, source).await
    }

    /// [`Self::start_volume`] for a verb that is alone with the volume.
    pub(super) async fn start_alone(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        name: &Name,
        source: Option<&Name>,
    ) -> Result<Vec<Job>, Refused> {
        let record = group.record();
        let volume = record.volume(name.as_str())?;
        let uuid = volume.uuid();
        if self.live(uuid).is_some() {
            return Err(refuse::volume_running(name));
        }
        let media = match self.look_at_media(group, uuid, false).await {
            Ok(media) => media,
            Err(refused) => {
                self.close_media(volume);
                return Err(refused);
            }
        };
        // A newer configuration may have been adopted from a label.
        let record = group.record();
        let volume = record.volume(name.as_str())?;
        let ending = ending(volume);
        let args = change::StartArgs {
            volume: name.as_str(),
            media: &media,
            source: source.map(Name::as_str),
            unix_s: unix_seconds(),
        };
        let committed = match self.transact(group, |group, ids| change::start(group, &args, ids)).await {
            Ok(committed) => committed,
            Err(refused) => {
                self.close_media(volume);
                return Err(refused);
            }
        };
        self.run_after_start(group, uuid, ending, Face::New(volume.device()), committed).await
    }

    /// Bring a volume up whose record was just started or recovered; a failure makes the record say that it does not run.
    pub(super) async fn run_after_start(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        uuid: Uuid,
        ending: crate::volume::map_file::Ending,
        face: Face,
        committed: Committed,
    ) -> Result<Vec<Job>, Refused> {
        let live = match self.bring_up(group, uuid, ending, face).await {
            Ok(live) => live,
            Err(refused) => {
                if matches!(face, Face::New(_)) {
                    self.record_crash(group, uuid).await;
                }
                return Err(refused);
            }
        };
        let mut jobs = Vec::new();
        for effect in committed.effects {
            match effect {
                Effect::Resync { .. } => jobs.extend(self.resync(group, &live)),
                Effect::Copy { plex, .. } => {
                    jobs.push(self.copy_to(
                        group,
                        &live,
                        plex,
                        Purpose { kind: TaskKind::SnapStart, fresh: false },
                    )?);
                }
                Effect::StartDevice { .. } => {}
                other => unreachable!("{other:?} does not follow a start"),
            }
        }
        jobs.extend(self.attach_stale(group, uuid).await);
        Ok(jobs)
    }

    /// Attach every STALE plex of a started volume whose medium is there: it is copied what it missed.
    async fn attach_stale(self: &Rc<Self>, group: &Rc<GroupHandle>, volume: Uuid) -> Vec<Job> {
        let record = group.record();
        let Some(volume) = record.volume_by_id(volume) else { return Vec::new() };
        let mut jobs = Vec::new();
        for plex in volume.plexes().iter().filter(|plex| plex.state() == crate::state::PlexState::Stale) {
            if plex.is_attached() || self.open_plex(volume, plex, false).await.is_err() {
                continue;
            }
            let names = (volume.name().as_str(), plex.name().as_str());
            let attached =
                self.transact(group, |group, ids| change::attach_plex(group, names.0, names.1, ids)).await;
            match attached {
                Ok(committed) => {
                    match self.attach_and_copy(group, committed, TaskKind::Resync, false).await {
                        Ok(more) => jobs.extend(more),
                        Err(refused) => tracing::warn!("{refused}"),
                    }
                }
                Err(refused) => tracing::warn!("{refused}"),
            }
        }
        jobs
    }

    /// Record that a volume which should run does not.
    pub(super) async fn record_crash(self: &Rc<Self>, group: &Rc<GroupHandle>, volume: Uuid) {
        if let Err(refused) = self.transact(group, |group, _| change::crashed(group, volume)).await {
            tracing::error!(group = %group.name, "the catalogue cannot be brought up to date: {refused}");
        }
    }

    /// Add plexes to a started or stopped volume and begin to copy them.
    pub(super) async fn add_plexes(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        wanted: &Wanted<'_>,
        added: Added,
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
        let plexes: Vec<Uuid> = committed
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Allocate { plex, .. } => Some(*plex),
                _ => None,
            })
            .collect();
        let made = match self.allocate(&committed.effects, wanted.force).await {
            Ok(made) => made,
            Err(refused) => {
                for plex in plexes {
                    self.drop_unfinished(group, wanted.volume, plex).await;
                }
                return Err(refused);
            }
        };
        let kind = match added {
            Added::Mirrors => TaskKind::Mirror,
            Added::Snapshots => TaskKind::SnapStart,
        };
        let (mut names, mut jobs) = (Vec::new(), Vec::new());
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
            match self.attach_and_copy(group, committed, kind, true).await {
                Ok(more) => jobs.extend(more),
                Err(refused) => {
                    self.drop_unfinished(group, wanted.volume, one.plex).await;
                    return Err(refused);
                }
            }
        }
        Ok((names, jobs))
    }

    async fn drop_unfinished(self: &Rc<Self>, group: &Rc<GroupHandle>, volume: &Name, plex: Uuid) {
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
        group: &Rc<GroupHandle>,
        committed: Committed,
        kind: TaskKind,
        fresh: bool,
    ) -> Result<Vec<Job>, Refused> {
        let mut jobs = Vec::new();
        for effect in committed.effects {
            match effect {
                Effect::Attach { volume, plex } => {
                    let Some(live) = self.live(volume) else { continue };
                    let Some((record, plex_record)) = committed.after.plex_by_id(plex) else { continue };
                    let medium = self.open_plex(record, plex_record, false).await?;
                    let behind = plex_record.map().and_then(|map| self.maps.borrow().get(&map).cloned());
                    let behind = behind.unwrap_or_else(|| {
                        std::sync::Arc::new(crate::bitmap::ChangeMap::new(
                            record.length(),
                            record.region_size(),
                        ))
                    });
                    let deadline = Instant::now() + STRAGGLER_LIMIT;
                    while live.volume.stragglers() > 0 {
                        if Instant::now() > deadline {
                            return Err(Refusal::new(
                                Kind::TimedOut,
                                "plex.write-in-flight",
                                &live.name,
                                "a write to a plex that was too slow has still not ended",
                                "see to its medium, then try again",
                            ));
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    let route_plex = crate::volume::RoutePlex {
                        uuid: plex,
                        medium,
                        role: role(plex_record.state()),
                        behind,
                    };
                    live.attach(&self.keepers, route_plex).await.map_err(|errno| {
                        system(&live.name, "the plex cannot be taken into the write path", errno)
                    })?;
                }
                Effect::Copy { volume, plex } => {
                    let Some(live) = self.live(volume) else { continue };
                    jobs.push(self.copy_to(group, &live, plex, Purpose { kind, fresh })?);
                }
                other => unreachable!("{other:?} does not follow the adding of plexes"),
            }
        }
        Ok(jobs)
    }

    pub(super) async fn mirror(self: &Rc<Self>, request: request::Mirror) -> Result<Reply, Refused> {
        let began = Instant::now();
        let group = self.group(&request.group)?;
        let length = group.record().volume(request.volume.as_str())?.length();
        let wanted = Wanted {
            volume: &request.volume,
            length,
            count: request.nmirror,
            media: &request.media,
            plexes: &request.plexes,
            sparse: request.sparse,
            force: request.force,
        };
        let (plexes, jobs) = self.add_plexes(&group, &wanted, Added::Mirrors).await?;
        attached(request.volume, plexes, jobs, request.background, began).await
    }

    pub(super) async fn remove_mirror(
        self: &Rc<Self>,
        request: request::RemoveMirror,
    ) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.volume).await?;
        let record = group.record();
        let volume = record.volume(request.volume.as_str())?;
        let plex = match &request.plex {
            Some(name) => volume.plex(name.as_str())?,
            None => volume
                .plexes()
                .iter()
                .rev()
                .find(|plex| plex.purpose() == crate::state::Purpose::Mirror)
                .ok_or_else(|| refuse::no_plexes(volume.name()))?,
        };
        let (name, freed) = (plex.name().clone(), freed_bytes(volume.length(), plex.medium().kind));
        self.transact(&group, |group, ids| {
            change::remove_plex(group, request.volume.as_str(), name.as_str(), ids)
        })
        .await?;
        Ok(Reply::Removed(Removed { volume: None, plexes: vec![name], freed_bytes: freed, lost_bytes: 0 }))
    }

    /// Stop a started volume that nobody has open.
    pub(super) async fn stop_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        name: &Name,
    ) -> Result<(), Refused> {
        let _alone = self.alone_with(group, name).await?;
        self.stop_alone(group, name).await
    }

    /// [`Self::stop_volume`] for a verb that is alone with the volume: the volume first, then its record.
    pub(super) async fn stop_alone(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
        name: &Name,
    ) -> Result<(), Refused> {
        let record = group.record();
        let uuid = record.volume(name.as_str())?.uuid();
        let live = self.live(uuid);
        let holders = match &live {
            Some(live) => self.holders(live).await,
            None => Vec::new(),
        };
        // Refused before anything is done, and again when it is recorded.
        let planned = change::stop(&record, name.as_str(), &holders, &mut super::owner::dice()?)?;
        let stop = planned
            .group
            .volume_by_id(uuid)
            .filter(|volume| volume.state() == crate::state::VolumeState::Clean)
            .map(crate::state::Volume::stop);
        if let Some(live) = live {
            live.stopping.set(true);
            if let Err(refused) = self.take_down(&live, stop).await {
                if self.live(uuid).is_some() {
                    live.stopping.set(false);
                    return Err(refused);
                }
                self.record_crash(group, uuid).await;
                self.close_media(&record.volume(name.as_str())?.clone());
                return Err(refused);
            }
        }
        let committed =
            self.transact(group, |group, ids| change::stop(group, name.as_str(), &[], ids)).await?;
        if let Some(volume) = committed.after.volume_by_id(uuid) {
            if volume.state() == crate::state::VolumeState::Clean {
                self.note_media(group, volume).await;
            }
            self.close_media(volume);
            let mut maps = self.maps.borrow_mut();
            let theirs = volume
                .plexes()
                .iter()
                .filter_map(crate::state::Plex::map)
                .chain(volume.link_maps(&committed.after));
            // A snapshot's own map is needed by a snapback while the snapshot is stopped; the file has it as well.
            let keep: Vec<_> =
                committed.after.link_of(uuid).map(|(_, link)| link.snapshot_map).into_iter().collect();
            theirs.filter(|map| !keep.contains(map)).for_each(|map| {
                maps.remove(&map);
            });
        }
        Ok(())
    }

    /// Note what the file plexes of a stopped volume look like after the last write to them, labels included.
    async fn note_media(self: &Rc<Self>, group: &Rc<GroupHandle>, volume: &crate::state::Volume) {
        let mut looks = Vec::new();
        for plex in volume.plexes() {
            let medium = self.media.borrow().get(&plex.uuid()).cloned();
            if let Some(medium) = medium
                && let Some(noted) = super::bringup::noted(&medium, plex).await
            {
                looks.push((plex.uuid(), noted));
            }
        }
        // Labels are not written for it: that would change what was just noted.
        if let Err(refused) =
            self.transact_quietly(group, |group| change::note_media(group, volume.uuid(), &looks)).await
        {
            tracing::warn!("the look of plex files cannot be noted: {refused}");
        }
    }

    pub(super) async fn remove(self: &Rc<Self>, request: request::Remove) -> Result<Reply, Refused> {
        let group = self.group(&request.group)?;
        let _alone = self.alone_with(&group, &request.object).await?;
        let record = group.record();
        let volume = record.volume(request.object.as_str())?;
        let uuid = volume.uuid();
        let live = self.live(uuid);
        let holders = match &live {
            Some(live) => self.holders(live).await,
            None => Vec::new(),
        };
        let args = RemoveArgs {
            volume: request.object.as_str(),
            recursive: request.recursive,
            force: request.force,
            holders: &holders,
        };
        // Refused before anything is done.
        change::remove_volume(&record, &args, &mut super::owner::dice()?)?;
        let plexes: Vec<_> = volume.plexes().iter().map(|plex| plex.name().clone()).collect();
        let freed = volume.plexes().iter().map(|plex| freed_bytes(volume.length(), plex.medium().kind)).sum();
        let lost = record
            .link_of(uuid)
            .and_then(|(_, link)| self.maps.borrow().get(&link.snapshot_map).map(|map| map.dirty_bytes()))
            .unwrap_or(0);
        if live.is_some() {
            self.stop_alone(&group, &request.object).await?;
        }
        let args = RemoveArgs { holders: &[], ..args };
        self.transact(&group, |group: &Group, ids: &mut Ids| -> Result<Change, Refused> {
            change::remove_volume(group, &args, ids)
        })
        .await?;
        Ok(Reply::Removed(Removed {
            volume: Some(request.object),
            plexes,
            freed_bytes: freed,
            lost_bytes: lost,
        }))
    }

    /// Send the rows of a volume.
    pub(super) async fn answer_volume(
        self: &Rc<Self>,
        group: &Rc<GroupHandle>,
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
        group: &GroupHandle,
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
}

/// Close the answer to a request that added plexes.
pub(super) async fn attached(
    volume: Name,
    plexes: Vec<Name>,
    jobs: Vec<Job>,
    background: bool,
    began: Instant,
) -> Result<Reply, Refused> {
    let elapsed = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut copied_bytes = 0;
    if background {
        let tasks = jobs.iter().map(|job| job.task).collect();
        return Ok(Reply::Attached(Attached { volume, plexes, tasks, copied_bytes, elapsed_ms: elapsed() }));
    }
    for job in jobs {
        copied_bytes += job.ended().await?;
    }
    Ok(Reply::Attached(Attached { volume, plexes, tasks: Vec::new(), copied_bytes, elapsed_ms: elapsed() }))
}

/// A path from a request.
pub(super) fn medium_path(path: &Path) -> Result<MediumPath, Refused> {
    match path.to_str() {
        Some(text) => MediumPath::new(text),
        None => Err(refuse::medium_path(&path.to_string_lossy(), "is not UTF-8")),
    }
}

/// Bytes that a plex gives back when it goes.
const fn freed_bytes(length: u64, kind: MediumKind) -> u64 {
    match kind {
        MediumKind::Made => crate::state::medium_bytes(length),
        MediumKind::Foreign | MediumKind::Block => 0,
    }
}
