//! `cleave snapabort`: removes snapshot mirrors that are not broken off.

use super::dry_run::DryRunArgs;
use super::rm::removed;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::SnapAbort;
use clap::Args;

/// The words of `snapabort`.
#[derive(Args, Debug)]
pub struct SnapAbortArgs {
    /// The volume
    volume: String,
    /// How many snapshot mirrors are removed, one that is still copied first
    #[arg(short, long, value_name = "N", default_value = "1")]
    nmirror: String,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl SnapAbortArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names and counts.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = SnapAbort {
            group: options.group(),
            volume: words::name(&self.volume)?,
            nmirror: words::plex_count(&self.nmirror)?,
        };
        Ok(self.dry_run.over(Action::ask(Request::SnapAbort(request), |answered| removed(&answered))))
    }
}
