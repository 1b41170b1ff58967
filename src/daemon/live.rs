//! A started volume: its data path, its keeper, its device.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Errno, Kind, Name, Refusal, Refused, Uuid};
use crate::bitmap::ChangeMap;
use crate::control::row::IoCounts;
use crate::device::Moment;
use crate::device::flushes::Open;
use crate::mover::Control;
use crate::volume::cut::{self, Swap};
use crate::volume::{CutReport, Member, Role, Route, RoutePlex, Volume};

use super::keepers::KeeperHandle;
use super::machine::{Machine, Ring, Shown};
use super::this_host::ThisHost;

/// How long a change of a route may hold requests before it backs out.
pub const HOLD_LIMIT: Duration = Duration::from_secs(5);

/// How often a change of a role is tried.
const ROLE_ATTEMPTS: u32 = 5;

/// A started volume.
pub struct Live<M: Machine = ThisHost> {
    pub(super) machine: M,
    pub(super) holds: Rc<tokio::sync::Mutex<()>>,
    /// Its group.
    pub group: Name,
    /// Its name.
    pub name: Name,
    /// The data path.
    pub volume: Arc<Volume<M::Medium>>,
    /// Its keeper.
    pub keeper: KeeperHandle<M>,
    /// The file of its intent map.
    pub(super) intent_medium: M::Medium,
    /// Its device, from the moment at which it serves.
    pub device: RefCell<Option<M::Device>>,
    /// N of `/dev/ublkbN`.
    pub number: Cell<Option<u32>>,
    /// Nothing is copied before it.
    pub respite: Cell<Moment>,
    /// The jobs of the mover on it, each with the plex or volume that it works on.
    pub(super) jobs: RefCell<BTreeMap<u64, (Uuid, Control)>>,
    /// Number of the next of them.
    pub(super) next_job: Cell<u64>,
    /// Plexes that may read as they will not stay, until they are made equal.
    pub(super) doubts: RefCell<BTreeMap<Uuid, Open>>,
    /// Why plexes left its write path that nobody took out, until they are attached again.
    pub(super) lost: RefCell<BTreeMap<Uuid, Errno>>,
    /// When its last plex failed a request, if it did.
    pub failed: Cell<Option<crate::device::Moment>>,
    /// What had been counted when it was counted anew.
    pub counted: Cell<IoCounts>,
    /// A stop is under way: no new job is begun.
    pub stopping: Cell<bool>,
}

/// A job of the mover that is under way; gone when this is dropped.
pub struct AtWork<M: Machine> {
    live: Rc<Live<M>>,
    number: u64,
}

impl<M: Machine> Drop for AtWork<M> {
    fn drop(&mut self) {
        self.live.jobs.borrow_mut().remove(&self.number);
    }
}

impl<M: Machine> Live<M> {
    /// Note that a job works on `object`: it is aborted when that goes, and waited for when the volume stops.
    #[must_use]
    pub fn at_work(self: &Rc<Self>, object: Uuid, control: Control) -> AtWork<M> {
        let number = self.next_job.get();
        self.next_job.set(number + 1);
        self.jobs.borrow_mut().insert(number, (object, control));
        AtWork { live: Rc::clone(self), number }
    }

    /// # Errors
    /// It is being stopped: no job may begin.
    pub fn check_stays(&self) -> Result<(), Refused> {
        if self.stopping.get() {
            return Err(Refusal::new(Kind::Busy, "volume.stopping", &self.name, "is being stopped", ""));
        }
        Ok(())
    }

    /// What its device was asked for since it was counted anew, which it is from now on if `reset`.
    pub fn counts(&self, reset: bool) -> IoCounts {
        let now = self.device.borrow().as_ref().map(Shown::counts).unwrap_or_default();
        let before = self.counted.get();
        if reset {
            self.counted.set(now);
        }
        now.since(&before)
    }

    /// Whether a job works on `object`.
    #[must_use]
    pub fn is_at_work_on(&self, object: Uuid) -> bool {
        self.jobs.borrow().values().any(|(on, _)| *on == object)
    }

    /// Abort the jobs on the objects that `which` names.
    pub fn abort_jobs(&self, which: impl Fn(Uuid) -> bool) {
        self.jobs.borrow().values().filter(|(on, _)| which(*on)).for_each(|(_, control)| control.abort());
    }

