//! A volume with all that belongs to it: what lies on disks and survives a crash ([`Site`]), and what runs
//! ([`Running`]). It does what the daemon does around the engine, with a catalogue that commits at once or not at all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cleave::base::{ByteRange, Errno, Generation, RegionSize, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::device::{Clock, Geometry};
use cleave::sim::{Rng, SimClock, SimDisk, SimHost, World};
use cleave::volume::map_file::Ending;
use cleave::volume::{
    AbsentPlex, Intent, Keeper, KeeperOptions, Ledger, Loss, ReadPolicy, Recorded, Role, Route, RoutePlex,
    Shape, Volume, VolumeQueue,
};

use crate::maps;
use crate::pattern::BLOCK;

/// What the catalogue says of a plex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Relied on: ACTIVE.
    Active,
    /// Out of the write path, tracked: STALE.
    Stale,
    /// A snapshot mirror in the making: SNAPATT.
    Attaching,
    /// A snapshot mirror in step: SNAPDONE.
    Mirror,
    /// A snapshot mirror that was in step and left: STALE, to be attached again as a mirror only.
    StaleMirror,
    /// A snapshot volume's.
    Broken,
    /// Nobody's.
    Free,
}

/// The catalogue: what was recorded survives every crash, each change is whole or not there.
pub struct Book {
    clock: SimClock,
    dice: RefCell<Rng>,
    pub standings: RefCell<BTreeMap<Uuid, Standing>>,
    /// From whom the others are being resynced after a crash.
    pub source: Cell<Option<Uuid>>,
    pub clean: Cell<bool>,
    pub intent_lost: Cell<bool>,
    /// While set, nothing can be recorded.
    pub broken: Cell<bool>,
    pub read_failures: Cell<u64>,
    pub last_plex_failures: Cell<u64>,
    /// Plexes that were told of as hanging.
    pub hangs: RefCell<BTreeSet<Uuid>>,
}

impl Book {
    pub fn standing(&self, uuid: Uuid) -> Standing {
        self.standings.borrow()[&uuid]
    }

    pub fn set(&self, uuid: Uuid, standing: Standing) {
        self.standings.borrow_mut().insert(uuid, standing);
    }

    /// A commit takes its time; `record` happens at some moment of it.
    async fn commit<T>(&self, record: impl FnOnce() -> T) -> Result<T, Errno> {
        let (before, after) = {
            let mut dice = self.dice.borrow_mut();
            (dice.below(2_000_000), dice.below(2_000_000))
        };
        self.clock.sleep(Duration::from_nanos(before)).await;
        if self.broken.get() {
            return Err(Errno::IO);
        }
        let value = record();
        self.clock.sleep(Duration::from_nanos(after)).await;
        Ok(value)
    }
}

/// The keeper's way into the catalogue.
#[derive(Clone)]
pub struct Clerk(pub Rc<Book>);

impl Ledger for Clerk {
    async fn plex_lost(&self, plex: Uuid, _: Errno, heir: Option<Uuid>) -> Result<Recorded, Errno> {
        let book = &self.0;
        let loss = book
            .commit(|| match book.standing(plex) {
                Standing::Attaching => {
                    book.set(plex, Standing::Free);
                    Loss::Removed
                }
                Standing::Mirror | Standing::StaleMirror => {
                    book.set(plex, Standing::StaleMirror);
                    Loss::Tracked
                }
                Standing::Active | Standing::Stale => {
                    book.set(plex, Standing::Stale);
                    if book.source.get() == Some(plex) {
                        book.source.set(heir);
                    }
                    Loss::Tracked
                }
                // The mover was first to give it up.
                Standing::Free => Loss::Removed,
                Standing::Broken => panic!("a snapshot's plex was lost by its origin"),
            })
            .await?;
        Ok(Recorded { loss, authority: book.source.get() })
    }

    async fn intent_lost(&self) -> Result<(), Errno> {
        self.0.commit(|| self.0.intent_lost.set(true)).await
    }

    fn read_failed(&self, _: Uuid, _: ByteRange, _: Errno) {
        self.0.read_failures.set(self.0.read_failures.get() + 1);
    }

    fn differs(&self, _: Uuid) {}

    fn last_plex_failed(&self, _: Uuid, _: Errno) {
        self.0.last_plex_failures.set(self.0.last_plex_failures.get() + 1);
    }

