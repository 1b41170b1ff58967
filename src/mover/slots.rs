//! The slot machine: a few slots that take pieces of work until none is left.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::cell::{Cell, RefCell};

use crate::base::ByteRange;
use crate::bitmap::ChangeMap;
use crate::device::{Clock, Moment};

use super::control::{Control, Pacer, Wanted};
use super::error::{Ended, MoverError};
use super::meter::Meter;
use super::zero::SCAN_BYTES;

/// How many slots a job has and how much each moves at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    slots: usize,
    chunk_bytes: usize,
}

impl Default for Tuning {
    /// 8 slots of 512 KiB: 4 MiB in flight keep disks and memory busy; beyond 8 MiB the caches pay for it.
    fn default() -> Self {
        Self { slots: 8, chunk_bytes: 512 << 10 }
    }
}

impl Tuning {
    /// The most slots: more depth bought nothing where it was measured.
    pub const MAX_SLOTS: usize = 16;
    /// The largest chunk in bytes; it bounds how long a write may have to wait for a window.
    pub const MAX_CHUNK_BYTES: usize = 4 << 20;

    /// `slots` slots of `chunk_bytes` bytes, brought within 1 to 16 slots and 64 KiB to 4 MiB in steps of 64 KiB.
    #[must_use]
    pub fn new(slots: usize, chunk_bytes: usize) -> Self {
        let chunk = chunk_bytes.clamp(SCAN_BYTES, Self::MAX_CHUNK_BYTES);
        Self { slots: slots.clamp(1, Self::MAX_SLOTS), chunk_bytes: chunk - chunk % SCAN_BYTES }
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(self) -> usize {
        self.slots
    }

    /// Bytes that a slot moves at a time.
    #[must_use]
    pub const fn chunk_bytes(self) -> usize {
        self.chunk_bytes
    }
}

/// What a job works through, in ascending order.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// The marked regions of a map, as they are marked when the job gets there.
    Marked(&'a ChangeMap),
    /// These ranges: ascending, without overlap, in whole blocks of the devices.
    Ranges(&'a [ByteRange]),
}

impl Work<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Marked(map) => map.dirty_bytes(),
            Self::Ranges(ranges) => ranges.iter().map(|range| range.length).sum(),
        }
    }

    /// The next bytes to work on at or behind `from`, about `max` of them.
    fn next(&self, from: u64, max: u64) -> Option<ByteRange> {
        match self {
            Self::Marked(map) => map.next_dirty(from, max),
            Self::Ranges(ranges) => {
                let range = ranges[ranges.partition_point(|range| range.end() <= from)..]
                    .iter()
                    .find(|range| !range.is_empty())?;
                let start = range.offset.max(from);
                Some(ByteRange::new(start, range.end() - start))
            }
        }
    }
}

/// What the slots of one job share.
pub(super) struct Job<'a, C> {
    work: Work<'a>,
    tuning: Tuning,
    control: &'a Control,
    clock: &'a C,
    pacer: Pacer,
    at: Cell<u64>,
    run: Cell<ByteRange>,
    /// What was taken on and given back; it comes before the run.
    back: RefCell<Vec<ByteRange>>,
    given_up: Cell<bool>,
    fault: Cell<Option<MoverError>>,
    meter: RefCell<Meter>,
}

impl<'a, C: Clock> Job<'a, C> {
    pub(super) fn new(work: Work<'a>, tuning: Tuning, control: &'a Control, clock: &'a C) -> Self {
        let meter = Meter::new(work.bytes(), clock.now());
        control.publish(meter.current());
        Self {
            work,
            tuning,
            control,
            clock,
            pacer: Pacer::default(),
            at: Cell::new(0),
            run: Cell::new(ByteRange::new(0, 0)),
            back: RefCell::default(),
            given_up: Cell::new(false),
            fault: Cell::new(None),
            meter: RefCell::new(meter),
        }
    }

