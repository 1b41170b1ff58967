//! Save what is about to be overwritten: the marked regions of a volume, read piece by piece into an undo archive.

use crate::bitmap::ChangeMap;
use crate::device::{BlockDevice, Clock, OwnedBuffer, Request};
use crate::volume::undo_file::UndoWriter;

use super::control::Control;
use super::copy::SOURCE;
use super::error::{Ended, MoverError};
use super::slots::{Job, Tuning, Work};

/// What is to be saved. Nobody writes to the source meanwhile.
pub struct SavePlan<'a, S, D> {
    /// The volume.
    pub source: &'a S,
    /// Where its bytes go.
    pub archive: &'a UndoWriter<D>,
    /// What is saved; the map stays as it is.
    pub map: &'a ChangeMap,
    /// Slots and chunks.
    pub tuning: Tuning,
}

/// Save the marked regions and complete the archive, durably. When it returns, every request has ended.
pub async fn save<S: BlockDevice, D: BlockDevice, C: Clock>(
    plan: SavePlan<'_, S, D>,
    control: &Control,
    clock: &C,
) -> Ended {
    let job = Job::new(Work::Marked(plan.map), plan.tuning, control, clock);
    job.run(|| slot(&plan, &job)).await;
    match job.end() {
        Ended::Complete => match plan.archive.finish().await {
            Ok(()) => Ended::Complete,
            Err(errno) => Ended::Failed(MoverError::Flush { errno }),
        },
        other => other,
    }
}

async fn slot<S: BlockDevice, D: BlockDevice, C: Clock>(plan: &SavePlan<'_, S, D>, job: &Job<'_, C>) {
    let buffer = OwnedBuffer::zeroed(plan.tuning.chunk_bytes());
    while let Some(piece) = job.next().await {
        let bytes = buffer.slice(0, piece.length as usize);
        let read = Request::Read { offset: piece.offset, buffer: bytes.clone().into() };
        if let Err(errno) = plan.source.submit(read).await {
            return job.fail(MoverError::Read { device: SOURCE, range: piece, errno });
        }
        if let Err(errno) = plan.archive.keep(piece, &bytes).await {
            return job.fail(MoverError::Write { range: piece, errno });
        }
        job.count(piece.length, piece.length);
    }
}