    fn plex_hangs(&self, plex: Uuid) {
        self.0.hangs.borrow_mut().insert(plex);
    }

    fn plex_answers(&self, plex: Uuid) {
        self.0.hangs.borrow_mut().remove(&plex);
    }
}

/// A plex as it lies there.
pub struct PlexSite {
    pub uuid: Uuid,
    pub disk: SimDisk,
    /// The file of the map of what it lacks.
    pub map: RefCell<SimDisk>,
}

/// A change map as it lies there, with what the volume held when it was begun.
#[derive(Clone)]
pub struct MarkSite {
    pub uuid: Uuid,
    pub map: SimDisk,
    pub baseline: SimDisk,
    /// The plex that was broken off when it was begun.
    pub of: Option<Uuid>,
}

impl MarkSite {
    /// A snapshot that was committed holds what it held at the cut, whatever came after.
    pub fn check_snapshot(&self, site: &Site) -> Result<(), String> {
        let broken = self.of.filter(|uuid| site.book.standing(*uuid) == Standing::Broken);
        let Some(plex) = broken.map(|uuid| site.plex(uuid)) else { return Ok(()) };
        match plex.disk.differences(&self.baseline, site.range()).first() {
            None => Ok(()),
            Some(at) => Err(format!("a snapshot has changed since its cut at byte {at}")),
        }
    }
}

/// All that survives.
pub struct Site {
    pub world: Rc<World>,
    pub shape: Shape,
    pub plexes: Vec<PlexSite>,
    pub intent: RefCell<SimDisk>,
    /// Zeroes, to compare with.
    pub blank: SimDisk,
    pub marks: RefCell<Vec<MarkSite>>,
    pub book: Rc<Book>,
    pub run: Cell<Generation>,
    pub options: KeeperOptions,
    pub dice: RefCell<Rng>,
}

/// What runs.
pub struct Running {
    pub host: SimHost,
    pub volume: Arc<Volume<SimDisk>>,
    pub keeper: Keeper<SimHost, Clerk>,
    pub queues: Vec<Rc<VolumeQueue<SimHost>>>,
    pub behind: RefCell<BTreeMap<Uuid, Arc<ChangeMap>>>,
    pub marks: RefCell<Vec<Arc<ChangeMap>>>,
    pub swapping: tokio::sync::Mutex<()>,
}

pub fn new_uuid(dice: &mut Rng) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&dice.next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&dice.next_u64().to_le_bytes());
    Uuid::from_random(bytes)
}

impl Site {
    /// A volume of `length` bytes with `active` ACTIVE plexes and `spare` that belong to nobody yet, all empty.
    pub fn new(world: Rc<World>, length: u64, active: usize, spare: usize) -> Rc<Self> {
        let mut dice = world.split_dice();
        let geometry =
            Geometry { length, block_size: BLOCK as u32, memory_alignment: 512, discard_zeroes: true };
        let shape = Shape { uuid: new_uuid(&mut dice), geometry, region_size: RegionSize::DEFAULT };
        let book = Rc::new(Book {
            clock: world.clock().clone(),
            dice: RefCell::new(dice.split()),
            standings: RefCell::default(),
            source: Cell::new(None),
            clean: Cell::new(true),
            intent_lost: Cell::new(false),
            broken: Cell::new(false),
            read_failures: Cell::new(0),
            last_plex_failures: Cell::new(0),
            hangs: RefCell::default(),
        });
        let run = Generation(1);
        let new_map = |name: &str, identity| {
            let (disk, host) = (maps::disk(&world, name, &identity), world.host());
            let made = disk.clone();
            let create = async move { drop(maps::create(host, &made, identity, run).await) };
            world.block_on(create).expect("a map is made");
            disk
        };
        let intent = RefCell::new(new_map("intent", maps::intent_identity(&shape)));
        let mut plexes = Vec::new();
        for at in 0..active + spare {
            let uuid = new_uuid(&mut dice);
            // What a discarded block reads as is each disk's own affair.
            let disk =
                world.disk(&format!("plex-{at}"), Geometry { discard_zeroes: dice.coin(), ..geometry });
            let map = RefCell::new(new_map(&format!("behind-{at}"), maps::change_identity(&shape, uuid)));
            book.set(uuid, if at < active { Standing::Active } else { Standing::Free });
            plexes.push(PlexSite { uuid, disk, map });
        }
        let options = KeeperOptions { clean_interval: Duration::from_millis(dice.within(2..60)) };
        Rc::new(Self {
            shape,
            plexes,
            intent,
            blank: world.disk("blank", geometry),
            marks: RefCell::default(),
            book,
            run: Cell::new(run),
            options,
            dice: RefCell::new(dice),
            world,
        })
    }

