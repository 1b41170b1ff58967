//! Where a device has data, asked for as seldom as can be.

use std::cell::Cell;

use crate::base::limits::MIB;
use crate::base::{ByteRange, Errno};
use crate::device::BlockDevice;

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
