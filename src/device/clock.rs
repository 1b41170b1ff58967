//! Time and wake-ups as traits, so that the simulator owns both.

use std::time::Duration;

/// An instant of a monotonic clock: nanoseconds since a start that the clock chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `duration` later; the last one there is when that lies beyond 584 years.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A monotonic clock.
pub trait Clock: Clone + 'static {
    /// Now.
    fn now(&self) -> Moment;
    /// Completes at `at` or soon after; at once when that has passed.
    fn sleep_until(&self, at: Moment) -> impl Future<Output = ()>;
    /// Completes `duration` from now.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        self.sleep_until(self.now().after(duration))
    }
}

/// Wakes the thread that an executor lives on out of its wait for completions; callable from any thread, never blocks.
pub trait Notifier: Send + Sync {
    /// Make the thread look at its ready tasks soon.
    fn notify(&self);
}
