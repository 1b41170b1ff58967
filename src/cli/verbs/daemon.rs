//! `cleave daemon`: asks after the daemon, or ends it.

use super::group::changed;
use super::make::count;
use crate::base::Refused;
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::Action;
use crate::cli::progress::seconds;
use crate::cli::session::Answered;
use crate::control::request::Shutdown;
use crate::control::{Reply, Request, Row};
use clap::Subcommand;

/// What is done with the daemon.
#[derive(Subcommand, Debug)]
pub enum DaemonVerb {
    /// Show whether the daemon runs, and how it is
    Status,
    /// End the daemon and stop the volumes that nobody has open; devices in use stay and wait for the next daemon
    Stop {
        /// Refuse unless all volumes can be stopped
        #[arg(long)]
        volumes: bool,
    },
}

impl DaemonVerb {
    /// What the words ask for.
    ///
    /// # Errors
    /// None; the type is that of all verbs.
    pub fn action(self) -> Result<Action, Refused> {
        Ok(match self {
            Self::Status => Action::ask(Request::Status, |answered| show(&answered)),
            Self::Stop { volumes } => {
                let request = Request::Shutdown(Shutdown { stop_volumes: volumes });
                Action::ask(request, |answered| changed(&answered, "cleaved: ending"))
            }
        })
    }
}

fn show(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Status(status) = &answered.reply else { return Err(Answered::unfitting()) };
    let notes: Vec<&String> = answered
        .rows
        .iter()
        .filter_map(|row| if let Row::Note(note) = row { Some(note) } else { None })
        .collect();
    let many = |number: u64, noun| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut text = format!(
        "cleaved {} runs as {} for {} on Linux {}\n{}, {} ({} started), {}\n",
        clean(&status.version),
        status.pid,
        seconds(status.uptime_ms),
        clean(&status.kernel),
        many(status.groups, "group"),
        many(status.volumes, "volume"),
        status.started,
        many(status.tasks, "task")
    );
    for note in &notes {
        text += &format!("note: {}\n", clean(note));
    }
    let mut json = to_json(status);
    json["notes"] = to_json(&notes);
    Ok(Answer::listing(json, text))
}
