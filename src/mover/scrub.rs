//! Scrub: all copies of a volume are read and compared in the background, and made equal again where they are not.
//!
//! ```text
//! each slot:   take a piece -> let the application go first -> claim its window -> read all, compare -> release
//! where a copy differs or cannot be read, and it is to be repaired (ordering rule 10):
//!              claim the window to write -> read all again -> decide -> mark the change maps -> write -> flush -> release
//! ```
//! Nothing is repaired by what the first look saw: between the two windows the application may have written there.
//!
//! How far the scrub has come is told as pieces end, and only as far as all before it has ended too, so that a later one
//! can go on from there.

use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::limits::PAGE_BYTES;
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Clock, Durability, OwnedBuffer, Request};

use super::control::{Control, Wanted};
use super::error::{Ended, MoverError};
use super::slots::{Job, Tuning, Work};
use super::windows::Windows;

/// How long a piece waits at most while the application is at work: under load without end a scrub still moves a piece of
/// every slot in this time.
const YIELD_LIMIT: Duration = Duration::from_millis(200);

/// Between two looks at whether the application is at work.
const YIELD_NAP: Duration = Duration::from_millis(10);

/// Bytes that one device may fail to read before it counts as failing altogether.
const UNREADABLE_LIMIT: u64 = 16 << 20;

/// Who is right where copies differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decide {
    /// Nothing is repaired.
    Report,
    /// The device of this index.
    Source(usize),
    /// What more than half of the devices hold; where there is no such content, nothing is repaired.
    Majority,
}

/// What a scrub has found over some span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Everything before this byte is done.
    pub position: u64,
    /// Bytes of pages that differ from what is right, summed over the devices.
    pub differing_bytes: u64,
    /// Bytes of pages that could not be read, summed over the devices.
    pub unreadable_bytes: u64,
    /// Bytes of both kinds that were rewritten.
    pub repaired_bytes: u64,
}

impl Tally {
    const fn add(&mut self, other: &Self) {
        self.differing_bytes += other.differing_bytes;
        self.unreadable_bytes += other.unreadable_bytes;
        self.repaired_bytes += other.repaired_bytes;
    }
}

/// A place where a device is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Flaw {
    /// Index of the device.
    pub device: usize,
    /// Where, in whole pages.
    pub range: ByteRange,
    /// Index of the device that it was held against.
    pub reference: usize,
    /// Whether it could not be read, rather than differed.
    pub unreadable: bool,
    /// Whether it was rewritten.
    pub repaired: bool,
}

/// A scrub to be made.
pub struct ScrubPlan<'a, D, W> {
    /// The plexes that are in step; at least two.
    pub devices: &'a [D],
    /// What keeps the volume's writes off the piece at work.
    pub windows: &'a W,
    /// What an earlier scrub has found that was cut short: this one goes on behind it.
    pub done: Tally,
    /// Bytes of the volume.
    pub length: u64,
    /// Who is right.
    pub decide: Decide,
    /// Whether the device of this index is in step there still; asked inside the held window. One that is not is left out.
    pub in_step: &'a dyn Fn(usize, ByteRange) -> bool,
    /// Mark a range in every change map, because what the volume reads there may change (ordering rule 5): before it is
    /// written and after, since a cut may have put another map in force meanwhile.
    pub changed: &'a dyn Fn(ByteRange),
    /// A number that rises with every request of the application.
    pub activity: &'a dyn Fn() -> u64,
    /// Hears how far the scrub has come.
    pub settled: &'a dyn Fn(&Tally),
    /// How many flaws are listed; all are counted.
    pub list_at_most: usize,
    /// Slots and chunks; each slot has a chunk of memory for each device, and one more.
    pub tuning: Tuning,
}

/// What a scrub did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubReport {
    /// How it ended.
    pub ended: Ended,
    /// All that was found, with what was done before this scrub went on.
    pub tally: Tally,
    /// The flaws, neighbours joined: complete unless [`more`](Self::more).
    pub flaws: Vec<Flaw>,
    /// Whether there are flaws that are not listed.
    pub more: bool,
    /// The device whose writes failed, or that could hardly be read.
    pub failed: Option<usize>,
}

