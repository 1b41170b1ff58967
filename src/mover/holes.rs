//! Where a device has data, asked for as seldom as can be; holes are passed over in long strides.

use std::cell::Cell;

use crate::base::limits::MIB;
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Clock};

use super::error::MoverError;
use super::slots::Job;
use super::windows::Windows;

/// How far ahead a device is asked for data: its answer may say what it knows up to there.
const AHEAD_BYTES: u64 = 1024 * MIB;

/// What is known of one device's data. A file system in memory looks at each page of a run of data to find its end: asked anew
/// for each piece, as often as there are pieces.
///
/// Only where data is, is kept. A hole is one while the window is held in which it was looked for (ordering rule 7); data that
/// has become a hole meanwhile is read as zeroes.
#[derive(Debug)]
pub(super) struct DataAhead {
    known: Cell<ByteRange>,
    /// Answers are widened to blocks of so many bytes.
    block: u64,
}

impl DataAhead {
    pub(super) const fn new(block: u64) -> Self {
        Self { known: Cell::new(ByteRange::new(0, 0)), block }
    }

    /// The first part of `rest` that may hold data, in whole blocks; `None` when all of it reads as zero.
    pub(super) async fn next<D: BlockDevice>(
        &self,
        device: &D,
        rest: ByteRange,
    ) -> Result<Option<ByteRange>, Errno> {
        let known = self.known.get().intersection(rest);
        if !known.is_empty() && known.offset == rest.offset {
            return Ok(Some(known));
        }
        let length = device.geometry().length.saturating_sub(rest.offset).min(AHEAD_BYTES);
        let span = ByteRange::new(rest.offset, length.max(rest.length));
        let Some(data) = device.next_data(span).await? else { return Ok(None) };
        let data = data.widen(self.block, span.end()).intersection(span);
        if data.is_empty() {
            // An answer outside the span tells nothing, so that all of it may be data.
            return Ok(Some(rest));
        }
        self.known.set(data);
        let data = data.intersection(rest);
        Ok((!data.is_empty()).then_some(data))
    }
}

/// The widest window over a hole. It is held for as long as a device is asked where its data begin, and for the writes in it
/// that were under way.
const WIDEST_STRIDE: u64 = 64 * AHEAD_BYTES;

/// How many bytes at the beginning of `range` read as zero, in whole blocks of `block` bytes or up to its end. Worth
/// something only while a window over them is held.
pub(super) async fn hole_before<D: BlockDevice>(
    device: &D,
    range: ByteRange,
    block: u64,
) -> Result<u64, Errno> {
    let data = device.next_data(range).await?;
    Ok(data.map_or(range.length, |data| data.widen(block, range.end()).offset.saturating_sub(range.offset)))
}

/// Go on from a piece that ended in a hole: take on what comes next as far as it needs nothing done, in windows as wide as
/// the hole. `free` says how many bytes at the beginning of a range need nothing done; it is asked first without a window,
/// for how wide a one to claim, and what it says inside the window counts (ordering rule 7). `done` gets what was dealt with.
pub(super) async fn take_on<W: Windows, C: Clock>(
    job: &Job<'_, C>,
    windows: &W,
    free: impl AsyncFn(ByteRange) -> Result<u64, MoverError>,
    done: impl Fn(ByteRange),
) -> Result<(), MoverError> {
    let mut stride = AHEAD_BYTES;
    while let Some(ahead) = job.ahead(stride) {
        let ahead = ByteRange::new(ahead.offset, ahead.length.min(stride));
        let hole = ByteRange::new(ahead.offset, free(ahead).await?);
        // Not worth a window of its own.
        if hole.length <= job.chunk_bytes() && hole.length < ahead.length {
            return Ok(());
        }
        let Some(taken) = job.take_on(hole) else { return Ok(()) };
        let window = windows.claim(taken).await;
        let sure = ByteRange::new(taken.offset, free(taken).await?);
        drop(window);
        job.give_back(ByteRange::new(sure.end(), taken.end() - sure.end()));
        if !sure.is_empty() {
            job.count_free(sure.length);
            done(sure);
        }
        if sure != ahead {
            return Ok(());
        }
        stride = (2 * stride).min(WIDEST_STRIDE);
    }
    Ok(())
}