    /// Run `slot` in each slot beside the others until all have returned.
    pub(super) async fn run<F: Future<Output = ()>>(&self, slot: impl Fn() -> F) {
        let mut slots: FuturesUnordered<F> = (0..self.tuning.slots).map(|_| slot()).collect();
        while slots.next().await.is_some() {}
    }

    /// The next piece for a slot, at most a chunk long, when its turn has come; `None` when there is none, or the job shall
    /// end.
    pub(super) async fn next(&self) -> Option<ByteRange> {
        let may_run = self.control.may_run().await;
        if self.fault.get().is_some() {
            return None;
        }
        let piece = self.cut()?;
        if may_run && self.pacer.turn(piece.length, self.control, self.clock).await {
            return self.fault.get().is_none().then_some(piece);
        }
        self.given_up.set(true);
        None
    }

    /// The next piece of the run at hand; a region longer than a chunk is several pieces.
    fn cut(&self) -> Option<ByteRange> {
        let chunk = self.tuning.chunk_bytes as u64;
        let mut run = match self.back.borrow().last() {
            Some(back) => *back,
            None => self.run.get(),
        };
        if run.is_empty() {
            run = self.work.next(self.at.get(), chunk)?;
        }
        let piece = ByteRange::new(run.offset, run.length.min(chunk));
        self.take(run, piece.end());
        Some(piece)
    }

    /// What comes next, about `max` bytes of it, without taking it; `None` when there is nothing, or the job shall not go on.
    pub(super) fn ahead(&self, max: u64) -> Option<ByteRange> {
        if self.fault.get().is_some() || self.control.wanted() != Wanted::Run {
            return None;
        }
        if let Some(back) = self.back.borrow().last() {
            return Some(*back);
        }
        let run = self.run.get();
        let more = self.work.next(self.at.get(), max);
        if run.is_empty() {
            return more;
        }
        let joined = more.filter(|more| more.offset == run.end());
        Some(ByteRange::new(run.offset, run.length + joined.map_or(0, |more| more.length)))
    }

    /// Take what comes next as far as it lies in `range`, without a turn: for what costs nothing. `None` when another slot
    /// has taken it all.
    pub(super) fn take_on(&self, range: ByteRange) -> Option<ByteRange> {
        let ahead = self.ahead(range.length)?;
        let taken = ahead.intersection(range);
        (!taken.is_empty() && taken.offset == ahead.offset).then(|| {
            self.take(ahead, taken.end());
            taken
        })
    }

    /// Let others have what was taken on and is not dealt with.
    pub(super) fn give_back(&self, rest: ByteRange) {
        if !rest.is_empty() {
            self.back.borrow_mut().push(rest);
        }
    }

    /// Take what comes next, which is `run`, up to `end`.
    fn take(&self, run: ByteRange, end: u64) {
        let rest = ByteRange::new(end, run.end() - end);
        if self.back.borrow_mut().pop().is_some() {
            return self.give_back(rest);
        }
        self.at.set(self.at.get().max(run.end()));
        self.run.set(rest);
    }

