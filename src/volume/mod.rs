//! The data path: gate, intent, route, change maps, fan-out, read choice, and the cut.
//!
//! A [`Volume`] is what all threads share. A [`VolumeQueue`] is one thread's way into it and a block device itself; a
//! [`Keeper`] is the one place that commits intent pages, clears them again, persists change maps and decides which plex
//! is lost. The order of a write:
//!
//! 1. take its range ([`gate`]): overlapping writes keep one order, the mover's window is respected;
//! 2. enter the lane: a cut can wait for it from here on;
//! 3. intent: the bits over it are durable, or are made so;
//! 4. load the route, mark the change maps;
//! 5. submit to all plexes in the write path at once;
//! 6. failures go to the keeper, who takes the plex out durably or lets the write fail;
//! 7. leave the lane, release the range, acknowledge.
//!
//! The route is loaded after intent is set. The keeper, who takes a plex out, publishes the new route first and then
//! seeds the lost plex's map with all intent: so each write either goes by the new route or is in the seed.
//!
//! The room knows nothing of catalogues, tasks or ublk; what must be recorded durably is asked of a [`Ledger`].

pub mod cut;
mod fault;
pub mod gate;
pub mod hold;
mod intent;
mod keeper;
mod latency;
mod ledger;
mod legs;
pub mod map_file;
mod patience;
mod queue;
mod route;
mod sync;
pub mod undo_file;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use cut::{CutError, CutReport, Member};
pub use fault::Verdict;
pub use gate::{Gate, Held};
pub use hold::Hold;
pub use intent::Intent;
pub use keeper::{Keeper, KeeperOptions};
pub use latency::{Latency, Timed, Watch};
pub use ledger::{Ledger, Loss, Recorded};
pub use map_file::MapFile;
pub use patience::{HANGS_AFTER, PLEX_LIMIT, PlexDevice};
pub use queue::VolumeQueue;
pub use route::{AbsentPlex, ReadPolicy, Role, Route, RoutePlex};

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, Errno, RegionSize, Uuid};
use crate::bitmap::ChangeMap;
use crate::device::flushes::Open;
use crate::device::{Geometry, SharedFlushes};
use fault::Faults;
use patience::Waits;
use tokio::sync::Notify;

/// Whether writes are noted in intent and change maps, as the ordering rules demand. Not so only in the build that measures
/// what that costs.
pub const KEEPS_MAPS: bool = !cfg!(feature = "without-maps");

/// What a volume is made of; constant while it is started, but for a length that grows.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Identity of the volume.
    pub uuid: Uuid,
    /// Length, block size and memory alignment: the maxima over the plexes, fixed when the volume was made.
    pub geometry: Geometry,
    /// Unit of its change maps.
    pub region_size: RegionSize,
}

/// Counters of a volume since it was started.
#[derive(Default)]
pub struct Counters {
    /// Reads completed.
    pub reads: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Writes, discards and zeroes completed.
    pub writes: AtomicU64,
    /// Bytes written, discarded or zeroed.
    pub write_bytes: AtomicU64,
    /// Flushes completed.
    pub flushes: AtomicU64,
    /// Reads that one plex failed and another served.
    pub read_fallbacks: AtomicU64,
}

/// A started volume, shared by its queue threads, its keeper and the mover.
pub struct Volume<M> {
    /// As it was when it was started; but for its length.
    shape: Shape,
    /// Bytes that it has.
    length: AtomicU64,
    gate: Arc<Gate>,
    intent: Intent,
    route: Mutex<Arc<Route<M>>>,
    version: AtomicU64,
    faults: Faults,
    counters: Counters,
    latency: Arc<Latency>,
    /// Nanoseconds that a write waits for a write-only plex after the others completed it.
    write_only_limit: AtomicU64,
    /// Plexes that do not answer, and requests that were left behind at them.
    waits: Waits,
    /// Where the flushes of its plexes are counted, by plex.
    flushes: Mutex<BTreeMap<Uuid, SharedFlushes>>,
    /// Whether a write goes to several plexes from its request's own pages.
    shares_pages: AtomicBool,
    /// Hand-overs to the heir of a lost resync source that are under way.
    handing_over: AtomicU32,
    /// Tells the queues that the route was swapped.
    swapped: Arc<Notify>,
}

