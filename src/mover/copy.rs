//! Copy and resync: the marked regions of a map, from a source to a target.
//!
//! ```text
//! each slot:   take a piece -> claim its window -> where is data? -> read, look for zeroes -> write -> release -> done
//!              it ended in a hole, and all behind it needs nothing done? -> claim a wide window -> still so? -> release -> done
//! now and then, and at the end:   take what is done -> flush the target -> clear its bits -> no failure meanwhile?
//! ```
//! The bits of a region are cleared only by the second line, and only when all its pieces are done. They are cleared first
//! and the failure flag is read after that, with a full fence between: who reports a failed write raises the flag, passes a
//! fence, and marks the region. So one of the two sees the other, and the region ends marked.

use futures_util::future::join;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::base::museum::{self, Exhibit};
use crate::base::zero::is_zero;
use crate::base::{ByteRange, FaultPoint};
use crate::bitmap::ChangeMap;
use crate::device::{BlockDevice, Clock, Durability, Moment, OwnedBuffer, Request, Space};

use super::control::Control;
use super::error::{Ended, MoverError};
use super::holes::{DataAhead, hole_before, take_on};
use super::slots::{Job, Tuning, Work};
use super::windows::Windows;
use super::zero::{Part, differences, parts};

/// What is known of the target's marked regions before the job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetZero {
    /// Anything may stand there: zeroes are written.
    Unknown,
    /// Anything may stand there, but where the target says that it has holes, it reads as zero: they are left alone. Never for
    /// one whose flush has failed.
    WhereHoles,
    /// They read as zero, and every write of the volume since went to the target too: zeroes are left out.
    Known,
}

/// A copy to be made. The target must receive every write to the source from before the job on, or the source must not
/// change: a bit that is set again while its region is copied would be cleared with it.
pub struct CopyPlan<'a, S, T, W> {
    /// Where the bytes come from.
    pub source: &'a S,
    /// Where they go.
    pub target: &'a T,
    /// What keeps the volume's writes off the piece at work.
    pub windows: &'a W,
    /// What is to be copied; its bits are cleared as regions are settled.
    pub map: &'a ChangeMap,
    /// Whether zeroes may be left out.
    pub target_zero: TargetZero,
    /// Read the target too and write only what differs: for targets that are mostly equal, and slow or worn by writes. Never for
    /// one whose flush has failed: it may read as equal what it will not keep.
    pub compare_first: bool,
    /// Whether the target may give back the space under zeroes.
    pub space: Space,
    /// Bytes between two flushes of the target; what an interrupted job may have to do again.
    pub flush_every_bytes: u64,
    /// Whether somebody else's write to the target has failed since the job began. Who raises the flag raises it first, then
    /// passes a sequentially consistent fence, then marks the region in the map.
    pub target_failed: &'a dyn Fn() -> bool,
    /// Slots and chunks.
    pub tuning: Tuning,
}

/// A usual distance between two flushes of the target: at most a few seconds of copying are done again.
pub const FLUSH_EVERY_BYTES: u64 = 256 << 20;

/// The time between two flushes of the target at most, so that a slow copy has no more to do again either.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// What a copy did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyReport {
    /// How it ended.
    pub ended: Ended,
    /// Bytes of data written.
    pub written_bytes: u64,
    /// Bytes written as zeroes.
    pub zeroed_bytes: u64,
    /// Bytes left alone: known to be zero, or found equal.
    pub left_bytes: u64,
    /// Regions still marked in the map.
    pub regions_left: u64,
}