    /// Bytes of a piece at most.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.tuning.chunk_bytes as u64
    }

    /// The time by the job's clock.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Note that `done` bytes are dealt with, `written` of them written.
    pub(super) fn count(&self, done: u64, written: u64) {
        if let Some(progress) = self.meter.borrow_mut().add(done, written, self.clock.now()) {
            self.control.publish(progress);
        }
    }

    /// Note that `bytes` are dealt with at no cost: they say nothing about the pace.
    pub(super) fn count_free(&self, bytes: u64) {
        if let Some(progress) = self.meter.borrow_mut().add_free(bytes, self.clock.now()) {
            self.control.publish(progress);
        }
    }

    /// Let `bytes` that had their turn and were not moved count for nothing.
    pub(super) fn unspent(&self, bytes: u64) {
        self.pacer.refund(bytes, self.control);
    }

    /// Let the job end with `fault`, unless an earlier one came first.
    pub(super) fn fail(&self, fault: MoverError) {
        if self.fault.get().is_none() {
            self.fault.set(Some(fault));
        }
    }

    /// How the job ended, once all slots have returned.
    pub(super) fn end(&self) -> Ended {
        self.control.publish(self.meter.borrow_mut().end());
        match self.fault.get() {
            Some(fault) => Ended::Failed(fault),
            None if self.given_up.get() => Ended::Aborted,
            None => Ended::Complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RegionSize;

    #[test]
    fn tuning_stays_within_its_limits() {
        assert_eq!(Tuning::new(0, 0), Tuning { slots: 1, chunk_bytes: 64 << 10 });
        assert_eq!(Tuning::new(99, usize::MAX), Tuning { slots: 16, chunk_bytes: 4 << 20 });
        assert_eq!(Tuning::new(8, (512 << 10) + 5), Tuning::default());
    }

    #[test]
    fn ranges_are_worked_through_in_order_and_empty_ones_passed() {
        let ranges =
            [ByteRange::new(0, 0), ByteRange::new(10, 5), ByteRange::new(20, 0), ByteRange::new(30, 1)];
        let work = Work::Ranges(&ranges);
        assert_eq!(work.bytes(), 6);
        assert_eq!(work.next(0, 1), Some(ByteRange::new(10, 5)));
        assert_eq!(work.next(12, 1), Some(ByteRange::new(12, 3)));
        assert_eq!(work.next(15, 1), Some(ByteRange::new(30, 1)));
        assert_eq!(work.next(31, 1), None);
    }

    #[test]
    fn what_is_taken_on_and_what_is_given_back_is_dealt_with_once() {
        const MIB: u64 = 1 << 20;
        let map = ChangeMap::new(64 * MIB, RegionSize::new(64 << 10).unwrap());
        map.mark(ByteRange::new(0, 40 * MIB));
        map.mark(ByteRange::new(50 * MIB, 14 * MIB));
        let (control, clock) = (Control::default(), super::super::testing::TestClock::default());
        let job = Job::new(Work::Marked(&map), Tuning::default(), &control, &clock);
        let first = job.cut().unwrap();
        let half = 512 << 10;
        assert_eq!(job.ahead(8 * MIB), Some(ByteRange::new(half, 8 * MIB)));
        // Another slot was faster.
        assert_eq!(job.cut(), Some(ByteRange::new(half, half)));
        let taken = job.take_on(ByteRange::new(half, 8 * MIB)).unwrap();
        assert_eq!(taken, ByteRange::new(MIB, 8 * MIB - half));
        assert_eq!(job.take_on(ByteRange::new(half, MIB)), None);
        job.give_back(ByteRange::new(3 * MIB, taken.end() - 3 * MIB));
        assert_eq!(job.take_on(ByteRange::new(3 * MIB, MIB)), Some(ByteRange::new(3 * MIB, MIB)));
        assert_eq!(job.cut(), Some(ByteRange::new(4 * MIB, half)));
        // Behind the end of a run the next one begins.
        let mut dealt = vec![first, ByteRange::new(half, half), ByteRange::new(MIB, 3 * MIB + half)];
        while let Some(piece) = job.take_on(ByteRange::new(0, 64 * MIB)).or_else(|| job.cut()) {
            dealt.push(piece);
        }
        dealt.sort_unstable();
        assert!(dealt.windows(2).all(|pair| !pair[0].overlaps(pair[1])), "{dealt:?}");
        assert_eq!(dealt.iter().map(|piece| piece.length).sum::<u64>(), 54 * MIB);
    }

    #[test]
    fn a_large_region_is_cut_into_chunks() {
        let map = ChangeMap::new(3 << 20, RegionSize::new(2 << 20).unwrap());
        map.mark_all();
        let (control, clock) = (Control::default(), super::super::testing::TestClock::default());
        let job = Job::new(Work::Marked(&map), Tuning::default(), &control, &clock);
        let pieces: Vec<_> = std::iter::from_fn(|| job.cut()).collect();
        assert_eq!(pieces.len(), 6);
        assert!(pieces.iter().all(|piece| piece.length == 512 << 10));
        assert!(pieces.windows(2).all(|pair| pair[0].end() == pair[1].offset));
    }
}
