//! The intent map as the data path sees it, and the committer that makes bits durable.
//!
//! Three maps with one bit an extent:
//!
//! * `live`: durable on disk and not being cleaned. A write whose extents are all live goes on after one load.
//! * `durable`: what may stand on disk, a superset of `live`. It is the crash's view: all that a lost plex may miss.
//! * `touched`: written since the cleaner last looked.
//!
//! No more than a set number of extents is durable at once, so that a crash has no more to look at: the committer clears
//! what was not written lately before it sets more. It goes round like the hand of a clock, and what was written since the
//! hand came by last is spared once. What has a write in flight is never cleared: the number is exceeded by that at most, and
//! while nothing may be cleared at all (between a cut and its commit, or while plexes are made equal).
//!
//! Beside them, finer and in memory that outlives the process, the [`UnflushedMap`]: the regions that were written under these
//! bits. A daemon that takes over makes equal what it says; after a power cut it is gone, and whole extents are.
//!
//! A write that finds an extent not live asks the committer and waits (ordering rule 1). The committer serves all that
//! wait together: one page write for many bits. It is the only one who changes `durable` and the pages, and it runs on
//! one thread, so that set and clear of one page never cross. Several [`Cleaning`]s may be under way at once, as the
//! cleaner's own and one that makes room: each clears only what it has retired and nobody was granted since, for its flush
//! may have begun before that write has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::base::limits::MAX_VOLUME_BYTES;
use crate::base::{ByteRange, Errno, Extent};
use crate::bitmap::{ChangeMap, ExtentMap, UnflushedMap};
use crate::state::settings::DEFAULT_DIRTY_EXTENTS;

/// A write that waits for its bits.
pub(super) struct Wanted {
    range: ByteRange,
    answer: oneshot::Sender<Result<(), Errno>>,
}

/// A cleaning under way: extents that are retired, flushed, and then cleared.
pub(super) struct Cleaning<'a> {
    intent: &'a Intent,
    number: u64,
}

impl Drop for Cleaning<'_> {
    fn drop(&mut self) {
        self.intent.cleanings().retired.remove(&self.number);
    }
}

#[derive(Default)]
struct Cleanings {
    /// Number of the next one.
    next: u64,
    /// By cleaning, the extents that it may clear.
    retired: BTreeMap<u64, BTreeSet<Extent>>,
}

/// The intent map in memory, shared by queue threads and the keeper.
pub struct Intent {
    live: ExtentMap,
    durable: ExtentMap,
    touched: ExtentMap,
    unflushed: Option<UnflushedMap>,
    wanted: Mutex<Vec<Wanted>>,
    cleanings: Mutex<Cleanings>,
    /// Tells the committer that somebody waits.
    pub(super) asked: Notify,
    /// Tells the cleaner that there is something to clean.
    pub(super) dirtied: Notify,
    /// Cuts between PREPARED and commit: while above zero no bit is cleared (ordering rule 11).
    pinned: AtomicU32,
    /// Extents that may be durable at once.
    cap: AtomicU64,
    /// Where the next one to be cleared for another is looked for.
    hand: AtomicU64,
    /// Ordering rule 18: pages cannot be written, every bit counts as set.
    lost: AtomicBool,
    /// The committer has ended: nobody will answer.
    closed: AtomicBool,
}

impl Intent {
    /// Bytes to which the map of a volume of `length` bytes can grow while it is used: four times as many, and 64 TiB at least,
    /// for which all its maps take 40 KiB.
    #[must_use]
    pub fn room(length: u64) -> u64 {
        (4 * length).clamp(64 << 40, MAX_VOLUME_BYTES)
    }

