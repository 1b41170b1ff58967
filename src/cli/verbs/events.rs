//! `cleave events`: what happened, and what happens.

use crate::base::{Kind, Refusal, Refused};
use crate::cli::answer::{Answer, clean, stream, to_json};
use crate::cli::plan::{Action, Options, Watch};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Events;
use crate::control::{Happening, Request, Row};
use clap::Args;
use serde_json::json;

/// The words of `events`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each event is a line: time (UTC), severity, id, and object: reason; way out. Ids are stable. The daemon \
                  keeps the last 1000 of its life; all of them are in its journal, with the id as a field."
)]
pub struct EventsArgs {
    /// Only those of this volume
    volume: Option<String>,
    /// How many of the last ones to show
    #[arg(short = 'n', long, value_name = "N", default_value = "20")]
    last: String,
    /// Go on with those that happen, until interrupted; with --json each is a document on a line of its own
    #[arg(short, long)]
    follow: bool,
}

impl EventsArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and counts.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let last = self.last.parse().map_err(|_| {
            Refusal::new(
                Kind::Usage,
                "events.count",
                words::clip(&self.last),
                "is not a number of events",
                "name a number, as 100",
            )
        })?;
        let volume = self.volume.as_deref().map(words::name).transpose()?;
        // A volume is one of a group; without either all are meant.
        let group = options.group.clone().or_else(|| volume.is_some().then(|| options.group()));
        let request = Request::Events(Events { group, volume, last, follow: self.follow });
        if self.follow {
            return Ok(Action::Ask {
                requests: vec![request],
                watch: Watch::Events { json: options.json },
                show: Box::new(|_| Err(Answered::unfitting())),
            });
        }
        Ok(Action::ask(request, |answered| show(&answered)))
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let told = happenings(&answered.rows);
    let text = told.iter().map(|happening| line(happening)).collect::<String>();
    Ok(Answer::listing(json!({ "events": to_json(&told) }), text))
}

/// What happened, among `rows`.
pub(in crate::cli) fn happenings(rows: &[Row]) -> Vec<&Happening> {
    rows.iter()
        .filter_map(|row| if let Row::Happened(happening) = row { Some(happening) } else { None })
        .collect()
}

/// A happening as a line.
pub(in crate::cli) fn line(happening: &Happening) -> String {
    let (time, severity) = (utc(happening.time_ms), happening.severity);
    format!("{time} {severity:<7} {} {}\n", happening.id.id(), clean(happening))
}

/// Shows one that just arrived.
pub(in crate::cli) fn follow(watch: Watch, happening: &Happening) {
    let text = match watch {
        Watch::Events { json: true } => format!("{}\n", to_json(happening)),
        Watch::Events { json: false } | Watch::Progress | Watch::Everything | Watch::VxTask { .. } => {
            line(happening)
        }
    };
    stream(&text);
}

/// Milliseconds since 1970 as a date and time of day (UTC), by the civil calendar's cycle of 400 years.
pub(in crate::cli) fn utc(time_ms: u64) -> String {
    let (days, second) = (time_ms / 86_400_000, time_ms / 1000 % 86_400);
    // Years that begin in March, counted from 0000-03-01, end with the leap day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_799, "2000-02-29 23:59:59"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_704_067_199, "2023-12-31 23:59:59"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1000 + 999), text);
        }
    }
}
