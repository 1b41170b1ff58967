//! A volume with all that belongs to it: what lies on disks and survives a crash ([`Site`]), and what runs
//! ([`Running`]). It does what the daemon does around the engine, with a catalogue that commits at once or not at all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cleave::base::{ByteRange, Errno, Generation, RegionSize, Uuid};
use cleave::bitmap::{ChangeMap, ExtentMap};
use cleave::device::{BlockDevice, Clock, Durability, Geometry, Host, OwnedBuffer, Request};
use cleave::sim::{Rng, SimDisk, SimHost, World};
use cleave::volume::{
    AbsentPlex, Intent, Keeper, KeeperOptions, Ledger, Loss, Member, ReadPolicy, Role, Route, RoutePlex, Shape,
    Volume, VolumeQueue, cut,
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
    clock: cleave::sim::SimClock,
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
    /// The volume that runs, whose route says who has become the authority.
    volume: RefCell<Option<Arc<Volume<SimDisk>>>>,
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
    async fn plex_lost(&self, plex: Uuid, _: Errno) -> Result<Loss, Errno> {
        let book = &self.0;
        book.commit(|| match book.standing(plex) {
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
                    // The engine has chosen the heir before it tells the loss.
                    let volume = book.volume.borrow();
                    let route = volume.as_ref().expect("a volume runs when its keeper does").route();
                    let heir = route.readable().find(|plex| plex.behind.is_clean());
                    book.source.set(heir.map(|plex| plex.uuid));
                }
                Loss::Tracked
            }
            Standing::Broken | Standing::Free => panic!("a plex outside of the volume was lost"),
        })
        .await
    }

    async fn intent_lost(&self) -> Result<(), Errno> {
        self.0.commit(|| self.0.intent_lost.set(true)).await
    }

    fn read_failed(&self, _: Uuid, _: ByteRange, _: Errno) {
        self.0.read_failures.set(self.0.read_failures.get() + 1);
    }

    fn last_plex_failed(&self, _: Uuid, _: Errno) {
        self.0.last_plex_failures.set(self.0.last_plex_failures.get() + 1);
    }
}

/// A plex as it lies there.
pub struct PlexSite {
    pub uuid: Uuid,
    pub disk: SimDisk,
    /// The file of the map of what it lacks.
    pub map: SimDisk,
}

/// A change map as it lies there, with what the volume held when it was begun.
pub struct MarkSite {
    pub uuid: Uuid,
    pub map: SimDisk,
    pub baseline: SimDisk,
}

/// All that survives.
pub struct Site {
    pub world: Rc<World>,
    pub shape: Shape,
    pub plexes: Vec<PlexSite>,
    pub intent: SimDisk,
    pub marks: Vec<MarkSite>,
    pub book: Rc<Book>,
    pub run: Generation,
    pub options: KeeperOptions,
    dice: Rng,
    made: u8,
}

pub fn uuid(dice: &mut Rng) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&dice.next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&dice.next_u64().to_le_bytes());
    Uuid::from_random(bytes)
}

