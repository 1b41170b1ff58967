//! The gate: what every request passes on its way in, so that a cut can stop them all and overlapping writes keep one
//! order.
//!
//! Two independent parts, passed in this order:
//!
//! * **Ranges** ([`Gate::acquire`], ordering rules 7 and 8). Every write and every window of the mover takes the range it
//!   touches, in order of arrival: it waits until no earlier entry overlaps it, and everything else runs on. The table is
//!   cut into shards by address; an entry is put into all its shards at once, so two overlapping entries have one order
//!   in every shard that they share, and no circle of waiting can arise. Reads take no range.
//! * **Lanes** ([`Gate::enter`], ordering rule 11). Every queue counts its requests in flight in a counter of its own.
//!   Entering is count-then-check: count, then look whether the gate is held; a held gate takes the count back and parks.
//!   Holding is publish-then-drain: publish the hold, then wait for all lanes to reach zero. A sequentially consistent
//!   fence stands between the two steps on both sides, so that at least one side sees the other.
//!
//! A request that waits for its range is not counted in a lane yet: it is new, not in flight, and a hold does not wait for
//! it.

use std::ops::Deref;
use std::task::{Poll, Waker};

use crate::base::museum::{self, Exhibit};
use crate::base::{ByteRange, limits::MIB};

use super::hold::Hold;
use super::sync::{Arc, AtomicBool, AtomicU32, AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock};

/// Shards of the range table; one for the model checker, whose state space grows with every lock.
const SHARDS: usize = if cfg!(feature = "model-check") { 1 } else { 64 };

/// Bytes of consecutive addresses that share a shard: most requests and windows then lie in one or two.
const SHARD_BYTES: u64 = MIB;

/// Queues, and other hands that submit to the volume, that can exist at once: queue threads and the restore path.
const LANES: usize = if cfg!(feature = "model-check") { 2 } else { 64 };

/// A counter alone on its cache line: each lane is written by one thread all the time.
#[repr(align(128))]
struct Lane {
    in_flight: AtomicU32,
    taken: AtomicBool,
}

