//! What the daemon and the mover do with a running volume: resync, attach, detach, cut, begin a map; and what must be
//! true of it when nothing is in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cleave::base::{ByteRange, Errno, Uuid};
use cleave::bitmap::ChangeMap;
use cleave::device::{BlockDevice, Checked, Host, Request, Space};
use cleave::mover::{self, Control, CopyPlan, Ended, MoverError, TargetZero, Tuning};
use cleave::sim::SimDisk;
use cleave::volume::{CutError, Member, PlexDevice, Role, Route, RoutePlex, VolumeQueue, cut};

use crate::maps;
use crate::oracle::Oracle;
use crate::pattern::{BLOCK, Stamp, stamp_of};
use crate::site::{MarkSite, Running, Site, Standing, covered, new_uuid};

/// Why a resync ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resync {
    /// The plex lacks nothing.
    Done,
    /// The plex left the write path, or no other can be read.
    GaveUp,
}

impl Running {
    async fn swap(
        &self,
        swap: impl FnOnce(&Route<SimDisk>) -> Route<SimDisk> + Send + 'static,
    ) -> Result<(), CutError> {
        // One owner, one hold after the other.
        let _one = self.swapping.lock().await;
        let member = Member { volume: Arc::clone(&self.volume), swap: Box::new(swap) };
        cut::swap(self.host.clock(), vec![member], Duration::from_secs(60)).await.map(|_| ())
    }

    /// Copy to `uuid` what it lacks, as the daemon has the mover do it.
    pub async fn resync(&self, site: &Site, uuid: Uuid) -> Resync {
        let Some(target) = self.volume.route().plex(uuid).cloned() else { return Resync::GaveUp };
        let Some(source) = VolumeQueue::new(self.host.clone(), Arc::clone(&self.volume)) else {
            return Resync::GaveUp;
        };
        let source = Checked::new(source.avoiding(uuid), "mover's source");
        let device = PlexDevice::new(&self.host, Arc::clone(&self.volume), uuid, &target.medium);
        let device = Checked::new(device, "mover's target");
        // Only after a crash: what a plex that has failed to flush reads as may stand in its cache alone.
        let compare_first = site.book.standing(uuid) == Standing::Active;
        let plan = CopyPlan {
            source: &source,
            target: &device,
            windows: &self.volume,
            map: &target.behind,
            target_zero: TargetZero::Unknown,
            compare_first,
            space: Space::Release,
            flush_every_bytes: 1 << 20,
            target_failed: &|| self.volume.route().plex(uuid).is_none(),
            tuning: Tuning::new(3, 128 << 10),
        };
        let report = mover::copy(plan, &Control::new(None), self.host.clock()).await;
        match report.ended {
            Ended::Complete if target.behind.is_clean() => Resync::Done,
            Ended::Complete | Ended::Aborted | Ended::Failed(MoverError::Read { device: 0, .. }) => {
                Resync::GaveUp
            }
            Ended::Failed(_) => {
                // What the target has flushed is not known any more: neither the mover's writes nor those of others.
                self.lose(site, uuid).await;
                Resync::GaveUp
            }
        }
    }

    /// Make all plexes equal after a crash, in the daemon's order.
    pub async fn resync_all(&self, site: &Site) {
        let mut tried = BTreeSet::new();
        while let Some(uuid) = self.volume.next_unequal(|plex| !tried.contains(&plex)) {
            tried.insert(uuid);
            self.resync_and_promote(site, uuid).await;
        }
    }

    /// Give the plex `uuid` a role.
    pub async fn give_role(&self, uuid: Uuid, role: Role) {
        let swap = self.swap(move |route| {
            let mut route = route.clone();
            route.plexes.iter_mut().filter(|plex| plex.uuid == uuid).for_each(|plex| plex.role = role);
            route
        });
        swap.await.expect("nothing is in flight");
    }

    /// Take `uuid` out of the write path, as STALE or for good, with all that it may have lost.
    pub async fn lose(&self, site: &Site, uuid: Uuid) {
        let after = match site.book.standing(uuid) {
            Standing::Active | Standing::Stale => Standing::Stale,
            Standing::Mirror | Standing::StaleMirror => Standing::StaleMirror,
            Standing::Attaching | Standing::Broken | Standing::Free => Standing::Free,
        };
        let volume = Arc::clone(&self.volume);
        let swap = self.swap(move |route| {
            let mut route = route.without(uuid, Errno::IO);
            for absent in route.absent.iter_mut().filter(|absent| absent.uuid == uuid) {
                absent.behind.or_extents(volume.intent().durable());
                absent.recorded = true;
            }
            route.absent.retain(|absent| absent.uuid != uuid || after != Standing::Free);
            route
        });
        if self.volume.route().plex(uuid).is_some() {
            site.book.set(uuid, after);
            swap.await.expect("what is in flight drains within a minute");
        }
    }

    /// Whether all writes to `uuid` from when it was in the write path have ended.
    pub fn can_attach(&self, uuid: Uuid) -> bool {
        self.volume.stragglers_of(uuid) == 0
    }

