//! `cleave scrub`: compares all plexes in the background, repairs, and says when that is done by itself.

use super::make::count;
use crate::base::units::human_bytes;
use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::{Repair, Scrub, ScrubSchedule};
use crate::control::row::{DifferenceRow, ScrubRow};
use crate::control::{Reply, Request, Row};
use clap::Args;

/// The words of `scrub`.
#[derive(Args, Debug)]
pub struct ScrubArgs {
    /// The volume; it may be in use
    volume: String,
    /// Make plexes that differ equal again: by what most of them hold, or from --source
    #[arg(long)]
    repair: bool,
    /// Repair from this plex
    #[arg(long, value_name = "PLEX")]
    source: Option<String>,
    /// The most bytes a second that it reads of each plex, as 50m
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Read slower while requests of the application take longer than this on average, as 5ms
    #[arg(long, value_name = "TIME")]
    latency: Option<String>,
    /// Return as soon as it has begun
    #[arg(short, long, conflicts_with = "every")]
    background: bool,
    /// Do not scrub now: scrub by itself from now on, as often as 12h, 7d or 4w, or never
    #[arg(long, value_name = "INTERVAL")]
    every: Option<String>,
    /// The hours of the day (UTC) in which it may scrub by itself, as 1-5
    #[arg(long, value_name = "FROM-TO", requires = "every")]
    hours: Option<String>,
}

impl ScrubArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names, sizes and times.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let (group, volume) = (options.group(), words::name(&self.volume)?);
        let repair = match (&self.source, self.repair) {
            (Some(plex), _) => Repair::Source(words::name(plex)?),
            (None, true) => Repair::Majority,
            (None, false) => Repair::Report,
        };
        let bytes_per_second = self.rate.as_deref().map(words::size).transpose()?;
        let latency_us = self.latency.as_deref().map(words::latency).transpose()?;
        let Some(every) = &self.every else {
            let background = self.background;
            let request = Scrub { group, volume, repair, bytes_per_second, latency_us, background };
            return Ok(Action::ask(Request::Scrub(request), |answered| show(&answered)));
        };
        let every_s = interval(every)?;
        let hours = self.hours.as_deref().map(hours).transpose()?;
        let text = match every_s {
            Some(_) => format!("{volume}: scrubbed every {every}"),
            None => format!("{volume}: not scrubbed by itself"),
        };
        let request = ScrubSchedule { group, volume, every_s, hours, repair, bytes_per_second, latency_us };
        Ok(Action::ask(Request::ScrubSchedule(request), move |answered| {
            super::group::changed(&answered, &text)
        }))
    }
}

/// Seconds of an interval as typed; none for `never`.
fn interval(text: &str) -> Result<Option<u64>, Refused> {
    if text == "never" {
        return Ok(None);
    }
    let bad = || {
        Refusal::new(
            Kind::Syntax,
            "scrub.interval",
            words::clip(text),
            "is no interval",
            "write a number with h, d or w, as 7d, or never",
        )
    };
    let unit = match text.bytes().last() {
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        Some(b'w') => 7 * 86_400,
        Some(_) | None => return Err(bad()),
    };
    let digits = &text[..text.len() - 1];
    let number: u64 =
        digits.parse().ok().filter(|_| digits.bytes().all(|c| c.is_ascii_digit())).ok_or_else(bad)?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).map(Some).ok_or_else(bad)
}

fn hours(text: &str) -> Result<(u8, u8), Refused> {
    let bad = || {
        let way_out = "write two hours of the day from 0 to 23, as 1-5";
        Refusal::new(Kind::Syntax, "scrub.hours", words::clip(text), "are no hours of the day", way_out)
    };
    let (from, to) = text.split_once('-').ok_or_else(bad)?;
    let hour = |digits: &str| digits.parse().ok().filter(|hour: &u8| *hour < 24 && !digits.starts_with('+'));
    match (hour(from), hour(to)) {
        (Some(from), Some(to)) if from != to => Ok((from, to)),
        _ => Err(bad()),
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Scrubbed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    if let Some(task) = reply.task {
        return Ok(Answer::done(
            to_json(reply),
            format!("{}: being scrubbed by task {task}\n", reply.volume),
        ));
    }
    let differences: Vec<&DifferenceRow> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Difference(row) = row { Some(row) } else { None })
        .collect();
    let mut json = to_json(reply);
    json["differences"] = to_json(&differences);
    let plexes = count(usize::try_from(reply.plexes).unwrap_or(usize::MAX), "plex");
    let compared = format!("{} in {}", human_bytes(reply.compared_bytes), seconds(reply.elapsed_ms));
    let flawed = reply.differing_bytes + reply.unreadable_bytes;
    if flawed == 0 {
        return Ok(Answer::done(json, format!("{}: {plexes} equal, {compared}\n", reply.volume)));
    }
    let line = |row: &&DifferenceRow| {
        let what = if row.unreadable {
            format!("{} cannot be read", row.plex)
        } else {
            format!("{} differs from {}", row.plex, row.reference)
        };
        let repaired = if row.repaired { ", repaired" } else { "" };
        format!("{what} at byte {}, {} bytes{repaired}\n", row.offset_bytes, row.length_bytes)
    };
    let mut text: String = differences.iter().map(line).collect();
    if reply.repaired_bytes == flawed {
        text += &format!("{}: {plexes} equal again, {flawed} bytes repaired; {compared}\n", reply.volume);
        return Ok(Answer::listing(json, text));
    }
    Ok(Answer::listing(json, text).failing(*Refusal::new(
        Kind::Differs,
        "scrub.differs",
        &reply.volume,
        format!(
            "{plexes}: {} bytes differ, {} cannot be read, {} of both were repaired, of {compared}",
            reply.differing_bytes, reply.unreadable_bytes, reply.repaired_bytes
        ),
        format!("repair with: cleave scrub {} --repair --source PLEX", reply.volume),
    )))
}