/// What a waiting entry waits on.
pub(super) struct Waiter {
    /// Pairs of (shard, earlier overlapping entry) that are still there.
    blockers: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Waiter {
    /// None where there is no blocker.
    fn behind(blockers: usize) -> Option<Arc<Self>> {
        let waiter = || Arc::new(Self { blockers: AtomicUsize::new(blockers), waker: Mutex::new(None) });
        (blockers > 0).then(waiter)
    }

    pub(super) async fn wait(&self) {
        std::future::poll_fn(|cx| {
            if self.blockers.load(Ordering::Acquire) == 0 {
                return Poll::Ready(());
            }
            *lock(&self.waker) = Some(cx.waker().clone());
            // The last blocker may have gone between the look and the registration.
            if self.blockers.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

struct Entry {
    ticket: usize,
    range: ByteRange,
    /// Absent when nothing stood in the way on arrival.
    waiter: Option<Arc<Waiter>>,
}

#[derive(Default)]
struct Shard {
    /// In order of arrival.
    entries: Vec<Entry>,
}

impl Shard {
    /// How many entries overlap `range`.
    fn overlapping(&self, range: ByteRange) -> usize {
        self.entries.iter().filter(|entry| entry.range.overlaps(range)).count()
    }

    /// Take out the entry of `ticket`; those that waited for it last are put into `woken`.
    fn remove(&mut self, ticket: usize, range: ByteRange, woken: &mut Vec<Arc<Waiter>>) {
        let at = self.entries.iter().position(|entry| entry.ticket == ticket);
        let at = at.expect("an entry stands in all its shards until it is removed");
        self.entries.remove(at);
        for later in self.entries[at..].iter().filter(|later| later.range.overlaps(range)) {
            let waiter = later.waiter.as_ref().expect("an entry behind an overlapping one waits");
            // AcqRel: the later request sees all that the earlier one did.
            if waiter.blockers.fetch_sub(1, Ordering::AcqRel) == 1 {
                woken.push(Arc::clone(waiter));
            }
        }
    }
}

/// The gate of one volume.
pub struct Gate {
    held: AtomicBool,
    hold: Mutex<Option<Arc<Hold>>>,
    lanes: Box<[Lane]>,
    parked: Mutex<Vec<Waker>>,
    shards: Box<[Mutex<Shard>]>,
    /// The last one given out; only their difference counts.
    ticket: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        let lane = || Lane { in_flight: AtomicU32::new(0), taken: AtomicBool::new(false) };
        Self {
            held: AtomicBool::new(false),
            hold: Mutex::new(None),
            lanes: (0..LANES).map(|_| lane()).collect(),
            parked: Mutex::new(Vec::new()),
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            ticket: AtomicUsize::new(0),
        }
    }

    /// A lane for a queue thread, until it is given back by [`Gate::return_lane`]; `None` when all are taken.
    pub fn take_lane(&self) -> Option<usize> {
        self.lanes.iter().position(|lane| {
            lane.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Give back a lane that nothing is in flight on.
    pub fn return_lane(&self, lane: usize) {
        debug_assert_eq!(self.lanes[lane].in_flight.load(Ordering::Relaxed), 0);
        self.lanes[lane].taken.store(false, Ordering::Release);
    }

    /// Count a request into `lane`, or learn which hold is in force. Only the lane's own thread calls this.
    pub fn try_enter(&self, lane: usize) -> Result<(), Option<Arc<Hold>>> {
        let counter = &self.lanes[lane].in_flight;
        // A plain load and store: this thread is the lane's only writer.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.held.load(Ordering::Acquire) {
            return Ok(());
        }
        self.leave(lane);
        Err(lock(&self.hold).clone())
    }

    /// Count a request into `lane`, after the hold that may be in force. `on_park` is told the hold once, when the
    /// request has to wait for it, so that the queue thread can watch its deadline.
    pub async fn enter(&self, lane: usize, on_park: impl Fn(Arc<Hold>)) {
        let mut told = false;
        std::future::poll_fn(|cx| {
            loop {
                let hold = match self.try_enter(lane) {
                    Ok(()) => return Poll::Ready(()),
                    Err(hold) => hold,
                };
                let mut parked = lock(&self.parked);
                // Released meanwhile: the list was emptied before we came to stand on it.
                if !self.held.load(Ordering::Acquire) {
                    continue;
                }
                parked.push(cx.waker().clone());
                drop(parked);
                if let (false, Some(hold)) = (told, hold) {
                    told = true;
                    on_park(hold);
                }
                return Poll::Pending;
            }
        })
        .await;
    }

    /// Take a request out of `lane`.
    pub fn leave(&self, lane: usize) {
        let counter = &self.lanes[lane].in_flight;
        let left = counter.load(Ordering::Relaxed) - 1;
        // Release: what the request did is seen by who finds the lane empty.
        counter.store(left, Ordering::Release);
        fence(Ordering::SeqCst);
        if left == 0
            && self.held.load(Ordering::Acquire)
            && let Some(hold) = lock(&self.hold).as_ref()
        {
            hold.wake();
        }
    }

    /// Hold the gate: requests that come from now on wait until [`Gate::release`].
    ///
    /// # Panics
    /// When it is held already: holds on one volume are made by one owner, one after the other.
    pub fn hold(&self, hold: &Arc<Hold>) {
        let before = lock(&self.hold).replace(Arc::clone(hold));
        assert!(before.is_none(), "the gate is held already");
        self.held.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether no request is in flight on any lane. Means something only while the gate is held.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        fence(Ordering::SeqCst);
        self.lanes.iter().all(|lane| lane.in_flight.load(Ordering::Acquire) == 0)
    }

    /// Let requests in again and wake those that wait; does nothing unless `hold` is the one in force.
    pub fn release(&self, hold: &Arc<Hold>) {
        let mut current = lock(&self.hold);
        if !current.as_ref().is_some_and(|held| Arc::ptr_eq(held, hold)) {
            return;
        }
        *current = None;
        self.held.store(false, Ordering::Release);
        drop(current);
        for waker in std::mem::take(&mut *lock(&self.parked)) {
            waker.wake();
        }
    }

    /// Take `range`, after every earlier entry that overlaps it.
    pub async fn acquire(self: &Arc<Self>, range: ByteRange) -> Held {
        let (ticket, waiter) = self.insert(range);
        let held = Held { gate: Arc::clone(self), ticket, range };
        if let Some(waiter) = waiter {
            waiter.wait().await;
        }
        held
    }

    /// As [`acquire`](Self::acquire) for whoever borrows the gate: the range is held once the second is waited for, if there
    /// is one. A request that nothing stands before needs no future for it.
    pub(super) fn arrive(&self, range: ByteRange) -> (Held<&Self>, Option<Arc<Waiter>>) {
        let (ticket, waiter) = self.insert(range);
        (Held { gate: self, ticket, range }, waiter)
    }

    /// Take `range` only if nothing that overlaps it is there.
    pub fn try_acquire(self: &Arc<Self>, range: ByteRange) -> Option<Held> {
        let mut shards = self.lock_shards(range);
        if shards.iter().any(|shard| shard.entries.iter().any(|entry| entry.range.overlaps(range))) {
            return None;
        }
        let ticket = self.next_ticket();
        for shard in shards.iter_mut() {
            shard.entries.push(Entry { ticket, range, waiter: None });
        }
        Some(Held { gate: Arc::clone(self), ticket, range })
    }

    fn next_ticket(&self) -> usize {
        self.ticket.fetch_add(1, Ordering::Relaxed)
    }

    /// The one shard that all of `range` is in, as of nearly all requests.
    fn only_shard(&self, range: ByteRange) -> Option<MutexGuard<'_, Shard>> {
        let first = range.offset / SHARD_BYTES;
        let last = (range.end().max(range.offset + 1) - 1) / SHARD_BYTES;
        let one = first == last || museum::shows(Exhibit::SpanningWriteCountedOnce);
        one.then(|| lock(&self.shards[(first % SHARDS as u64) as usize]))
    }

    /// The shards of `range`, locked in ascending order of their index, which every taker keeps to.
    fn lock_shards(&self, range: ByteRange) -> Shards<'_> {
        if let Some(shard) = self.only_shard(range) {
            return Shards::One([shard]);
        }
        let first = range.offset / SHARD_BYTES;
        let count = (range.end().max(range.offset + 1) - 1) / SHARD_BYTES - first + 1;
        let at = |chunk: u64| (chunk % SHARDS as u64) as usize;
        match count {
            n if n >= SHARDS as u64 => Shards::Many(self.shards.iter().map(lock).collect()),
            n => {
                let mut indices: Vec<usize> = (first..first + n).map(at).collect();
                indices.sort_unstable();
                Shards::Many(indices.into_iter().map(|index| lock(&self.shards[index])).collect())
            }
        }
    }

    fn insert(&self, range: ByteRange) -> (usize, Option<Arc<Waiter>>) {
        if let Some(mut shard) = self.only_shard(range) {
            let ticket = self.next_ticket();
            let waiter = Waiter::behind(shard.overlapping(range));
            shard.entries.push(Entry { ticket, range, waiter: waiter.clone() });
            return (ticket, waiter);
        }
        let mut shards = self.lock_shards(range);
        let ticket = self.next_ticket();
        let waiter = Waiter::behind(shards.iter().map(|shard| shard.overlapping(range)).sum());
        for shard in shards.iter_mut() {
            shard.entries.push(Entry { ticket, range, waiter: waiter.clone() });
        }
        (ticket, waiter)
    }

    fn remove(&self, ticket: usize, range: ByteRange) {
        let mut woken = Vec::new();
        if let Some(mut shard) = self.only_shard(range) {
            shard.remove(ticket, range, &mut woken);
        } else {
            self.lock_shards(range).iter_mut().for_each(|shard| shard.remove(ticket, range, &mut woken));
        }
        for waiter in woken {
            if let Some(waker) = lock(&waiter.waker).take() {
                waker.wake();
            }
        }
    }
}

enum Shards<'a> {
    /// As nearly always: no allocation.
    One([MutexGuard<'a, Shard>; 1]),
    Many(Vec<MutexGuard<'a, Shard>>),
}

impl<'a> Shards<'a> {
    fn iter(&self) -> impl Iterator<Item = &Shard> {
        let guards: &[MutexGuard<'a, Shard>] = match self {
            Self::One(guard) => guard,
            Self::Many(guards) => guards,
        };
        guards.iter().map(|guard| &**guard)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        let guards: &mut [MutexGuard<'a, Shard>] = match self {
            Self::One(guard) => guard,
            Self::Many(guards) => guards,
        };
        guards.iter_mut().map(|guard| &mut **guard)
    }
}

/// A range that is held; dropping it lets the next in line go on.
pub struct Held<G: Deref<Target = Gate> = Arc<Gate>> {
    gate: G,
    ticket: usize,
    range: ByteRange,
}

impl<G: Deref<Target = Gate>> Held<G> {
    /// The held range.
    #[must_use]
    pub const fn range(&self) -> ByteRange {
        self.range
    }
}

impl<G: Deref<Target = Gate>> Drop for Held<G> {
    fn drop(&mut self) {
        self.gate.remove(self.ticket, self.range);
    }
}

#[cfg(all(test, not(feature = "model-check")))]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn rule_08_overlapping_writes_go_in_order_of_arrival() {
        let gate = Arc::new(Gate::new());
        let first = poll(pin!(gate.acquire(ByteRange::new(0, 4096)))).unwrap();
        let mut second = pin!(gate.acquire(ByteRange::new(2048, 4096)));
        assert!(poll(second.as_mut()).is_none());
        // Overlaps only the second, which waits: it must not overtake it.
        let mut third = pin!(gate.acquire(ByteRange::new(5000, 10)));
        assert!(poll(third.as_mut()).is_none());
        let other = poll(pin!(gate.acquire(ByteRange::new(8192, 4096))));
        assert!(other.is_some(), "everything else runs on");
        drop(first);
        let second = poll(second).unwrap();
        assert!(poll(third.as_mut()).is_none());
        drop(second);
        assert!(poll(third).is_some());
    }

    #[test]
    fn rule_07_a_request_is_counted_into_all_its_shards_or_none() {
        let gate = Arc::new(Gate::new());
        let window = poll(pin!(gate.acquire(ByteRange::new(3 * SHARD_BYTES, SHARD_BYTES)))).unwrap();
        let mut wide = pin!(gate.acquire(ByteRange::new(0, 80 * SHARD_BYTES)));
        assert!(poll(wide.as_mut()).is_none());
        assert!(
            gate.try_acquire(ByteRange::new(70 * SHARD_BYTES, 1)).is_none(),
            "it stands behind the wide one"
        );
        drop(window);
        drop(poll(wide).unwrap());
        assert!(gate.try_acquire(ByteRange::new(70 * SHARD_BYTES, 1)).is_some());
        assert!(gate.shards.iter().all(|shard| lock(shard).entries.is_empty()));
    }

    #[test]
    fn a_waiting_entry_that_is_dropped_blocks_nobody() {
        let gate = Arc::new(Gate::new());
        let first = poll(pin!(gate.acquire(ByteRange::new(0, 10)))).unwrap();
        {
            let mut waiting = Box::pin(gate.acquire(ByteRange::new(0, 10)));
            assert!(poll(waiting.as_mut()).is_none());
        }
        drop(first);
        assert!(gate.try_acquire(ByteRange::new(0, 10)).is_some());
    }

    #[test]
    fn rule_11_a_hold_waits_for_what_is_in_flight_and_parks_the_rest() {
        let gate = Gate::new();
        let lane = gate.take_lane().unwrap();
        assert!(gate.try_enter(lane).is_ok());
        let hold = Arc::new(Hold::new(crate::device::Moment(u64::MAX)));
        gate.hold(&hold);
        assert!(!gate.is_drained());
        let parked = std::cell::Cell::new(0);
        let mut second = pin!(gate.enter(lane, |_| parked.set(parked.get() + 1)));
        assert!(poll(second.as_mut()).is_none());
        assert_eq!(parked.get(), 1);
        gate.leave(lane);
        assert!(gate.is_drained(), "a parked request counts as new");
        gate.release(&hold);
        assert!(poll(second).is_some());
        assert!(!gate.is_drained());
    }
}

#[cfg(all(test, feature = "model-check"))]
mod model {
    use super::*;
    use crate::device::Moment;
    use loom::future::block_on;
    use loom::thread;

    /// Be alone here, or panic.
    fn visit(inside: &AtomicBool) {
        assert!(!inside.swap(true, Ordering::Relaxed), "two are inside together");
        inside.store(false, Ordering::Relaxed);
    }

    /// A request that entered and a holder that found the gate drained are never inside together.
    #[test]
    fn rule_11_hold_and_request_exclude_each_other() {
        loom::model(|| {
            let gate = Arc::new(Gate::new());
            let inside = Arc::new(AtomicBool::new(false));
            let lane = gate.take_lane().unwrap();
            let request = {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                thread::spawn(move || {
                    block_on(gate.enter(lane, |_| {}));
                    visit(&inside);
                    gate.leave(lane);
                })
            };
            let hold = Arc::new(Hold::new(Moment(u64::MAX)));
            gate.hold(&hold);
            if gate.is_drained() {
                visit(&inside);
            }
            gate.release(&hold);
            request.join().unwrap();
        });
    }

    /// Two overlapping writers on different threads are never inside together, and both get there.
    #[test]
    fn rule_08_overlapping_ranges_exclude_each_other() {
        loom::model(|| {
            let gate = Arc::new(Gate::new());
            let inside = Arc::new(AtomicBool::new(false));
            let write = |offset| {
                let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
                move || {
                    let held = block_on(gate.acquire(ByteRange::new(offset, 10)));
                    visit(&inside);
                    drop(held);
                }
            };
            let other = thread::spawn(write(5));
            write(0)();
            other.join().unwrap();
        });
    }
}