    /// Put a tracked plex back into the write path. It serves no read before it lacks nothing, and stays STALE in the
    /// catalogue until then (ordering rule 13).
    pub async fn reattach(&self, site: &Site, uuid: Uuid) -> bool {
        let medium = site.plex(uuid).disk.clone();
        let swap = self.swap(move |route| {
            let mut route = route.clone();
            if let Some(at) = route.absent.iter().position(|plex| plex.uuid == uuid && plex.recorded) {
                let behind = route.absent.remove(at).behind;
                route.plexes.push(RoutePlex { uuid, medium, role: Role::WriteOnly, behind });
            }
            route
        });
        swap.await.is_ok() && self.volume.route().plex(uuid).is_some()
    }

    /// Put a plex outside of the volume into the write path, to become a snapshot mirror. It lacks everything, or what
    /// `since` has collected since it left.
    pub async fn attach_mirror(&self, site: &Site, uuid: Uuid, since: Option<Arc<ChangeMap>>) -> bool {
        if let Some(old) = self.behind.borrow_mut().remove(&uuid) {
            self.keeper.remove_map(&old);
        }
        let identity = maps::change_identity(&site.shape, uuid);
        let disk = maps::disk(&site.world, "behind", &identity);
        let file = maps::create(self.host.clone(), &disk, identity, site.run.get()).await;
        let map = Arc::new(maps::change_map(&site.shape));
        self.keeper.add_map(Arc::clone(&map), file);
        // It collects what is written from now on before it takes over what is known.
        let behind = Arc::clone(&map);
        let collecting = self.swap(move |route| {
            let mut route = route.clone();
            match since {
                Some(since) => behind.or_from(&since),
                None => behind.mark_all(),
            }
            route.marks.push(behind);
            route
        });
        let forget = |route: &Route<SimDisk>, map: &Arc<ChangeMap>| {
            let mut route = route.clone();
            route.marks.retain(|other| !Arc::ptr_eq(other, map));
            route
        };
        if collecting.await.is_err() || self.keeper.persist_maps().await.is_err() {
            let behind = Arc::clone(&map);
            let _ = self.swap(move |route| forget(route, &behind)).await;
            self.keeper.remove_map(&map);
            return false;
        }
        *site.plex(uuid).map.borrow_mut() = disk;
        site.book.set(uuid, Standing::Attaching);
        let (medium, behind) = (site.plex(uuid).disk.clone(), Arc::clone(&map));
        let swap = self.swap(move |route| {
            let mut route = forget(route, &behind);
            route.plexes.push(RoutePlex { uuid, medium, role: Role::WriteOnly, behind });
            route
        });
        if swap.await.is_err() {
            site.book.set(uuid, Standing::Free);
            return false;
        }
        self.behind.borrow_mut().insert(uuid, map);
        true
    }

    /// Resync `uuid`, then rely on it.
    pub async fn resync_and_promote(&self, site: &Site, uuid: Uuid) {
        if self.resync(site, uuid).await != Resync::Done {
            return;
        }
        // Since the flush no wait: it is in the path and lacks nothing, or it was taken out.
        let Some(true) = self.volume.route().plex(uuid).map(|plex| plex.behind.is_clean()) else { return };
        match site.book.standing(uuid) {
            Standing::Stale => site.book.set(uuid, Standing::Active),
            Standing::StaleMirror | Standing::Attaching => site.book.set(uuid, Standing::Mirror),
            Standing::Active | Standing::Mirror | Standing::Broken | Standing::Free => {}
        }
        if site.book.standing(uuid) == Standing::Active {
            let promote = self.swap(move |route| {
                let mut route = route.clone();
                for plex in route.plexes.iter_mut().filter(|plex| plex.uuid == uuid) {
                    plex.role = Role::ReadWrite;
                }
                route
            });
            // Without the swap it is ACTIVE and serves no read, which is no fault.
            let _ = promote.await;
            if self.volume.route().readable().all(|plex| plex.behind.is_clean()) {
                site.book.source.set(None);
            }
        }
    }

    /// A new change map and its file, not yet in the route.
    async fn new_map(&self, site: &Site) -> (MarkSite, Arc<ChangeMap>) {
        let uuid = new_uuid(&mut site.dice.borrow_mut());
        let identity = maps::change_identity(&site.shape, uuid);
        let disk = maps::disk(&site.world, "map", &identity);
        let file = maps::create(self.host.clone(), &disk, identity, site.run.get()).await;
        let map = Arc::new(maps::change_map(&site.shape));
        self.keeper.add_map(Arc::clone(&map), file);
        (MarkSite { uuid, map: disk.clone(), baseline: disk, of: None }, map)
    }

