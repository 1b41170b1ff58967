//! A volume comes up: media, intent map and change maps are opened and believed as far as they can be, the route is made,
//! the keeper started, the device shown. And goes down again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits::{MAX_DISCARD_BYTES, MAX_REQUEST_BYTES, PAGE_BYTES, QUEUE_DEPTH, SECTOR_BYTES};
use crate::base::{Errno, FaultPoint, Generation, Kind, Name, Refusal, Refused, Uuid};
use crate::bitmap::{ChangeMap, ExtentMap, UnflushedMap};
use crate::catalog::files::{intent_file_name, map_file_name};
use crate::control::What;
use crate::device::{Geometry, Host};
use crate::export::ublk::{DataMode, DeviceMark, DeviceOptions};
use crate::ring::{Fault, Opening};
use crate::state::change;
use crate::state::{DataPath, Group, MediumKind, Noted, Plex, PlexState, Volume as Record, VolumeState};
use crate::volume::map_file::{Ending, MapIdentity, Worth};
use crate::volume::{AbsentPlex, Intent, MapFile, ReadPolicy, Role, Route, RoutePlex, Shape, Volume};

use super::events::News;
use super::fences::Object;
use super::keepers::KeeperHandle;
use super::live::Live;
use super::machine::{Machine, OpenMedium, Ring, Shown};
use super::owner::{GroupHandle, Owner, system};
use super::plexes::put_in_force;
use super::udev::Entry;

/// How long a daemon that takes over waits for the last operation of its predecessor (ordering rule 20).
const FENCE_LIMIT: Duration = Duration::from_secs(60);

/// How long a medium of ours may take to be closed by all threads.
pub(super) const CLOSING_LIMIT: Duration = Duration::from_secs(5);

/// How long a verb waits for a medium that it names: an operation of the verb before it may have ended for us, and not for the
/// kernel, which holds the lock until then.
pub(super) const NAMED_LIMIT: Duration = Duration::from_secs(1);

/// How long a device may take to end.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long media may keep the pages of requests that were failed.
const LENT_LIMIT: Duration = Duration::from_secs(5);

/// How long a node may take to appear or go.
const NODE_LIMIT: Duration = Duration::from_secs(10);

/// How long nothing is copied after a take-over: what applications have waited for comes first.
const RESPITE: Duration = Duration::from_millis(300);

/// How a volume gets its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    /// A new one, with this number if it can be had.
    New(Option<u32>),
    /// The living one of a daemon that is gone.
    TakeOver(u32),
    /// None: nobody may see it yet.
    Hidden,
}

/// How the last run of a volume ended, as its record before the start has it.
#[must_use]
pub fn ending(record: &Record) -> Ending {
    Ending {
        run: record.run(),
        before: record.crashed_run(),
        stop: record.stop(),
        clean: record.state() == VolumeState::Clean,
    }
}

/// The change maps that the keeper of `record` keeps.
pub(super) fn maps_of(all: &Group, record: &Record) -> BTreeSet<Uuid> {
    record.plexes().iter().filter_map(Plex::map).chain(record.link_maps(all)).collect()
}

impl<M: Machine> Owner<M> {
    /// The open medium of `plex`.
    pub(super) async fn open_plex(
        self: &Rc<Self>,
        record: &Record,
        plex: &Plex,
        fence: bool,
    ) -> Result<M::Medium, Refused> {
        if let Some(medium) = self.media.borrow().get(&plex.uuid()) {
            return Ok(medium.clone());
        }
        // A volume that was just taken down gives its last handles back on other threads.
        let patience = if fence { FENCE_LIMIT } else { CLOSING_LIMIT };
        let opening = Opening::WRITE.at_least(plex.medium().needed_bytes(record.length()));
        let medium = match fence {
            true => {
                let (object, path) = (Object::Plex(plex.name()), plex.medium().path.as_path());
                let open = self.open_fenced(record.uuid(), object, path, opening, patience).await?;
                self.with_labels(open, plex.medium(), patience).await?
            }
            false => self.open_medium(plex.medium(), opening.waiting(patience)).await?,
        };
        self.media.borrow_mut().insert(plex.uuid(), medium.clone());
        Ok(medium)
    }

    /// Close the media of plexes that belong to no started volume.
    pub(super) fn close_media(&self, record: &Record) {
        let (mut media, mut flushes) = (self.media.borrow_mut(), self.flushes.borrow_mut());
        for plex in record.plexes() {
            media.remove(&plex.uuid());
            flushes.remove(&plex.uuid());
        }
    }

