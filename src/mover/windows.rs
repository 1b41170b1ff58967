//! The span that the mover holds while it works on it.

use std::sync::Arc;

use crate::base::{ByteRange, Errno};
use crate::volume::{Held, Volume};

/// What keeps the writes of a volume away from the piece that the mover works on.
pub trait Windows {
    /// The held window; dropping it lets the waiting writes go on.
    type Guard;

    /// Hold `range`: completes when no write, discard or write-zeroes that overlaps it is in flight; those that come later
    /// wait for the guard. Windows held at one time never overlap, and there are at most
    /// [`Tuning::MAX_SLOTS`](super::Tuning::MAX_SLOTS) of them for a job.
    fn claim(&self, range: ByteRange) -> impl Future<Output = Self::Guard>;

    /// Hold `range` and see to it that what is written there counts as unflushed until it is not (ordering rule 2): when
    /// the target is lost to a failed flush that was not ours, what we wrote is among what it lacks.
    ///
    /// # Errors
    /// That could not be recorded: nothing may be written.
    fn claim_to_write(&self, range: ByteRange) -> impl Future<Output = Result<Self::Guard, Errno>> {
        async move { Ok(self.claim(range).await) }
    }
}

/// No window: for devices that nobody else writes, such as a frozen copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWindows;

impl Windows for NoWindows {
    type Guard = ();
    async fn claim(&self, _: ByteRange) {}
}

impl<M: Clone + Send + Sync + 'static> Windows for Arc<Volume<M>> {
    type Guard = Held;
    async fn claim(&self, range: ByteRange) -> Held {
        self.window(range).await
    }
    async fn claim_to_write(&self, range: ByteRange) -> Result<Held, Errno> {
        let held = self.window(range).await;
        self.intent().cover(range).await?;
        Ok(held)
    }
}