impl Site {
    /// A volume of `length` bytes with `active` ACTIVE plexes and `spare` that belong to nobody yet, all empty.
    pub fn new(world: Rc<World>, length: u64, active: usize, spare: usize) -> Self {
        let mut dice = world.split_dice();
        let geometry =
            Geometry { length, block_size: BLOCK as u32, memory_alignment: 512, discard_zeroes: true };
        let shape = Shape { uuid: uuid(&mut dice), geometry, region_size: RegionSize::DEFAULT };
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
            volume: RefCell::new(None),
        });
        let intent = maps::new_intent_file(&world, &shape);
        let mut site = Self {
            world,
            shape,
            plexes: Vec::new(),
            intent,
            marks: Vec::new(),
            book,
            run: Generation(1),
            options: KeeperOptions { clean_interval: Duration::from_millis(20) },
            dice,
            made: 0,
        };
        for at in 0..active + spare {
            let uuid = uuid(&mut site.dice);
            // What a discarded block reads as is each disk's own affair.
            let geometry = Geometry { discard_zeroes: site.dice.coin(), ..geometry };
            let disk = site.world.disk(&format!("plex-{at}"), geometry);
            let map = maps::new_change_file(&site.world, &format!("behind-{at}"), &shape, uuid);
            site.book.set(uuid, if at < active { Standing::Active } else { Standing::Free });
            site.plexes.push(PlexSite { uuid, disk, map });
        }
        site
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

    fn disks(&self) -> impl Iterator<Item = &SimDisk> {
        let plexes = self.plexes.iter().flat_map(|plex| [&plex.disk, &plex.map]);
        plexes.chain(self.marks.iter().map(|mark| &mark.map)).chain([&self.intent])
    }

    /// End everything where it stands: the process alone, or with the power.
    pub fn crash(&mut self, power: bool) {
        self.world.kill();
        *self.book.volume.borrow_mut() = None;
        let disks: Vec<SimDisk> = self.disks().cloned().collect();
        for disk in disks {
            // A repaired host: what was to go wrong from now on does not.
            disk.clear_rules();
            disk.reappear();
            if power {
                disk.power_cut(&mut self.dice);
            } else {
                disk.settle();
            }
        }
        self.book.broken.set(false);
    }

    /// What may be believed of `plex` after a crash, before anything is repaired: blocks in which it may differ.
    pub fn suspects(&self, plex: &PlexSite, intent: &ExtentMap) -> ChangeMap {
        let behind = maps::load_change(&self.world, &plex.map, &self.shape, plex.uuid, self.run);
        behind.or_extents(intent);
        behind
    }

    /// The intent map as it lies there; every extent when it is lost.
    pub fn stored_intent(&self) -> ExtentMap {
        let intent = maps::load_intent(&self.world, &self.intent, &self.shape);
        if self.book.intent_lost.get() {
            intent.set_all();
        }
        intent
    }

    /// After a crash, before any repair: whatever differs is covered by maps.
    pub fn check_after_crash(&self) -> Result<(), String> {
        let intent = self.stored_intent();
        let active = self.with_standing(&[Standing::Active]);
        let trusted = match self.book.source.get() {
            Some(source) => vec![source],
            None => active.clone(),
        };
        for source in &trusted {
            let source = self.plex(*source);
            for plex in &self.plexes {
                let standing = self.book.standing(plex.uuid);
                if plex.uuid == source.uuid || matches!(standing, Standing::Free | Standing::Broken) {
                    continue;
                }
                let map = self.suspects(plex, &intent);
                let what = format!("{standing:?} plex against source, source recorded: {:?}", self.book.source.get());
                covered(&map, &plex.disk.differences(&source.disk, self.range()), &what)?;
            }
            for mark in &self.marks {
                let map = maps::load_change(&self.world, &mark.map, &self.shape, mark.uuid, self.run);
                map.or_extents(&intent);
                covered(&map, &mark.baseline.differences(&source.disk, self.range()), "a change map")?;
            }
        }
        Ok(())
    }

    /// Start the volume: revoke CLEAN, choose a source, merge intent into the maps, open the route.
    pub fn start(&mut self) -> Running {
        let clean = self.book.clean.replace(false);
        let stored = self.stored_intent();
        assert!(!clean || stored.is_clean(), "a clean stop leaves no intent");
        let active = self.with_standing(&[Standing::Active]);
        if !clean && self.book.source.get().is_none() {
            self.book.source.set(Some(*self.dice.pick(&active)));
        }
        let source = self.book.source.get();
        let mut behind = BTreeMap::new();
        let mut route = Route::new(Vec::new(), ReadPolicy::Round);
        for plex in &self.plexes {
            let standing = self.book.standing(plex.uuid);
            if matches!(standing, Standing::Free | Standing::Broken) {
                continue;
            }
            let map = maps::load_change(&self.world, &plex.map, &self.shape, plex.uuid, self.run);
            if source == Some(plex.uuid) {
                map.clear_all();
            } else {
                map.or_extents(&stored);
            }
            let map = Arc::new(map);
            behind.insert(plex.uuid, Arc::clone(&map));
            let in_path = |role| RoutePlex {
                uuid: plex.uuid,
                medium: plex.disk.clone(),
                role,
                behind: Arc::clone(&map),
            };
            match standing {
                Standing::Active => route.plexes.push(in_path(Role::ReadWrite)),
                Standing::Attaching | Standing::Mirror => route.plexes.push(in_path(Role::WriteOnly)),
                Standing::Stale | Standing::StaleMirror => route.absent.push(AbsentPlex {
                    uuid: plex.uuid,
                    behind: Arc::clone(&map),
                    errno: Errno::IO,
                    recorded: true,
                }),
                Standing::Broken | Standing::Free => {}
            }
        }
        let mut marks = Vec::new();
        for mark in &self.marks {
            let map = maps::load_change(&self.world, &mark.map, &self.shape, mark.uuid, self.run);
            map.or_extents(&stored);
            marks.push(Arc::new(map));
        }
        route.marks = marks.clone();
        self.run = self.run.next();
        if self.book.intent_lost.replace(false) {
            // The new map says what the old one could not: everything.
            self.intent = maps::new_intent_file(&self.world, &self.shape);
            maps::store_intent(&self.world, &self.intent, &self.shape, self.run, &stored);
        }
        let volume = Volume::new(self.shape, Intent::new(self.shape.geometry.length, stored), route);
        *self.book.volume.borrow_mut() = Some(Arc::clone(&volume));
        let host = self.world.host();
        let keeper = Keeper::start(
            host.clone(),
            Arc::clone(&volume),
            maps::open_intent(&self.world, &self.intent, &self.shape, self.run),
            Clerk(Rc::clone(&self.book)),
            self.options,
        );
        for (uuid, map) in &behind {
            let file =
                maps::open_change(&self.world, &self.plex(*uuid).map, &self.shape, *uuid, self.run, map);
            keeper.add_map(Arc::clone(map), file);
        }
        for (site, map) in self.marks.iter().zip(&marks) {
            let file = maps::open_change(&self.world, &site.map, &self.shape, site.uuid, self.run, map);
            keeper.add_map(Arc::clone(map), file);
        }
        let queues = (0..3)
            .map(|_| VolumeQueue::new(host.clone(), Arc::clone(&volume)).expect("lanes enough"))
            .map(Rc::new)
            .collect();
        Running { host, volume, keeper, queues, behind, marks, book: Rc::clone(&self.book) }
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