    pub fn range(&self) -> ByteRange {
        ByteRange::new(0, self.shape.geometry.length)
    }

    pub fn plex(&self, uuid: Uuid) -> &PlexSite {
        self.plexes.iter().find(|plex| plex.uuid == uuid).expect("a plex of this site")
    }

    /// Those with one of these standings.
    pub fn with_standing(&self, standings: &[Standing]) -> Vec<Uuid> {
        let wanted = |plex: &&PlexSite| standings.contains(&self.book.standing(plex.uuid));
        self.plexes.iter().filter(wanted).map(|plex| plex.uuid).collect()
    }

    /// End everything where it stands: the process alone, or with the power.
    pub fn crash(&self, power: bool) {
        self.world.kill();
        let marks = self.marks.borrow();
        let plexes = self.plexes.iter().flat_map(|plex| [plex.disk.clone(), plex.map.borrow().clone()]);
        let state = marks.iter().map(|mark| mark.map.clone()).chain([self.intent.borrow().clone()]);
        let disks: Vec<SimDisk> = plexes.chain(state).collect();
        for disk in disks {
            // Whatever was to go wrong from now on does not: the host was repaired.
            disk.clear_rules();
            disk.reappear();
            if power {
                disk.power_cut(&mut self.dice.borrow_mut());
            } else {
                disk.settle();
            }
        }
        self.book.broken.set(false);
    }

    fn ending(&self) -> Ending {
        Ending { run: self.run.get(), before: None, stop: Generation(0), clean: false }
    }

    /// A copy of a map's disk to look at: loading notes the new run on it.
    fn copy(&self, disk: &SimDisk) -> SimDisk {
        disk.fork(&self.world, "copy")
    }

    /// The intent map as it lies there; every extent when it is lost.
    pub fn stored_intent(&self) -> ExtentMap {
        let (copy, host) = (self.copy(&self.intent.borrow()), self.world.host());
        let (shape, ending) = (self.shape, self.ending());
        let load = async move { maps::load_intent(host, &copy, &shape, ending, ending.run.next()).await.0 };
        let intent = self.world.block_on(load).expect("a map is loaded");
        if self.book.intent_lost.get() {
            intent.set_all();
        }
        intent
    }

    /// A change map as it lies there, together with intent.
    pub fn stored_map(&self, disk: &SimDisk, owner: Uuid, intent: &ExtentMap) -> ChangeMap {
        let (copy, host) = (self.copy(disk), self.world.host());
        let (shape, ending) = (self.shape, self.ending());
        let load =
            async move { maps::load_change(host, &copy, &shape, owner, ending, ending.run.next()).await.0 };
        let map = self.world.block_on(load).expect("a map is loaded");
        map.or_extents(intent);
        map
    }

    /// After a crash, before any repair: whatever differs is covered by maps.
    pub fn check_after_crash(&self) -> Result<(), String> {
        let intent = self.stored_intent();
        for mark in &*self.marks.borrow() {
            mark.check_snapshot(self)?;
        }
        let trusted = match self.book.source.get() {
            Some(source) => vec![source],
            None => self.with_standing(&[Standing::Active]),
        };
        for source in trusted.iter().map(|uuid| self.plex(*uuid)) {
            for plex in self.plexes.iter().filter(|plex| plex.uuid != source.uuid) {
                let standing = self.book.standing(plex.uuid);
                if matches!(standing, Standing::Free | Standing::Broken) {
                    continue;
                }
                let map = self.stored_map(&plex.map.borrow(), plex.uuid, &intent);
                let what = format!(
                    "after a crash a {standing:?} plex, source recorded: {:?}",
                    self.book.source.get()
                );
                covered(&map, &plex.disk.differences(&source.disk, self.range()), &what)?;
            }
            for mark in &*self.marks.borrow() {
                let map = self.stored_map(&mark.map, mark.uuid, &intent);
                let differences = mark.baseline.differences(&source.disk, self.range());
                covered(&map, &differences, "after a crash a change map")?;
            }
        }
        Ok(())
    }

