//! `cleave recover`: has every plex that fell behind copied what it lacks.

use super::start::each_volume;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::Recover;
use clap::Args;

/// The words of `recover`.
#[derive(Args, Debug)]
#[command(after_help = "\
A plex that was taken offline stays so: bring it in with plex online.")]
pub struct RecoverArgs {
    /// Only these volumes [default: all of the group]
    #[arg(value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Start those that are stopped, too
    #[arg(short, long)]
    start: bool,
    /// Do not wait for the copies
    #[arg(short, long)]
    background: bool,
}

impl RecoverArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = Recover {
            group: options.group(),
            volumes: words::names(&self.volumes)?,
            start: self.start,
            background: self.background,
        };
        Ok(action(request))
    }
}

/// Asks `request`.
pub(in crate::cli) fn action(request: Recover) -> Action {
    Action::ask(Request::Recover(request), |answered| {
        let mut answer = each_volume(&answered, "recovered")?;
        if answer.text.is_empty() && answer.failures.is_empty() {
            answer.text = "nothing to recover\n".to_owned();
        }
        Ok(answer)
    })
}