/// Copy the marked regions. When it returns, every request has ended, the bits of all settled regions are cleared, and all
/// others stand.
pub async fn copy<S: BlockDevice, T: BlockDevice, W: Windows, C: Clock>(
    plan: CopyPlan<'_, S, T, W>,
    control: &Control,
    clock: &C,
) -> CopyReport {
    let (source, target) = (plan.source.geometry(), plan.target.geometry());
    let map = plan.map;
    let length = map.length();
    assert!(source.length >= length && target.length >= length, "a map longer than its devices");
    let run = Run {
        block: u64::from(source.block_size.max(target.block_size)),
        data: DataAhead::new(u64::from(source.block_size.max(target.block_size))),
        job: Job::new(Work::Marked(map), plan.tuning, control, clock),
        done: RefCell::default(),
        unsettled: Cell::new(0),
        settling: Cell::new(false),
        settled_at: Cell::new(clock.now()),
        target_lost: Cell::new(false),
        written: Cell::new(0),
        zeroed: Cell::new(0),
        left: Cell::new(0),
        plan,
    };
    run.job.run(|| run.slot()).await;
    // A read that failed says nothing against what has arrived at the target.
    run.settle().await;
    CopyReport {
        ended: run.job.end(),
        written_bytes: run.written.get(),
        zeroed_bytes: run.zeroed.get(),
        left_bytes: run.left.get(),
        regions_left: map.dirty_regions(),
    }
}

/// The device of a [`MoverError::Read`] that came from the source.
pub const SOURCE: usize = 0;
pub(super) const TARGET: usize = 1;

struct Run<'a, S, T, W, C> {
    plan: CopyPlan<'a, S, T, W>,
    /// Bytes in which both can be read and written.
    block: u64,
    data: DataAhead,
    job: Job<'a, C>,
    /// Pieces that are on the target but not settled.
    done: RefCell<Vec<ByteRange>>,
    unsettled: Cell<u64>,
    settling: Cell<bool>,
    settled_at: Cell<Moment>,
    /// A write or flush of the target failed: nothing is cleared any more, whatever a later flush says.
    target_lost: Cell<bool>,
    written: Cell<u64>,
    zeroed: Cell<u64>,
    left: Cell<u64>,
}

/// How a piece ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// In a hole that needed nothing done.
    Free,
    /// In something else.
    Work,
}

struct Buffers {
    ours: OwnedBuffer,
    /// The target's bytes, when they are compared.
    theirs: Option<OwnedBuffer>,
}

