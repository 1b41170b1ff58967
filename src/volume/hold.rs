//! A hold: the moment in which all requests of a set of volumes stand still, with a deadline that anyone can enforce.
//!
//! ```text
//!            begin_swap            release
//! Draining ────────────> Swapping ─────────> Released
//!    └───────────────────────────────────────> Expired
//!            expire, release
//! ```
//! One hold may be in force on several gates: the step from Draining to Swapping happens for all volumes of a cut at once.

use std::task::Waker;

use crate::device::Moment;

use super::sync::{AtomicU8, Mutex, Ordering, lock};

const DRAINING: u8 = 0;
const SWAPPING: u8 = 1;
const ENDED: u8 = 2;

/// A hold on one or several gates.
pub struct Hold {
    state: AtomicU8,
    deadline: Moment,
    waker: Mutex<Option<Waker>>,
}

impl Hold {
    /// A hold that anyone may end at `deadline`, unless the swap has begun by then.
    #[must_use]
    pub fn new(deadline: Moment) -> Self {
        Self { state: AtomicU8::new(DRAINING), deadline, waker: Mutex::new(None) }
    }

    /// When the hold ends by itself.
    #[must_use]
    pub const fn deadline(&self) -> Moment {
        self.deadline
    }

    /// Go from draining to swapping; false when the hold has expired: then nothing may be swapped.
    pub fn begin_swap(&self) -> bool {
        self.state.compare_exchange(DRAINING, SWAPPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// End a hold that still drains; false when the swap has begun, which is never interrupted.
    pub fn expire(&self) -> bool {
        let ended = self.state.compare_exchange(DRAINING, ENDED, Ordering::AcqRel, Ordering::Acquire);
        self.wake();
        ended != Err(SWAPPING)
    }

    /// Whether the hold was ended by its deadline.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.state.load(Ordering::Acquire) == ENDED
    }

    /// Who shall be woken when a lane runs empty or the hold expires.
    pub fn watch(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    /// Wake the holder, if one watches.
    pub fn wake(&self) {
        if let Some(waker) = lock(&self.waker).as_ref() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(all(test, not(feature = "model-check")))]
mod tests {
    use super::*;

    #[test]
    fn swap_and_expiry_exclude_each_other() {
        let hold = Hold::new(Moment(1));
        assert!(hold.begin_swap());
        assert!(!hold.expire());
        assert!(!hold.has_expired());
        let hold = Hold::new(Moment(1));
        assert!(hold.expire());
        assert!(hold.expire(), "twice is once");
        assert!(!hold.begin_swap());
        assert!(hold.has_expired());
    }
}
