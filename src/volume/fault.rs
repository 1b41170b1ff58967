//! Failures on their way from the queue threads to the one place that decides which plex is lost.

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

/// A failed request.
pub(super) enum Report {
    /// A write, zeroes, discard or flush that failed on some plexes.
    Write {
        /// What was written; empty for a flush.
        range: ByteRange,
        /// Who failed with what.
        failed: Vec<(Uuid, Errno)>,
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
}

/// The queue of failures of one volume.
#[derive(Default)]
pub(super) struct Faults {
    reports: Mutex<Vec<Report>>,
    pub(super) told: Notify,
}

impl Faults {
    pub(super) fn tell(&self, report: Report) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        self.told.notify_one();
    }

    /// Tell and wait for the verdict.
    pub(super) async fn ask(&self, report: impl FnOnce(oneshot::Sender<Verdict>) -> Report) -> Verdict {
        let (answer, verdict) = oneshot::channel();
        self.tell(report(answer));
        verdict.await.unwrap_or(Verdict::Fail(Errno::IO))
    }

    pub(super) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
