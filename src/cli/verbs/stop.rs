//! `cleave stop`: stops volumes that nobody has open; tasks on them are aborted.

use super::start::each_volume;
use crate::base::Refused;
use crate::cli::answer::Answer;
use crate::cli::plan::{Action, Options};
use crate::cli::session::Answered;
use crate::cli::words;
use crate::control::Request;
use crate::control::request::{Stop, StopAll};
use clap::Args;

/// The words of `stop`.
#[derive(Args, Debug)]
#[command(after_help = "\
A snapshot mirror that is still being copied goes at the next start, and is named: begin it anew
then, with cleave snapstart. A mirror that is being copied goes on when the volume is started.")]
pub struct StopArgs {
    /// The volumes
    #[arg(required_unless_present = "all")]
    volumes: Vec<String>,
    /// Stop every volume of the group
    #[arg(short, long, conflicts_with = "volumes")]
    all: bool,
}

impl StopArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let group = options.group();
        if self.all {
            return Ok(Action::ask(Request::StopAll(StopAll { group }), |answered| stopped(&answered)));
        }
        let requests = words::names(&self.volumes)?
            .into_iter()
            .map(|volume| Request::Stop(Stop { group: group.clone(), volume }));
        Ok(Action::ask_each(requests.collect(), |answered| stopped(&answered)))
    }
}

/// Volumes that were stopped.
pub(in crate::cli) fn stopped(answered: &Answered) -> Result<Answer, Refused> {
    each_volume(answered, "stopped")
}