    /// What the file of a plex looks like now; none for a disk.
    pub(super) async fn noted(&self, medium: &M::Medium, plex: &Plex) -> Option<Noted> {
        match plex.medium().kind {
            MediumKind::Block => None,
            MediumKind::Made | MediumKind::Foreign | MediumKind::Image => {
                self.machine.look(medium.path()).await
            }
        }
    }

    /// Let the volume `uuid` of `group` run: its record says already that it does. `ending` is how its last run ended.
    ///
    /// # Errors
    /// What keeps it from running; nothing of it runs then, and its device does not exist or waits.
    pub(super) async fn bring_up(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        uuid: Uuid,
        ending: Ending,
        face: Face,
    ) -> Result<Rc<Live<M>>, Refused> {
        let snapshot = group.record();
        let record = snapshot.volume_by_id(uuid).ok_or_else(|| gone(uuid))?;
        let fence = matches!(face, Face::TakeOver(_));
        let (intent_file, durable, worth, found) = self.load_intent(group, record, ending, fence).await?;
        FaultPoint::StartIntentLoaded.reached();
        let maps = self.load_maps(group, &snapshot, record, ending, &durable, fence).await?;
        FaultPoint::StartMapsLoaded.reached();
        let resync = record.resync().map(|resync| resync.source);
        let (length, intents) = (record.length(), durable.count());
        // Without an intent map that is believed nothing is.
        let found = (worth == Worth::WithIntent).then_some(found);
        let unflushed = self.take_up_unflushed(record, &durable, found, intent_file.header_number()).await;
        let bytes = unflushed.as_ref().map(UnflushedMap::unflushed_bytes);
        let intent = Intent::new(length, durable).with_unflushed(unflushed);
        let route = self.make_route(&snapshot, record, &intent).await?;
        let shape = Shape {
            uuid,
            geometry: Geometry {
                length: record.length(),
                block_size: record.block_size(),
                memory_alignment: record.memory_alignment(),
                discard_zeroes: true,
            },
            region_size: record.region_size(),
        };
        tracing::info!(volume = %record.name(), intents, unflushed = bytes, ?worth, "volume comes up");
        let volume = Volume::new(shape, intent, route);
        if resync.is_some() {
            // What is unequal is known by these bits alone until the resync is done.
            volume.intent().pin();
        }
        let doubts = self.count_flushes(&volume, record, fence).await;
        let intent_medium = intent_file.place().clone();
        let keeper =
            KeeperHandle::start(&self.keepers, Arc::clone(&volume), intent_file, maps, self.pleas.clone());
        let live = Rc::new(Live {
            machine: self.machine.clone(),
            holds: Rc::clone(&self.holds),
            group: group.name.clone(),
            name: record.name().clone(),
            volume,
            keeper,
            intent_medium,
            device: RefCell::new(None),
            number: Cell::new(None),
            respite: Cell::new(self.machine.now()),
            jobs: RefCell::default(),
            next_job: Cell::new(0),
            doubts: RefCell::new(doubts),
            lost: RefCell::default(),
            failed: Cell::new(None),
            counted: Cell::default(),
            stopping: Cell::new(false),
        });
        put_in_force(&live, record.settings());
        self.came(&live);
        FaultPoint::StartKept.reached();
        if let Err(refused) = self.show(group, &live, record, face).await {
            self.went(uuid);
            // The run ends as a crash would end it: its bits stay.
            live.volume.intent().pin();
            let _ = live.keeper.stop(None).await;
            self.close_media(record);
            return Err(refused);
        }
        Ok(live)
    }

    async fn load_intent(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        record: &Record,
        ending: Ending,
        fence: bool,
    ) -> Result<(MapFile<M::Medium>, ExtentMap, Worth, u64), Refused> {
        let empty = ExtentMap::new(record.length());
        let identity = MapIdentity::intent(record.uuid(), &empty);
        let (medium, made) =
            self.state_medium(group, intent_file_name(record.uuid()), identity, fence).await?;
        let (run, lost) = (record.run(), record.is_intent_lost());
        let loaded = self.keepers.run(move |host| async move {
            let on_host = MapFile::new(host.open(&medium), identity, run);
            let durable = ExtentMap::with_room(empty.length(), Intent::room(empty.length()));
            if made {
                durable.set_all();
            }
            let mut worth = if made { Worth::Nothing } else { on_host.load(durable.bits(), ending).await? };
            let found = on_host.header_number();
            if lost {
                worth = Worth::Nothing;
                durable.set_all();
            }
            if ending.clean {
                // After a clean stop no write is unflushed, whatever the file says.
                durable.clear_all();
                (0..durable.bits().pages()).for_each(|page| durable.bits().mark_page(page));
            }
            on_host.begin(durable.bits()).await?;
            Ok::<_, Errno>((on_host.on(|_| medium), durable, worth, found))
        });
        loaded
            .await
            .unwrap_or(Err(Errno::IO))
            .map_err(|errno| system(record.name(), "the intent map cannot be read or written", errno))
    }