/// The lines of `show` about the scrubs of a volume of `length` bytes.
pub(super) fn about(scrub: &ScrubRow, length: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(every) = scrub.every_s {
        let every = match every {
            days if days % 86_400 == 0 => format!("{} d", days / 86_400),
            hours if hours % 3600 == 0 => format!("{} h", hours / 3600),
            other => format!("{other} s"),
        };
        let hours = scrub.hours.map(|(from, to)| format!(", {from} h to {to} h UTC")).unwrap_or_default();
        let repair = match scrub.repair.as_deref() {
            None | Some("report") => "differences are told".to_owned(),
            Some("majority") => "repaired by majority".to_owned(),
            Some(plex) => format!("repaired from {plex}"),
        };
        lines.push(format!("scrub    every {every}{hours}, {repair}"));
    }
    if let Some(position) = scrub.position_bytes {
        let percent = u128::from(position.min(length)) * 100 / u128::from(length.max(1));
        lines.push(format!("scrub    under way, {percent} % done"));
    }
    if let Some(last) = &scrub.last {
        let found = if last.differing_bytes + last.unreadable_bytes == 0 {
            format!("{} equal", count(last.plexes as usize, "plex"))
        } else {
            format!(
                "{} bytes differed, {} could not be read, {} repaired",
                last.differing_bytes, last.unreadable_bytes, last.repaired_bytes
            )
        };
        lines.push(format!("scrubbed {}: {found}", date(last.ended_ms)));
    }
    lines
}

/// A time of day in milliseconds since 1970 as `2026-01-02 03:04 UTC` (proleptic Gregorian).
fn date(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let mut days = minutes / 1440;
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    // Whole cycles of 400 years first, so that a wild clock is no long loop.
    let mut year = 1970 + 400 * (days / 146_097);
    days %= 146_097;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02} {:02}:{:02} UTC", month + 1, days + 1, minutes / 60 % 24, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::row::ScrubResultRow;

    #[test]
    fn intervals_and_hours_are_told_from_nonsense() {
        assert_eq!(interval("12h").unwrap(), Some(43_200));
        assert_eq!(interval("7d").unwrap(), Some(604_800));
        assert_eq!(interval("4w").unwrap(), Some(2_419_200));
        assert_eq!(interval("never").unwrap(), None);
        for bad in [
            "",
            "h",
            "7",
            "0d",
            "-1d",
            "+1d",
            "1.5d",
            "7m",
            "99999999999999999999d",
            "99999999999999999w",
            "d\u{e9}",
        ] {
            assert_eq!(interval(bad).unwrap_err().id, "scrub.interval", "{bad}");
        }
        assert_eq!(hours("1-5").unwrap(), (1, 5));
        assert_eq!(hours("22-2").unwrap(), (22, 2));
        for bad in ["", "1", "1-", "1-24", "3-3", "+1-2", "1-2-3", "-1-2"] {
            assert_eq!(hours(bad).unwrap_err().id, "scrub.hours", "{bad}");
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let day = 86_400_000;
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400_000 + 61_000), "2000-02-29 00:01 UTC");
        assert_eq!(date(1_767_225_599_999), "2025-12-31 23:59 UTC");
        assert_eq!(date(1_767_225_599_999 + 1), "2026-01-01 00:00 UTC");
        assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00 UTC");
        assert_eq!(date(4_107_542_400_000 - day), "2100-02-28 00:00 UTC");
        assert!(date(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn show_tells_schedule_position_and_result() {
        let last = ScrubResultRow {
            began_ms: 0,
            ended_ms: 951_782_400_000,
            plexes: 2,
            differing_bytes: 0,
            unreadable_bytes: 0,
            repaired_bytes: 0,
        };
        let scrub = ScrubRow {
            every_s: Some(604_800),
            hours: Some((1, 5)),
            repair: Some("majority".to_owned()),
            position_bytes: Some(25),
            last: Some(last.clone()),
        };
        assert_eq!(
            about(&scrub, 100),
            [
                "scrub    every 7 d, 1 h to 5 h UTC, repaired by majority",
                "scrub    under way, 25 % done",
                "scrubbed 2000-02-29 00:00 UTC: 2 plexes equal",
            ]
        );
        let last = Some(ScrubResultRow { differing_bytes: 8192, repaired_bytes: 4096, ..last });
        let scrub = ScrubRow { every_s: None, hours: None, repair: None, position_bytes: None, last };
        assert_eq!(
            about(&scrub, 100),
            ["scrubbed 2000-02-29 00:00 UTC: 8192 bytes differed, 0 could not be read, 4096 repaired"]
        );
    }
}
