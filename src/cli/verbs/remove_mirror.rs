//! `cleave remove-mirror`: removes a plex of a mirrored volume.

use super::dry_run::DryRunArgs;
use super::rm::removed;
use crate::base::Refused;
use crate::cli::plan::{Action, Options};
use crate::cli::words;
use crate::control::Request;
use crate::control::request::RemoveMirror;
use clap::Args;

/// The words of `remove-mirror`.
#[derive(Args, Debug)]
pub struct RemoveMirrorArgs {
    /// The volume
    volume: String,
    /// The plex [default: the newest]
    plex: Option<String>,
    #[command(flatten)]
    dry_run: DryRunArgs,
}

impl RemoveMirrorArgs {
    /// What the words ask for.
    ///
    /// # Errors
    /// Those of names.
    pub fn action(self, options: &Options) -> Result<Action, Refused> {
        let request = RemoveMirror {
            group: options.group(),
            volume: Some(words::name(&self.volume)?),
            plex: self.plex.as_deref().map(words::name).transpose()?,
        };
        Ok(self.dry_run.over(Action::ask(Request::RemoveMirror(request), |answered| removed(&answered))))
    }
}