    /// The unflushed regions of `record`: as the daemon before this one left them, when that left the intent map with the
    /// header `found`, and this host has run on since.
    async fn take_up_unflushed(
        self: &Rc<Self>,
        record: &Record,
        durable: &ExtentMap,
        found: Option<u64>,
        number: u64,
    ) -> Option<UnflushedMap> {
        let (volume, bytes) = (record.uuid(), UnflushedMap::bytes(record.length())?);
        match self.machine.unflushed(volume, bytes).await {
            Ok(words) => UnflushedMap::take_up(words, durable, found, number).map(|(map, _)| map),
            Err(error) => {
                self.machine.forget_unflushed(volume).await;
                tracing::warn!(volume = %record.name(), %error, "its unflushed regions cannot be noted where a later daemon finds them");
                None
            }
        }
    }

    /// Load every change map of `record`; each stands in `self.maps` afterwards.
    async fn load_maps(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        all: &Group,
        record: &Record,
        ending: Ending,
        durable: &ExtentMap,
        fence: bool,
    ) -> Result<Vec<(Arc<ChangeMap>, MapFile<M::Medium>)>, Refused> {
        let mut loaded = Vec::new();
        for uuid in maps_of(all, record) {
            let map = Arc::new(ChangeMap::new(record.length(), record.region_size()));
            let identity = MapIdentity::change(uuid, record.uuid(), &map);
            let (medium, made) = self.state_medium(group, map_file_name(uuid), identity, fence).await?;
            let known = self.maps.borrow().get(&uuid).cloned();
            let run = record.run();
            let intent = durable.copy();
            let outcome = self.keepers.run(move |host| async move {
                let file = MapFile::new(host.open(&medium), identity, run);
                if made {
                    map.mark_all();
                } else {
                    let worth = file.load(map.bits(), ending).await?;
                    match worth {
                        Worth::Exact | Worth::Nothing => {}
                        // Ordering rule 5: what was marked in memory alone lies under an intent bit.
                        Worth::WithIntent => map.or_extents(&intent),
                    }
                }
                // A map that this process made or kept knows best: nothing was lost of it.
                let map = match known {
                    Some(known) => {
                        map.clear_all();
                        map.or_from(&known);
                        (0..map.bits().pages()).for_each(|page| map.bits().mark_page(page));
                        map
                    }
                    None => map,
                };
                file.begin(map.bits()).await?;
                Ok::<_, Errno>((map, file.on(|_| medium)))
            });
            let (map, file) = outcome
                .await
                .unwrap_or(Err(Errno::IO))
                .map_err(|errno| system(record.name(), "a change map cannot be read or written", errno))?;
            self.maps.borrow_mut().insert(uuid, Arc::clone(&map));
            loaded.push((map, file));
        }
        Ok(loaded)
    }

    /// Have what a clean stop of the snapshot `volume` left in its own map in memory, where a daemon before this one stopped it:
    /// it may be given back while it is stopped. The caller is alone with it. A map that is not believed stays out, and counts
    /// as all ones.
    pub(super) async fn recall_map(self: &Rc<Self>, group: &Rc<GroupHandle<M>>, volume: Uuid) {
        let all = group.record();
        let clean = all.volume_by_id(volume).filter(|record| record.state() == VolumeState::Clean);
        let (Some(record), Some((_, link))) = (clean, all.link_of(volume)) else { return };
        if self.maps.borrow().contains_key(&link.snapshot_map) {
            return;
        }
        match self.read_map(group, record, link.snapshot_map, false).await {
            Ok((map, Worth::Exact)) => {
                self.maps.borrow_mut().insert(link.snapshot_map, map);
            }
            Ok((_, Worth::WithIntent | Worth::Nothing)) => {}
            Err(refused) => tracing::warn!("{refused}"),
        }
    }

