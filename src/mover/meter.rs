//! How far a job is, how fast it goes, when it will be done.

use std::time::Duration;

use crate::device::Moment;

/// How far a job is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Bytes of work known when the job began.
    pub total_bytes: u64,
    /// Bytes of it dealt with, whether they had to be moved or not.
    pub done_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes dealt with in a second, of late, without those that cost nothing.
    pub bytes_per_second: u64,
    /// Time to the end at this rate; `None` before there is a rate.
    pub remaining: Option<Duration>,
    /// Whether the job has ended.
    pub ended: bool,
}

/// Between two measurements of the rate.
const PERIOD: Duration = Duration::from_millis(200);

/// Counts and times a job. The clock's readings are handed in.
pub(super) struct Meter {
    progress: Progress,
    measured_at: Moment,
    measured_bytes: u64,
}

impl Meter {
    pub(super) fn new(total_bytes: u64, now: Moment) -> Self {
        let progress = Progress { total_bytes, ..Progress::default() };
        Self { progress, measured_at: now, measured_bytes: 0 }
    }

    /// `done` more bytes dealt with, `written` of them written; the progress to show, if it is time for it.
    pub(super) fn add(&mut self, done: u64, written: u64, now: Moment) -> Option<Progress> {
        self.progress.written_bytes += written;
        self.done(done);
        self.measure(now)
    }

    /// `done` more bytes dealt with at no cost. The rate does not know of them: the rest would look too near.
    pub(super) fn add_free(&mut self, done: u64, now: Moment) -> Option<Progress> {
        self.done(done);
        self.measured_bytes += done;
        self.measure(now)
    }

    fn done(&mut self, bytes: u64) {
        self.progress.done_bytes += bytes;
        // The work can turn out larger than it was when the job began.
        self.progress.total_bytes = self.progress.total_bytes.max(self.progress.done_bytes);
    }

    fn measure(&mut self, now: Moment) -> Option<Progress> {
        let period = now.since(self.measured_at);
        if period < PERIOD {
            return None;
        }
        let bytes = self.progress.done_bytes - self.measured_bytes;
        (self.measured_at, self.measured_bytes) = (now, self.progress.done_bytes);
        let rate = u128::from(bytes) * 1_000_000_000 / period.as_nanos();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let before = self.progress.bytes_per_second;
        // A quarter of the new value each time: steady to look at, true within a second or two.
        let smooth = if before == 0 { rate } else { before - before / 4 + rate / 4 };
        self.progress.bytes_per_second = smooth;
        let rest = self.progress.total_bytes - self.progress.done_bytes;
        self.progress.remaining = (smooth > 0).then(|| Duration::from_secs(rest.div_ceil(smooth)));
        Some(self.progress.clone())
    }

    pub(super) fn end(&mut self) -> Progress {
        self.progress.ended = true;
        self.progress.remaining = None;
        self.progress.clone()
    }

    pub(super) fn current(&self) -> Progress {
        self.progress.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_rest_follow_the_clock() {
        let at = |millis: u64| Moment(millis * 1_000_000);
        let mut meter = Meter::new(1000, at(0));
        assert_eq!(meter.add(10, 10, at(199)), None);
        let first = meter.add(90, 0, at(1000)).unwrap();
        assert_eq!((first.done_bytes, first.written_bytes, first.bytes_per_second), (100, 10, 100));
        assert_eq!(first.remaining, Some(Duration::from_secs(9)));
        let second = meter.add(300, 0, at(2000)).unwrap();
        assert_eq!(second.bytes_per_second, 150);
        assert_eq!(second.remaining, Some(Duration::from_secs(4)));
        let end = meter.end();
        assert!(end.ended && end.remaining.is_none());
    }

    #[test]
    fn what_costs_nothing_makes_the_rest_no_nearer() {
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let mut meter = Meter::new(2000, at(0));
        let first = meter.add(100, 0, at(1)).unwrap();
        let second = meter.add_free(1000, at(2)).unwrap();
        assert_eq!(second.done_bytes, 1100);
        assert!(second.bytes_per_second <= first.bytes_per_second, "{second:?}");
        let third = meter.add(100, 0, at(3)).unwrap();
        assert!(third.bytes_per_second <= 100, "{third:?}");
    }

    #[test]
    fn more_work_than_announced_is_no_overflow() {
        let mut meter = Meter::new(10, Moment(0));
        let progress = meter.add(50, 0, Moment(1 << 30)).unwrap();
        assert_eq!((progress.total_bytes, progress.remaining), (50, Some(Duration::ZERO)));
    }

    #[test]
    fn a_stalled_job_has_no_end_in_sight_but_no_fault_either() {
        let mut meter = Meter::new(1000, Moment(0));
        for second in 1..60 {
            meter.add(0, 0, Moment(second * 1_000_000_000));
        }
        assert_eq!(meter.current().remaining, None);
    }
}
