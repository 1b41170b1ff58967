//! How long the application's requests take, measured only while somebody wants to know.
//!
//! Who wants to know holds a [`Watch`] and looks at it now and then. Without one a request costs a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::device::{Clock, Moment};

/// Sums over the reads, writes, discards and zeroes of one volume that were begun while somebody watched. Flushes are left
/// out: they take what the medium takes, whatever else is going on.
#[derive(Debug, Default)]
pub struct Latency {
    watches: AtomicU32,
    begun: AtomicU64,
    ended: AtomicU64,
    nanos: AtomicU64,
}

impl Latency {
    /// Measure a request from now until the answer is dropped; `None` when nobody watches.
    pub fn time<'a, C: Clock>(&'a self, clock: &'a C) -> Option<Timed<'a, C>> {
        if self.watches.load(Relaxed) == 0 {
            return None;
        }
        self.begun.fetch_add(1, Relaxed);
        Some(Timed { latency: self, clock, began: clock.now() })
    }

    /// Have requests measured from `now` on, until the answer is dropped.
    #[must_use]
    pub fn watch(self: &Arc<Self>, now: Moment) -> Watch {
        self.watches.fetch_add(1, Relaxed);
        Watch { latency: Arc::clone(self), seen: self.sums(), since: now }
    }

    fn sums(&self) -> Sums {
        // The end first: what has ended by then has begun too.
        let ended = self.ended.load(Relaxed);
        Sums { ended, begun: self.begun.load(Relaxed), nanos: self.nanos.load(Relaxed) }
    }
}

/// A request that is measured until this is dropped.
pub struct Timed<'a, C: Clock> {
    latency: &'a Latency,
    clock: &'a C,
    began: Moment,
}

impl<C: Clock> Drop for Timed<'_, C> {
    fn drop(&mut self) {
        let took = self.clock.now().since(self.began).as_nanos();
        self.latency.nanos.fetch_add(u64::try_from(took).unwrap_or(u64::MAX), Relaxed);
        self.latency.ended.fetch_add(1, Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
struct Sums {
    ended: u64,
    begun: u64,
    nanos: u64,
}

/// Has the requests of a volume measured while it lives.
#[derive(Debug)]
pub struct Watch {
    latency: Arc<Latency>,
    seen: Sums,
    since: Moment,
}

impl Watch {
    /// What the requests that ended since the last look took on average. Where none has ended, but one was under way at the
    /// last look already, how long that has been going on; `None` where the application is idle.
    pub fn look(&mut self, now: Moment) -> Option<Duration> {
        let sums = self.latency.sums();
        let count = sums.ended - self.seen.ended;
        if count == 0 && self.seen.begun > self.seen.ended {
            return Some(now.since(self.since));
        }
        let nanos = sums.nanos - self.seen.nanos;
        (self.seen, self.since) = (sums, now);
        (count > 0).then(|| Duration::from_nanos(nanos / count))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.latency.watches.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[derive(Clone, Default)]
    struct Hand(Cell<u64>);

    impl Clock for Hand {
        fn now(&self) -> Moment {
            Moment(self.0.get() * 1_000_000)
        }
        async fn sleep_until(&self, _: Moment) {
            unreachable!("nobody sleeps here")
        }
    }

    #[test]
    fn requests_are_measured_while_somebody_watches_and_by_the_look() {
        let (latency, clock) = (Arc::new(Latency::default()), Hand::default());
        let wait = |millis| clock.0.set(clock.0.get() + millis);
        assert!(latency.time(&clock).is_none(), "nobody asks");
        let mut watch = latency.watch(clock.now());
        let mut other = latency.watch(clock.now());
        assert_eq!(watch.look(clock.now()), None);
        let (first, second) = (latency.time(&clock), latency.time(&clock));
        wait(4);
        drop(first);
        wait(4);
        drop(second);
        assert_eq!(watch.look(clock.now()), Some(Duration::from_millis(6)));
        assert_eq!(watch.look(clock.now()), None, "each look is at what came since");
        assert_eq!(other.look(clock.now()), Some(Duration::from_millis(6)));
        drop(other);
        let third = latency.time(&clock);
        assert!(third.is_some(), "one still asks");
        drop((watch, third));
        assert!(latency.time(&clock).is_none());
    }

    #[test]
    fn a_request_that_does_not_end_is_seen() {
        let (latency, clock) = (Arc::new(Latency::default()), Hand::default());
        let wait = |millis| clock.0.set(clock.0.get() + millis);
        let mut watch = latency.watch(clock.now());
        let stuck = latency.time(&clock);
        wait(10);
        assert_eq!(watch.look(clock.now()), None, "it may have begun just now");
        wait(10);
        assert_eq!(watch.look(clock.now()), Some(Duration::from_millis(10)));
        wait(10);
        assert_eq!(watch.look(clock.now()), Some(Duration::from_millis(20)));
        drop(stuck);
        assert_eq!(watch.look(clock.now()), Some(Duration::from_millis(30)));
    }
}