    /// The map of a volume of `length` bytes, with `durable` bits set on disk already.
    #[must_use]
    pub fn new(length: u64, durable: ExtentMap) -> Self {
        let live = ExtentMap::with_room(length, Self::room(length));
        live.or_from(&durable);
        Self {
            live,
            durable,
            touched: ExtentMap::with_room(length, Self::room(length)),
            unflushed: None,
            wanted: Mutex::default(),
            cleanings: Mutex::default(),
            asked: Notify::new(),
            dirtied: Notify::new(),
            pinned: AtomicU32::new(0),
            cap: AtomicU64::new(DEFAULT_DIRTY_EXTENTS.into()),
            hand: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Keep `unflushed` beside it, which covers all that was written under these bits.
    #[must_use]
    pub fn with_unflushed(mut self, unflushed: Option<UnflushedMap>) -> Self {
        self.unflushed = unflushed;
        self
    }

    /// Whether it can be that of a volume of `length` bytes.
    pub(super) fn has_room_for(&self, length: u64) -> bool {
        let bits = Extent::count(length);
        [&self.durable, &self.touched, &self.live].into_iter().all(|map| map.bits().has_room_for(bits))
    }

    /// Be the map of a volume of `length` bytes from now on, no shorter than before; false, and nothing done, where there is no
    /// room. No write lies behind the old end yet.
    pub(super) fn grow(&self, length: u64) -> bool {
        let grown = self.durable.grow(length) && self.touched.grow(length) && self.live.grow(length);
        if grown && let Some(unflushed) = &self.unflushed {
            unflushed.grow(length);
        }
        grown
    }

    /// Mark in `map` every region that may hold writes not flushed everywhere.
    pub fn mark_unflushed(&self, map: &ChangeMap) {
        match &self.unflushed {
            Some(unflushed) if !self.is_lost() && unflushed.is_whole() => map.or_unflushed(unflushed),
            Some(_) | None => map.or_extents(&self.durable),
        }
    }

    /// Make sure that the bits over `range` are durable. The caller holds `range` in the gate, so that none of them is cleared
    /// meanwhile.
    ///
    /// # Errors
    /// When neither the page nor the "intent lost" mark could be written: the write must not be submitted.
    pub async fn cover(&self, range: ByteRange) -> Result<(), Errno> {
        if !self.covers(range) {
            self.ask(range).await?;
            self.note_unflushed(range);
        }
        Ok(())
    }

    /// As [`cover`](Self::cover) where nothing has to be waited for; false, and nothing done, elsewhere.
    pub(super) fn covers(&self, range: ByteRange) -> bool {
        if !self.live.covered(range) {
            return false;
        }
        self.touched.set(range);
        self.note_unflushed(range);
        true
    }

    fn note_unflushed(&self, range: ByteRange) {
        if let Some(unflushed) = &self.unflushed {
            unflushed.set(range);
        }
    }

    async fn ask(&self, range: ByteRange) -> Result<(), Errno> {
        let (answer, done) = oneshot::channel();
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(Wanted { range, answer });
        self.asked.notify_one();
        if self.closed.load(Ordering::SeqCst) {
            self.close();
        }
        done.await.unwrap_or(Err(Errno::IO))
    }

    /// The committer has ended: fail those that wait, and those that come.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let left = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.refuse(left, Errno::IO);
    }

    /// What may stand on disk: every extent that may hold writes not flushed everywhere.
    #[must_use]
    pub const fn durable(&self) -> &ExtentMap {
        &self.durable
    }

    /// Extents whose bits are durable and not being cleaned.
    #[must_use]
    pub const fn live(&self) -> &ExtentMap {
        &self.live
    }

    /// Whether intent was lost and every write counts as covered.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Keep every bit until [`Intent::unpin`].
    pub fn pin(&self) {
        self.pinned.fetch_add(1, Ordering::AcqRel);
    }

    /// Bits may be cleared again.
    pub fn unpin(&self) {
        let before = self.pinned.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "unpin without pin");
        self.dirtied.notify_one();
    }

