//! Virtual time and the timers that wait for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use super::rng::Rng;
use crate::device::{Clock, Moment};

/// When a timer fires: the moment, dice for timers of one moment, and a number that makes it unique.
type Key = (Moment, u64, u64);

struct Timers {
    waiting: BTreeMap<Key, Waker>,
    dice: Rng,
    made: u64,
}

/// The clock of a world. It stands still while anything is ready and then jumps to the next timer; at the end of a run
/// it keeps its time.
#[derive(Clone)]
pub struct SimClock {
    /// Nanoseconds since the world began; disks hold a reference, hence an atomic in a world of one thread.
    now: Arc<AtomicU64>,
    timers: Rc<RefCell<Timers>>,
}

impl SimClock {
    pub(super) fn new(dice: Rng) -> Self {
        let timers = Timers { waiting: BTreeMap::new(), dice, made: 0 };
        Self { now: Arc::default(), timers: Rc::new(RefCell::new(timers)) }
    }

    pub(super) const fn shared_now(&self) -> &Arc<AtomicU64> {
        &self.now
    }

    /// Go to the moment of the next timer and fire it; false when none waits.
    pub(super) fn advance(&self) -> bool {
        let Some(((at, ..), waker)) = self.timers.borrow_mut().waiting.pop_first() else { return false };
        // A timer in the past fires now: time never runs backwards.
        self.now.fetch_max(at.0, Ordering::Relaxed);
        waker.wake();
        true
    }

    /// The moment of the next timer.
    pub(super) fn next_timer(&self) -> Option<Moment> {
        self.timers.borrow().waiting.first_key_value().map(|(&(at, ..), _)| at)
    }

    /// Let time pass up to `at` without a timer.
    pub(super) fn pass(&self, at: Moment) {
        self.now.fetch_max(at.0, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }

    fn sleep_until(&self, at: Moment) -> impl Future<Output = ()> {
        Sleep { clock: self.clone(), at, key: None }
    }
}

struct Sleep {
    clock: SimClock,
    at: Moment,
    key: Option<Key>,
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            self.clock.timers.borrow_mut().waiting.remove(&key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.forget();
        if self.clock.now() >= self.at {
            return Poll::Ready(());
        }
        let key = {
            let mut timers = self.clock.timers.borrow_mut();
            timers.made += 1;
            let key = (self.at, timers.dice.next_u64(), timers.made);
            timers.waiting.insert(key, context.waker().clone());
            key
        };
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}