impl<S: BlockDevice, T: BlockDevice, W: Windows, C: Clock> Run<'_, S, T, W, C> {
    async fn slot(&self) {
        let chunk = self.plan.tuning.chunk_bytes();
        let theirs = self.plan.compare_first.then(|| OwnedBuffer::zeroed(chunk));
        let buffers = Buffers { ours: OwnedBuffer::zeroed(chunk), theirs };
        while let Some(piece) = self.job.next().await {
            if (self.plan.target_failed)() {
                return self.fail(MoverError::TargetFailed);
            }
            let window = match self.plan.windows.claim_to_write(piece).await {
                Ok(window) => window,
                Err(errno) => return self.fail(MoverError::Write { range: piece, errno }),
            };
            let moved = self.piece(&buffers, piece).await;
            drop(window);
            match moved {
                Ok(ended) => {
                    self.done.borrow_mut().push(piece);
                    if ended == Tail::Free
                        && let Err(fault) = self.take_on().await
                    {
                        return self.fail(fault);
                    }
                }
                Err(fault) => return self.fail(fault),
            }
            // What cost nothing is no loss to do again.
            self.unsettled.set(self.unsettled.get() + piece.length);
            let waited = self.job.now().since(self.settled_at.get());
            let is_due = self.unsettled.get() >= self.plan.flush_every_bytes || waited >= FLUSH_EVERY;
            if is_due && !self.settling.get() {
                self.settle().await;
            }
        }
    }

    fn fail(&self, fault: MoverError) {
        match fault {
            MoverError::Read { .. } => (),
            MoverError::Write { .. } | MoverError::Flush { .. } | MoverError::TargetFailed => {
                self.target_lost.set(true);
            }
        }
        self.job.fail(fault);
    }

    /// Bring the target's `piece` to what the source holds there; the window is held.
    async fn piece(&self, buffers: &Buffers, piece: ByteRange) -> Result<Tail, MoverError> {
        let mut at = piece.offset;
        let mut tail = Tail::Work;
        while at < piece.end() {
            let rest = ByteRange::new(at, piece.end() - at);
            let data = self.next_data(rest).await?;
            if data.offset > at {
                tail = self.hole(buffers, ByteRange::new(at, data.offset - at)).await?;
            }
            if !data.is_empty() {
                self.data(buffers, data).await?;
                tail = Tail::Work;
            }
            at = data.end();
        }
        self.job.count(piece.length, 0);
        Ok(tail)
    }

    /// The first part of `rest` that may hold data, in whole blocks; empty at its end when there is none.
    async fn next_data(&self, rest: ByteRange) -> Result<ByteRange, MoverError> {
        let found = self.data.next(self.plan.source, rest).await;
        let found = found.map_err(|errno| MoverError::Read { device: SOURCE, range: rest, errno })?;
        Ok(found.unwrap_or(ByteRange::new(rest.end(), 0)))
    }

    /// A range that reads as zero on the source: whether nothing had to be done about its end.
    async fn hole(&self, buffers: &Buffers, range: ByteRange) -> Result<Tail, MoverError> {
        let free = self.free_on_target(range).await?;
        self.leave(free);
        self.job.unspent(free);
        if free == range.length {
            return Ok(Tail::Free);
        }
        let range = ByteRange::new(range.offset + free, range.length - free);
        if let Some(theirs) = &buffers.theirs {
            let theirs = theirs.slice(0, range.length as usize);
            self.read(self.plan.target, TARGET, range, &theirs).await?;
            if theirs.with_bytes(is_zero) {
                self.leave(range.length);
                return Ok(Tail::Work);
            }
        }
        self.write_zeroes(range).await?;
        Ok(Tail::Work)
    }

    /// Take on what comes next as far as it reads as zero on both sides.
    async fn take_on(&self) -> Result<(), MoverError> {
        let free = async |range: ByteRange| {
            let hole = hole_before(self.plan.source, range, self.block).await;
            let length = hole.map_err(|errno| MoverError::Read { device: SOURCE, range, errno })?;
            self.free_on_target(ByteRange::new(range.offset, length)).await
        };
        take_on(&self.job, self.plan.windows, free, |range| {
            self.leave(range.length);
            self.done.borrow_mut().push(range);
        })
        .await
    }

    /// How many bytes at the beginning of `range` are known to read as zero on the target.
    async fn free_on_target(&self, range: ByteRange) -> Result<u64, MoverError> {
        match self.plan.target_zero {
            TargetZero::Known => Ok(range.length),
            TargetZero::Unknown => Ok(0),
            TargetZero::WhereHoles => hole_before(self.plan.target, range, self.block)
                .await
                .map_err(|errno| MoverError::Read { device: TARGET, range, errno }),
        }
    }

    /// A range that may hold data on the source.
    async fn data(&self, buffers: &Buffers, range: ByteRange) -> Result<(), MoverError> {
        let ours = buffers.ours.slice(0, range.length as usize);
        let Some(theirs) = &buffers.theirs else {
            self.read(self.plan.source, SOURCE, range, &ours).await?;
            return self.write_parts(&ours, range).await;
        };
        let theirs = theirs.slice(0, range.length as usize);
        // Both are awaited to their end, whatever the first one says.
        let (source, target) = join(
            self.read(self.plan.source, SOURCE, range, &ours),
            self.read(self.plan.target, TARGET, range, &theirs),
        )
        .await;
        source.and(target)?;
        let mut left = range.length;
        for run in ours.with_bytes(|ours| theirs.with_bytes(|theirs| differences(ours, theirs))) {
            let part = ByteRange::new(range.offset + run.start as u64, run.len() as u64);
            left -= part.length;
            let part_is_zero = ours.slice(run.start, run.len()).with_bytes(is_zero);
            if part_is_zero {
                self.write_zeroes(part).await?;
            } else {
                self.write(&ours.slice(run.start, run.len()), part).await?;
            }
        }
        self.leave(left);
        Ok(())
    }

    /// Write `buffer` to `range`, its zeroes as zeroes.
    async fn write_parts(&self, buffer: &OwnedBuffer, range: ByteRange) -> Result<(), MoverError> {
        for part in buffer.with_bytes(parts) {
            let (Part::Zero(run) | Part::Data(run)) = &part;
            let place = ByteRange::new(range.offset + run.start as u64, run.len() as u64);
            match part {
                Part::Zero(_) if self.plan.target_zero == TargetZero::Known => self.leave(place.length),
                Part::Zero(_) => self.write_zeroes(place).await?,
                Part::Data(run) => self.write(&buffer.slice(run.start, run.len()), place).await?,
            }
        }
        Ok(())
    }

    async fn read<D: BlockDevice>(
        &self,
        device: &D,
        index: usize,
        range: ByteRange,
        buffer: &OwnedBuffer,
    ) -> Result<(), MoverError> {
        let request = Request::Read { offset: range.offset, buffer: buffer.clone().into() };
        let done = device.submit(request).await;
        done.map_err(|errno| MoverError::Read { device: index, range, errno })
    }

    async fn write(&self, buffer: &OwnedBuffer, range: ByteRange) -> Result<(), MoverError> {
        let durability = Durability::Volatile;
        let request = Request::Write { offset: range.offset, buffer: buffer.clone().into(), durability };
        let done = self.plan.target.submit(request).await;
        done.map_err(|errno| MoverError::Write { range, errno })?;
        self.written.set(self.written.get() + range.length);
        self.job.count(0, range.length);
        Ok(())
    }

    async fn write_zeroes(&self, range: ByteRange) -> Result<(), MoverError> {
        let durability = Durability::Volatile;
        let request = Request::WriteZeroes { range, space: self.plan.space, durability };
        let done = self.plan.target.submit(request).await;
        done.map_err(|errno| MoverError::Write { range, errno })?;
        self.zeroed.set(self.zeroed.get() + range.length);
        self.job.count(0, range.length);
        Ok(())
    }

    fn leave(&self, bytes: u64) {
        self.left.set(self.left.get() + bytes);
    }

    /// Settle what is done so far: flush the target, then clear the bits; a failure ends the job.
    async fn settle(&self) {
        if self.target_lost.get() {
            return;
        }
        self.settling.set(true);
        self.unsettled.set(0);
        // What is in the list now has completed, so the flush covers it; what comes meanwhile waits for the next one.
        let pieces = join_neighbours(self.done.take());
        match self.flush_and_clear(&pieces).await {
            Ok(()) => self.done.borrow_mut().extend(pieces.iter().flat_map(|piece| self.unfinished(*piece))),
            Err(fault) => self.fail(fault),
        }
        self.settled_at.set(self.job.now());
        self.settling.set(false);
    }

    async fn flush_and_clear(&self, pieces: &[ByteRange]) -> Result<(), MoverError> {
        if (self.plan.target_failed)() {
            return Err(MoverError::TargetFailed);
        }
        if !museum::shows(Exhibit::ClearedBeforeFlush) {
            self.plan.target.submit(Request::Flush).await.map_err(|errno| MoverError::Flush { errno })?;
        }
        if self.target_lost.get() {
            return Err(MoverError::TargetFailed);
        }
        FaultPoint::CopyFlushed.reached();
        pieces.iter().for_each(|piece| self.plan.map.clear(*piece));
        FaultPoint::CopyCleared.reached();
        fence(Ordering::SeqCst);
        if (self.plan.target_failed)() && !museum::shows(Exhibit::LateFailureMissed) {
            pieces.iter().for_each(|piece| _ = self.plan.map.mark(*piece));
            return Err(MoverError::TargetFailed);
        }
        Ok(())
    }

    /// The ends of `piece` that belong to regions of which other pieces are missing.
    fn unfinished(&self, piece: ByteRange) -> impl Iterator<Item = ByteRange> {
        let (region, length) = (self.plan.map.region_size().bytes(), self.plan.map.length());
        let end = piece.end();
        let first = piece.offset.next_multiple_of(region).min(end);
        let last = if end == length { end } else { (end - end % region).max(first) };
        [(piece.offset, first), (last, end)]
            .into_iter()
            .filter(|(from, to)| from < to)
            .map(|(from, to)| ByteRange::new(from, to - from))
    }
}

fn join_neighbours(mut pieces: Vec<ByteRange>) -> Vec<ByteRange> {
    pieces.sort_unstable();
    let mut joined: Vec<ByteRange> = Vec::new();
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.end() == piece.offset => last.length += piece.length,
            _ => joined.push(piece),
        }
    }
    joined
}
