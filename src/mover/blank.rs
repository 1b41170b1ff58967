//! Ranges of a device that nobody uses yet are made to read zero.

use crate::base::limits::MAX_DISCARD_BYTES;
use crate::base::{ByteRange, Errno};
use crate::device::{BlockDevice, Clock, Durability, Request, Space};

use super::Control;
use super::control::Pacer;
use super::error::{Ended, MoverError};
use super::meter::Meter;

/// Write zeroes over `ranges` of `device`, its space kept, and flush it. The caller knows that nobody else uses them.
pub async fn blank<D: BlockDevice>(
    device: &D,
    ranges: &[ByteRange],
    control: &Control,
    clock: &impl Clock,
) -> Ended {
    let mut meter = Meter::new(ranges.iter().map(|range| range.length).sum(), clock.now());
    control.publish(meter.current());
    let ended = run(device, ranges, control, clock, &mut meter).await;
    control.publish(meter.end());
    match ended {
        Ok(true) => Ended::Complete,
        Ok(false) => Ended::Aborted,
        Err((range, errno)) => Ended::Failed(MoverError::Write { range, errno }),
    }
}

async fn run<D: BlockDevice>(
    device: &D,
    ranges: &[ByteRange],
    control: &Control,
    clock: &impl Clock,
    meter: &mut Meter,
) -> Result<bool, (ByteRange, Errno)> {
    let pacer = Pacer::default();
    for range in ranges.iter().flat_map(|range| range.pieces(MAX_DISCARD_BYTES.into())) {
        if !pacer.turn(range.length, control, clock).await {
            return Ok(false);
        }
        let request = Request::WriteZeroes { range, space: Space::Keep, durability: Durability::Volatile };
        device.submit(request).await.map_err(|errno| (range, errno))?;
        if let Some(progress) = meter.add(range.length, range.length, clock.now()) {
            control.publish(progress);
        }
    }
    let last = ranges.last().copied().unwrap_or(ByteRange::new(0, 0));
    device.submit(Request::Flush).await.map_err(|errno| (last, errno))?;
    Ok(true)
}