    /// Swap in a route in which `map` collects what changes from that instant on, and, if one is named, a mirror is gone.
    /// What an authority and the mirror held at the instant, or nothing when it was not done.
    async fn swap_in_map(
        &self,
        map: &Arc<ChangeMap>,
        mirror: Option<Uuid>,
    ) -> Option<(SimDisk, Option<SimDisk>)> {
        let seen = Arc::new(Mutex::new(None));
        let (slot, map) = (Arc::clone(&seen), Arc::clone(map));
        let swapped = self.swap(move |before| {
            let mut route = before.clone();
            let Some(origin) = before.readable().find(|plex| plex.behind.is_clean()) else { return route };
            let mut copy = None;
            if let Some(uuid) = mirror {
                let ready = |plex: &RoutePlex<SimDisk>| plex.uuid == uuid && plex.behind.is_clean();
                let Some(at) = route.plexes.iter().position(ready) else { return route };
                copy = Some(route.plexes.remove(at).medium.copy("snapshot"));
            }
            route.marks.push(map);
            *slot.lock().unwrap() = Some((origin.medium.copy("baseline"), copy));
            route
        });
        swapped.await.ok()?;
        seen.lock().unwrap().take()
    }

    /// Break the mirror `uuid` off: from one instant on it is a snapshot, and a new map collects what changes. `look` is
    /// given what origin and snapshot held at that instant, while nothing else has happened since.
    pub async fn cut(&self, site: &Site, uuid: Uuid, look: impl FnOnce(&SimDisk, &SimDisk)) -> bool {
        if site.book.standing(uuid) != Standing::Mirror {
            return false;
        }
        let (mark, map) = self.new_map(site).await;
        // PREPARED is durable: from here to the commit the intent bits tell what a rollback must resync.
        self.volume.intent().pin();
        let Some((origin, Some(snapshot))) = self.swap_in_map(&map, Some(uuid)).await else {
            self.keeper.remove_map(&map);
            self.volume.intent().unpin();
            return false;
        };
        look(&origin, &snapshot);
        self.marks.borrow_mut().push(map);
        site.marks.borrow_mut().push(MarkSite { of: Some(uuid), baseline: snapshot, ..mark });
        if let Some(old) = self.behind.borrow_mut().remove(&uuid) {
            self.keeper.remove_map(&old);
        }
        let flushed = self.host.open(&site.plex(uuid).disk).submit(Request::Flush).await.is_ok();
        // Without its flush the snapshot is not believed; its disk is nobody's then.
        site.book.set(uuid, if flushed { Standing::Broken } else { Standing::Free });
        self.volume.intent().unpin();
        flushed
    }

    /// Begin a change map, as for a backup.
    pub async fn begin_map(&self, site: &Site) -> bool {
        let (mark, map) = self.new_map(site).await;
        let Some((baseline, _)) = self.swap_in_map(&map, None).await else {
            self.keeper.remove_map(&map);
            return false;
        };
        self.marks.borrow_mut().push(map);
        site.marks.borrow_mut().push(MarkSite { baseline, ..mark });
        true
    }

    /// With nothing in flight: what differs is known to differ, and what is read is what the oracle says.
    pub fn check_quiet(&self, site: &Site, oracle: &Oracle) -> Result<(), String> {
        let route = self.volume.route();
        let source = route.readable().find(|plex| plex.behind.is_clean()).ok_or("no plex is in step")?;
        let absent = route.absent.iter().map(|plex| (plex.uuid, &plex.behind));
        let present = route.plexes.iter().map(|plex| (plex.uuid, &plex.behind));
        for (uuid, behind) in present.chain(absent).filter(|(uuid, _)| *uuid != source.uuid) {
            let standing = site.book.standing(uuid);
            let differences = site.plex(uuid).disk.differences(&source.medium, site.range());
            covered(behind, &differences, &format!("at rest a {standing:?} plex"))?;
        }
        for (mark, map) in site.marks.borrow().iter().zip(&*self.marks.borrow()) {
            let differences = mark.baseline.differences(&source.medium, site.range());
            covered(map, &differences, "at rest a change map")?;
        }
        for mark in &*site.marks.borrow() {
            mark.check_snapshot(site)?;
        }
        let unwritten = site.blank.differences(&source.medium, site.range());
        let known: BTreeSet<u64> = oracle.blocks().collect();
        if let Some(at) = unwritten.iter().find(|at| !known.contains(&(*at / BLOCK))) {
            return Err(format!("at rest byte {at}, never written, is not zero"));
        }
        for (block, stamp) in held(&source.medium, oracle.blocks())? {
            let allowed = oracle.now(block);
            if !allowed.contains(&stamp) {
                return Err(format!("at rest block {block} holds write {stamp}, allowed are {allowed:?}"));
            }
        }
        Ok(())
    }
}

/// What `disk` holds in `blocks`.
pub fn held(disk: &SimDisk, blocks: impl Iterator<Item = u64>) -> Result<BTreeMap<u64, Stamp>, String> {
    blocks
        .map(|block| Ok((block, stamp_of(block, &disk.peek(ByteRange::new(block * BLOCK, BLOCK)))?)))
        .collect()
}