    /// Swap routes of one or several volumes while nothing of theirs is in flight.
    ///
    /// # Errors
    /// [`Errno::TIMED_OUT`] when they did not drain within `limit`; nothing was changed.
    pub async fn swap(
        ring: &M::Ring,
        members: Vec<(Rc<Self>, Swap<M::Medium>)>,
        limit: Duration,
    ) -> Result<CutReport, Errno> {
        let Some(holds) = members.first().map(|(live, _)| Rc::clone(&live.holds)) else {
            return Err(Errno::INVALID);
        };
        let members: Vec<_> =
            members.into_iter().map(|(live, swap)| (Arc::clone(&live.volume), swap)).collect();
        let _one = holds.lock().await;
        let outcome = ring.run(move |host| async move {
            let members = members.into_iter().map(|(volume, swap)| Member { volume, swap }).collect();
            cut::swap(crate::device::Host::clock(&host), members, limit).await
        });
        match outcome.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(cut::CutError::TimedOut(_))) => Err(Errno::TIMED_OUT),
            Err(_) => Err(Errno::IO),
        }
    }

    /// Swap the route of this volume alone.
    ///
    /// # Errors
    /// As [`Live::swap`].
    pub async fn reroute(
        self: &Rc<Self>,
        ring: &M::Ring,
        change: impl FnOnce(&Route<M::Medium>) -> Route<M::Medium> + Send + 'static,
    ) -> Result<(), Errno> {
        Self::swap(ring, vec![(Rc::clone(self), Box::new(change))], HOLD_LIMIT).await.map(|_| ())
    }

    /// Have the data path reach to `length` bytes, no fewer than before; the file of the intent map has the room. Nothing is sent
    /// there before the device is longer too.
    ///
    /// # Errors
    /// As [`Live::swap`], and when the intent map cannot be written.
    pub async fn grow(self: &Rc<Self>, ring: &M::Ring, length: u64) -> Result<(), Errno> {
        // The change maps first: while the intent map is shorter, every one of them holds what it says.
        let mut grown = Err(Errno::TIMED_OUT);
        for _ in 0..ROLE_ATTEMPTS {
            grown = self.reroute(ring, move |route| Volume::grown(route, length)).await;
            if grown != Err(Errno::TIMED_OUT) {
                break;
            }
        }
        grown?;
        self.keeper.grow(length).await
    }

    /// Take `plex` into the write path, or give it a new role there.
    ///
    /// # Errors
    /// As [`Live::swap`].
    pub async fn attach(self: &Rc<Self>, ring: &M::Ring, plex: RoutePlex<M::Medium>) -> Result<(), Errno> {
        self.reroute(ring, move |route| {
            let mut route = route.clone();
            route.absent.retain(|absent| absent.uuid != plex.uuid);
            route.marks.retain(|map| !Arc::ptr_eq(map, &plex.behind));
            match route.plexes.iter_mut().find(|old| old.uuid == plex.uuid) {
                Some(old) => *old = plex,
                None => route.plexes.push(plex),
            }
            route
        })
        .await
    }

    /// Give `plex` a new role and an empty map, if it is in the write path and lacks nothing.
    ///
    /// # Errors
    /// As [`Live::swap`].
    pub async fn give_role(self: &Rc<Self>, ring: &M::Ring, plex: Uuid, role: Role) -> Result<(), Errno> {
        let change = move |route: &Route<M::Medium>| {
            let mut route = route.clone();
            // One that has left meanwhile stays out.
            let found = route.plexes.iter_mut().find(|found| found.uuid == plex && found.behind.is_clean());
            if let Some(found) = found {
                if role != Role::Joining {
                    found.behind =
                        Arc::new(ChangeMap::new(found.behind.length(), found.behind.region_size()));
                }
                found.role = role;
            }
            route
        };
        // A long copy is not given up for one request that takes its time.
        for _ in 1..ROLE_ATTEMPTS {
            match self.reroute(ring, change).await {
                Err(Errno::TIMED_OUT) => self.machine.sleep(HOLD_LIMIT).await,
                outcome => return outcome,
            }
        }
        self.reroute(ring, change).await
    }

    /// Take `plexes` out of the write path. Until the record says so too, nothing is acknowledged (ordering rule 3). Nothing
    /// is waited for: a write that fails on one of them waits for the very record that is in the making.
    pub fn detach(&self, plexes: &[Uuid]) {
        for plex in plexes {
            self.volume.part_with(*plex, Errno::GONE);
        }
    }

    /// Mark every write in `map` too, from a moment at which none is in flight.
    ///
    /// # Errors
    /// As [`Live::swap`].
    pub async fn track(self: &Rc<Self>, ring: &M::Ring, map: Arc<ChangeMap>) -> Result<(), Errno> {
        self.reroute(ring, move |route| {
            let mut route = route.clone();
            if !route.marks.iter().any(|known| Arc::ptr_eq(known, &map)) {
                route.marks.push(map);
            }
            route
        })
        .await
    }
}