    /// Fill a map of `volume`, which does not run, in its file and in memory. Its header stays, so that whatever is cut off on
    /// the way leaves a superset: after a clean stop the header does not vouch for pages that were written since.
    ///
    /// # Errors
    /// The file cannot be opened, read or written.
    pub(super) async fn fill_stopped_map(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        volume: Uuid,
        map: Uuid,
    ) -> Result<(), Refused> {
        let all = group.record();
        let record = all.volume_by_id(volume).ok_or_else(|| system(volume, "is gone", Errno::GONE))?;
        let (full, _) = self.read_map(group, record, map, true).await?;
        self.maps.borrow_mut().insert(map, full);
        Ok(())
    }

    /// What the file of a map of `record`, which does not run, holds, and what that is worth; filled first, durably, if
    /// `fill` says so.
    async fn read_map(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        record: &Record,
        uuid: Uuid,
        fill: bool,
    ) -> Result<(Arc<ChangeMap>, Worth), Refused> {
        let map = Arc::new(ChangeMap::new(record.length(), record.region_size()));
        let identity = MapIdentity::change(uuid, record.uuid(), &map);
        // Its last keeper may be a daemon that is not gone yet.
        let fence = record.state().is_started();
        let (medium, _) = self.state_medium(group, map_file_name(uuid), identity, fence).await?;
        let (run, ending, loaded) = (record.run(), ending(record), Arc::clone(&map));
        let worth = self.keepers.run(move |host| async move {
            let file = MapFile::new(host.open(&medium), identity, run);
            let worth = file.load(loaded.bits(), ending).await?;
            if fill {
                loaded.mark_all();
                (0..loaded.bits().pages()).for_each(|page| loaded.bits().mark_page(page));
                file.write_pages(loaded.bits(), &loaded.bits().take_dirty_pages()).await?;
            }
            Ok::<_, Errno>(worth)
        });
        let worth = worth.await.unwrap_or(Err(Errno::IO));
        let failed = |errno| system(record.name(), "a change map cannot be read or written", errno);
        Ok((map, worth.map_err(failed)?))
    }

    /// The open file of a map, and whether it had to be made anew because it was lost.
    async fn state_medium(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        name: String,
        identity: MapIdentity,
        fence: bool,
    ) -> Result<(M::Medium, bool), Refused> {
        let path = group.file(&name);
        let patience = if fence { FENCE_LIMIT } else { Duration::from_secs(5) };
        let bytes = identity.file_bytes();
        let opening = Opening::WRITE.at_least(bytes);
        let opened = self.open_fenced(identity.volume, Object::State(&name), &path, opening, patience).await;
        let (medium, made) = match opened {
            Ok(medium) => (medium, false),
            Err(error) if matches!(error.fault, Fault::Missing | Fault::TooSmall { .. }) => {
                let _ = self.machine.remove_durably(&path).await;
                (self.machine.create_file(&path, bytes, crate::ring::Allocation::Full).await?, true)
            }
            Err(error) => return Err(error.into()),
        };
        if made {
            let news = News::new(What::MapLost, format!("its map {name} was lost, and counts as all ones"));
            self.events.raise(self.news_about(news, identity.volume, None));
        }
        Ok((medium, made))
    }

    /// What `plex` of `record` lacks. One that has a map which is not in memory may lack anything.
    pub(super) fn behind_of(&self, record: &Record, plex: &Plex) -> Arc<ChangeMap> {
        let known = plex.map().and_then(|map| self.maps.borrow().get(&map).cloned());
        known.unwrap_or_else(|| {
            let behind = ChangeMap::new(record.length(), record.region_size());
            if plex.map().is_some() {
                behind.mark_all();
            }
            Arc::new(behind)
        })
    }