    /// Whether no bit may be cleared.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Acquire) > 0
    }

    /// Let `extents` be dirty at once from now on.
    pub fn set_cap(&self, extents: u32) {
        self.cap.store(extents.into(), Ordering::Relaxed);
    }

    /// How many extents have to be cleared before those can be set that are waited for; 0 when there is room. With it, how
    /// many are cleared together, so that not each new one costs a flush.
    pub(super) fn excess(&self) -> u64 {
        let cap = self.cap.load(Ordering::Relaxed);
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() {
            return 0;
        }
        let set = |extent: &u64| self.durable.bits().get(*extent);
        let new: BTreeSet<u64> = wanted
            .iter()
            .flat_map(|want| {
                let (first, end) = Extent::span(want.range);
                first.0..end.0
            })
            .filter(|extent| !set(extent))
            .collect();
        drop(wanted);
        let excess = (self.durable.count() + new.len() as u64).saturating_sub(cap);
        if excess == 0 { 0 } else { excess.max(cap / 8) }
    }

    /// At most `count` extents that may be durable and were not written lately, in order.
    pub(super) fn least_used(&self, count: u64) -> Vec<Extent> {
        let all: Vec<Extent> = self.durable.extents().collect();
        let hand = self.hand.load(Ordering::Relaxed);
        let start = all.partition_point(|extent| extent.0 < hand);
        let mut found = BTreeSet::new();
        // Whoever was spared in the first round is not in the second.
        for extent in all[start..].iter().chain(&all[..start]).cycle().take(2 * all.len()) {
            if found.len() as u64 == count {
                break;
            }
            self.hand.store(extent.0 + 1, Ordering::Relaxed);
            if !self.touched.clear(*extent) {
                found.insert(extent.0);
            }
        }
        found.into_iter().map(Extent).collect()
    }

    fn cleanings(&self) -> MutexGuard<'_, Cleanings> {
        self.cleanings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begin to clean.
    pub(super) fn clean(&self) -> Cleaning<'_> {
        let mut cleanings = self.cleanings();
        let number = cleanings.next;
        cleanings.next += 1;
        cleanings.retired.insert(number, BTreeSet::new());
        Cleaning { intent: self, number }
    }

    /// Extents that may stand on disk and were not written since the last call.
    pub(super) fn quiet(&self) -> Vec<Extent> {
        let quiet = self.durable.extents().filter(|extent| !self.touched.bits().get(extent.0)).collect();
        self.touched.clear_all();
        quiet
    }

    /// All that wait for bits now; the bits are set in `durable` and their pages are due to be written.
    pub(super) fn take_wanted(&self) -> Vec<Wanted> {
        let wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        for want in &wanted {
            self.durable.set(want.range);
        }
        wanted
    }

    /// The batch's bits are durable: let its writes go on.
    pub(super) fn grant(&self, batch: Vec<Wanted>) {
        let mut cleanings = self.cleanings();
        for want in &batch {
            let (first, end) = Extent::span(want.range);
            for retired in cleanings.retired.values_mut() {
                (first.0..end.0).for_each(|extent| _ = retired.remove(&Extent(extent)));
            }
            self.live.set(want.range);
            self.touched.set(want.range);
        }
        drop(cleanings);
        self.dirtied.notify_one();
        for want in batch {
            // A write that is gone does not want its answer.
            let _ = want.answer.send(Ok(()));
        }
    }

    /// The batch's bits cannot be made durable: fail its writes. Their bits stay in `durable`, since a page may have
    /// reached the disk after all.
    pub(super) fn refuse(&self, batch: Vec<Wanted>, errno: Errno) {
        for want in batch {
            let _ = want.answer.send(Err(errno));
        }
    }

    /// Ordering rule 18: from now on every extent counts as set.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.durable.set_all();
        self.live.set_all();
    }
}

impl Cleaning<'_> {
    /// Take the extents of a finished quiet span out of `live`, so that the next write in them asks again. The caller
    /// holds their window: no write is in flight there.
    pub(super) fn retire(&self, extents: &[Extent]) {
        let mut cleanings = self.intent.cleanings();
        extents.iter().for_each(|extent| _ = self.intent.live.clear(*extent));
        cleanings.retired.entry(self.number).or_default().extend(extents);
    }

    /// Whether nothing was retired.
    pub(super) fn is_empty(&self) -> bool {
        self.intent.cleanings().retired.get(&self.number).is_none_or(BTreeSet::is_empty)
    }

    /// Clear in `durable` what was retired, since when everything was flushed, and nobody was granted meanwhile; the pages
    /// are due to be written. False when nothing may be cleared now.
    pub(super) fn forget(self) -> bool {
        let intent = self.intent;
        if intent.is_pinned() || intent.is_lost() {
            return false;
        }
        let retired = intent.cleanings().retired.remove(&self.number).unwrap_or_default();
        for extent in retired {
            debug_assert!(!intent.live.bits().get(extent.0), "what is retired and not granted is not live");
            intent.durable.clear(extent);
            if let Some(unflushed) = &intent.unflushed {
                unflushed.clear(extent);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::EXTENT_BYTES;

    fn ask(intent: &Intent, range: ByteRange) {
        let (answer, _) = oneshot::channel();
        intent.wanted.lock().unwrap().push(Wanted { range, answer });
        intent.grant(intent.take_wanted());
    }

    /// Two cleanings at once: the flush of the first began before the write that was granted between them, and does not
    /// cover it.
    #[test]
    fn rule_02_a_cleaning_does_not_clear_what_was_granted_since_it_has_retired_it() {
        let intent = Intent::new(4 * EXTENT_BYTES, ExtentMap::new(4 * EXTENT_BYTES));
        let range = |extent: u64| ByteRange::new(extent * EXTENT_BYTES, 4096);
        (0..3).for_each(|extent| ask(&intent, range(extent)));
        let first = intent.clean();
        first.retire(&[Extent(0), Extent(1)]);
        ask(&intent, range(1));
        let second = intent.clean();
        second.retire(&[Extent(1), Extent(2)]);
        assert!(first.forget());
        assert_eq!(intent.durable().extents().collect::<Vec<_>>(), [Extent(1), Extent(2)]);
        assert!(second.forget());
        assert!(intent.durable().is_clean());
        // One that ends otherwise clears nothing.
        ask(&intent, range(3));
        let third = intent.clean();
        third.retire(&[Extent(3)]);
        drop(third);
        assert!(intent.cleanings().retired.is_empty() && intent.durable().count() == 1);
    }
}