    /// Start the volume: a new run, a source, intent merged into the maps, the route.
    pub async fn start(self: Rc<Self>) -> Rc<Running> {
        let (host, shape, ending) = (self.world.host(), self.shape, self.ending());
        let crashed = !self.book.clean.replace(false);
        let run = ending.run.next();
        self.run.set(run);
        // A cut that was not committed is rolled back: what it broke off is a mirror again.
        for mark in self.marks.borrow_mut().iter_mut() {
            mark.of = mark.of.filter(|uuid| self.book.standing(*uuid) == Standing::Broken);
        }
        let intent_disk = self.intent.borrow().clone();
        let (stored, mut intent_file, _) =
            maps::load_intent(host.clone(), &intent_disk, &shape, ending, run).await;
        if self.book.intent_lost.get() {
            // The new map says what the old one could not: everything.
            stored.set_all();
            let identity = maps::intent_identity(&shape);
            let disk = maps::disk(&self.world, "intent", &identity);
            intent_file = maps::create(host.clone(), &disk, identity, run).await;
            let pages: Vec<usize> = (0..stored.bits().pages()).collect();
            intent_file.write_pages(stored.bits(), &pages).await.expect("no fault while a map is made");
            *self.intent.borrow_mut() = disk;
            self.book.intent_lost.set(false);
        }
        let active = self.with_standing(&[Standing::Active]);
        if crashed && self.book.source.get().is_none() {
            self.book.source.set(Some(*self.dice.borrow_mut().pick(&active)));
        }
        let mut files = Vec::new();
        let mut behind = BTreeMap::new();
        let mut route = Route::new(Vec::new(), ReadPolicy::Round);
        for plex in &self.plexes {
            let standing = self.book.standing(plex.uuid);
            if matches!(standing, Standing::Free | Standing::Broken) {
                continue;
            }
            let map_disk = plex.map.borrow().clone();
            let (map, file, _) =
                maps::load_change(host.clone(), &map_disk, &shape, plex.uuid, ending, run).await;
            let map = Arc::new(map);
            if self.book.source.get() == Some(plex.uuid) {
                map.clear_all();
            } else {
                map.or_extents(&stored);
            }
            files.push((Arc::clone(&map), file));
            behind.insert(plex.uuid, Arc::clone(&map));
            let (uuid, behind) = (plex.uuid, map);
            let in_path =
                |role| RoutePlex { uuid, medium: plex.disk.clone(), role, behind: Arc::clone(&behind) };
            match standing {
                Standing::Active => route.plexes.push(in_path(Role::ReadWrite)),
                Standing::Attaching | Standing::Mirror => route.plexes.push(in_path(Role::WriteOnly)),
                Standing::Stale | Standing::StaleMirror => {
                    route.absent.push(AbsentPlex { uuid, behind, errno: Errno::IO, recorded: true });
                }
                Standing::Broken | Standing::Free => {}
            }
        }
        let sites = self.marks.borrow().clone();
        for mark in &sites {
            let (map, file, _) =
                maps::load_change(host.clone(), &mark.map, &shape, mark.uuid, ending, run).await;
            map.or_extents(&stored);
            let map = Arc::new(map);
            files.push((Arc::clone(&map), file));
            route.marks.push(map);
        }
        let marks = RefCell::new(route.marks.clone());
        let volume = Volume::new(shape, Intent::new(shape.geometry.length, stored), route);
        let clerk = Clerk(Rc::clone(&self.book));
        let keeper = Keeper::start(host.clone(), Arc::clone(&volume), intent_file, clerk, self.options);
        for (map, file) in files {
            keeper.add_map(map, file);
        }
        let queue = |_| Rc::new(VolumeQueue::new(host.clone(), Arc::clone(&volume)).expect("lanes enough"));
        let queues = (0..3).map(queue).collect();
        let (behind, swapping) = (RefCell::new(behind), tokio::sync::Mutex::new(()));
        Rc::new(Running { host, volume, keeper, queues, behind, marks, swapping })
    }
}

/// Check that `map` marks every block of `differences`.
pub fn covered(map: &ChangeMap, differences: &[u64], what: &str) -> Result<(), String> {
    match differences.iter().find(|at| !map.is_marked(ByteRange::new(**at, BLOCK))) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{what}: differs at byte {at} (block {}), which no map covers; {} blocks differ in all",
            at / BLOCK,
            differences.len()
        )),
    }
}
