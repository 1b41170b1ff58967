//! Repair of a range that one device cannot read any more, from another that can.

use crate::base::ByteRange;
#[cfg(feature = "museum")]
use crate::base::museum::{self, Exhibit};
use crate::device::{BlockDevice, Durability, OwnedBuffer, Request};

use super::copy::SOURCE;
use super::error::MoverError;
use super::slots::Tuning;
use super::windows::Windows;

/// Rewrite `range` of `target` from `source`, piece by piece in held windows and from a buffer of our own, then flush
/// (ordering rule 10).
///
/// # Errors
/// The first [`MoverError`]; what was rewritten before it may not be durable.
pub async fn repair<S: BlockDevice, T: BlockDevice, W: Windows>(
    source: &S,
    target: &T,
    windows: &W,
    range: ByteRange,
) -> Result<(), MoverError> {
    let chunk = Tuning::default().chunk_bytes();
    let buffer = OwnedBuffer::zeroed(chunk.min(range.length.max(1) as usize));
    for piece in range.pieces(chunk as u64) {
        let buffer = buffer.slice(0, piece.length as usize);
        let claimed = windows.claim_to_write(piece).await;
        let _window = claimed.map_err(|errno| MoverError::Write { range: piece, errno })?;
        #[cfg(feature = "museum")]
        let _window = (!museum::shows(Exhibit::RepairBesideWrites)).then_some(_window);
        let read = Request::Read { offset: piece.offset, buffer: buffer.clone().into() };
        source.submit(read).await.map_err(|errno| MoverError::Read {
            device: SOURCE,
            range: piece,
            errno,
        })?;
        let durability = Durability::Volatile;
        let write = Request::Write { offset: piece.offset, buffer: buffer.into(), durability };
        target.submit(write).await.map_err(|errno| MoverError::Write { range: piece, errno })?;
    }
    target.submit(Request::Flush).await.map_err(|errno| MoverError::Flush { errno })
}