/// Scrub the devices. When it returns, every request has ended.
///
/// # Panics
/// For fewer than two devices.
pub async fn scrub<D: BlockDevice, W: Windows, C: Clock>(
    plan: ScrubPlan<'_, D, W>,
    control: &Control,
    clock: &C,
) -> ScrubReport {
    assert!(plan.devices.len() >= 2, "a scrub needs two devices");
    let from = plan.done.position.min(plan.length);
    let rest = [ByteRange::new(from, plan.length - from)];
    let run = Run {
        job: Job::new(Work::Ranges(&rest), plan.tuning, control, clock),
        clock,
        control,
        tally: Cell::new(plan.done),
        ahead: RefCell::default(),
        flaws: RefCell::default(),
        more: Cell::new(false),
        failed: Cell::new(None),
        seen: Cell::new((plan.activity)()),
        unreadable: plan.devices.iter().map(|_| Cell::new(0)).collect(),
        plan,
    };
    run.job.run(|| run.slot()).await;
    let mut tally = run.tally.get();
    if run.plan.decide != Decide::Report {
        // What was repaired ahead of the position is not found again by the one that goes on.
        run.ahead.borrow().values().for_each(|found| tally.add(found));
    }
    ScrubReport {
        ended: run.job.end(),
        tally,
        flaws: join_neighbours(run.flaws.take()),
        more: run.more.get(),
        failed: run.failed.get(),
    }
}

struct Run<'a, D, W, C> {
    plan: ScrubPlan<'a, D, W>,
    job: Job<'a, C>,
    clock: &'a C,
    control: &'a Control,
    tally: Cell<Tally>,
    /// Pieces that ended before one in front of them, by offset; `position` is their end.
    ahead: RefCell<BTreeMap<u64, Tally>>,
    flaws: RefCell<Vec<Flaw>>,
    more: Cell<bool>,
    failed: Cell<Option<usize>>,
    seen: Cell<u64>,
    /// Bytes that could not be read, by device.
    unreadable: Vec<Cell<u64>>,
}

struct Buffers {
    /// One for each device.
    theirs: Vec<OwnedBuffer>,
    /// What is right.
    truth: OwnedBuffer,
}

/// What is wrong with one piece.
#[derive(Default)]
struct Look {
    flaws: Vec<Flaw>,
    /// Those of them whose right content stands in the buffer of truth.
    known: Vec<bool>,
}

