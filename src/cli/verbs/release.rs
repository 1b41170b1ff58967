//! `cleave release`: gives a volume up, whose plexes stay as plain images.

use super::dry_run::DryRunArgs;
use crate::base::Refused;
use crate::base::units::human_bytes;
use crate::cli::answer::{Answer, clean, to_json};
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::request::Release;
use crate::control::{Reply, Request};
use clap::Args;

/// The words of `release`.
#[derive(Args, Debug)]
#[command(after_help = "\
The volume must be stopped, without snapshots, and every plex in step. Each of its files is a plain
image of it afterwards, of its length; a disk has it from its first byte on. Nothing is copied and
nothing is lost but the maps.")]
pub struct ReleaseArgs {
    /// The volume
    volume: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl ReleaseArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = Release { group: options.group(), volume: words::name(&self.volume)? };
        Ok(self.dry_run.over(Action::ask(Request::Release(request), |answered| released(&answered))))
    }
}

fn released(answered: &Answered) -> Result<Answer, Refused> {
    let Reply::Released(reply) = &answered.reply else { return Err(Answered::unfitting()) };
    let length = human_bytes(reply.length_bytes);
    let mut text = format!("{}: released; plain images of {length}:\n", reply.volume);
    for image in &reply.images {
        text += &format!("  {}\n", clean(image.display()));
    }
    Ok(Answer::done(to_json(reply), text))
}
