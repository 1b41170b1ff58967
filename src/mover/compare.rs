//! Diff and verify: where devices that should hold the same do not.

use futures_util::future::join_all;
use std::cell::{Cell, RefCell};

use crate::base::ByteRange;
use crate::bitmap::ChangeMap;
use crate::device::{BlockDevice, Clock, OwnedBuffer, Request};

use super::control::Control;
use super::error::{Ended, MoverError};
use super::holes::{DataAhead, hole_before, take_on};
use super::slots::{Job, Tuning, Work};
use super::windows::Windows;
use super::zero::differences;

/// A comparison to be made: each device against the first.
pub struct ComparePlan<'a, D, W> {
    /// All plexes of a volume, or an origin and its snapshot; at least two.
    pub devices: &'a [D],
    /// What keeps the volume's writes off the piece at work.
    pub windows: &'a W,
    /// What is to be compared.
    pub work: Work<'a>,
    /// Take a range for equal, unread, when every device says that it reads as zero there. A scrub does not.
    pub trust_holes: bool,
    /// A map that gets every difference marked.
    pub mark: Option<&'a ChangeMap>,
    /// How many differences are listed; all are counted.
    pub list_at_most: usize,
    /// Slots and chunks; each slot has a chunk of memory for each device.
    pub tuning: Tuning,
}

/// A range in which a device differs from the first, in whole pages, cut off at the end of what was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Difference {
    /// Index of the device, at least 1.
    pub device: usize,
    /// Where.
    pub range: ByteRange,
}

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompareReport {
    /// How it ended.
    pub ended: Ended,
    /// Bytes of each device that were compared.
    pub compared_bytes: u64,
    /// Bytes in differences, summed over the devices.
    pub differing_bytes: u64,
    /// The differences, neighbours joined: complete unless [`more`](Self::more).
    pub differences: Vec<Difference>,
    /// Whether there are differences that are not listed.
    pub more: bool,
}

/// Compare the devices. When it returns, every request has ended.
///
/// # Panics
/// For fewer than two devices.
pub async fn compare<D: BlockDevice, W: Windows, C: Clock>(
    plan: ComparePlan<'_, D, W>,
    control: &Control,
    clock: &C,
) -> CompareReport {
    assert!(plan.devices.len() >= 2, "a comparison needs two devices");
    let run = Run {
        job: Job::new(plan.work, plan.tuning, control, clock),
        compared: Cell::new(0),
        differing: Cell::new(0),
        more: Cell::new(false),
        found: RefCell::default(),
        data: plan.devices.iter().map(|device| DataAhead::new(device.geometry().block_size.into())).collect(),
        plan,
    };
    run.job.run(|| run.slot()).await;
    CompareReport {
        ended: run.job.end(),
        compared_bytes: run.compared.get(),
        differing_bytes: run.differing.get(),
        differences: join_neighbours(run.found.take()),
        more: run.more.get(),
    }
}

struct Run<'a, D, W, C> {
    plan: ComparePlan<'a, D, W>,
    job: Job<'a, C>,
    compared: Cell<u64>,
    differing: Cell<u64>,
    more: Cell<bool>,
    found: RefCell<Vec<Difference>>,
    /// Of each device.
    data: Vec<DataAhead>,
}

impl<D: BlockDevice, W: Windows, C: Clock> Run<'_, D, W, C> {
    async fn slot(&self) {
        let chunk = self.plan.tuning.chunk_bytes();
        let buffers: Vec<_> = self.plan.devices.iter().map(|_| OwnedBuffer::zeroed(chunk)).collect();
        while let Some(piece) = self.job.next().await {
            let window = self.plan.windows.claim(piece).await;
            let compared = self.piece(&buffers, piece).await;
            drop(window);
            let unread = match compared {
                Ok(unread) => unread,
                Err(fault) => return self.job.fail(fault),
            };
            self.compared.set(self.compared.get() + piece.length);
            self.job.count(piece.length, 0);
            if unread && let Err(fault) = self.take_on().await {
                return self.job.fail(fault);
            }
        }
    }

    /// Take on what comes next as far as it is a hole on all devices.
    async fn take_on(&self) -> Result<(), MoverError> {
        let free = async |range: ByteRange| {
            let mut length = range.length;
            for (index, device) in self.plan.devices.iter().enumerate() {
                let range = ByteRange::new(range.offset, length);
                let hole = hole_before(device, range, device.geometry().block_size.into()).await;
                length = hole.map_err(|errno| MoverError::Read { device: index, range, errno })?;
            }
            Ok(length)
        };
        let done = |range: ByteRange| self.compared.set(self.compared.get() + range.length);
        take_on(&self.job, self.plan.windows, free, done).await
    }

    /// Whether `piece` was found equal unread.
    async fn piece(&self, buffers: &[OwnedBuffer], piece: ByteRange) -> Result<bool, MoverError> {
        if self.plan.trust_holes && self.all_holes(piece).await? {
            self.job.unspent(piece.length);
            return Ok(true);
        }
        let buffers: Vec<_> = buffers.iter().map(|buffer| buffer.slice(0, piece.length as usize)).collect();
        let reads = self.plan.devices.iter().zip(&buffers).map(|(device, buffer)| {
            device.submit(Request::Read { offset: piece.offset, buffer: buffer.clone().into() })
        });
        // All are awaited to their end, whatever the first one says.
        for (device, done) in join_all(reads).await.into_iter().enumerate() {
            done.map_err(|errno| MoverError::Read { device, range: piece, errno })?;
        }
        let (first, others) = buffers.split_first().expect("two devices at least");
        for (index, other) in others.iter().enumerate() {
            for run in first.with_bytes(|first| other.with_bytes(|other| differences(first, other))) {
                let range = ByteRange::new(piece.offset + run.start as u64, run.len() as u64);
                self.report(Difference { device: index + 1, range });
            }
        }
        Ok(false)
    }

    /// Whether all devices say that `piece` reads as zero.
    async fn all_holes(&self, piece: ByteRange) -> Result<bool, MoverError> {
        for (device, (body, data)) in self.plan.devices.iter().zip(&self.data).enumerate() {
            let data = data.next(body, piece).await;
            if data.map_err(|errno| MoverError::Read { device, range: piece, errno })?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn report(&self, difference: Difference) {
        self.differing.set(self.differing.get() + difference.range.length);
        if let Some(map) = self.plan.mark {
            map.mark(difference.range);
        }
        let mut found = self.found.borrow_mut();
        if found.len() < self.plan.list_at_most {
            found.push(difference);
        } else {
            self.more.set(true);
        }
    }
}

fn join_neighbours(mut found: Vec<Difference>) -> Vec<Difference> {
    found.sort_unstable();
    found.dedup_by(|next, last| {
        let joins = next.device == last.device && last.range.end() == next.range.offset;
        if joins {
            last.range.length += next.range.length;
        }
        joins
    });
    found
}
