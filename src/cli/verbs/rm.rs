//! `cleave rm`: removes a volume with its plexes.

use super::dry_run::DryRunArgs;
use super::make::count;
use crate::base::units::human_bytes;
use crate::base::{Name, Refused};
use crate::cli::answer::{Answer, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Remove;
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `rm`.
#[derive(Args, Debug)]
#[command(after_help = "\
The data are gone with the volume. An open volume is never removed. The snapshots of a volume that
is removed by force stay, each a volume of its own: they cannot go back to it any more.")]
pub struct RmArgs {
    /// The volumes
    #[arg(required = true)]
    objects: Vec<String>,
    /// Stop a started volume first, and make its snapshots independent
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl RmArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let requests = words::names(&self.objects)?.into_iter().map(|object| {
            Request::Remove(Remove { group: options.group(), object, recursive: true, force: self.force })
        });
        Ok(self.dry_run.over(Action::ask_each(requests.collect(), |answered| removed(&answered))))
    }
}

/// What went, and what was given up with it.
pub(in crate::cli) fn removed(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Removed(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let plexes = reply.plexes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = match &reply.volume {
        Some(volume) => format!("{volume}: removed with {}", count(reply.plexes.len(), "plex")),
        None => format!("{plexes}: removed"),
    };
    text += &format!(", {} freed", human_bytes(reply.freed_bytes));
    if reply.lost_bytes > 0 {
        text += &format!("; {} changed since its cut are given up", human_bytes(reply.lost_bytes));
    }
    text.push('\n');
    let origin = reply.volume.as_ref().map(ToString::to_string).unwrap_or_default();
    let parted = |name: &Name| {
        format!("{name}: is no snapshot of {origin} any more, but independent: no snapback, no restore")
    };
    let notices: Vec<String> = reply.independent.iter().map(parted).collect();
    text.extend(notices.iter().map(|line| format!("{line}\n")));
    Ok(Answer { notices, ..Answer::done(to_json(reply), text) })
}
