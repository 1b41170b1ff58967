//! Failures on their way from the queue threads to the one place that decides which plex is lost.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::base::{ByteRange, Errno, Uuid};

/// What became of a request after the failures it met were dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every plex that failed has durably left: what the others completed may be acknowledged.
    Acknowledge,
    /// The last readable plex is among those that failed, or the loss could not be recorded.
    Fail(Errno),
}

/// What became of a plex that was late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It has left the write path; whether that is recorded is told to those who ask for a verdict.
    Left,
    /// It is the last one that can be read: nothing is gained by giving it up, so it is waited for.
    Stays,
}

/// What a queue, the keeper or the mover met at a plex.
pub(super) enum Report {
    /// A write, zeroes or discard that failed on some plexes.
    Write {
        /// What was written.
        range: ByteRange,
        /// Who failed with what.
        failed: Vec<(Uuid, Errno)>,
        /// Who waits.
        verdict: oneshot::Sender<Verdict>,
    },
    /// A flush that failed on one plex: told as soon as it is known, since a failed flush is final and no later one of
    /// this plex proves anything.
    Flush {
        /// The plex that failed.
        plex: Uuid,
        /// How it failed.
        errno: Errno,
        /// Whether an application hears of it.
        heard: bool,
        /// Who waits.
        verdict: oneshot::Sender<Verdict>,
    },
    /// A request that succeeded while a lost plex was not yet recorded: wait for the record.
    Settle {
        /// Who waits.
        verdict: oneshot::Sender<Verdict>,
    },
    /// A read that failed on one plex and was served by another, or by none.
    Read {
        /// The plex that failed.
        plex: Uuid,
        /// What was read.
        range: ByteRange,
        /// How it failed.
        errno: Errno,
        /// Whether nobody could serve it.
        last: bool,
    },
    /// Plexes that have not answered a request within the limit, which others have, or the mover's alone.
    Late {
        /// What was written; empty for a flush or a read.
        range: ByteRange,
        /// Who is late.
        plexes: Vec<Uuid>,
        /// Who waits.
        fate: oneshot::Sender<Fate>,
    },
    /// A plex has not answered a request for so long that people should know.
    Hangs {
        /// The plex.
        plex: Uuid,
    },
    /// A plex that hung has answered all its requests.
    Answers {
        /// The plex.
        plex: Uuid,
    },
}

/// The queue of failures of one volume.
#[derive(Default)]
pub(super) struct Faults {
    reports: Mutex<Vec<Report>>,
    pub(super) told: Notify,
    /// Failed flushes that were told and not yet dealt with: no other flush is acknowledged meanwhile.
    flushes: AtomicU32,
    /// Flushes that the last readable plex failed. What they should have covered is lost to those under way too.
    lost_flushes: AtomicU64,
    /// One of them was nobody's but the keeper's: the next flush of an application fails for it.
    unheard: AtomicBool,
}

impl Faults {
    pub(super) fn tell(&self, report: Report) {
        if matches!(report, Report::Flush { .. }) {
            self.flushes.fetch_add(1, Ordering::AcqRel);
        }
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        self.told.notify_one();
    }

    /// Tell and wait for the verdict.
    pub(super) async fn ask(&self, report: impl FnOnce(oneshot::Sender<Verdict>) -> Report) -> Verdict {
        let (answer, verdict) = oneshot::channel();
        self.tell(report(answer));
        verdict.await.unwrap_or(Verdict::Fail(Errno::IO))
    }

    /// Whether a failed flush is not dealt with.
    pub(super) fn has_failed_flush(&self) -> bool {
        self.flushes.load(Ordering::Acquire) > 0
    }

    /// A failed flush was dealt with.
    pub(super) fn flush_judged(&self) {
        self.flushes.fetch_sub(1, Ordering::AcqRel);
    }

    /// The last readable plex failed a flush.
    pub(super) fn lose_flush(&self, heard: bool) {
        self.lost_flushes.fetch_add(1, Ordering::AcqRel);
        if !heard {
            self.unheard.store(true, Ordering::Release);
        }
    }

    /// How many flushes the last readable plex has failed.
    pub(super) fn lost_flushes(&self) -> u64 {
        self.lost_flushes.load(Ordering::Acquire)
    }

    /// Whether one of them was not told to an application; now it is.
    pub(super) fn hear(&self) -> bool {
        self.unheard.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
