//! What lasts of the scrubs of a volume: when they are due, how far the present one has come, what the last one found.
//!
//! Times are seconds since 1970-01-01 UTC, as a clock told them that may be wrong. An interval counts from `since_unix_s`,
//! which is set when a scrub begins. A clock that was set back finds it in the future: the interval then counts anew from
//! now, so that a scrub is neither skipped for ever nor made again and again; a clock that was set forward brings one
//! scrub.

use serde::{Deserialize, Serialize};

use crate::base::{Refused, Uuid};

use super::refuse;

/// The shortest interval between two scrubs in seconds: an hour. A shorter one would read without end.
pub const MIN_INTERVAL_S: u64 = 3600;

/// The longest interval in seconds: ten years.
pub const MAX_INTERVAL_S: u64 = 10 * 365 * 86_400;

/// What becomes of differences.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// They are told.
    #[default]
    Report,
    /// What more than half of the plexes hold is written to the others.
    Majority,
    /// What this plex holds is written to the others.
    Source(Uuid),
}

/// Hours of the day (UTC) in which a scheduled scrub may run: from the beginning of one to the beginning of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// The first hour, 0 to 23.
    pub from: u8,
    /// The hour before which it ends, 0 to 23, not `from`; smaller than `from` when midnight lies between.
    pub to: u8,
}

impl Hours {
    /// Hours of the day.
    ///
    /// # Errors
    /// `scrub.hours` when one is above 23, or both are the same.
    pub fn new(from: u8, to: u8) -> Result<Self, Refused> {
        if from > 23 || to > 23 || from == to {
            Err(refuse::scrub_hours(from, to))
        } else {
            Ok(Self { from, to })
        }
    }

    /// Whether the time lies within.
    #[must_use]
    pub const fn contains(self, unix_s: i64) -> bool {
        let hour = unix_s.rem_euclid(86_400) / 3600;
        let (from, to) = (self.from as i64, self.to as i64);
        if from < to { from <= hour && hour < to } else { from <= hour || hour < to }
    }
}

/// How much a scrub may get in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bytes a second at most.
    pub rate: Option<u64>,
    /// What the application's requests may take on average, in microseconds.
    pub latency_us: Option<u64>,
}

/// When a volume is scrubbed by itself, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Seconds from the beginning of one scrub to that of the next.
    pub every_s: u64,
    /// The hours in which it may run; the whole day when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// What becomes of differences.
    #[serde(default)]
    pub repair: Repair,
    /// Bytes a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
}

/// What was found so far; all in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubTally {
    /// Everything before this byte of the volume is done.
    pub position: u64,
    /// In differences, summed over the plexes.
    pub differing_bytes: u64,
    /// That could not be read, summed over the plexes.
    pub unreadable_bytes: u64,
    /// Of both, that were rewritten.
    pub repaired_bytes: u64,
}

/// A scrub that was begun and has not ended; a daemon that finds it goes on with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRun {
    /// When it began.
    pub began_unix_s: i64,
    /// Whether the schedule began it, so that it keeps to its hours.
    pub scheduled: bool,
    /// What becomes of differences.
    pub repair: Repair,
    /// Bytes a second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// What the application's requests may take on average, in microseconds: while they take longer, it goes slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// How far it has come.
    pub tally: ScrubTally,
}

/// A scrub that went through the whole volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubResult {
    /// When it began.
    pub began_unix_s: i64,
    /// When it ended.
    pub ended_unix_s: i64,
    /// How many plexes it compared at its end.
    pub plexes: u32,
    /// What it found.
    pub tally: ScrubTally,
}

/// All that lasts of the scrubs of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// When it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// From when the schedule's interval counts.
    #[serde(default)]
    pub since_unix_s: i64,
    /// The one that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ScrubRun>,
    /// The last one that went through the whole volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScrubResult>,
}

/// What the schedule asks for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The clock was set back behind the moment from which the interval counts: it counts from now on.
    CountAnew,
    /// A scrub is to begin.
    Begin(Schedule),
    /// The scrub that the schedule began may run.
    Run,
    /// The scrub that the schedule began waits for its hours.
    Wait,
}

impl Scrub {
    /// What the schedule asks for at a time.
    #[must_use]
    pub fn due(&self, unix_s: i64) -> Due {
        let Some(schedule) = self.schedule else { return Due::Nothing };
        let within = schedule.hours.is_none_or(|hours| hours.contains(unix_s));
        match self.run {
            Some(run) if run.scheduled && within => Due::Run,
            Some(run) if run.scheduled => Due::Wait,
            Some(_) => Due::Nothing,
            None if self.since_unix_s > unix_s => Due::CountAnew,
            None => {
                let gone = self.since_unix_s.abs_diff(unix_s);
                if within && gone >= schedule.every_s { Due::Begin(schedule) } else { Due::Nothing }
            }
        }
    }

