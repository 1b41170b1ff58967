//! The span that the mover holds while it works on it.

use std::sync::Arc;

use crate::base::ByteRange;
use crate::volume::{Held, Volume};

/// What keeps the writes of a volume away from the piece that the mover works on.
pub trait Windows {
    /// The held window; dropping it lets the waiting writes go on.
    type Guard;

    /// Hold `range`: completes when no write, discard or write-zeroes that overlaps it is in flight; those that come later
    /// wait for the guard. Windows held at one time never overlap, and there are at most
    /// [`Tuning::MAX_SLOTS`](super::Tuning::MAX_SLOTS) of them for a job.
    fn claim(&self, range: ByteRange) -> impl Future<Output = Self::Guard>;
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
        let held = self.window(range).await;
        let _ = self.intent().cover(range).await;
        held
    }
}