    async fn make_route(
        self: &Rc<Self>,
        all: &Group,
        record: &Record,
        intent: &Intent,
    ) -> Result<Route<M::Medium>, Refused> {
        let source = record.resync().map(|resync| resync.source);
        let mut route = Route::new(Vec::new(), read_policy(record));
        for plex in record.plexes() {
            let behind = self.behind_of(record, plex);
            if plex.is_attached() {
                let role = role(plex.state());
                // Ordering rule 14: until it is equal, it is read from the source alone. A mirror lacks there what it may have
                // lost, whatever plexes there are.
                let may_differ = source.is_some_and(|source| source != plex.uuid());
                if role == Role::WriteOnly {
                    // What it lacks is kept in a change map, which is OR-ed with whole extents (ordering rule 5).
                    behind.or_extents(intent.durable());
                } else if may_differ {
                    intent.mark_unflushed(&behind);
                }
                let medium = self.open_plex(record, plex, false).await?;
                route.plexes.push(RoutePlex { uuid: plex.uuid(), medium, role, behind });
            } else if plex.map().is_some() {
                route.absent.push(AbsentPlex {
                    uuid: plex.uuid(),
                    behind,
                    errno: Errno::GONE,
                    recorded: true,
                });
            }
        }
        let maps = self.maps.borrow();
        route.marks = record.link_maps(all).iter().filter_map(|map| maps.get(map).cloned()).collect();
        Ok(route)
    }

    /// How the data of a new device of the volume travel. What a medium that hangs was lent cannot be given back; so a volume
    /// of several plexes, which need not wait for one, lends nothing unless that is asked for.
    async fn data_mode(&self, record: &Record) -> DataMode {
        let wanted = match record.settings().data {
            DataPath::Auto if record.plexes().len() > 1 => DataPath::Copy,
            data => data,
        };
        let fits = lends(record);
        if wanted != DataPath::Copy && fits && self.machine.zero_copy().await {
            return DataMode::Zero;
        }
        if wanted == DataPath::Zero {
            let why = if fits {
                "this kernel does not lend requests' own pages"
            } else {
                "its plexes need memory that is aligned to more than a sector"
            };
            tracing::warn!(volume = %record.name(), "data=zero is asked for; its data are copied, because {why}");
        }
        DataMode::Copy
    }

    /// Show the device of a volume that runs, with its links.
    pub(super) async fn show(
        self: &Rc<Self>,
        group: &Rc<GroupHandle<M>>,
        live: &Rc<Live<M>>,
        record: &Record,
        face: Face,
    ) -> Result<(), Refused> {
        let volume = Arc::clone(&live.volume);
        let entry = Entry {
            group: group.name.clone(),
            volume: record.name().clone(),
            uuid: record.uuid(),
            is_snapshot: group.record().link_of(record.uuid()).is_some(),
        };
        let device = match face {
            Face::New(wanted) => {
                let options = options(record, wanted, self.data_mode(record).await);
                self.machine.add(options, entry.clone(), volume).await?
            }
            Face::Hidden => return Ok(()),
            Face::TakeOver(number) => {
                self.machine.recover(number, FENCE_LIMIT, record.settings().affinity, volume).await?
            }
        };
        let number = device.id();
        *live.device.borrow_mut() = Some(device);
        put_in_force(live, record.settings());
        live.number.set(Some(number));
        if matches!(face, Face::TakeOver(_)) {
            live.respite.set(self.machine.now().after(RESPITE));
        }
        FaultPoint::StartShown.reached();
        if record.device() != Some(number) || record.crashed_run().is_some() {
            let uuid = record.uuid();
            self.transact(group, |group, _| change::assign_device(group, uuid, Some(number))).await?;
        }
        let refused = self.machine.make_links(&entry, number, NODE_LIMIT).await?;
        // The node serves; a link that something stands in the way of is no reason to take it down.
        refused.iter().for_each(|refused| tracing::warn!("{refused}"));
        FaultPoint::StartLinked.reached();
        Ok(())
    }

    /// Have the pages back that media were lent, if need be by failing the requests of who uses the volume, before the kernel
    /// is asked to end its device: while a medium that hangs has some, the kernel waits for it, and this process in the
    /// kernel, out of which nothing gets it: not even its death would free the other volumes.
    ///
    /// Says whether requests were failed.
    ///
    /// # Errors
    /// `device.lingers`: a medium hangs. The volume answers errors; this can be asked for again.
    pub(super) async fn reclaim(self: &Rc<Self>, live: &Live<M>, limit: Duration) -> Result<bool, Refused> {
        if self.returned(live, limit).await {
            return Ok(false);
        }
        live.device.borrow().iter().for_each(Shown::cut_off);
        match self.returned(live, LENT_LIMIT).await {
            true => Ok(true),
            false => Err(lingers(&live.name)),
        }
    }

    /// Whether no medium has pages of the volume's requests, at one moment within `limit`.
    pub(super) async fn returned(&self, live: &Live<M>, limit: Duration) -> bool {
        let until = self.machine.now().after(limit);
        while live.device.borrow().as_ref().is_some_and(|device| device.lent() > 0) {
            if self.machine.now() >= until {
                return false;
            }
            self.machine.sleep(Duration::from_millis(1)).await;
        }
        true
    }