impl<M: Clone + Send + Sync + 'static> Volume<M> {
    /// A volume of `shape` that takes `route`, with the intent map as it was loaded.
    #[must_use]
    pub fn new(shape: Shape, intent: Intent, route: Route<M>) -> Arc<Self> {
        Arc::new(Self {
            shape,
            length: AtomicU64::new(shape.geometry.length),
            gate: Arc::new(Gate::new()),
            intent,
            version: AtomicU64::new(route.version),
            route: Mutex::new(Arc::new(route)),
            faults: Faults::default(),
            counters: Counters::default(),
            latency: Arc::default(),
            write_only_limit: AtomicU64::new(queue::WRITE_ONLY_LIMIT.as_nanos() as u64),
            waits: Waits::default(),
            flushes: Mutex::default(),
            shares_pages: AtomicBool::new(false),
            handing_over: AtomicU32::new(0),
            swapped: Arc::default(),
        })
    }

    /// What the volume is made of.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let length = self.length.load(Ordering::Relaxed);
        Shape { geometry: Geometry { length, ..self.shape.geometry }, ..self.shape }
    }

    /// The maps of this volume's route as one of `length` bytes needs them: the first step of its growth, in a swap. What it
    /// gets reads alike on the plexes in the path; those outside it lack all of that.
    #[must_use]
    pub fn grown(route: &Route<M>, length: u64) -> Route<M> {
        let mut route = route.clone();
        let grow = |map: &mut Arc<ChangeMap>, new| {
            if map.length() < length {
                *map = Arc::new(map.grown(length, new));
            }
        };
        route.plexes.iter_mut().for_each(|plex| grow(&mut plex.behind, false));
        route.absent.iter_mut().for_each(|plex| grow(&mut plex.behind, true));
        route.marks.iter_mut().for_each(|map| grow(map, true));
        route
    }

    /// Whether it can grow to `length` bytes while it runs.
    #[must_use]
    pub fn has_room_for(&self, length: u64) -> bool {
        self.intent.has_room_for(length)
    }

    /// Whether a write goes to several plexes from its request's own pages, where the device has them. Whoever changes a
    /// page while it is written then makes the plexes differ there; unless this is said, the bytes are fetched first.
    pub fn set_shares_pages(&self, shares: bool) {
        self.shares_pages.store(shares, Ordering::Relaxed);
    }

    /// The gate, for the mover's windows and for holds.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The intent map.
    #[must_use]
    pub const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// What the volume did so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long its application's requests take.
    #[must_use]
    pub const fn latency(&self) -> &Arc<Latency> {
        &self.latency
    }

    /// Count the flushes of `plex` in `counts` from now on. What is open there when the process ends is what the next one
    /// cannot know: it does not believe what the plex reads then (ordering rule 4).
    pub fn count_flushes(&self, plex: Uuid, counts: SharedFlushes) {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).insert(plex, counts);
    }

    /// Where the flushes of `plex` are counted.
    fn flushes_of(&self, plex: Uuid) -> Option<SharedFlushes> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).get(&plex).cloned()
    }

    /// A flush that every readable plex failed was told to nobody by the process that saw it: the next one fails for it.
    pub fn lose_unheard_flush(&self) {
        self.faults.lose_flush(false);
    }

    /// A failed flush was told to whom it concerns: nothing is believed of it any more. The plex that others could take the
    /// place of stays in doubt until it is recorded or made equal.
    fn flush_was_heard(&self) {
        let route = self.route();
        let mut readable = route.readable();
        if let (Some(last), None) = (readable.next(), readable.next())
            && let Some(counts) = self.flushes_of(last.uuid)
        {
            let failed = counts.open().failed;
            counts.settle(Open { all: failed, failed });
        }
    }

    /// The route in force.
    #[must_use]
    pub fn route(&self) -> Arc<Route<M>> {
        Arc::clone(&self.route.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Completes with the next swap of the route. It keeps nothing of the volume in memory.
    pub fn rerouted(&self) -> tokio::sync::futures::OwnedNotified {
        Arc::clone(&self.swapped).notified_owned()
    }

    /// Version of the route in force: what a queue compares its cached route with.
    fn route_version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Put `change` of the present route in force. Requests in flight go on by the old one: a caller who cannot have that
    /// holds the gate drained ([`cut::swap`]).
    fn publish(&self, change: impl FnOnce(&Route<M>) -> Route<M>) -> Arc<Route<M>> {
        let mut current = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = change(&current);
        next.version = current.version + 1;
        *current = Arc::new(next);
        self.version.store(current.version, Ordering::Release);
        self.swapped.notify_waiters();
        Arc::clone(&current)
    }

    /// Whether what only the lost source of a resync had is on its way to be read from its heir.
    fn is_handing_over(&self) -> bool {
        self.handing_over.load(Ordering::Acquire) > 0
    }

    /// Read `range` from `plex` from now on, if that is still in the write path.
    fn believe(&self, plex: Uuid, range: ByteRange) {
        let current = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plex) = current.plex(plex) {
            plex.behind.clear(range);
        }
    }

    /// Hold the window over `range`: no write in it is in flight while the guard lives (ordering rule 7).
    pub async fn window(&self, range: ByteRange) -> Held {
        let away = if museum::shows(Exhibit::WindowIgnoresWrites) { 1 << 60 } else { 0 };
        self.gate.acquire(ByteRange::new(range.offset + away, range.length)).await
    }

    /// How long a write waits for a write-only plex after the others completed it (ordering rule 6).
    pub fn set_write_only_limit(&self, limit: std::time::Duration) {
        self.write_only_limit.store(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long any plex is waited for while others answer: past it, it leaves as by an error. `None` is for ever.
    /// [`PLEX_LIMIT`] to begin with.
    pub fn set_plex_limit(&self, limit: Option<std::time::Duration>) {
        self.waits.set_limit(limit);
    }

    /// Requests that were left behind at plexes and have not ended.
    #[must_use]
    pub fn stragglers(&self) -> u32 {
        if museum::shows(Exhibit::ReattachWithStragglers) {
            return 0;
        }
        self.waits.stragglers()
    }

    /// Those of them at `plex`: it is attached again only when there are none.
    #[must_use]
    pub fn stragglers_of(&self, plex: Uuid) -> u32 {
        if museum::shows(Exhibit::ReattachWithStragglers) {
            return 0;
        }
        self.waits.stragglers_of(plex)
    }

    /// Whether `plex` has not answered a request for [`HANGS_AFTER`].
    #[must_use]
    pub fn hangs(&self, plex: Uuid) -> bool {
        self.waits.hangs(plex)
    }

    /// Take `plex` out of the write path at once, tracked from now on and lacking all that may be unflushed. Until its absence
    /// is recorded nothing is acknowledged that is written from then on (ordering rule 3); [`Volume::settle`] has it recorded
    /// where no write comes. Writes in flight go to it still, and are among what it lacks. False when it is not in the path.
    pub fn part_with(&self, plex: Uuid, errno: Errno) -> bool {
        if self.route().plex(plex).is_none() {
            return false;
        }
        // The new route first, then the seed: a write that still goes by the old route has its intent set.
        self.publish(|route| route.without(plex, errno));
        // The route is the mover's flag that its target failed: raised before anything is marked (rule 13).
        std::sync::atomic::fence(Ordering::SeqCst);
        for absent in self.route().absent.iter().filter(|absent| absent.uuid == plex) {
            if !museum::shows(Exhibit::LostCacheForgotten) {
                absent.behind.or_extents(self.intent.durable());
            }
        }
        true
    }

    /// Have the keeper record what has left the write path and is not recorded, without waiting for it.
    pub fn settle(&self) {
        let (verdict, _) = tokio::sync::oneshot::channel();
        self.faults.tell(fault::Report::Settle { verdict });
    }

    /// Of the readable plexes that lack something, the one that is made equal next. One at a time, and the one that lacks
    /// least first: so whoever takes the place of a source that fails has all that any other has (ordering rule 14).
    #[must_use]
    pub fn next_unequal(&self, among: impl Fn(Uuid) -> bool) -> Option<Uuid> {
        let route = self.route();
        let lacks = |plex: &&RoutePlex<M>| !plex.behind.is_clean() && among(plex.uuid);
        let readable = route.readable().filter(lacks).min_by_key(|plex| plex.behind.dirty_regions());
        let mirror = || route.plexes.iter().filter(|plex| plex.role != Role::ReadWrite).find(lacks);
        readable.or_else(mirror).map(|plex| plex.uuid)
    }

    /// Track the absent plexes no longer that `gone` names: nothing is recorded of them any more.
    pub fn forget_absent(&self, gone: impl Fn(Uuid) -> bool) {
        self.publish(|route| {
            let mut route = route.clone();
            route.absent.retain(|plex| !gone(plex.uuid));
            route
        });
    }

    /// Mark writes in `map` no longer: nothing is recorded of it any more.
    pub fn forget_mark(&self, map: &Arc<ChangeMap>) {
        self.publish(|route| {
            let mut route = route.clone();
            route.marks.retain(|known| !Arc::ptr_eq(known, map));
            route
        });
    }
}