    /// Whether there is anything to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn scrub(every_s: u64, hours: Option<Hours>, since_unix_s: i64) -> Scrub {
        let schedule = Schedule { every_s, hours, repair: Repair::Report, rate: None, latency_us: None };
        Scrub { schedule: Some(schedule), since_unix_s, run: None, last: None }
    }

    fn begun(scrub: &Scrub, at: i64, scheduled: bool) -> Scrub {
        let run = ScrubRun {
            began_unix_s: at,
            scheduled,
            repair: Repair::Report,
            rate: None,
            latency_us: None,
            tally: ScrubTally::default(),
        };
        Scrub { run: Some(run), since_unix_s: at, ..scrub.clone() }
    }

    #[test]
    fn records_of_before_there_was_a_latency_target_are_read() {
        let run = r#"{"began_unix_s":1,"scheduled":true,"repair":"report","rate":5,"tally":{"position":1,"differing_bytes":0,"unreadable_bytes":0,"repaired_bytes":0}}"#;
        let schedule = r#"{"every_s":86400,"rate":5}"#;
        let run: ScrubRun = serde_json::from_str(run).unwrap();
        let schedule: Schedule = serde_json::from_str(schedule).unwrap();
        assert_eq!(
            (run.rate, run.latency_us, schedule.rate, schedule.latency_us),
            (Some(5), None, Some(5), None)
        );
        let again = serde_json::to_string(&schedule).unwrap();
        assert!(!again.contains("latency"), "what nobody set, no older daemon has to read: {again}");
    }

    #[test]
    fn hours_wrap_around_midnight() {
        let at = |hour: i64| 20_000 * DAY + hour * 3600 + 1800;
        let inside = |from, to| {
            let hours = Hours::new(from, to).unwrap();
            (0..24).filter(|hour| hours.contains(at(*hour))).collect::<Vec<_>>()
        };
        assert_eq!(inside(1, 5), [1, 2, 3, 4]);
        assert_eq!(inside(22, 2), [0, 1, 22, 23]);
        assert_eq!(inside(23, 0), [23]);
        assert!(Hours::new(0, 23).unwrap().contains(-1800) ^ Hours::new(23, 0).unwrap().contains(-1800));
        for (from, to) in [(24, 1), (1, 24), (3, 3)] {
            assert_eq!(Hours::new(from, to).unwrap_err().id, "scrub.hours");
        }
    }

    #[test]
    fn a_scrub_is_due_once_an_interval_and_keeps_its_hours() {
        let start = 20_000 * DAY;
        assert_eq!(Scrub::default().due(start), Due::Nothing);
        let weekly = scrub(7 * DAY as u64, Some(Hours::new(1, 5).unwrap()), start);
        let begins = |at| matches!(weekly.due(at), Due::Begin(_));
        assert!(!begins(start + 7 * DAY - 1) && !begins(start + 7 * DAY) && begins(start + 7 * DAY + 3600));
        assert!(
            !begins(start + 8 * DAY) && begins(start + 30 * DAY + 7200),
            "one that was missed is made up for, once"
        );
        let running = begun(&weekly, start + 7 * DAY + 3600, true);
        assert_eq!(running.due(start + 7 * DAY + 3 * 3600), Due::Run);
        assert_eq!(running.due(start + 7 * DAY + 6 * 3600), Due::Wait);
        assert_eq!(running.due(start + 30 * DAY + 7200), Due::Run, "however long it takes, it is one");
        // One that a person began is left to that person.
        assert_eq!(begun(&weekly, start, false).due(start + 30 * DAY + 7200), Due::Nothing);
    }

    /// Whatever the clock does: at most one scrub an interval of true time, but for one when it is set forward, and at
    /// least one in two.
    #[test]
    fn a_wrong_clock_neither_loops_nor_skips_for_ever() {
        for (from_day, jump_days) in
            [(3, -1), (3, -3650), (3, 3650), (10, -400), (10, 400), (0, -20_000), (5, 0)]
        {
            let mut kept = scrub(7 * DAY as u64, None, 20_000 * DAY);
            let mut begins = Vec::new();
            for hour in 0..60 * 24 {
                let jump = if hour >= from_day * 24 { jump_days * DAY } else { 0 };
                let clock = 20_000 * DAY + hour * 3600 + jump;
                match kept.due(clock) {
                    Due::Begin(_) => {
                        begins.push(hour);
                        kept = Scrub { run: None, ..begun(&kept, clock, true) };
                    }
                    Due::CountAnew => kept.since_unix_s = clock,
                    Due::Nothing => {}
                    Due::Run | Due::Wait => unreachable!("it ends at once"),
                }
            }
            let gaps: Vec<_> = begins.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let short = gaps.iter().filter(|gap| **gap < 7 * 24).count();
            assert!(short <= 1 && gaps.iter().all(|gap| *gap <= 2 * 7 * 24), "{jump_days}: {begins:?}");
            assert!((7..=9).contains(&begins.len()), "{jump_days}: {begins:?}");
            assert!(begins[0] <= 14 * 24, "{jump_days}: {begins:?}");
        }
    }
}