    /// Take the volume down: device, keeper, links; the record is the caller's. With a stop generation the end is a clean
    /// one: everything flushed, maps durable, intent clear (ordering rule 15).
    ///
    /// # Errors
    /// The device does not end, or the end was not clean. The volume does not run any more in the second case.
    pub(super) async fn take_down(
        self: &Rc<Self>,
        live: &Rc<Live<M>>,
        stop: Option<Generation>,
    ) -> Result<(), Refused> {
        live.stopping.set(true);
        live.abort_jobs(|_| true);
        while !live.jobs.borrow().is_empty() {
            self.machine.sleep(Duration::from_millis(5)).await;
        }
        if let Err(refused) = self.machine.remove_links(&live.group, &live.name).await {
            tracing::warn!("{refused}");
        }
        FaultPoint::StopLinksRemoved.reached();
        self.reclaim(live, STOP_LIMIT).await?;
        let device = live.device.borrow_mut().take();
        let ended = match device {
            Some(device) => {
                self.machine.stop(device, STOP_LIMIT).await?;
                FaultPoint::StopDeviceEnded.reached();
                live.keeper.stop(stop).await
            }
            None if live.number.get().is_none() => live.keeper.stop(stop).await,
            // An earlier stop did not end it, and writes that nobody hears of may land until it has: no clean end.
            None => {
                let number = live.number.get();
                if self.machine.devices().await?.iter().any(|device| Some(device.id) == number) {
                    return Err(lingers(&live.name));
                }
                live.keeper.stop(None).await.and(Err(Errno::TIMED_OUT))
            }
        };
        FaultPoint::StopKeeperEnded.reached();
        self.went(live.volume.shape().uuid);
        ended.map_err(|errno| {
            Refusal::new(
                Kind::Io,
                "volume.unclean-stop",
                &live.name,
                format!("it did not end in good order: {errno}"),
                "it is stopped; the next start makes its plexes equal",
            )
        })
    }
}

/// Whether requests' pages will do for its plexes: the kernel promises so much of its own memory, and what applications lend is
/// refused below what the device asks.
pub(super) fn lends(record: &Record) -> bool {
    u64::from(record.memory_alignment()) <= SECTOR_BYTES
}

fn lingers(volume: &Name) -> Refused {
    Refusal::new(
        Kind::TimedOut,
        "device.lingers",
        volume,
        "its device has not ended yet",
        "see to the medium that hangs, then stop it again",
    )
}

fn options(record: &Record, id: Option<u32>, data: DataMode) -> DeviceOptions {
    DeviceOptions {
        id,
        name: record.name().to_string(),
        mark: DeviceMark::of(record.uuid()),
        length: record.length(),
        logical_block_size: record.block_size(),
        physical_block_size: PAGE_BYTES as u32,
        queues: record.settings().queues,
        affinity: record.settings().affinity,
        depth: QUEUE_DEPTH,
        max_request_bytes: MAX_REQUEST_BYTES,
        max_discard_bytes: MAX_DISCARD_BYTES,
        discard_granularity: PAGE_BYTES as u32,
        memory_alignment: record.memory_alignment(),
        read_only: false,
        data,
    }
}

/// What a plex of that state is good for in a route.
#[must_use]
pub const fn role(state: PlexState) -> Role {
    match state {
        PlexState::Active | PlexState::Clean => Role::ReadWrite,
        PlexState::Empty
        | PlexState::Stale
        | PlexState::IoFail
        | PlexState::SnapAtt
        | PlexState::SnapDone
        | PlexState::SnapTmp
        | PlexState::Temp
        | PlexState::Offline => Role::WriteOnly,
    }
}

pub(super) fn read_policy(record: &Record) -> ReadPolicy {
    match record.read_policy() {
        crate::state::ReadPolicy::Round | crate::state::ReadPolicy::Select => ReadPolicy::Round,
        crate::state::ReadPolicy::Prefer(name) => record
            .plexes()
            .iter()
            .find(|plex| plex.name() == name)
            .map_or(ReadPolicy::Round, |plex| ReadPolicy::Prefer(plex.uuid())),
    }
}

fn gone(volume: Uuid) -> Refused {
    Refusal::new(Kind::Changed, "volume.gone", volume, "was removed meanwhile", "")
}