impl<D: BlockDevice, W: Windows, C: Clock> Run<'_, D, W, C> {
    async fn slot(&self) {
        let chunk = self.plan.tuning.chunk_bytes();
        let buffers = Buffers {
            theirs: self.plan.devices.iter().map(|_| OwnedBuffer::zeroed(chunk)).collect(),
            truth: OwnedBuffer::zeroed(chunk),
        };
        while let Some(piece) = self.job.next().await {
            self.yield_to_load().await;
            match self.piece(&buffers, piece).await {
                Ok(found) => self.settle(piece, found),
                Err(fault) => return self.job.fail(fault),
            }
        }
    }

    /// Wait while the application is at work, within a limit. No window is held meanwhile.
    async fn yield_to_load(&self) {
        let mut waited = Duration::ZERO;
        while waited < YIELD_LIMIT && self.control.wanted() == Wanted::Run {
            let now = (self.plan.activity)();
            if self.seen.replace(now) == now {
                return;
            }
            self.clock.sleep_until(self.clock.now().after(YIELD_NAP)).await;
            waited += YIELD_NAP;
        }
    }

    async fn piece(&self, buffers: &Buffers, piece: ByteRange) -> Result<Tally, MoverError> {
        let window = self.plan.windows.claim(piece).await;
        let look = self.look(buffers, piece).await?;
        drop(window);
        if look.flaws.is_empty() || self.plan.decide == Decide::Report {
            return Ok(self.note(look.flaws));
        }
        let claimed = self.plan.windows.claim_to_write(piece).await;
        let window = claimed.map_err(|errno| MoverError::Write { range: piece, errno })?;
        let mut look = self.look(buffers, piece).await?;
        let mended = self.mend(buffers, piece, &mut look).await;
        drop(window);
        // What was found counts even where it could not be mended.
        let found = self.note(look.flaws);
        mended.map(|()| found)
    }

    /// Read `piece` of all devices and say what is wrong there; the window is held.
    async fn look(&self, buffers: &Buffers, piece: ByteRange) -> Result<Look, MoverError> {
        let members: Vec<usize> =
            (0..self.plan.devices.len()).filter(|device| (self.plan.in_step)(*device, piece)).collect();
        if members.len() < 2 {
            return Ok(Look::default());
        }
        let length = piece.length as usize;
        let slices: Vec<_> = buffers.theirs.iter().map(|buffer| buffer.slice(0, length)).collect();
        // All are awaited to their end, whatever the first one says.
        let reads = members.iter().map(|device| self.read(*device, piece, &slices[*device]));
        let read: Vec<Result<(), Errno>> = join_all(reads).await;
        // Of one that has left meanwhile nothing is said.
        let stays = |(device, _): &(usize, Result<(), Errno>)| (self.plan.in_step)(*device, piece);
        let (members, read): (Vec<_>, Vec<_>) = members.into_iter().zip(read).filter(stays).unzip();
        if members.len() < 2 {
            return Ok(Look::default());
        }
        let mut readable = vec![None; self.plan.devices.len()];
        for (device, outcome) in members.iter().zip(read) {
            if outcome.is_err() {
                readable[*device] = Some(self.read_pages(*device, piece, &slices[*device]).await?);
            }
        }
        let all_read = readable.iter().all(Option::is_none);
        let first = &slices[members[0]];
        let equal = |other: &OwnedBuffer| first.with_bytes(|first| other.with_bytes(|other| first == other));
        if all_read && members[1..].iter().all(|device| equal(&slices[*device])) {
            return Ok(Look::default());
        }
        let mut look = Look::default();
        for (page, at) in (0..length).step_by(PAGE_BYTES).enumerate() {
            let len = PAGE_BYTES.min(length - at);
            let held: Vec<(usize, Option<Vec<u8>>)> = members
                .iter()
                .map(|device| {
                    let good = readable[*device].as_ref().is_none_or(|pages| pages[page]);
                    (*device, good.then(|| slices[*device].slice(at, len).to_vec()))
                })
                .collect();
            let right = self.right(&held);
            // Without a right one, what is told is where they differ from the first that can be read.
            let reference = right.or_else(|| held.iter().position(|(_, page)| page.is_some()));
            let Some(reference) = reference else {
                let range = ByteRange::new(piece.offset + at as u64, len as u64);
                look.add(
                    held.iter().map(|(device, _)| Flaw {
                        device: *device,
                        range,
                        reference: *device,
                        unreadable: true,
                        repaired: false,
                    }),
                    false,
                );
                continue;
            };
            let range = ByteRange::new(piece.offset + at as u64, len as u64);
            let wrong = held.iter().filter(|(_, page)| *page != held[reference].1);
            look.add(
                wrong.map(|(device, page)| Flaw {
                    device: *device,
                    range,
                    reference: held[reference].0,
                    unreadable: page.is_none(),
                    repaired: false,
                }),
                right.is_some(),
            );
            if let (Some(right), Some(bytes)) = (right, &held[reference].1) {
                assert_eq!(right, reference, "the right one is the reference");
                buffers.truth.fill_from(at, bytes);
            }
        }
        Ok(look)
    }

    /// Which of the held pages is right, if that can be told.
    fn right(&self, held: &[(usize, Option<Vec<u8>>)]) -> Option<usize> {
        match self.plan.decide {
            Decide::Report => None,
            Decide::Source(source) => {
                held.iter().position(|(device, page)| *device == source && page.is_some())
            }
            Decide::Majority => held.iter().position(|(_, page)| {
                let alike = held.iter().filter(|(_, other)| page.is_some() && other == page).count();
                2 * alike > held.len()
            }),
        }
    }

    async fn read(&self, device: usize, range: ByteRange, buffer: &OwnedBuffer) -> Result<(), Errno> {
        let request = Request::Read { offset: range.offset, buffer: buffer.clone().into() };
        self.plan.devices[device].submit(request).await
    }

    /// Read page by page what could not be read at once; which pages could be.
    async fn read_pages(
        &self,
        device: usize,
        piece: ByteRange,
        buffer: &OwnedBuffer,
    ) -> Result<Vec<bool>, MoverError> {
        let mut readable = Vec::new();
        for range in piece.pieces(PAGE_BYTES as u64) {
            let at = (range.offset - piece.offset) as usize;
            let outcome = self.read(device, range, &buffer.slice(at, range.length as usize)).await;
            if let Err(errno) = outcome {
                let failed = self.unreadable[device].get() + range.length;
                self.unreadable[device].set(failed);
                if failed > UNREADABLE_LIMIT {
                    self.failed.set(Some(device));
                    return Err(MoverError::Read { device, range, errno });
                }
            }
            readable.push(outcome.is_ok());
        }
        Ok(readable)
    }

    /// Rewrite what is wrong and whose right content is known, and flush it; the window is held, the intent durable.
    async fn mend(&self, buffers: &Buffers, piece: ByteRange, look: &mut Look) -> Result<(), MoverError> {
        let mut written = vec![false; self.plan.devices.len()];
        let left = |device: usize| !(self.plan.in_step)(device, piece);
        let mut due: Vec<(usize, ByteRange)> = Vec::new();
        for (flaw, _) in look.flaws.iter().zip(&look.known).filter(|(_, known)| **known) {
            due.push((flaw.device, flaw.range));
        }
        due.sort_unstable();
        due.dedup_by(|next, last| {
            let joins = next.0 == last.0 && last.1.end() == next.1.offset;
            if joins {
                last.1.length += next.1.length;
            }
            joins
        });
        due.iter().for_each(|(_, range)| (self.plan.changed)(*range));
        for (device, range) in &due {
            let at = (range.offset - piece.offset) as usize;
            let buffer = buffers.truth.slice(at, range.length as usize);
            let durability = Durability::Volatile;
            let request = Request::Write { offset: range.offset, buffer: buffer.into(), durability };
            match self.plan.devices[*device].submit(request).await {
                Ok(()) => written[*device] = true,
                Err(_) if left(*device) => {}
                Err(errno) => {
                    self.failed.set(Some(*device));
                    return Err(MoverError::Write { range: *range, errno });
                }
            }
        }
        for (device, _) in written.iter().enumerate().filter(|(_, written)| **written) {
            match self.plan.devices[device].submit(Request::Flush).await {
                Err(errno) if !left(device) => {
                    self.failed.set(Some(device));
                    return Err(MoverError::Flush { errno });
                }
                Ok(()) | Err(_) => {}
            }
        }
        due.iter().for_each(|(_, range)| (self.plan.changed)(*range));
        for (flaw, known) in look.flaws.iter_mut().zip(&look.known) {
            flaw.repaired = *known && !left(flaw.device);
        }
        Ok(())
    }

    /// List and count what was found in a piece.
    fn note(&self, found: Vec<Flaw>) -> Tally {
        let mut tally = Tally::default();
        for flaw in found {
            if flaw.unreadable {
                tally.unreadable_bytes += flaw.range.length;
            } else {
                tally.differing_bytes += flaw.range.length;
            }
            if flaw.repaired {
                tally.repaired_bytes += flaw.range.length;
            }
            let mut flaws = self.flaws.borrow_mut();
            let joins = |last: &mut Flaw| {
                let same = Flaw { range: flaw.range, ..*last } == flaw;
                if same && last.range.end() == flaw.range.offset {
                    last.range.length += flaw.range.length;
                    return true;
                }
                false
            };
            if flaws.iter_mut().rev().take(self.plan.devices.len()).any(joins) {
                continue;
            }
            if flaws.len() < self.plan.list_at_most {
                flaws.push(flaw);
            } else {
                self.more.set(true);
            }
        }
        tally
    }

    /// A piece has ended; what has ended in one run from the beginning is told.
    fn settle(&self, piece: ByteRange, found: Tally) {
        self.job.count(piece.length, found.repaired_bytes);
        let mut ahead = self.ahead.borrow_mut();
        ahead.insert(piece.offset, Tally { position: piece.end(), ..found });
        let mut tally = self.tally.get();
        while let Some(next) = ahead.remove(&tally.position) {
            tally.add(&next);
            tally.position = next.position;
        }
        if tally != self.tally.replace(tally) {
            (self.plan.settled)(&tally);
        }
    }
}

impl Look {
    fn add(&mut self, flaws: impl Iterator<Item = Flaw>, known: bool) {
        self.flaws.extend(flaws);
        self.known.resize(self.flaws.len(), known);
    }
}

fn join_neighbours(mut flaws: Vec<Flaw>) -> Vec<Flaw> {
    flaws.sort_unstable();
    flaws.dedup_by(|next, last| {
        let joins = Flaw { range: next.range, ..*last } == *next && last.range.end() == next.range.offset;
        if joins {
            last.range.length += next.range.length;
        }
        joins
    });
    flaws
}

#[cfg(test)]
mod tests;
