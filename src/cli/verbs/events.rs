//! `cleave events`: what happened, and what happens.

use crate::base::calendar::utc;
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
